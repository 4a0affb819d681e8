"""Ingest by itself: the rules, and what happens when the store gives way in the middle."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select

from cloud.config import CloudConfig
from cloud.fleet.daily_use import DailyUse
from cloud.fleet.group_commit import ClosedError, GroupCommit
from cloud.fleet.ingest import Answer, Ingest, Upload
from cloud.fleet.upload_rules import Accepted, Refusal, check_sample, check_series
from cloud.store import FolderObjects, Store, open_database
from cloud.store.columns import utc_now
from cloud.store.models import Sample
from cloud.store.states import SampleState
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests import clouds
from tests.clouds import WAIT_S, a_jpeg, a_sample, a_series

LIMIT = 1_000_000


def changed(path: str, value: Any) -> fleet.Sample:
    sample = a_sample("s")
    *above, name = path.split(".")
    message: Any = sample
    for part in above:
        message = getattr(message, part)
    if value is None:
        message.ClearField(name)
    elif isinstance(value, list):
        del getattr(message, name)[:]
        getattr(message, name).extend(value)
    else:
        setattr(message, name, value)
    return sample


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", ""),
        ("id", "x" * 65),
        ("id", "a/b"),
        ("frame", None),
        ("frame.width_px", 0),
        ("frame.height_px", 2**31),
        ("frame.camera", ""),
        ("frame.camera", "front\x00"),
        ("source", None),
        ("source.id", ""),
        ("source.drive_id", ""),
        ("source.drive_id", "d" * 201),
        ("source.drive_ns", -1),
        ("source.picture", "line\nbreak"),
        ("jpeg", None),
        ("jpeg_sha256", "A" * 64),
        ("reasons", []),
        ("reasons", [0]),
        ("priority", math.nan),
        ("drift_event_id", "no spaces"),
        ("features.names", ["a"]),
        ("detections.detections", [common.Detection(x1_px=math.inf)]),
    ],
)
def test_a_field_that_is_out_of_bounds_is_named(path: str, value: Any) -> None:
    refused = check_sample(changed(path, value), LIMIT)
    assert isinstance(refused, Refusal)
    assert refused.reason == fleet.REFUSAL_REASON_MALFORMED
    assert path.split(".")[0] in refused.detail


def test_what_a_newer_vehicle_adds_is_kept() -> None:
    sample = fleet.Sample.FromString(
        a_sample("s", reasons=[9]).SerializeToString() + b"\xfa\x3f\x03new"
    )  # field 1023
    accepted = check_sample(sample, LIMIT)
    assert isinstance(accepted, Accepted)
    assert accepted.row["reasons"] == ["drift", "uncertainty", "unknown-9"]
    assert accepted.row["message"].endswith(b"new")


@given(cut=st.integers(0, 400), seed=st.integers(0, 3))
def test_no_beginning_of_a_picture_raises(cut: int, seed: int) -> None:
    judged = check_sample(a_sample("s", a_jpeg(seed)[:cut]), LIMIT)
    assert isinstance(judged, (Accepted, Refusal))


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_bytes_raise_in_the_rules(data: bytes) -> None:
    judged = check_sample(a_sample("s", b"\xff\xd8\xff" + data), LIMIT)
    assert isinstance(judged, (Accepted, Refusal))


@pytest.mark.parametrize(
    "change",
    [
        {"drive_ns": [0, 0, 1]},
        {"drive_ns": [-1, 0, 1]},
        {"drive_ns": []},
        {"names": ["a", "a"]},
        {"names": []},
        {"values": [0.5]},
    ],
)
def test_a_series_that_does_not_fit_together_is_refused(change: dict[str, list[Any]]) -> None:
    series = a_series("s")
    for name, values in change.items():
        del getattr(series, name)[:]
        getattr(series, name).extend(values)
    refused = check_series(series, LIMIT)
    assert isinstance(refused, Refusal)
    assert refused.reason == fleet.REFUSAL_REASON_MALFORMED


@pytest.fixture
def config(tmp_path: Path) -> CloudConfig:
    return clouds.make_cloud(tmp_path / "cloud", "one")


@pytest.fixture
def store(config: CloudConfig) -> Iterator[Store]:
    opened = open_database(config.store.database)
    yield opened
    opened.close()


@pytest.fixture
def objects(config: CloudConfig) -> Iterator[FolderObjects]:
    opened = FolderObjects(config.store.objects)
    yield opened
    opened.close()


@pytest.fixture
def ingest(config: CloudConfig, store: Store, objects: FolderObjects) -> Ingest:
    return Ingest(store, objects, config.limits, config.quotas)


def outcomes(answers: Sequence[Answer]) -> list[str]:
    return [fleet.UploadOutcome.Name(answer.outcome).removeprefix("UPLOAD_OUTCOME_") for answer in answers]


def uploads(*identities: str) -> list[Upload]:
    return [Upload("one", a_sample(identity, a_jpeg(number))) for number, identity in enumerate(identities)]


def test_a_disk_that_fails_defers_the_batch_and_stores_it_later(
    ingest: Ingest, objects: FolderObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> list[str]:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(objects, "put_all", full)
        answers = ingest.commit(uploads("a", "b"))
    assert outcomes(answers) == ["DEFERRED", "DEFERRED"]
    assert {answer.reason for answer in answers} == {fleet.REFUSAL_REASON_STORE_UNAVAILABLE}
    assert outcomes(ingest.commit(uploads("a", "b"))) == ["STORED", "STORED"]


def test_one_row_that_the_database_refuses_costs_itself_alone(ingest: Ingest, store: Store) -> None:
    with store.writing() as session:
        session.connection().exec_driver_sql(
            "CREATE TRIGGER poison BEFORE INSERT ON samples WHEN new.external_id = 'bad' "
            "BEGIN SELECT RAISE(ABORT, 'poison'); END"
        )
    assert outcomes(ingest.commit(uploads("a", "bad", "b"))) == ["STORED", "DEFERRED", "STORED"]


def test_a_row_that_another_process_stored_in_between_is_a_duplicate(
    config: CloudConfig, ingest: Ingest, store: Store, objects: FolderObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Ingest(store, objects, config.limits, config.quotas)
    put_all = objects.put_all

    def slow(contents: Sequence[bytes]) -> list[str]:
        monkeypatch.setattr(objects, "put_all", put_all)
        assert outcomes(other.commit(uploads("a"))) == ["STORED"]
        return put_all(contents)

    monkeypatch.setattr(objects, "put_all", slow)
    assert outcomes(ingest.commit(uploads("a", "b"))) == ["DUPLICATE", "STORED"]


def test_bytes_that_are_forgotten_as_they_come_from_another_vehicle_are_there(
    ingest: Ingest, store: Store, objects: FolderObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_all = objects.put_all

    def forgotten_then(contents: Sequence[bytes]) -> list[str]:
        monkeypatch.setattr(objects, "put_all", put_all)
        keys = put_all(contents)
        for key in keys:
            objects.delete(key)
        return keys

    # The moment between the two cannot be met otherwise.
    monkeypatch.setattr(objects, "put_all", forgotten_then)
    assert outcomes(ingest.commit(uploads("a"))) == ["STORED"]
    with store.reading() as session:
        assert objects.exists(session.scalars(select(Sample)).one().object_key)


def test_what_was_deleted_on_purpose_does_not_come_back(ingest: Ingest, store: Store) -> None:
    assert outcomes(ingest.commit(uploads("a"))) == ["STORED"]
    with store.writing() as session:
        session.scalars(select(Sample)).one().state = SampleState.FORGOTTEN
    (answer,) = ingest.commit(uploads("a"))
    assert (outcomes([answer]), answer.reason) == (["REFUSED"], fleet.REFUSAL_REASON_FORGOTTEN)


def test_a_batch_is_one_transaction(ingest: Ingest, store: Store) -> None:
    commits = []
    event.listen(store.engine, "commit", commits.append)
    assert set(outcomes(ingest.commit(uploads(*(f"s{number}" for number in range(50)))))) == {"STORED"}
    assert len(commits) == 1


def test_the_use_of_the_day_is_found_again_after_a_restart(
    config: CloudConfig, ingest: Ingest, store: Store
) -> None:
    ingest.commit(uploads("a", "b"))
    quotas = config.quotas.model_copy(update={"samples_per_day": 3})
    use = DailyUse(quotas)
    with store.reading() as session:
        use.load(session, "one", utc_now())
    assert [use.take_sample("one", 1), use.take_sample("one", 1)] == [True, False]


def test_what_arrives_while_the_disk_is_busy_goes_together() -> None:
    batches: list[list[int]] = []
    busy, go_on = threading.Event(), threading.Event()

    def commit(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        busy.set()
        assert go_on.wait(WAIT_S)
        return [item * 10 for item in items]

    async def scenario() -> list[int]:
        group = GroupCommit(commit, name="test", waiting_limit_bytes=100, batch_limit=4)
        running = asyncio.create_task(group.run())
        answers = [await group.submit(0, 1)]
        await asyncio.to_thread(busy.wait, WAIT_S)
        answers += [await group.submit(number, 1) for number in range(1, 7)]
        go_on.set()
        results = await asyncio.gather(*answers)
        await group.close()
        await running
        with pytest.raises(ClosedError):
            await group.submit(7, 1)
        return results

    assert asyncio.run(scenario()) == [0, 10, 20, 30, 40, 50, 60]
    assert batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_who_would_fill_the_memory_has_to_wait() -> None:
    go_on = threading.Event()

    def commit(items: Sequence[int]) -> list[int]:
        assert go_on.wait(WAIT_S)
        return list(items)

    async def scenario() -> None:
        group = GroupCommit(commit, name="test", waiting_limit_bytes=100, batch_limit=10)
        running = asyncio.create_task(group.run())
        await group.submit(1, 1_000)  # more than the limit, but alone
        second = asyncio.create_task(group.submit(2, 50))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not second.done()
        go_on.set()
        assert await (await asyncio.wait_for(second, WAIT_S)) == 2
        await group.close()
        await running

    asyncio.run(scenario())


def test_a_batch_that_fails_fails_for_itself_alone() -> None:
    def commit(items: Sequence[int]) -> list[int]:
        if 1 in items:
            raise RuntimeError("no")
        return list(items)

    async def scenario() -> None:
        group = GroupCommit(commit, name="test", waiting_limit_bytes=100, batch_limit=1)
        running = asyncio.create_task(group.run())
        first, second = await group.submit(1, 1), await group.submit(2, 1)
        with pytest.raises(RuntimeError):
            await first
        assert await second == 2
        await group.close()
        await running

    asyncio.run(scenario())
