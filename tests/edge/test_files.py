"""Files appear whole, or the old one stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.files import atomic_write

# In a process of its own: its limit on the size of files is a disk that fills up in the middle of a write.
FULL_DISK = """
import resource, sys
from pathlib import Path
from edge.files import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    atomic_write(Path(sys.argv[1]), b"n" * 5000)
except OSError as error:
    print(error.strerror)
"""


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=5))
def test_the_last_content_is_there_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    for content in contents:
        atomic_write(folder / "file", content)
        assert (folder / "file").read_bytes() == content
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_write(path, b"old")
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "File too large\n"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "missing" / "file", b"new")
