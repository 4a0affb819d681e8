"""The service put in place under a root of the test's own; nothing else is touched."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge.config import load_config
from edge.machine import install
from edge.machine.install import UNIT, InstallError, plan_install, plan_uninstall
from tests.replays import COMMAND

OURS = Path(install.__file__).parent.parent / "systemd"
PYTHON = Path("/opt/traffic-vision/bin/python")


def installed(root: Path, *boards: str) -> list[str]:
    return list(install.apply(plan_install(root, PYTHON, boards)))


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()} - {
        f"etc/{name}" for name in ("passwd", "group", "shadow", "gshadow", ".pwd.lock")
    }


def test_an_image_gets_unit_user_folders_and_is_enabled(tmp_path: Path) -> None:
    installed(tmp_path, "jetson")
    assert files(tmp_path) == {
        f"etc/systemd/system/{UNIT}",
        f"etc/systemd/system/{UNIT}.d/10-jetson.conf",
        f"etc/systemd/system/multi-user.target.wants/{UNIT}",
        "etc/sysusers.d/traffic-vision.conf",
        "etc/traffic-vision/edge.toml",
    }
    unit = (tmp_path / "etc/systemd/system" / UNIT).read_text()
    assert f"ExecStart={PYTHON} " in unit and "@PYTHON@" not in unit
    assert stat.S_IMODE((tmp_path / "etc/traffic-vision").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "etc/traffic-vision/edge.toml").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "var/lib/traffic-vision").stat().st_mode) == 0o700


def test_twice_is_once_and_what_the_owner_wrote_stays(tmp_path: Path) -> None:
    installed(tmp_path, "nvidia")
    config = tmp_path / "etc/traffic-vision/edge.toml"
    config.write_text("the owner's")
    before = {path: (tmp_path / path).lstat().st_mtime_ns for path in files(tmp_path)}
    again = installed(tmp_path, "nvidia")
    assert {path: (tmp_path / path).lstat().st_mtime_ns for path in files(tmp_path)} == before
    assert config.read_text() == "the owner's"
    assert all("nothing to do" in line for line in again if not line.startswith("run "))
    installed(tmp_path, "dri")
    assert [path for path in sorted(files(tmp_path)) if ".d/10-" in path] == [
        f"etc/systemd/system/{UNIT}.d/10-dri.conf"
    ]


def test_away_it_goes_and_leaves_what_is_the_owners(tmp_path: Path) -> None:
    installed(tmp_path, "nvidia")
    (tmp_path / "var/lib/traffic-vision/daemon.lock").write_text("1")
    own_drop_in = tmp_path / f"etc/systemd/system/{UNIT}.d/90-mine.conf"
    own_drop_in.write_text("[Service]\n")
    list(install.apply(plan_uninstall(tmp_path, purge=False)))
    assert files(tmp_path) == {
        f"etc/systemd/system/{UNIT}.d/90-mine.conf",
        "etc/sysusers.d/traffic-vision.conf",
        "etc/traffic-vision/edge.toml",
        "var/lib/traffic-vision/daemon.lock",
    }
    list(install.apply(plan_uninstall(tmp_path, purge=True)))
    assert files(tmp_path) == set()
    list(install.apply(plan_uninstall(tmp_path, purge=True)))


def test_what_a_machine_has_is_found(tmp_path: Path) -> None:
    assert install.found_boards(tmp_path) == ()
    (tmp_path / "dev/dri").mkdir(parents=True)
    (tmp_path / "dev/dri/renderD128").touch()
    (tmp_path / "dev/nvidiactl").touch()
    assert install.found_boards(tmp_path) == ("nvidia", "dri")
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/compatible").write_bytes(b"nvidia,p3768\0nvidia,tegra234\0")
    assert install.found_boards(tmp_path) == ("jetson",)


@pytest.mark.parametrize("place", ["/root/venv/bin/python", "/home/me/venv/bin/python", "/tmp/v/python"])
def test_an_interpreter_that_the_service_cannot_see_is_refused(place: str) -> None:
    with pytest.raises(InstallError, match=r"which the service does not see; make the environment"):
        install.require_reachable(Path(place), [Path(place)])


def test_a_closed_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_HIDDEN", ())
    python = tmp_path / "closed" / "python"
    python.parent.mkdir()
    python.touch(0o755)
    python.parent.chmod(0o700)
    with pytest.raises(InstallError, match=r"closed is closed to other users \(700\).* chmod o\+rx"):
        install.require_reachable(python, [python])


def test_the_example_is_a_configuration(tmp_path: Path) -> None:
    """As it stands, and with every comment that is a key taken at its word."""
    for name in ("factory.onnx", "ca.crt", "client.pem", "root.json"):
        (tmp_path / name).touch()
    text = (OURS / "edge.example.toml").read_text()
    (tmp_path / "edge.toml").write_text(text)
    assert load_config(tmp_path / "edge.toml").serve.address == "unix:/run/traffic-vision/perception.sock"
    lines = [
        line.removeprefix("# ") if " = " in line or line.startswith("# [") else line
        for line in text.splitlines()
        if not line.startswith('url = "/dev')
    ]
    with_key_here = "\n".join(lines).replace("/var/lib/traffic-vision/client.pem", "client.pem")
    (tmp_path / "edge.toml").write_text(with_key_here)
    whole = load_config(tmp_path / "edge.toml")
    assert whole.cloud is not None and whole.updates is not None and whole.http is not None


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, "edge", *words], capture_output=True, text=True, timeout=60, check=False)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = command("install", "--root", str(tmp_path), "--board", "jetson", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"write {tmp_path}/etc/systemd/system/{UNIT}" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_command_installs_into_an_image_and_out_of_it(tmp_path: Path) -> None:
    done = command("install", "--root", str(tmp_path), "--python", str(PYTHON))
    assert done.returncode == 0, done.stderr
    assert "edge check" in done.stdout
    assert (tmp_path / "etc/systemd/system" / UNIT).exists()
    done = command("uninstall", "--root", str(tmp_path), "--purge")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == set()


def test_without_systemd_or_root_it_says_what_to_do() -> None:
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd runs here, and this machine is not the test's to change")
    done = command("install")
    assert done.returncode == 1
    assert "systemd does not run here" in done.stderr


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    asked = ["systemd-analyze", *map(str, words)]
    return subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.services
@pytest.mark.parametrize("board", [None, *install.BOARDS])
def test_the_unit_verifies_and_is_locked_down(tmp_path: Path, board: str | None) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze, of Debian's package systemd")
    unit = tmp_path / UNIT
    unit.write_text((OURS / UNIT).read_text().replace("@PYTHON@", sys.executable))
    if board is not None:
        (tmp_path / f"{UNIT}.d").mkdir()
        shutil.copy(OURS / "drop-ins" / f"10-{board}.conf", tmp_path / f"{UNIT}.d")
    verified = analyze("verify", "--man=no", unit)
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = analyze("security", "--offline=true", "--threshold=20", "--no-pager", unit)
    assert judged.returncode == 0, judged.stdout[-300:]
    print(judged.stdout.splitlines()[-1])
