"""The fleet server as a real process over mutual TLS: uploads that survive kill -9, identities that hold."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from sqlalchemy import select
from tuf.api.metadata import Metadata, Root, Timestamp

from cloud.config import CloudConfig
from cloud.fleet.vehicles import revoke
from cloud.store import FolderObjects
from cloud.store.models import FeatureSeries, Sample
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from protos.traffic_vision.v1 import fleet_pb2_grpc as fleet_grpc
from tests import clouds
from tests.clouds import WAIT_S, a_jpeg, a_sample, a_series, connected, outcomes, serving, upload

pytestmark = pytest.mark.services

SAMPLES = 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cloud"


@pytest.fixture
def config(folder: Path) -> CloudConfig:
    return clouds.make_cloud(folder, "one", "two")


def stored(config: CloudConfig) -> dict[tuple[str, str], bytes]:
    """Each stored sample's picture, by vehicle and id; fails where one is there twice or not whole."""
    objects = FolderObjects(config.store.objects)
    try:
        with clouds.database(config) as store, store.reading() as session:
            rows = list(session.scalars(select(Sample)))
        pictures = {(row.vehicle, row.external_id): objects.get(row.object_key) for row in rows}
    finally:
        objects.close()
    assert len(pictures) == len(rows)
    return pictures


def test_a_server_killed_during_an_upload_loses_and_doubles_nothing_that_it_acknowledged(
    folder: Path, config: CloudConfig
) -> None:
    pictures = {f"s{number}": a_jpeg(number) for number in range(SAMPLES)}
    samples = [a_sample(identity, jpeg) for identity, jpeg in pictures.items()]
    acknowledged: set[str] = set()
    with serving(folder) as server, connected(folder, server.address, "one") as stub:
        enough = threading.Event()

        def requests() -> Iterator[fleet.UploadSamplesRequest]:
            for sent, sample in enumerate(samples):
                if sent == SAMPLES // 2:  # the rest is on its way when the server dies
                    assert enough.wait(WAIT_S)
                yield fleet.UploadSamplesRequest(sample=sample)

        responses = stub.UploadSamples(requests(), timeout=WAIT_S)
        with pytest.raises(grpc.RpcError):
            for response in responses:
                assert response.outcome == fleet.UPLOAD_OUTCOME_STORED
                acknowledged.add(response.sample_id)
                if len(acknowledged) == SAMPLES // 3:
                    enough.set()
                    server.process.kill()
    assert SAMPLES // 3 <= len(acknowledged) < SAMPLES
    after_the_kill = stored(config)
    assert {("one", identity) for identity in acknowledged} <= set(after_the_kill)

    with serving(folder) as server, connected(folder, server.address, "one") as stub:
        heard = outcomes(upload(stub, samples))
        assert server.stop() == 0
    assert {heard[identity][0] for identity in acknowledged} == {"DUPLICATE"}
    assert {outcome for outcome, _ in heard.values()} <= {"STORED", "DUPLICATE"}
    assert stored(config) == {("one", identity): jpeg for identity, jpeg in pictures.items()}


def test_each_malformed_sample_is_refused_with_its_reason_and_the_others_are_stored(
    folder: Path, config: CloudConfig
) -> None:
    jpeg = a_jpeg()
    broken_digest = a_sample("digest")
    broken_digest.jpeg_sha256 = clouds.sha256(b"another")
    other_size = a_sample("size")
    other_size.frame.width_px += 1
    bad = {
        "digest": (broken_digest, "DIGEST"),
        "size": (other_size, "PICTURE"),
        "png": (a_sample("png", b"\x89PNG\r\n\x1a\n" + jpeg), "PICTURE"),
        "large": (a_sample("large", jpeg + bytes(4_000_000)), "TOO_LARGE"),
        "no id!": (a_sample("no id!"), "MALFORMED"),
        "empty": (fleet.Sample(id="empty"), "MALFORMED"),
    }
    samples = [a_sample("first"), *(sample for sample, _ in bad.values()), a_sample("last")]
    with serving(folder) as server, connected(folder, server.address, "one") as stub:
        heard = outcomes(upload(stub, samples))
    assert heard == {
        "first": ("STORED", "UNSPECIFIED"),
        **{identity: ("REFUSED", reason) for identity, (_, reason) in bad.items()},
        "last": ("STORED", "UNSPECIFIED"),
    }
    assert set(stored(config)) == {("one", "first"), ("one", "last")}


