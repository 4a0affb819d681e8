"""Uploads over real gRPC with mutual TLS, to a cloud that cuts, refuses, defers, hangs and lies."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from edge.backoff import BackoffOptions
from edge.fleet.channel import open_channel
from edge.fleet.spool import Spool
from edge.fleet.uplink import FEATURES, SAMPLES, Lane, Uplink, UplinkOptions
from edge.fleet.upload_budget import UploadBudget
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests.certificates import Authority
from tests.fleet_cloud import DEFERRED, REFUSED, Answer, Cloud, sample, serving, vehicle_options
from tests.waiting import eventually

QUICK = BackoffOptions(0.01, 0.2)
OPTIONS = UplinkOptions(backoff=QUICK)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@contextmanager
def uplink(
    folder: Path,
    address: str,
    authority: Authority,
    spool: Spool,
    options: UplinkOptions = OPTIONS,
    *,
    lane: Lane = SAMPLES,
    signer: Authority | None = None,
    budget: UploadBudget | None = None,
    name: str = "vehicle",
) -> Iterator[Uplink]:
    own = (signer or authority).vehicle(name)
    where = vehicle_options(folder / name, address, authority, own, backoff=QUICK)
    with open_channel(where) as channel:
        link = Uplink(lane, spool, channel, options, budget=budget)
        link.start()
        try:
            yield link
        finally:
            assert link.stop(timeout_s=30)


def fill(spool: Spool, *ids: str) -> None:
    for item_id in ids:
        assert spool.append(item_id, sample(item_id))


def empty(spool: Spool) -> Callable[[], bool]:
    return lambda: spool.status().items == 0


def test_everything_arrives_once_and_leaves_the_spool(tmp_path: Path, authority: Authority) -> None:
    cloud, spool = Cloud(), Spool(tmp_path / "spool")
    fill(spool, *(f"before-{number}" for number in range(20)))
    with serving(cloud, authority) as address, uplink(tmp_path, address, authority, spool) as link:
        fill(spool, *(f"while-{number}" for number in range(20)))
        eventually(empty(spool), "the spool is empty")
        status = link.status()
    assert len(cloud.inserts) == 40 and set(cloud.inserts.values()) == {1}
    assert (status.counts.stored, status.counts.duplicates, status.stream.failures) == (40, 0, 0)
    assert status.stream.connected and not status.stream.trouble
    assert spool.status().acknowledged == 40
    assert cloud.peers[0] == "vehicle"
    assert cloud.content["while-7"] == sample("while-7")


@pytest.mark.parametrize("seed", range(4))
def test_a_cloud_that_does_everything_wrong_gets_each_sample_once(
    tmp_path: Path, authority: Authority, seed: int
) -> None:
    rng = random.Random(seed)
    refused = {f"s{number}" for number in range(0, 60, 7)}

    def plan(item_id: str, attempt: int) -> Answer:
        if item_id in refused and attempt >= 2:
            return Answer(REFUSED, fleet.REFUSAL_REASON_PICTURE)
        if attempt >= 4:  # even this cloud gets better
            return Answer(hold=rng.choice([0, 3]))
        return rng.choice(
            [
                Answer(),
                Answer(hold=4),
                Answer(DEFERRED, fleet.REFUSAL_REASON_QUOTA, retry_after_ms=rng.choice([0, 20])),
                Answer(cut=grpc.StatusCode.UNAVAILABLE, keep=rng.random() < 0.5),
                Answer(cut=grpc.StatusCode.INTERNAL),
            ]
            if item_id not in refused
            else [Answer(DEFERRED), Answer(cut=grpc.StatusCode.UNAVAILABLE, keep=False)]
        )

    cloud, spool = Cloud(plan), Spool(tmp_path / "spool")
    ids = {f"s{number}" for number in range(60)}
    fill(spool, *ids)
    # Answers that are held may be the last ones: they come when the stream has lasted long enough.
    options = UplinkOptions(stream_s=1.0, backoff=QUICK)
    with serving(cloud, authority) as address, uplink(tmp_path, address, authority, spool, options) as link:
        eventually(empty(spool), "the spool is empty")
        counts = link.status().counts
    assert cloud.inserts == Counter(ids - refused)
    assert not cloud.conflicts
    assert counts.refused == {"picture": len(refused)}
    assert spool.status().acknowledged == len(ids - refused) and spool.status().discarded == len(refused)
    assert counts.sent > len(ids) and counts.strays == 0


def test_no_more_are_in_flight_than_was_agreed(tmp_path: Path, authority: Authority) -> None:
    cloud, spool = Cloud(lambda item_id, attempt: Answer(silent=True)), Spool(tmp_path / "spool")
    fill(spool, *(f"s{number}" for number in range(20)))
    options = UplinkOptions(in_flight=5, backoff=QUICK)
    with serving(cloud, authority) as address, uplink(tmp_path, address, authority, spool, options) as link:
        cloud.wait_for(lambda: sum(cloud.attempts.values()) == 5, "five are sent")
        link.wake()
        assert link.status().counts.sent == 5
        assert len(cloud.attempts) == 5
    assert spool.status().items == 20


def test_what_hangs_is_sent_again_when_the_stream_has_lasted_long_enough(
    tmp_path: Path, authority: Authority
) -> None:
    cloud = Cloud(lambda item_id, attempt: Answer(silent=attempt == 1))
    spool = Spool(tmp_path / "spool")
    fill(spool, "a", "b")
    options = UplinkOptions(stream_s=1.0, backoff=QUICK)
    with serving(cloud, authority) as address, uplink(tmp_path, address, authority, spool, options) as link:
        eventually(empty(spool), "the spool is empty")
        counts = link.status().counts
    assert min(cloud.attempts.values()) >= 2 and cloud.inserts == {"a": 1, "b": 1}
    assert counts.unanswered >= 2 and counts.duplicates == 2


def test_an_answer_to_what_was_not_sent_removes_nothing(tmp_path: Path, authority: Authority) -> None:
    class Liar(Cloud):
        def UploadSamples(self, request_iterator, context):
            next(request_iterator)
            yield fleet.UploadSamplesResponse(sample_id="precious", outcome=fleet.UPLOAD_OUTCOME_STORED)
            yield fleet.UploadSamplesResponse(sample_id="precious", outcome=fleet.UPLOAD_OUTCOME_REFUSED)
            yield fleet.UploadSamplesResponse(sample_id="other", outcome=99, retry_after_ms=3_600_000)

    spool = Spool(tmp_path / "spool")
    spool.append("other", sample("other"), 9.0)
    fill(spool, "precious")
    options = UplinkOptions(in_flight=1, backoff=QUICK)
    with serving(Liar(), authority) as address, uplink(tmp_path, address, authority, spool, options) as link:
        eventually(lambda: link.status().counts.deferred == 1, "the unknown outcome counts as deferred")
        assert link.status().counts.strays == 2
    assert {item_id for item_id, _ in spool.pending()} == {"precious", "other"}


def test_a_sample_that_breaks_the_stream_costs_itself_alone(tmp_path: Path, authority: Authority) -> None:
    poison = Answer(cut=grpc.StatusCode.INTERNAL, keep=False)
    cloud = Cloud(lambda item_id, attempt: poison if item_id == "poison" else Answer())
    spool = Spool(tmp_path / "spool")
    spool.append("poison", sample("poison"), 9.0)
    fill(spool, *(f"s{number}" for number in range(10)))
    with serving(cloud, authority) as address, uplink(tmp_path, address, authority, spool):
        eventually(lambda: spool.status().items == 1, "all but one are through")
    assert [item_id for item_id, _ in spool.pending()] == ["poison"]
    assert len(cloud.inserts) == 10


def test_what_is_too_large_or_no_message_is_refused_here(tmp_path: Path, authority: Authority) -> None:
    cloud, spool = Cloud(), Spool(tmp_path / "spool")
    spool.append("huge", sample("huge", 5 << 20), 9.0)
    spool.append("large", sample("large", 3000), 9.0)
    spool.append("noise", b"\xff\xff\xff\xff no message", 9.0)
    with serving(cloud, authority) as address:
        own = vehicle_options(tmp_path / "v", address, authority, authority.vehicle("v"), backoff=QUICK)
        with open_channel(own) as channel:
            link = Uplink(SAMPLES, spool, channel, OPTIONS)
            link.limit_to(in_flight=2, item_bytes=2000)
            fill(spool, "good")
            link.start()
            eventually(empty(spool), "the spool is empty")
            assert link.stop(timeout_s=30)
    assert link.status().counts.refused == {"too_large": 2, "malformed": 1}
    assert set(cloud.attempts) == {"good"} and spool.status().discarded == 3


def test_the_budget_of_the_day_holds_and_can_be_lowered(tmp_path: Path, authority: Authority) -> None:
    cloud, spool = Cloud(), Spool(tmp_path / "spool")
    size = len(sample("s0"))
    fill(spool, *(f"s{number}" for number in range(6)))
    budget = UploadBudget(3 * size + 1, tmp_path / "budget.json")
    budget.limit_to(2 * size)
    with (
        serving(cloud, authority) as address,
        uplink(tmp_path, address, authority, spool, budget=budget) as link,
    ):
        eventually(lambda: spool.status().items == 4, "two are through")
        budget.limit_to(100 * size)  # not above what is configured
        link.wake()
        eventually(lambda: spool.status().items == 3, "one more is through")
        link.wake()
    assert len(cloud.inserts) == 3
    budget.save()
    again = UploadBudget(3 * size + 1, tmp_path / "budget.json")
    assert again.spent() == 3 * size
    assert again.wait_s(1) == 0 and (again.wait_s(2) or 0) > 0 and again.wait_s(4 * size) is None
    (tmp_path / "budget.json").write_text("{}")
    assert UploadBudget(100, tmp_path / "budget.json").spent() == 0


def test_a_stream_without_work_is_closed_and_opened_again(tmp_path: Path, authority: Authority) -> None:
    cloud, spool = Cloud(), Spool(tmp_path / "spool")
    options = UplinkOptions(idle_s=0.0, backoff=QUICK)
    with serving(cloud, authority) as address, uplink(tmp_path, address, authority, spool, options) as link:
        assert link.status().stream.streams == 0
        for number in (1, 2):
            fill(spool, f"s{number}")
            cloud.wait_for(lambda: cloud.streams > 0 and cloud.open_streams == 0, "the stream is closed")
            eventually(empty(spool), "the spool is empty")
            assert len(cloud.inserts) == number
        assert link.status().stream.failures == 0


def test_feature_series_go_the_same_way(tmp_path: Path, authority: Authority) -> None:
    cloud, spool = Cloud(), Spool(tmp_path / "spool")
    series = fleet.FeatureSeries(id="series-1", camera="front", names=["a"], drive_ns=[1, 2], values=[0.5, 1])
    spool.append("series-1", series.SerializeToString())
    with serving(cloud, authority) as address, uplink(tmp_path, address, authority, spool, lane=FEATURES):
        eventually(empty(spool), "the spool is empty")
    assert fleet.FeatureSeries.FromString(cloud.content["series-1"]) == series


def test_a_certificate_of_another_authority_gets_one_clear_error_and_disturbs_nobody(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    cloud, stranger = Cloud(), Authority("stranger")
    own, foreign = Spool(tmp_path / "own"), Spool(tmp_path / "foreign")
    fill(foreign, "foreign")
    with (
        serving(cloud, authority) as address,
        uplink(tmp_path, address, authority, foreign, signer=stranger, name="foreign-car") as refused,
        uplink(tmp_path, address, authority, own, name="own-car"),
    ):
        eventually(lambda: refused.status().stream.failures >= 3, "it has tried three times")
        fill(own, "own")
        eventually(empty(own), "the other one works")
    status = refused.status()
    assert "does not accept this vehicle's certificate" in status.stream.trouble
    assert not status.stream.connected
    assert foreign.status().items == 1
    assert set(cloud.peers) == {"own-car"} and set(cloud.inserts) == {"own"}
    told = [r for r in caplog.records if r.levelname == "WARNING" and r.name == "edge.fleet.streaming"]
    assert len(told) == 1


def test_it_stops_whatever_it_is_doing(tmp_path: Path, authority: Authority) -> None:
    before = set(threading.enumerate())
    cloud = Cloud(lambda item_id, attempt: Answer(silent=True))
    spool = Spool(tmp_path / "spool")
    slow = UplinkOptions(backoff=BackoffOptions(60.0, 60.0))
    with serving(cloud, authority) as address:
        own = vehicle_options(tmp_path / "v", address, authority, authority.vehicle("v"), backoff=QUICK)
        with open_channel(own) as channel:
            never_started = Uplink(SAMPLES, spool, channel)
            assert never_started.stop()
            idle = Uplink(SAMPLES, spool, channel)
            idle.start()
            assert idle.stop() and idle.stop()
            fill(spool, "a")
            waiting = Uplink(SAMPLES, spool, channel, slow)
            waiting.start()
            cloud.wait_for(lambda: cloud.attempts["a"] == 1, "it waits for an answer")
            assert waiting.stop()
            cloud.wait_for(lambda: cloud.open_streams == 0, "the stream is over")
    with open_channel(own) as channel:  # the cloud is gone
        backing_off = Uplink(SAMPLES, spool, channel, slow)
        backing_off.start()
        eventually(lambda: backing_off.status().stream.failures == 1, "it has failed once")
        assert backing_off.stop()
        assert backing_off.status().stream.trouble == "nothing answers at the cloud's address"
    assert spool.status().items == 1
    eventually(lambda: set(threading.enumerate()) <= before, "no thread is left")
