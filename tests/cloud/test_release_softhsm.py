"""Keys in a PKCS#11 token: SoftHSM's, which keeps them in files, and the commands as processes.

It needs Debian's softhsm2 (tests/system-needs.txt) and the package python-pkcs11 (of the extra dev).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from cloud.release.errors import WaitsForSignatureError
from cloud.release.keys import load_keys
from cloud.release.releasing import ReleaseTerms
from cloud.release.repository import list_releases
from cloud.release.role_files import current_role
from cloud.release.signing import sign_release
from tests.clouds import make_cloud
from tests.replays import COMMAND
from tests.update_world import model

PIN, TOKEN = "1234", "traffic-vision"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


pytestmark = pytest.mark.services


def library() -> Path:
    """SoftHSM's PKCS#11 library: beside the tool, wherever that was unpacked."""
    tool = shutil.which("softhsm2-util")
    assert tool is not None, "needs Debian's softhsm2"
    return next(Path(tool).parents[1].glob("lib/**/libsofthsm2.so"))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command, with a token of SoftHSM's at hand."""
    (tmp_path / "tokens").mkdir()
    config = tmp_path / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {tmp_path / 'tokens'}\nobjectstore.backend = file\n")
    settings = {"SOFTHSM2_CONF": str(config), "PYKCS11LIB": str(library())}

    def run(*words: str | Path, pin: str = PIN) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **settings, "TRAFFIC_VISION_KEY_SECRET": pin}
        told = list(map(str, words))
        return subprocess.run(told, capture_output=True, text=True, env=environment, timeout=120)

    done = run(
        "softhsm2-util", "--init-token", "--free", "--label", TOKEN, "--pin", PIN, "--so-pin", "56789",
        "--module", str(library()),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return run


def put_in(run: Run, folder: Path, number: int) -> Path:
    """Put a key into the token; the public half, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{number}.pem", folder / f"{number}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    done = run(
        "softhsm2-util", "--import", private, "--token", TOKEN, "--label", f"key {number}", "--id",
        f"{number:02d}", "--pin", PIN, "--module", str(library()),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    private.unlink()
    return public


def test_trainer_and_gate_in_a_token_sign_releases_by_their_uris(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "cloud"
    config = make_cloud(folder)
    told = ("--config", folder / "cloud.toml")
    uris = {"trainer": f"hsm:2?label={TOKEN}", "gate": f"hsm:3?label={TOKEN}"}
    for number, (name, uri) in enumerate(uris.items(), start=2):
        new = ("--uri", uri, "--public", put_in(run, tmp_path, number))
        wrong = run(*COMMAND, "cloud", "keys", "rotate", name, *new, *told, pin="0000")
        assert wrong.returncode == 1 and "PinIncorrect" in wrong.stderr
        assert "published" in run(*COMMAND, "cloud", "keys", "rotate", name, *new, *told).stdout
    shown = run(*COMMAND, "cloud", "keys", "status", "--json", *told)
    found = {key["name"]: key for key in json.loads(shown.stdout)["keys"]}
    for name, uri in uris.items():
        assert (found[name]["uri"], found[name]["reachable"]) == (uri, True), found[name]
        # The token is on another machine from now on.
        assert run(*COMMAND, "cloud", "keys", "move", name, "offline:", *told).returncode == 0
    repository = config.folders.repository
    terms = ReleaseTerms(("x86_64-cpu",))
    with pytest.raises(WaitsForSignatureError):
        sign_release(repository, load_keys(config.folders.keys), model("1"), terms)
    file = tmp_path / "release.json"
    run(*COMMAND, "cloud", "release", "prepare", file, *told)
    for name, uri in uris.items():
        sign = (*COMMAND, "cloud", "release", "sign", file, "--uri", uri, "--key", name, "--yes")
        wrong = run(*sign, pin="0000")
        assert wrong.returncode == 1 and "does not sign: PinIncorrect" in wrong.stderr
        signed = run(*sign)
        assert signed.returncode == 0, signed.stderr
    assert "all have signed" in signed.stdout
    taken = json.loads(run(*COMMAND, "cloud", "release", "publish", file, *told).stdout)
    assert taken["signed_by"] == ["gate", "trainer"]
    sign_release(repository, load_keys(config.folders.keys), model("1"), terms)
    assert [one.facts.release_counter for one in list_releases(repository)] == [1]
    signed_by = set(current_role(repository, "models").signatures)
    assert signed_by == {found[name]["keyid"] for name in uris}
