"""The rule of the session tokens, with vehicles that crash and copies of their disks, in any order."""

from __future__ import annotations

import enum
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from cloud.fleet.session_chain import Chain, Link, confirmed, connected, judge


class Ends(enum.Enum):
    """How a connection ends."""

    LOST = "the power fails before the token is on disk"
    KEPT = "before the cloud hears that it is"
    CONFIRMED = "the cloud hears it"
    CONFIRMED_LATE = "after the next connection has begun"


class Cloud:
    """The rule, and what it reported."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.reports: list[Link] = []
        self._late: list[str] = []
        self._fresh = map("token-{}".format, count())

    def connects(self, shown: str | None, ends: Ends) -> str | None:
        """Who shows this connects; what it has on its disk afterwards."""
        link = judge(self.chain, shown)
        if link.is_broken:
            self.reports.append(link)
        fresh = next(self._fresh)
        self.chain = connected(shown, fresh)
        while self._late:
            self.chain = confirmed(self.chain, self._late.pop())
        if shown is None or ends is Ends.LOST:
            return shown
        if ends is Ends.CONFIRMED:
            self.chain = confirmed(self.chain, fresh)
        elif ends is Ends.CONFIRMED_LATE:
            self._late.append(fresh)
        return fresh


def drives(cloud: Cloud, disk: str | None, drive: list[Ends]) -> str | None:
    for ends in drive:
        disk = cloud.connects(disk, ends)
    return disk


endings = st.lists(st.sampled_from(Ends), max_size=8)
# Both sides new, a daemon from before with or without its cloud, a cloud whose owner vouched for the vehicle.
beginnings = st.sampled_from(["", "kept-before"])


@given(beginnings, endings)
def test_a_vehicle_that_is_alone_is_never_reported(disk: str, drive: list[Ends]) -> None:
    cloud = Cloud(Chain())
    drives(cloud, disk, drive)
    assert cloud.reports == []


@given(beginnings, st.integers(0, 4), endings)
def test_a_daemon_from_before_is_not_reported_and_neither_is_its_update(
    disk: str, before: int, drive: list[Ends]
) -> None:
    cloud = Cloud(Chain())
    for _ in range(before):
        assert cloud.connects(None, Ends.LOST) is None
    drives(cloud, disk, drive)
    assert cloud.reports == []


@given(
    beginnings,
    endings,
    st.lists(st.tuples(st.integers(0, 1), st.sampled_from(Ends)), min_size=1, max_size=12),
)
def test_of_two_copies_one_is_reported_at_its_next_connection(
    disk: str, drive: list[Ends], both: list[tuple[int, Ends]]
) -> None:
    cloud = Cloud(Chain())
    copied = drives(cloud, disk, drive)
    disks = [copied, copied]
    kept: set[int] = set()  # who has a token of its own
    met: set[int] = set()  # of these, who has seen the other come afterwards
    for who, ends in both:
        disks[who] = cloud.connects(disks[who], ends)
        if who in met:
            assert cloud.reports, f"{who} has come back after the other"
        met |= kept - {who}
        if ends is not Ends.LOST:
            kept.add(who)
    if len({who for who, _ in both}) == 1:
        assert cloud.reports == [], "the copy never came"


@given(endings, st.sampled_from(["", None, "of a restored disk"]), endings)
def test_lost_state_is_reported_once_and_the_vehicle_goes_on(
    drive: list[Ends], left: str | None, later: list[Ends]
) -> None:
    cloud = Cloud(Chain())
    drives(cloud, drives(cloud, "", [*drive, Ends.CONFIRMED]), [])
    drives(cloud, left, [Ends.LOST, *later])
    expected = {"": Link.EMPTY, None: Link.SILENT}.get(left, Link.UNKNOWN)
    assert cloud.reports == [expected]


@given(endings)
def test_what_was_confirmed_ends_what_was_before(drive: list[Ends]) -> None:
    cloud = Cloud(Chain())
    copied = drives(cloud, "", [*drive, Ends.KEPT])
    assert copied
    drives(cloud, copied, [Ends.CONFIRMED])
    assert judge(cloud.chain, copied) is Link.UNKNOWN
    assert judge(cloud.chain, cloud.chain.kept) is Link.CONTINUES
