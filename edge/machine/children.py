"""How child processes of this program are started."""

from __future__ import annotations

import os
import sys


def environment() -> dict[str, str]:
    """This process's, so that a child imports what this process imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
