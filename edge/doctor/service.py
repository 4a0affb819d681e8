"""The service of systemd, where it is in place."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from edge.config import EdgeConfig
from edge.doctor.finding import Finding, failure, ok, warning
from edge.machine.install import UNIT

_RUN_S = 10.0
_PROPERTIES = ("LoadState", "ActiveState", "SubState", "UnitFileState", "NRestarts", "Result", "StatusText")


def service(config: EdgeConfig, root: Path = Path("/")) -> list[Finding]:
    """How the service is; nothing where systemd does not run."""
    if not (root / "run/systemd/system").is_dir() or shutil.which("systemctl") is None:
        return [ok("service", "systemd does not run here")]
    done = subprocess.run(
        ["systemctl", "show", UNIT, f"--property={','.join(_PROPERTIES)}"],
        capture_output=True,
        text=True,
        timeout=_RUN_S,
        check=False,
    )
    shown = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return [judge(shown)]


def judge(shown: Mapping[str, str]) -> Finding:
    """Judge what `systemctl show` says."""
    if shown.get("LoadState") != "loaded":
        return ok("service", "not installed; `traffic-vision edge install` does it")
    state, restarts = shown.get("ActiveState", "unknown"), shown.get("NRestarts", "0")
    text = f"{state} ({shown.get('SubState', '')}), {restarts} restarts"
    if shown.get("StatusText"):
        text += f": {shown['StatusText']}"
    if state == "failed":
        advice = f"journalctl -u {UNIT} -p warning; then systemctl reset-failed and start it"
        return failure("service", f"{text}, {shown.get('Result', '')}", advice)
    if shown.get("UnitFileState") not in ("enabled", "enabled-runtime"):
        return warning("service", f"{text}, not enabled", f"systemctl enable {UNIT}")
    if restarts != "0":
        return warning("service", text, f"why: journalctl -u {UNIT} -p warning")
    return ok("service", text)
