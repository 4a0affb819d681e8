"""Work at low priority, and the way back from it where the system allows one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge.machine import children
from edge.machine.priority import LOW, LOWEST, lower, lowered, put_last, take_up
from edge.perception import model_child
from edge.perception.child_limits import ChildLimits

# On a thread of its own, so that nothing is left of it where it goes wrong.
IN_AND_OUT = textwrap.dedent(
    """
    import os, resource, sys, threading
    from concurrent.futures import ThreadPoolExecutor
    from edge.machine.priority import lowered

    limit, uid = int(sys.argv[1]), int(sys.argv[2])
    try:
        resource.setrlimit(resource.RLIMIT_NICE, (limit, limit))
    except ValueError:
        sys.exit(3)
    if uid:
        os.setresuid(uid, uid, uid)  # without capabilities from here on

    def nice():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def work():
        with lowered(), ThreadPoolExecutor(1) as inner:
            within, started = nice(), inner.submit(nice).result()
        return within, started, nice()

    with ThreadPoolExecutor(1) as pool:
        print(*pool.submit(work).result())
    """
)
NOBODY = 65534
_CAP_SYS_NICE = 23  # capability.h


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def seen(limit: int, uid: int, niceness: int = 0) -> tuple[int, ...]:
    """Niceness in the block, of a thread that it starts, and after it."""
    capabilities = Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0]
    if uid == 0 and not int(capabilities, 16) >> _CAP_SYS_NICE & 1:
        pytest.skip("root may not raise a priority here (CAP_SYS_NICE)")
    done = subprocess.run(
        ["nice", "-n", str(niceness), sys.executable, "-c", IN_AND_OUT, str(limit), str(uid)],
        env=children.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode == 3:
        pytest.skip("the limit cannot be raised here (CAP_SYS_RESOURCE)")
    assert done.returncode == 0, done.stderr
    return tuple(int(word) for word in done.stdout.split())


@pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="root may lose its privileges alone"
)
@pytest.mark.parametrize(
    ("uid", "limit", "niceness", "expected"),
    [
        (0, 0, 0, (LOW, LOW, 0)),
        (0, 0, 5, (LOW, LOW, 5)),
        (0, 0, LOW + 2, (LOW + 2, LOW + 2, LOW + 2)),  # it is lower already
        (NOBODY, 0, 0, (0, 0, 0)),  # it could not come back
        (NOBODY, 20, 0, (LOW, LOW, 0)),  # LimitNICE=+0 of the service
        (NOBODY, 15, 5, (LOW, LOW, 5)),
        (NOBODY, 19, 0, (0, 0, 0)),
    ],
)
def test_a_block_runs_at_low_priority_where_there_is_a_way_back(
    uid: int, limit: int, niceness: int, expected: tuple[int, ...]
) -> None:
    assert seen(limit, uid, niceness) == expected


def test_what_a_block_starts_and_leaves_running_has_the_processs_priority() -> None:
    """As the threads of a session do; in a block within a block too."""
    with ThreadPoolExecutor(1) as own:

        def load(pool: ThreadPoolExecutor) -> tuple[int, int]:
            with lowered():
                with lowered():
                    pool.submit(priority).result()
                inside = priority()
            return inside, priority()

        with ThreadPoolExecutor(1) as pool:
            base = os.getpriority(os.PRIO_PROCESS, os.getpid())
            inside, after = own.submit(load, pool).result()
            assert inside in (max(base, LOW), base)
            assert after == base == pool.submit(priority).result()


def test_a_child_has_low_priority_from_its_start_and_is_never_raised() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    for niceness in (0, 15):
        with subprocess.Popen(
            ["nice", "-n", str(niceness), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(b"x")
            child.stdin.flush()
            child.stdout.read(1)  # `nice` has become `cat`
            lower(child.pid)
            assert os.getpriority(os.PRIO_PROCESS, child.pid) == max(LOW, min(19, own + niceness))
            lower(child.pid, LOWEST)
            assert os.getpriority(os.PRIO_PROCESS, child.pid) == LOWEST
            child.stdin.close()
    lower(child.pid)  # which has ended


# A check that does not end while it is left out.
TAKEN_UP = textwrap.dedent(
    """
    import json, os, threading, time
    from edge.perception.model_child import question

    question()
    other, policies = threading.Event(), []

    def second():
        other.wait()
        policies.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=second)
    thread.start()
    while any(os.sched_getscheduler(which) == os.SCHED_IDLE for which in (0, thread.native_id)):
        time.sleep(0.01)
    other.set()
    thread.join()
    print(json.dumps({"policies": [os.sched_getscheduler(0), *policies],
                      "niceness": os.getpriority(os.PRIO_PROCESS, 0)}))
    """
)


def test_a_check_is_put_last_and_taken_up_where_that_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken_up.py").write_text(TAKEN_UP)
    monkeypatch.syspath_prepend(str(tmp_path))
    # It would wait for the 5 s that a check has.
    monkeypatch.setattr(model_child, "LAST_S", 0.2)
    put: list[bool] = []

    def noted(pid: int) -> bool:
        # Told by whoever puts it there: on a busy machine it looks at itself too late.
        put.append(put_last(pid))
        return put[-1]

    monkeypatch.setattr(model_child, "put_last", noted)
    answer = model_child.ask_child(
        "taken_up", {}, b"", ChildLimits(2**31, False, 60), timeout_s=60, stopping=threading.Event()
    )
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as waiting:
        is_last = put_last(waiting.pid)
        assert os.sched_getscheduler(waiting.pid) == (os.SCHED_IDLE if is_last else os.SCHED_OTHER)
        assert os.getpriority(os.PRIO_PROCESS, waiting.pid) == LOWEST
        assert not is_last or len(os.sched_getaffinity(waiting.pid)) == 1
        take_up(waiting.pid)
        assert os.sched_getscheduler(waiting.pid) == os.SCHED_OTHER
        assert os.sched_getaffinity(waiting.pid) == os.sched_getaffinity(0)
        waiting.communicate(b"\n")
    assert put == [is_last]
    assert answer["policies"] == [os.SCHED_OTHER] * 2 and answer["niceness"] == LOWEST


def test_who_has_ended_is_put_nowhere() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    take_up(ended.pid)
    assert not list(Path("/proc").glob(f"{ended.pid}/task/*"))
