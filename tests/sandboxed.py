"""Runs a command under what the service's unit forbids, as far as a process can forbid it itself.

No page that is writable and executable (prctl(2), PR_SET_MDWE); the unit's system calls and address families
alone (libseccomp).

    python sandboxed.py UNIT COMMAND...

systemd 252 makes MemoryDenyWriteExecute of system-call filters that forbid the same: mmap and mprotect that
would have it so. Exits with 77 where the kernel or the library lacks something.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path

LACKING = 77
_SET_MDWE, _REFUSE_EXEC_GAIN = 65, 1
_ALLOW, _EPERM = 0x7FFF0000, 0x00050000 | errno.EPERM
_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}


class _Compare(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def system_calls(unit: str) -> set[str]:
    """What the SystemCallFilter lines of a unit leave."""
    allowed: set[str] = set()
    for line in unit.splitlines():
        key, _, value = line.partition("=")
        if key == "SystemCallFilter":
            words = value.removeprefix("~").split()
            named = {call for word in words for call in _expand(word)}
            allowed = allowed - named if value.startswith("~") else allowed | named
    return allowed


def _expand(word: str) -> set[str]:
    if not word.startswith("@"):
        return {word}
    shown = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", word], capture_output=True, text=True, check=True
    )
    calls = (line.strip() for line in shown.stdout.splitlines()[1:])
    return {each for call in calls if call and not call.startswith("#") for each in _expand(call)}


def main() -> None:
    unit = Path(sys.argv[1]).read_text()
    calls = system_calls(unit)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        sys.exit(LACKING)
    if libc.prctl(_SET_MDWE, _REFUSE_EXEC_GAIN, 0, 0, 0):
        sys.exit(LACKING)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_EPERM)))
    resolve = library.seccomp_syscall_resolve_name
    for call in sorted(calls - {"socket"}):
        number = resolve(call.encode())
        if number != -1:
            library.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0)
    (line,) = (line for line in unit.splitlines() if line.startswith("RestrictAddressFamilies="))
    for family in line.partition("=")[2].split():
        compare = _Compare(0, 4, _FAMILIES[family], 0)  # SCMP_CMP_EQ
        library.seccomp_rule_add_array(
            context, ctypes.c_uint32(_ALLOW), resolve(b"socket"), 1, ctypes.byref(compare)
        )
    if library.seccomp_load(context):
        sys.exit(LACKING)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
