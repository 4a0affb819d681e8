"""What reaches a service manager's socket: a real datagram socket, without a manager behind it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.machine.notify import Notifier, notifier, watchdog_period_s
from edge.machine.watchdog import StartingUp, Watchdog
from tests.managers import Manager


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@traffic-vision-test-{os.getpid()}"
    with Manager(name) as opened:
        yield opened


def test_each_message_is_one_datagram(manager: Manager) -> None:
    told = notifier({"NOTIFY_SOCKET": manager.address})
    told.ready("three\ncameras")
    told.reloading()
    told.alive()
    told.extend_timeout(2.5)
    told.stopping()
    assert manager.next() == {"READY": "1", "STATUS": "three cameras"}
    reloading = manager.next()
    assert reloading["RELOADING"] == "1" and int(reloading["MONOTONIC_USEC"]) > 0
    assert manager.next() == {"WATCHDOG": "1"}
    assert manager.next() == {"EXTEND_TIMEOUT_USEC": "2500000"}
    assert manager.next()["STOPPING"] == "1"


@pytest.mark.parametrize("address", ["", "/no/such/socket", "@nobody-listens", "vsock:2:1234", "/" * 300])
def test_a_manager_that_is_not_there_hurts_nobody(address: str) -> None:
    notifier({"NOTIFY_SOCKET": address}).ready("")
    Notifier(address).alive()


def test_a_manager_that_never_reads_hurts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.machine.notify._SEND_TIMEOUT_S", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        for _ in range(400):  # net.unix.max_dgram_qlen is 10 to 512
            Notifier(str(tmp_path / "deaf")).alive()


@given(st.text(max_size=30), st.text(max_size=10))
def test_no_environment_breaks_it(period: str, pid: str) -> None:
    found = watchdog_period_s({"WATCHDOG_USEC": period, "WATCHDOG_PID": pid}, pid=7)
    assert found is None or (found > 0 and pid in ("", "7"))


def test_the_watchdog_of_another_process_is_not_ours() -> None:
    assert watchdog_period_s({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, pid=7) == 3.0
    assert watchdog_period_s({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, pid=7) is None
    assert watchdog_period_s({"WATCHDOG_USEC": "3000000"}) == 3.0
    assert watchdog_period_s({}) is None


def test_it_pings_while_all_is_well_and_says_why_it_does_not(
    manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    reasons: tuple[str, ...] = ()
    watchdog = Watchdog(Notifier(manager.address), None, lambda: reasons)
    assert watchdog.look()
    assert manager.next() == {"WATCHDOG": "1"}
    reasons = ("inference has not advanced for 12 s",)
    assert not watchdog.look() and not watchdog.look()
    assert manager.next() == {"STATUS": "not well: inference has not advanced for 12 s"}
    reasons = ()
    assert watchdog.look()
    manager.until("STATUS")
    assert [manager.next() for _ in range(2)] == [{"STATUS": "running"}, {"WATCHDOG": "1"}]
    assert len([line for line in caplog.messages if "no sign of life" in line]) == 1, (
        "told once, not each time"
    )


def test_its_thread_pings_more_than_once_a_period_and_ends(manager: Manager) -> None:
    watchdog = Watchdog(Notifier(manager.address), 0.04, lambda: ())
    watchdog.start()
    assert [manager.next() for _ in range(5)] == [{"WATCHDOG": "1"}] * 5
    watchdog.stop()
    assert watchdog.join(60)


def test_a_defect_of_the_rule_is_silence_and_no_end(manager: Manager) -> None:
    looked = threading.Semaphore(0)

    def reasons() -> tuple[str, ...]:
        looked.release()
        raise ZeroDivisionError

    watchdog = Watchdog(Notifier(manager.address), 0.02, reasons)
    watchdog.start()
    for _ in range(3):
        assert looked.acquire(timeout=60)
    watchdog.stop()
    assert watchdog.join(60)
    assert manager.waiting() == []


def test_without_a_watchdog_no_thread_is_started() -> None:
    watchdog = Watchdog(Notifier(), None, lambda: ())
    watchdog.start()
    assert "watchdog" not in {thread.name for thread in threading.enumerate()}
    assert watchdog.join(0)


def test_a_start_asks_for_time_until_it_is_over_or_too_long(manager: Manager) -> None:
    with StartingUp(Notifier(manager.address), 60, every_s=0.01):
        assert "STATUS" in manager.next()
        for _ in range(3):
            assert int(manager.next()["EXTEND_TIMEOUT_USEC"]) >= 20_000_000
    manager.waiting()
    too_long = StartingUp(Notifier(manager.address), 0.0)
    with too_long:
        too_long._thread.join(60)
    assert [set(message) for message in manager.waiting()] == [{"STATUS"}]
