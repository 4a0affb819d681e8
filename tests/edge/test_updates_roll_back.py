"""A rollback by hand is done once, whatever becomes of the disk and the power while it is."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from edge.updates.errors import SlotError
from edge.updates.inbox import BUNDLE, ROLLBACK, Answer, Inbox, InboxError
from edge.updates.overview import read_state
from edge.updates.roll_back import LAST_GOOD, grant
from edge.updates.slot_state import MAX_WISHES, SlotState
from edge.updates.state_file import from_bytes, to_bytes
from tests.update_garage import Garage
from tests.update_world import model
from tests.waiting import eventually


def no_room_for_answers(path: Path, data: bytes, **more: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_a_disk_without_room_for_the_answer_takes_one_model_back(
    start: Garage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start.confirmed(model("1"))
    vehicle = start.confirmed(model("2"))
    # A disk that is full for the answer alone, and had room for the wish and the slots, cannot be had.
    monkeypatch.setattr("edge.updates.inbox.atomic_write", no_room_for_answers)
    monkeypatch.setattr("edge.updates.inbox._ANSWER_S", 0.2)  # 15 s of waiting would show no more
    inbox = Inbox(start.config.state_folder)
    with pytest.raises(InboxError, match="its disk may be full; see its log"):
        inbox.wait(inbox.wish(LAST_GOOD, ROLLBACK), 30)
    asked = len(vehicle.asked)
    vehicle.updates.nudge(0)
    eventually(lambda: inbox.next() is None, "it is taken away")
    assert vehicle.running.metadata.version == "1" and len(vehicle.asked) == asked
    assert len(vehicle.models.slots.state.bad) == 1
    (said,) = [one for one in caplog.records if one.__dict__.get("event") == "inbox_unanswered"]
    assert "rectangles 1" in said.getMessage() and "runs now" in said.getMessage()


def test_a_wish_that_a_power_cut_brings_back_is_not_granted_again(start: Garage) -> None:
    start.confirmed(model("1"))
    vehicle = start.confirmed(model("2"))
    inbox = Inbox(start.config.state_folder)
    wish = inbox.wish(LAST_GOOD, ROLLBACK)
    data = wish.read_bytes()
    assert inbox.wait(wish, 30).is_installed
    vehicle.cut()
    wish.write_bytes(data)
    again = start()
    assert inbox.wait(wish, 30) == Answer(True, "it was taken back before, and stays so")
    assert again.running.metadata.version == "1"
    assert len(again.models.slots.state.bad) == 1
    assert inbox.wait(inbox.wish(LAST_GOOD, ROLLBACK), 30).is_installed, "another wish is another matter"
    assert again.running.metadata.version == "factory"


def test_what_cannot_be_taken_away_is_done_once_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox(tmp_path)
    (tmp_path / "file").write_bytes(b"x")
    given = inbox.leave(tmp_path / "file", BUNDLE)

    def read_only(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", read_only)  # a disk that turns read-only beneath root is hard to have
        with pytest.raises(OSError, match="Read-only"):
            inbox.answer(given, Answer(True, "it runs"))
    assert given.exists() and inbox.next() is None
    assert Inbox(tmp_path).next() == given, "a later start may"


def test_a_wish_that_nobody_waits_for_any_more_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    inbox = Inbox(tmp_path)
    monkeypatch.setattr("edge.updates.inbox.time.sleep", interrupted)  # Ctrl-C, at a moment of one's choice
    with pytest.raises(KeyboardInterrupt):
        inbox.wait(inbox.wish(LAST_GOOD, ROLLBACK), 30)
    assert inbox.next() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_leaves_is_the_daemons(tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 1235)
    wish = Inbox(tmp_path).wish(LAST_GOOD, ROLLBACK)
    for path in (wish, wish.parent):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)


def test_a_damaged_wish_takes_nothing_back(start: Garage) -> None:
    vehicle = start.confirmed(model("1"))
    inbox = Inbox(start.config.state_folder)
    answer = inbox.wait(inbox.wish("", ROLLBACK), 30)
    assert not answer.is_installed and "damaged" in answer.detail
    assert vehicle.running.metadata.version == "1"


def test_as_many_wishes_are_remembered_as_a_state_may_hold(start: Garage, tmp_path: Path) -> None:
    wishes = tuple(f"{number:016x}" for number in range(MAX_WISHES + 1))
    read = from_bytes(to_bytes(SlotState(wishes=wishes)))
    assert read.wishes == wishes[1:]
    older = json.loads(to_bytes(SlotState()))
    del older["wishes"], older["sha256"]
    assert from_bytes(json.dumps(older).encode()) == SlotState()


def test_a_wish_that_cannot_be_kept_is_none_that_was_granted(
    start: Garage, monkeypatch: pytest.MonkeyPatch
) -> None:
    vehicle = start.confirmed(model("1"))
    vehicle.updates.stop()
    assert vehicle.updates.join(30)
    again = start(start=False)
    wish = Inbox(start.config.state_folder).wish(LAST_GOOD, ROLLBACK)
    with monkeypatch.context() as patched:
        # A disk that is full from the wish on, and that has room again afterwards.
        patched.setattr("edge.updates.state_file.atomic_write", no_room_for_answers)
        refused = grant(wish, again.models, again.change)
    assert not refused.is_installed and "No space" in refused.detail
    assert read_state(start.config).wishes == ()
    assert grant(wish, again.models, again.change).is_installed
    assert read_state(start.config).wishes == (wish.stem,)


def test_a_state_with_what_is_no_list_of_wishes_is_damaged() -> None:
    document = json.loads(to_bytes(SlotState()))
    del document["sha256"]
    document["wishes"] = 7
    with pytest.raises(SlotError, match="damaged"):
        from_bytes(json.dumps(document).encode())
