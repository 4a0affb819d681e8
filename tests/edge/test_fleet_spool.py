"""The spool's rules: order, limits, damage; and that nothing of the disk's raises."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.fleet.spool import QUARANTINE, QUARANTINE_LIMIT, Refusal, Spool, SpoolError, SpoolOptions


@contextmanager
def a_folder() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(folder)


def ids(spool: Spool) -> list[str]:
    return [item_id for item_id, _ in spool.pending()]


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.item"))


def test_what_was_appended_comes_back_after_a_restart_important_first_then_oldest(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for item_id, priority in (("a", 1.0), ("b", 3.5), ("c", 1.0), ("d", -2.0), ("e", 3.5)):
        assert spool.append(item_id, item_id.encode() * 10, priority)
    expected = [("b", b"b" * 10), ("e", b"e" * 10), ("a", b"a" * 10), ("c", b"c" * 10), ("d", b"d" * 10)]
    assert list(spool.pending()) == expected
    again = Spool(tmp_path)
    assert list(again.pending()) == expected
    assert again.next() == expected[0]
    assert again.next(skip={"b", "e"}) == expected[2]
    assert again.status().used_bytes == sum(path.stat().st_size for path in files(tmp_path))


def test_what_is_acknowledged_or_discarded_is_gone_for_good(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for item_id in ("a", "b", "c"):
        spool.append(item_id, b"payload")
    assert spool.acknowledge("a") and spool.discard("b")
    assert not spool.acknowledge("a") and not spool.discard("a") and not spool.acknowledge("unknown")
    assert ids(spool) == ids(Spool(tmp_path)) == ["c"]
    status = spool.status()
    assert (status.appended, status.acknowledged, status.discarded, status.items) == (3, 1, 1, 1)


def test_an_id_that_is_there_is_the_same_item(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.append("a", b"payload") and spool.append("a", b"payload")
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("item_id", ["", "a/b", "../a", "a" * 65, "a b", "ä", "a\n"])
def test_an_id_that_is_none_is_a_defect(tmp_path: Path, item_id: str) -> None:
    with pytest.raises(ValueError, match="item id"):
        Spool(tmp_path).append(item_id, b"")


@pytest.mark.parametrize("priority", [float("nan"), float("inf"), -float("inf")])
def test_a_priority_that_is_none_is_a_defect(tmp_path: Path, priority: float) -> None:
    with pytest.raises(ValueError, match="priority"):
        Spool(tmp_path).append("a", b"", priority)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 400), st.integers(0, 4)),
        st.tuples(st.just("acknowledge"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(actions)
def test_the_limit_holds_and_only_what_is_less_important_makes_room(
    actions: list[tuple[str, int, int]],
) -> None:
    with a_folder() as folder:
        options = SpoolOptions(limit_bytes=1500)
        spool, priorities, number = Spool(folder, options), {}, 0
        for action, value, priority in actions:
            before = set(ids(spool))
            if action == "append":
                item_id, number = f"i{number}", number + 1
                priorities[item_id] = priority
                taken = spool.append(item_id, bytes(value), priority)
                after = set(ids(spool))
                assert (item_id in after) == taken
                gone = before - after
                assert all(priorities[other] < priority for other in gone)
                if taken:
                    # No more went than had to: with the most important of them still there, it would not fit.
                    kept = [priorities[other] for other in before & after]
                    assert not gone or not kept or max(priorities[g] for g in gone) <= min(kept)
                else:
                    assert not gone
            elif action == "acknowledge":
                spool.acknowledge(f"i{value}")
            else:
                spool = Spool(folder, options)
                assert set(ids(spool)) == before
            status = spool.status()
            assert status.used_bytes == sum(path.stat().st_size for path in files(folder)) <= 1500
            order = [priorities[item_id] for item_id in ids(spool)]
            assert order == sorted(order, reverse=True)


def test_what_gives_way_and_what_is_refused_is_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolOptions(limit_bytes=1000))
    assert spool.append("low", bytes(300), 1)
    assert spool.append("middle", bytes(300), 2)
    assert spool.append("high", bytes(700), 3)
    assert ids(spool) == ["high"]
    assert not spool.append("equal", bytes(700), 3)
    assert not spool.append("huge", bytes(2000), 9)
    status = spool.status()
    assert status.dropped == 2
    assert (status.refused[Refusal.FULL], status.refused[Refusal.TOO_LARGE]) == (1, 1)
    assert ids(spool) == ["high"]


def test_a_lower_limit_than_before_keeps_the_most_important(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in range(5):
        spool.append(f"i{number}", bytes(300), number)
    smaller = Spool(tmp_path, SpoolOptions(limit_bytes=800))
    assert ids(smaller) == ["i4", "i3"]
    assert smaller.status().dropped == 3
    assert len(files(tmp_path)) == 2


def test_a_file_of_another_making_is_left_alone_and_half_a_file_goes(tmp_path: Path) -> None:
    Spool(tmp_path).append("a", b"payload")
    (tmp_path / "README").write_text("by hand")
    (tmp_path / ".000000000002-b.item.0123abcd.tmp").write_bytes(b"half")
    spool = Spool(tmp_path)
    assert ids(spool) == ["a"]
    assert {path.name for path in tmp_path.iterdir()} == {"README", "000000000001-a.item"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no header",
        b"[" * 600,
        b'{"id": "a"}\n',
        b'{"id": "a", "priority": 1, "bytes": Infinity, "crc32": 0}\npayload',
        b'{"id": "a", "priority": NaN, "bytes": 7, "crc32": 0}\npayload',
        b'{"id": "other", "priority": 1, "bytes": 7, "crc32": 0}\npayload',
        b'{"id": "a", "priority": 1, "bytes": 8, "crc32": 0}\npayload',
        b'{"id": "a", "priority": 1, "bytes": 6, "crc32": 0}\npayload',
        b'\xff\xfe\x00{"id"',
    ],
)
def test_a_damaged_file_costs_itself_alone(tmp_path: Path, content: bytes) -> None:
    spool = Spool(tmp_path)
    spool.append("a", b"payload")
    spool.append("b", b"payload")
    files(tmp_path)[0].write_bytes(content)
    again = Spool(tmp_path)
    assert list(again.pending()) == [("b", b"payload")]
    assert again.status().quarantined == 1
    assert [path.read_bytes() for path in (tmp_path / QUARANTINE).iterdir()] == [content]
    assert Spool(tmp_path).status().quarantined == 0


def test_damage_that_shows_when_it_is_read_costs_itself_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for item_id in ("a", "b", "c", "d"):
        spool.append(item_id, b"payload")
    flipped, missing, folder, _ = files(tmp_path)
    flipped.write_bytes(flipped.read_bytes()[:-1] + b"D")
    missing.unlink()
    folder.unlink()
    folder.mkdir()
    assert spool.next() == ("d", b"payload")
    assert ids(spool) == ["d"]
    status = spool.status()
    assert (status.quarantined, status.items) == (2, 2)  # the folder may be a passing trouble: it is skipped
    again = Spool(tmp_path)
    assert ids(again) == ["d"] and again.status().quarantined == 1


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_flipped_byte_or_cut_is_found(data: st.DataObject) -> None:
    with a_folder() as folder:
        Spool(folder).append("a", b"payload of the item", 1.0)
        (path,) = files(folder)
        content = path.read_bytes()
        cut = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            path.write_bytes(content[:cut])
        else:
            changed = bytes([content[cut] ^ data.draw(st.integers(1, 255))])
            path.write_bytes(content[:cut] + changed + content[cut + 1 :])
        spool = Spool(folder)
        assert all(payload == b"payload of the item" for _, payload in spool.pending())
        assert spool.status().items + spool.status().quarantined == 1


def test_the_quarantine_does_not_grow(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in range(QUARANTINE_LIMIT + 5):
        spool.append(f"i{number}", b"payload")
    for path in files(tmp_path):
        path.write_bytes(b"damage")
    assert Spool(tmp_path).status().quarantined == QUARANTINE_LIMIT + 5
    assert len(list((tmp_path / QUARANTINE).iterdir())) == QUARANTINE_LIMIT


def test_a_folder_that_cannot_be_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match=r"file/spool.*Not a directory"):
        Spool(tmp_path / "file" / "spool")


def test_a_folder_that_vanishes_is_counted_and_raises_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append("a", b"payload")
    files(tmp_path / "spool")[0].unlink()
    (tmp_path / "spool").rmdir()
    assert not spool.append("b", b"payload")
    assert spool.next() is None
    assert spool.status().refused[Refusal.DISK] == 1


def test_a_disk_that_fills_up_refuses_what_does_not_fit_and_keeps_the_rest(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.edge.spool_child", str(tmp_path), "full"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    *appended, counts = ran.stdout.splitlines()
    assert appended == [f"item-{number} {bool(number % 2)}" for number in range(10)]
    assert counts == "refused 5 errors 5 items 5"
    assert ran.stderr.count("File too large") <= 5
    assert {path.suffix for path in tmp_path.iterdir()} == {".item"}
    assert set(ids(Spool(tmp_path))) == {f"item-{number}" for number in range(1, 10, 2)}


def test_several_threads_lose_nothing(tmp_path: Path) -> None:
    spool, taken = Spool(tmp_path), []

    def append(name: str) -> None:
        for number in range(20):
            assert spool.append(f"{name}-{number}", f"{name}-{number}".encode(), number)

    def take() -> None:
        while len(taken) < 60:
            found = spool.next()
            if found is not None:
                assert found[0].encode() == found[1]
                assert spool.acknowledge(found[0])
                taken.append(found[0])

    threads = [threading.Thread(target=append, args=(name,)) for name in "xyz"]
    threads.append(threading.Thread(target=take))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(set(taken)) == 60
    assert spool.status().used_bytes == 0 and not files(tmp_path)
    assert spool.status().quarantined == 0


def test_listeners_hear_of_what_was_taken(tmp_path: Path) -> None:
    heard: list[str] = []
    spool = Spool(tmp_path, SpoolOptions(limit_bytes=500))
    spool.listen(lambda: heard.append("item"))
    spool.append("a", bytes(300))
    spool.append("b", bytes(300))
    assert heard == ["item"]
