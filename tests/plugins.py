"""A source plug-in made on the spot: installed for one process by its PYTHONPATH, as pip would for all."""

from __future__ import annotations

import os
from pathlib import Path


def install_source(folder: Path, scheme: str, code: str) -> dict[str, str]:
    """Put the module `plugin_SCHEME` with its `open_source(url)` there; gives the environment for it."""
    facts = folder / f"plugin_{scheme}-1.dist-info"
    facts.mkdir(parents=True, exist_ok=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin-{scheme}\nVersion: 1\n")
    point = f"[traffic_vision.sources]\n{scheme} = plugin_{scheme}:open_source\n"
    (facts / "entry_points.txt").write_text(point)
    (folder / f"plugin_{scheme}.py").write_text(code)
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
