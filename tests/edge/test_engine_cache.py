"""Engines that a provider built, kept under a MAC: here a test writes the files that TensorRT would write."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import load_config
from edge.inference import detector_options
from edge.machine import children
from edge.perception import detector, engine_cache, providers
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.engine_cache import KEY_BYTES, SUFFIX, device_identity, engines, seal, unseal
from edge.perception.model_file import ModelFileError
from tests.daemons import write_config
from tests.models_factory import loaded, rectangles_model

KEY = bytes(range(KEY_BYTES))
MADE_OF = {"model": "a" * 64, "onnxruntime": "1.32.0", "device": {"proc/driver/nvidia/version": "b" * 64}}
ENGINE = {"TensorrtExecutionProvider_0_0_sm87.engine": b"engine" * 1000, "timing.cache": b"times"}


def build(folder: Path, made_of: Mapping[str, Any] = MADE_OF, files: Mapping[str, bytes] = ENGINE) -> bool:
    """Make a session as a provider does; whether it had to build."""
    with engines(folder, made_of) as private:
        assert private is not None
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        found = {path.name: path.read_bytes() for path in private.iterdir()}
        for name, data in ({} if found else files).items():
            (private / name).write_bytes(data)
    assert not private.exists()
    assert found in ({}, files), "what it is given is what it built"
    return not found


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def test_what_was_built_is_there_at_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "engines"
    assert build(folder)
    (sealed,) = kept(folder)
    written = sealed.stat().st_ino
    assert not build(folder)
    assert sealed.stat().st_ino == written, "what has not changed is not written again"
    assert stat.S_IMODE((folder / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(sealed.stat().st_mode) == 0o600 and stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("part", ["model", "onnxruntime", "device"])
def test_of_another_model_program_or_device_it_is_built_anew(tmp_path: Path, part: str) -> None:
    assert build(tmp_path)
    assert build(tmp_path, {**MADE_OF, part: "another"})
    assert len(kept(tmp_path)) == 2


def test_a_file_under_another_models_name_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = {**MADE_OF, "model": "c" * 64}
    assert build(tmp_path)
    (own,) = kept(tmp_path)
    assert build(tmp_path, other)
    (others,) = set(kept(tmp_path)) - {own}
    others.write_bytes(own.read_bytes())
    assert build(tmp_path, other), "it is built anew"
    assert "of another model, program or device" in caplog.text
    assert not build(tmp_path, other), "and kept"


@pytest.mark.parametrize("where", [0, 30, 60, 200, -1])
def test_a_changed_byte_and_a_cut_are_refused(
    tmp_path: Path, where: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert build(tmp_path)
    (sealed,) = kept(tmp_path)
    data = bytearray(sealed.read_bytes())
    data[where] ^= 1
    sealed.write_bytes(data)
    assert build(tmp_path)
    assert "not what this vehicle sealed" in caplog.text
    sealed.write_bytes(sealed.read_bytes()[:where])
    assert build(tmp_path) and not build(tmp_path)


def test_of_another_vehicle_it_is_refused(tmp_path: Path) -> None:
    assert build(tmp_path / "one") and build(tmp_path / "two")
    (mine,), (theirs,) = kept(tmp_path / "one"), kept(tmp_path / "two")
    assert mine.name == theirs.name
    mine.write_bytes(theirs.read_bytes())
    assert build(tmp_path / "one")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_key_that_others_can_read_seals_nothing(tmp_path: Path, mode: int) -> None:
    assert build(tmp_path)
    (tmp_path / "key").chmod(mode)
    before = (tmp_path / "key").read_bytes()
    assert build(tmp_path)
    assert (tmp_path / "key").read_bytes() != before and not build(tmp_path)


def test_a_key_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "chosen"
    elsewhere.write_bytes(KEY)
    elsewhere.chmod(0o600)
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "key").symlink_to(elsewhere)
    assert build(tmp_path / "engines")
    assert not kept(tmp_path / "engines"), "nothing is sealed with a key that somebody chose"


def test_a_session_that_fails_keeps_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), engines(tmp_path, MADE_OF) as private:
        (private / "half.engine").write_bytes(b"half")
        raise RuntimeError
    assert not private.exists() and not kept(tmp_path)


def test_what_is_no_plain_file_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    with engines(tmp_path / "engines", MADE_OF) as private:
        (private / "a.engine").write_bytes(b"a")
        (private / "link.engine").symlink_to(tmp_path / "secret")
        (private / "folder").mkdir()
        (private / ".hidden").write_bytes(b"h")
    with engines(tmp_path / "engines", MADE_OF) as private:
        assert [path.name for path in private.iterdir()] == ["a.engine"]


def test_beyond_the_budget_the_one_used_longest_ago_goes(tmp_path: Path) -> None:
    size = len(seal(KEY, {"model": "0"}, {"x": bytes(10_000)}))

    def use(number: int) -> bool:
        with engines(tmp_path, {"model": str(number)}, max_bytes=2 * size) as private:
            was_there = (private / "x").exists()
            (private / "x").write_bytes(bytes(10_000))
        for age, path in enumerate(sorted(kept(tmp_path), key=lambda path: path.stat().st_mtime)):
            os.utime(path, (age, age))  # in the order of their use, whatever the clock's steps
        return was_there

    assert not use(1) and not use(2)
    assert use(1), "which makes 2 the one used longest ago"
    assert not use(3) and len(kept(tmp_path)) == 2
    assert use(1) and use(3) and not use(2)


def test_one_larger_than_the_budget_drives_and_is_not_kept(tmp_path: Path) -> None:
    with engines(tmp_path, MADE_OF, max_bytes=100) as private:
        assert private is not None
        (private / "x").write_bytes(bytes(1000))
    assert not kept(tmp_path)


def test_a_full_disk_costs_a_build_and_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, data: bytes, mode: int = 0o644) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as broken:
        broken.setattr(engine_cache, "atomic_write", full)
        assert build(tmp_path)
    assert "No space left on device" in caplog.text
    assert build(tmp_path) and not build(tmp_path)


def test_a_disk_that_fills_up_while_they_are_restored_leaves_no_half_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert build(tmp_path)
    real = Path.write_bytes

    def fills(path: Path, data: bytes) -> int:
        real(path, data[: len(data) // 2])
        if path.name == "timing.cache":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, data)

    with monkeypatch.context() as filling:
        filling.setattr(Path, "write_bytes", fills)
        with engines(tmp_path, MADE_OF) as private:
            assert private is not None and not list(private.iterdir())
    assert "No space left on device" in caplog.text
    assert not build(tmp_path), "what is kept is kept"


def test_without_room_for_a_private_folder_a_session_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # What TMPDIR says is read once a process; this is the variable that the module documents for later.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    monkeypatch.setattr(providers, "builds_engines", lambda names: True)
    with engines(tmp_path, MADE_OF) as private:
        assert private is None
    Detector(loaded(rectangles_model()), DetectorOptions(engine_cache=tmp_path / "engines"))
    assert "can be neither kept nor used" in caplog.text and not kept(tmp_path)


def test_what_a_killed_process_left_is_removed_and_what_another_holds_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # as above; the other process gets TMPDIR
    script = (
        "import os, signal, sys; from pathlib import Path; from edge.perception.engine_cache import engines\n"
        "with engines(Path(sys.argv[1]), {}) as private:\n"
        "    (private / 'x.engine').write_bytes(bytes(1000)); print(private, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "other")],
        env={**children.environment(), "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        with engines(tmp_path / "own", MADE_OF) as private:
            assert left.exists() and private != left, "it is in use"
        other.kill()
        other.wait()
        assert left.exists()
        with engines(tmp_path / "own", MADE_OF):
            assert not left.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give a file away")
def test_a_key_of_another_users_is_none(tmp_path: Path) -> None:
    assert build(tmp_path)
    os.chown(tmp_path / "key", 65534, -1)
    assert build(tmp_path), "what it sealed is worth nothing"
    assert (tmp_path / "key").stat().st_uid == 0


def test_a_folder_that_cannot_be_made_costs_a_build_and_no_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert build(tmp_path / "file" / "engines")
    assert "built anew" in caplog.text


@given(
    files=st.dictionaries(
        st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True), st.binary(max_size=50), max_size=4
    ),
    at=st.integers(min_value=0),
    flip=st.integers(1, 255),
)
def test_a_document_reads_back_and_no_change_of_a_byte_does(
    files: dict[str, bytes], at: int, flip: int
) -> None:
    document = seal(KEY, MADE_OF, files)
    assert unseal(KEY, MADE_OF, document) == files
    changed = bytearray(document)
    changed[at % len(changed)] ^= flip
    for broken in (bytes(changed), document[: at % len(document)]):
        with pytest.raises(ValueError, match="not what this vehicle sealed"):
            unseal(KEY, MADE_OF, broken)


def test_the_device_is_named_by_what_the_driver_says(tmp_path: Path) -> None:
    assert device_identity(tmp_path) == {}
    gpu = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: A")
    (tmp_path / "proc/driver/nvidia/version").write_text("580.1")
    before = device_identity(tmp_path)
    assert len(before) == 2
    (tmp_path / "proc/driver/nvidia/version").write_text("580.2")
    assert device_identity(tmp_path) != before


def test_a_session_is_made_with_the_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with TensorRT, played by the CPU provider with a builder's files."""
    seen: list[dict[str, bytes]] = []
    real = detector._session_with

    def built(model: Any, options: Any, names: Any, cache: Path | None) -> Any:
        assert cache is not None
        seen.append({path.name: path.read_bytes() for path in cache.iterdir()})
        (cache / "x.engine").write_bytes(model.digest.encode())
        return real(model, options, names, None)

    monkeypatch.setattr(detector, "_session_with", built)
    monkeypatch.setattr(providers, "builds_engines", lambda names: True)
    options = DetectorOptions(engine_cache=tmp_path / "engines")
    models = [loaded(rectangles_model(version=version)) for version in ("1", "2")]
    for model in (*models, *models):
        Detector(model, options)
    assert seen == [{}, {}, *({"x.engine": model.digest.encode()} for model in models)]


