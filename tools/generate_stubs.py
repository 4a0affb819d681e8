"""Make the Python stubs of `protos/`, or check that the committed ones are what the sources give.

Run by `make protos` and `make lint` in an environment that holds the generators alone: grpcio-tools at
the oldest release that the stubs must work with (they refuse an older protobuf or grpcio than their
generator's, and take newer ones), and mypy-protobuf for the types of the services.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("protos/traffic_vision/v1")
# What `sha256sum --check` reads: the sources and what was made from them.
DIGESTS = "stubs.sha256"


def generate(out: Path) -> None:
    """Write the stubs of every source, and their digests, below `out`."""
    sources = sorted((ROOT / PACKAGE).glob("*.proto"))
    with_services = [source for source in sources if "\nservice " in source.read_text(encoding="utf-8")]
    _protoc(sources, f"--python_out={out}", f"--pyi_out={out}")
    _protoc(with_services, f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}")
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        for file in [*sources, *sorted((out / PACKAGE).glob("*_pb2*.py*"))]
    ]
    (out / PACKAGE / DIGESTS).write_text("".join(lines), encoding="utf-8")


def _protoc(sources: list[Path], *outputs: str) -> None:
    plugin = Path(sys.executable).with_name("protoc-gen-mypy_grpc")
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--plugin={plugin}", f"-I{ROOT}", *outputs]
    subprocess.run([*command, *map(str, sources)], check=True)


def stale_files(fresh: Path) -> list[str]:
    """Names of the stubs that differ between the repository and `fresh`, missing and surplus ones too."""
    made = {file.name: file.read_bytes() for file in (fresh / PACKAGE).iterdir()}
    committed = {
        file.name: file.read_bytes()
        for file in (ROOT / PACKAGE).iterdir()
        if "_pb2" in file.name or file.name == DIGESTS
    }
    return sorted(name for name in made.keys() | committed.keys() if made.get(name) != committed.get(name))


def main() -> int:
    """Return 0 when the stubs are written or, with --check, fresh; 1 when a stub is stale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a stub is stale")
    check: bool = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        stale = stale_files(fresh)
        if check and stale:
            print(f"stale stubs: {', '.join(stale)}; make them anew: make protos", file=sys.stderr)
            return 1
        if not check:
            for name in stale:
                source, target = fresh / PACKAGE / name, ROOT / PACKAGE / name
                if source.exists():
                    shutil.copyfile(source, target)
                else:
                    target.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