def test_two_vehicles_at_once_may_use_the_same_ids(folder: Path, config: CloudConfig) -> None:
    sent = {
        vehicle: [a_sample(f"s{number}", a_jpeg(seed + number)) for number in range(60)]
        for vehicle, seed in (("one", 0), ("two", 1000))
    }
    expected = {(vehicle, sample.id): sample.jpeg for vehicle, samples in sent.items() for sample in samples}
    with serving(folder) as server:

        def drive(vehicle: str) -> None:
            with connected(folder, server.address, vehicle) as stub:
                heard = outcomes(upload(stub, sent[vehicle]))
            assert set(heard.values()) == {("STORED", "UNSPECIFIED")}

        clouds.in_threads(lambda: drive("one"), lambda: drive("two"))
    assert stored(config) == expected


def test_a_vehicle_cannot_write_as_another_whatever_it_sends(folder: Path, config: CloudConfig) -> None:
    with serving(folder) as server:
        with connected(folder, server.address, "one") as stub:
            assert outcomes(upload(stub, [a_sample("s", a_jpeg(1))]))["s"][0] == "STORED"
        with connected(folder, server.address, "two") as stub:
            assert outcomes(upload(stub, [a_sample("s", a_jpeg(2))]))["s"][0] == "STORED"
    assert stored(config) == {("one", "s"): a_jpeg(1), ("two", "s"): a_jpeg(2)}


def test_duplicates_and_conflicts_are_told_apart(folder: Path, config: CloudConfig) -> None:
    first, again, other = a_sample("s"), a_sample("s"), a_sample("s", priority=0.75)
    with serving(folder) as server, connected(folder, server.address, "one") as stub:
        heard = [(r.outcome, r.reason) for r in upload(stub, [first, again, other])]
        heard += [(r.outcome, r.reason) for r in upload(stub, [again])]
    duplicate = (fleet.UPLOAD_OUTCOME_DUPLICATE, fleet.REFUSAL_REASON_UNSPECIFIED)
    assert heard == [
        (fleet.UPLOAD_OUTCOME_STORED, fleet.REFUSAL_REASON_UNSPECIFIED),
        duplicate,
        (fleet.UPLOAD_OUTCOME_REFUSED, fleet.REFUSAL_REASON_ID_CONFLICT),
        duplicate,
    ]


def test_feature_series_are_stored_by_the_same_rules(folder: Path, config: CloudConfig) -> None:
    cut = a_series("cut")
    del cut.values[-1]
    says = [a_series("whole"), cut, a_series("whole"), a_series("whole", rows=4)]
    with serving(folder) as server, connected(folder, server.address, "one") as stub:
        requests = (fleet.UploadFeaturesRequest(series=series) for series in says)
        heard = [(r.series_id, r.outcome, r.reason) for r in stub.UploadFeatures(requests, timeout=WAIT_S)]
    assert heard == [
        ("whole", fleet.UPLOAD_OUTCOME_STORED, fleet.REFUSAL_REASON_UNSPECIFIED),
        ("cut", fleet.UPLOAD_OUTCOME_REFUSED, fleet.REFUSAL_REASON_MALFORMED),
        ("whole", fleet.UPLOAD_OUTCOME_DUPLICATE, fleet.REFUSAL_REASON_UNSPECIFIED),
        ("whole", fleet.UPLOAD_OUTCOME_REFUSED, fleet.REFUSAL_REASON_ID_CONFLICT),
    ]
    with clouds.database(config) as store, store.reading() as session:
        (row,) = session.scalars(select(FeatureSeries))
    objects = FolderObjects(config.store.objects)
    kept = fleet.FeatureSeries.FromString(objects.get(row.object_key))
    objects.close()
    assert (row.vehicle, row.external_id, row.rows, row.names) == ("one", "whole", 3, list(kept.names))
    assert kept.SerializeToString(deterministic=True) == a_series("whole").SerializeToString(
        deterministic=True
    )