def test_an_engine_that_the_provider_refuses_is_built_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another release of TensorRT: nothing is said of the model."""
    real, tries = detector._session_with, []

    def picky(model: Any, options: Any, names: Any, cache: Path | None) -> Any:
        assert cache is not None
        tries.append([path.name for path in cache.iterdir()])
        if tries[-1]:
            raise ModelFileError("could not deserialize engine from cache")
        (cache / "x.engine").write_bytes(b"built")
        return real(model, options, names, None)

    monkeypatch.setattr(detector, "_session_with", picky)
    monkeypatch.setattr(providers, "builds_engines", lambda names: True)
    options = DetectorOptions(engine_cache=tmp_path / "engines")
    for _ in range(2):
        Detector(loaded(rectangles_model()), options)
    assert tries == [[], ["x.engine"], []]


def test_without_such_a_provider_nothing_is_kept(tmp_path: Path) -> None:
    Detector(loaded(rectangles_model()), DetectorOptions(engine_cache=tmp_path / "engines"))
    assert not (tmp_path / "engines").exists()


def test_the_daemon_keeps_tensorrts_unless_told_otherwise(tmp_path: Path) -> None:
    def cache(**model: Any) -> Path | None:
        keys = {"factory": "factory.onnx", **model}
        config = load_config(write_config(tmp_path, {"url": "sim:7"}, model=keys))
        return detector_options(config).engine_cache

    assert cache() is None
    kept_in = cache(providers=["TensorrtExecutionProvider", "cuda"])
    assert kept_in is not None and kept_in.name == "engines" and kept_in.parent.name == "state"
    assert cache(providers=["tensorrt"], engine_cache=False) is None
