"""Runs a command that does not outlive its parent: `python -m tools.demo.lifeline PARENT COMMAND...`.

A demonstration that is killed by SIGKILL can end nobody, so the kernel does (prctl(2), PR_SET_PDEATHSIG): no
watcher that could be killed itself, no pipe that a grandchild could hold open. The setting is made here, in
the child, and survives execve; made by `preexec_fn` it would run Python between fork and exec of a process
with threads. SIGKILL, since a training does not end at SIGTERM, and whatever runs here is made to be killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_EXIT_CANNOT_RUN = 127  # as a shell's


def main() -> None:
    """Tie this process to its parent, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        sys.exit(f"lifeline: prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it died before the setting was made
        sys.exit(_EXIT_CANNOT_RUN)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"lifeline: {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(_EXIT_CANNOT_RUN)


if __name__ == "__main__":
    main()
