"""The facts of a release: what is written is read back, and anything else is refused with its field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos.release_facts import FactsError, ReleaseFacts, from_custom, path_of_fleet
from protos.release_promise import Promise, PromiseError, Range, ShadowFacts

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", fullmatch=True)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
ranges = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)).map(lambda pair: Range(*sorted(pair)))
shadows = st.builds(
    ShadowFacts,
    drive_s=st.integers(1, 10**5),
    every_frames=st.integers(1, 100),
    cpu_percent=st.integers(1, 100),
    least_agreement_percent=st.none() | st.integers(0, 100),
)
promises = st.builds(
    Promise,
    drive_s=st.integers(0, 10**5),
    frames=st.integers(0, 10**6),
    latency_p99_us=st.none() | st.integers(1, 10**7),
    latency_percent=st.none() | st.integers(1, 1000),
    errors_permille=st.none() | st.integers(0, 1000),
    detections_per_1000_frames=st.dictionaries(names, ranges, max_size=3).map(
        lambda found: tuple(sorted(found.items()))
    ),
    detections_percent=st.none() | ranges,
    no_drift_alarm=st.booleans(),
)
facts = st.builds(
    ReleaseFacts,
    release_counter=st.integers(1, 2**53 - 1),
    model_name=names,
    model_version=names,
    model_sha256=digests,
    hardware_ids=st.lists(names, min_size=1, max_size=8).map(tuple),
    minimum_daemon_version=st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,6}){0,3}", fullmatch=True),
    parent_sha256=st.none() | digests,
    dataset_sha256=st.none() | digests,
    drift_reference_sha256=st.none() | digests,
    fleet=st.none() | st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True),
    shadow=st.none() | shadows,
    promise=st.none() | promises,
)
FACTS = ReleaseFacts(7, "streets", "2", "a" * 64, ("x86_64-cpu",))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(facts)
def test_what_is_written_is_read_back_through_json(written: ReleaseFacts) -> None:
    assert from_custom(json.loads(json.dumps(written.to_custom()))) == written


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(facts)
def test_the_path_lies_directly_in_the_delegated_folder_and_fits_a_file_name(written: ReleaseFacts) -> None:
    folder = path_of_fleet(written.fleet)
    name = written.target_path.removeprefix(folder)
    assert written.target_path == folder + name
    assert "/" not in name
    assert len(f"{written.model_sha256}.{name}") < 255


def test_later_facts_are_ignored_and_a_later_schema_is_refused() -> None:
    custom = FACTS.to_custom()
    custom["traffic_vision"]["shadow_minutes"] = 5
    custom["somebody_else"] = {}
    assert from_custom(custom) == FACTS
    custom["traffic_vision"]["schema"] = 2
    with pytest.raises(FactsError, match="schema 2"):
        from_custom(custom)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("release_counter", 0),
        ("release_counter", True),
        ("release_counter", "7"),
        ("release_counter", 2**53),
        ("model_name", "../../etc/passwd"),
        ("model_name", ""),
        ("model_version", "a/b"),
        ("model_sha256", "A" * 64),
        ("model_sha256", None),
        ("hardware_ids", []),
        ("hardware_ids", ["x"] * 65),
        ("hardware_ids", [7]),
        ("hardware_ids", "x86_64-cpu"),
        ("minimum_daemon_version", "1.0-rc1"),
        ("minimum_daemon_version", 1),
        ("parent_sha256", "short"),
        ("dataset_sha256", 3),
        ("drift_reference_sha256", ""),
        ("fleet", ""),
        ("fleet", "Trucks"),
        ("fleet", "a/b"),
        ("fleet", "-"),
        ("fleet", "x" * 33),
        ("fleet", 7),
        ("schema", None),
        ("shadow", 5),
        ("shadow", {}),
        ("shadow", {"drive_s": 0}),
        ("shadow", {"drive_s": 60, "every_frames": 0}),
        ("shadow", {"drive_s": 60, "cpu_percent": 101}),
        ("shadow", {"drive_s": 60.5}),
        ("promise", []),
        ("promise", {"drive_s": -1}),
        ("promise", {"frames": True}),
        ("promise", {"latency_p99_us": 0}),
        ("promise", {"errors_permille": 1001}),
        ("promise", {"detections_percent": [5]}),
        ("promise", {"detections_percent": [5, 4]}),
        ("promise", {"detections_per_1000_frames": {"": [0, 1]}}),
        ("promise", {"detections_per_1000_frames": [0, 1]}),
        ("promise", {"detections_per_1000_frames": {str(n): [0, 1] for n in range(33)}}),
        ("promise", {"no_drift_alarm": 1}),
    ],
)
def test_what_cannot_be_is_refused_by_field(field: str, value: object) -> None:
    custom = FACTS.to_custom()
    custom["traffic_vision"][field] = value
    with pytest.raises(FactsError, match=field):
        from_custom(custom)


@pytest.mark.parametrize("custom", [None, {}, [], "x", {"traffic_vision": []}])
def test_a_target_without_facts_is_no_release(custom: Any) -> None:
    with pytest.raises(FactsError, match="no facts"):
        from_custom(custom)


def test_a_missing_fact_is_named() -> None:
    custom = FACTS.to_custom()
    del custom["traffic_vision"]["model_sha256"]
    with pytest.raises(FactsError, match="model_sha256 is missing"):
        from_custom(custom)


def test_what_is_promised_in_a_context_holds_there_and_the_rest_everywhere() -> None:
    promise = Promise(detections_per_1000_frames=(("(all)", Range(1, 9)), ("night", Range(2, 3))))
    assert promise.detections_in("night") == Range(2, 3)
    assert promise.detections_in("dawn") == promise.detections_in("") == Range(1, 9)
    assert Promise().detections_in("night") is None
    with pytest.raises(PromiseError, match="differ"):
        Promise(detections_per_1000_frames=(("night", Range(1, 9)), ("night", Range(2, 3))))
