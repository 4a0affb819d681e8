"""Runs a command in a group of its own that does not outlive its parent: `python -m tools.demo.lifeline ...`.

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
    """Tie this process to its parent, then become the command. Arguments: the parent's id, the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    # Ctrl-C on the terminal is the demonstration's to pass on. No session of its own: Linux shares the
    # processor between sessions first (sched(7), autogroup), so that a vehicle that drives slowly would take
    # as much of it as the training, whose threads wait for each other.
    os.setpgid(0, 0)
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