def gets_nothing(stub: fleet_grpc.FleetServiceStub, *codes: grpc.StatusCode) -> None:
    calls = [
        lambda: upload(stub, [a_sample("s")]),
        lambda: list(
            stub.UploadFeatures(iter([fleet.UploadFeaturesRequest(series=a_series("f"))]), timeout=WAIT_S)
        ),
        lambda: list(stub.FetchMetadata(fleet.FetchMetadataRequest(role="timestamp"), timeout=WAIT_S)),
        lambda: list(stub.FetchTarget(fleet.FetchTargetRequest(path="models/m"), timeout=WAIT_S)),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as refused:
            call()
        assert refused.value.code() in codes


def test_without_a_certificate_of_this_authority_there_is_nothing(
    folder: Path, config: CloudConfig, tmp_path: Path
) -> None:
    clouds.make_cloud(tmp_path / "other", "one")
    own, foreign = folder / "vehicles" / "one", tmp_path / "other" / "vehicles" / "one"
    hello = clouds.a_hello()
    with serving(folder) as server:
        for identity in (None, foreign):
            with clouds.channel(server.address, identity, authority=own) as channel:
                stub = fleet_grpc.FleetServiceStub(channel)
                gets_nothing(stub, grpc.StatusCode.UNAVAILABLE)
                with pytest.raises(grpc.RpcError) as refused:
                    list(stub.Control(iter([hello]), timeout=WAIT_S))
                assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        # The vehicle, in turn, does not talk to a server of another authority.
        with clouds.channel(server.address, own, authority=foreign) as channel:
            gets_nothing(fleet_grpc.FleetServiceStub(channel), grpc.StatusCode.UNAVAILABLE)
    assert stored(config) == {}


def test_the_servers_own_certificate_is_no_vehicles(
    folder: Path, config: CloudConfig, tmp_path: Path
) -> None:
    for name, source in (("ca.crt", "ca.crt"), ("client.crt", "server.crt"), ("client.key", "server.key")):
        (tmp_path / name).write_bytes((config.folders.pki / source).read_bytes())
    with serving(folder) as server, clouds.channel(server.address, tmp_path) as channel:
        gets_nothing(
            fleet_grpc.FleetServiceStub(channel),
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.PERMISSION_DENIED,
        )


def test_a_revoked_vehicle_gets_nothing_not_even_on_a_stream_that_is_open(
    folder: Path, config: CloudConfig
) -> None:
    with serving(folder) as server, connected(folder, server.address, "one") as stub:
        goes_on = threading.Event()

        def requests() -> Iterator[fleet.UploadSamplesRequest]:
            yield fleet.UploadSamplesRequest(sample=a_sample("before"))
            assert goes_on.wait(WAIT_S)
            yield fleet.UploadSamplesRequest(sample=a_sample("after"))

        responses = stub.UploadSamples(requests(), timeout=WAIT_S)
        assert next(responses).outcome == fleet.UPLOAD_OUTCOME_STORED
        revoke(config, "one", "stolen")
        goes_on.set()
        with pytest.raises(grpc.RpcError) as refused:
            next(responses)
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
        gets_nothing(stub, grpc.StatusCode.PERMISSION_DENIED)
        with connected(folder, server.address, "two") as other:
            assert outcomes(upload(other, [a_sample("s")]))["s"][0] == "STORED"
    assert set(stored(config)) == {("one", "before"), ("two", "s")}


def test_a_quota_defers_one_vehicle_and_not_the_other(folder: Path) -> None:
    config = clouds.make_cloud(folder, "one", "two", extra="[quotas]\nsamples_per_day = 2\n")
    samples = [a_sample(f"s{number}") for number in range(4)]
    with serving(folder) as server:
        with connected(folder, server.address, "one") as stub:
            heard = upload(stub, samples)
            assert [r.outcome for r in heard[:2]] == [fleet.UPLOAD_OUTCOME_STORED] * 2
            for response in heard[2:]:
                assert (response.outcome, response.reason) == (
                    fleet.UPLOAD_OUTCOME_DEFERRED,
                    fleet.REFUSAL_REASON_QUOTA,
                )
                assert 0 < response.retry_after_ms <= 86_400_001
            # What is there already is still acknowledged.
            assert outcomes(upload(stub, samples[:1]))["s0"][0] == "DUPLICATE"
        with connected(folder, server.address, "two") as stub:
            assert outcomes(upload(stub, samples[:1]))["s0"][0] == "STORED"
    assert len(stored(config)) == 3


def test_a_disk_that_is_nearly_full_defers_everything(folder: Path) -> None:
    config = clouds.make_cloud(folder, "one", extra="[limits]\nfree_disk_bytes = 1000000000000000\n")
    with serving(folder) as server, connected(folder, server.address, "one") as stub:
        (heard,) = upload(stub, [a_sample("s")])
    assert (heard.outcome, heard.reason) == (
        fleet.UPLOAD_OUTCOME_DEFERRED,
        fleet.REFUSAL_REASON_STORE_UNAVAILABLE,
    )
    assert stored(config) == {}


def fails(folder: Path) -> str:
    done = subprocess.run(
        clouds.command_line("cloud", "serve", "--config", folder / "cloud.toml"),
        capture_output=True,
        text=True,
        env=clouds.environment(),
        timeout=WAIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    lines = [line for line in done.stderr.splitlines() if line.startswith("traffic-vision: error: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def test_a_port_that_is_taken_is_one_clear_line(folder: Path, config: CloudConfig) -> None:
    with serving(folder) as server:
        path = folder / "cloud.toml"
        path.write_text(path.read_text().replace("127.0.0.1:0", server.address))
        assert f"cannot listen at {server.address}: the port is taken" in fails(folder)


def test_what_is_missing_in_the_folder_is_one_clear_line(folder: Path, config: CloudConfig) -> None:
    objects, pki = config.store.objects, config.folders.pki
    objects.rmdir()
    assert f"{objects}: there is no such folder" in fails(folder)
    objects.mkdir()
    (pki / "server.key").unlink()
    assert f"{pki / 'server.key'}: cannot be read" in fails(folder)


def test_it_stops_when_told_though_a_vehicle_is_connected(folder: Path, config: CloudConfig) -> None:
    with (
        serving(folder) as server,
        connected(folder, server.address, "one") as stub,
        clouds.conversation(stub) as stream,
    ):
        stream.say(clouds.a_hello())
        assert stream.hear().HasField("welcome")
        assert server.stop() == 0
        (last,) = stream.rest()
    assert last.problem.code == fleet.PROBLEM_CODE_SHUTTING_DOWN
    assert last.problem.retry_after_ms > 0


def test_a_vehicle_fetches_metadata_that_its_own_root_vouches_for(folder: Path, config: CloudConfig) -> None:
    root = Metadata[Root].from_file(str(folder / "vehicles" / "one" / "root.json")).signed
    with serving(folder) as server, connected(folder, server.address, "one") as stub:
        request = fleet.FetchMetadataRequest(role="timestamp")
        data = b"".join(response.data for response in stub.FetchMetadata(request, timeout=WAIT_S))
    timestamp = Metadata[Timestamp].from_bytes(data)
    root.verify_delegate("timestamp", timestamp.signed_bytes, timestamp.signatures)
