"""A child process ends with the thread that started it, whatever becomes of that one (prctl(2)).

Run as a program, `lifeline.py PARENT COMMAND...` holds itself to the parent and then becomes the command:
what a `preexec_fn` would do, but without Python between the fork and the exec of a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def hold_to(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    Raises:
        SystemExit: the parent has ended already.
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        raise SystemExit(1)


if __name__ == "__main__":
    hold_to(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - becoming that command is all that it is for
