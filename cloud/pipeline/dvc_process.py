"""DVC's command line in a process that ends with its parent: `dvc_process.py PARENT ARGUMENTS...`.

One that outlived a killed retrain would work on the files that the next attempt works on. The setting
(prctl(2), PR_SET_PDEATHSIG) is made here, in the child: by `preexec_fn` it would run Python between the fork
and the exec of a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become DVC's command line."""
    parent = int(sys.argv[1])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the setting was made
        sys.exit(1)
    from dvc.cli import main as dvc

    sys.exit(dvc(sys.argv[2:]))


if __name__ == "__main__":
    sys.path.pop(0)  # this folder's modules are not for DVC to import
    main()
