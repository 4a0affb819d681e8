"""Kill -9 at every file operation of a piece of work.

Run this from a process of its own that has no threads: it forks. A child does the work and stops itself by
SIGKILL before its n-th file operation, for n = 1, 2, ... until the work comes to its end.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

# Raised by the interpreter before the operation; `open` counts where it may write.
OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}


def killed_at_each_point(work: Callable[[], None], most: int = 1000) -> Iterator[int]:
    """Give n = 1, 2, ... each time after a child was killed before its n-th file operation.

    The last child comes to its end; its number is not given.

    Args:
        work: is done in the child, from its beginning.
        most: more operations than that are a mistake of the caller.
    """
    for point in range(1, most):
        child = os.fork()
        if child == 0:
            _work_until(work, point)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            yield point
            continue
        assert os.WEXITSTATUS(status) == 0, "the work failed without a kill"
        return
    raise AssertionError(f"more than {most} file operations")


def _work_until(work: Callable[[], None], point: int) -> None:
    count = 0
    sync = os.fsync

    def step() -> None:
        nonlocal count
        count += 1
        if count == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        flags = arguments[2] if event == "open" else 0
        if event in OPERATIONS or flags & (os.O_WRONLY | os.O_RDWR):
            step()
        if flags & os.O_TRUNC:
            empty(arguments[0])
            step()

    def empty(path: Any) -> None:
        """What a kill just after the opening leaves."""
        nonlocal point
        if count + 1 == point:
            point = 0  # emptying it is an operation too, which does not count
            with suppress(FileNotFoundError):
                os.truncate(path, 0)
            os.kill(os.getpid(), signal.SIGKILL)

    def counted_sync(handle: int) -> None:
        step()
        sync(handle)

    try:
        os.fsync = counted_sync  # fsync raises no audit event
        sys.addaudithook(hook)
        work()
    except BaseException as error:  # noqa: BLE001 - the child's top
        print(f"the work failed: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
