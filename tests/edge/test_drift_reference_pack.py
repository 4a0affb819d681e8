"""The short form of a reference's file, beside the plain one."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.drift import DriftReferenceError, Reference, combine, fit, unlearned
from edge.drift.features import NAMES as WATCHED
from edge.drift.features import ORIGINS as WATCHED_ORIGINS
from edge.drift.reference_file import PACKED, PACKED_SINCE, PLAIN, version_for, version_of
from edge.drift.reference_pack import pack, unpack
from tests.edge.drift_references import DATA, NAMES, OLD_FILE, REFERENCE, refused
from tests.edge.drift_streams import ar1


def test_a_context_of_all_that_is_watched_takes_a_few_kilobytes() -> None:
    """Of short drives, with a band: the most that there is to say of a feature."""
    rng = np.random.default_rng(3)
    count = len(WATCHED)
    drives = [ar1(rng, 0.9, 600, count) + rng.normal(0, 0.5, count) for _ in range(10)]
    banded = fit(drives, 2.0, WATCHED, origins=WATCHED_ORIGINS)
    assert all(feature.margin > 0 for feature in banded.contexts[0].features)
    one = fit(np.concatenate(drives), 2.0, WATCHED, origins=WATCHED_ORIGINS)
    for reference, most in ((banded, 10_000), (one, 6500)):
        assert len(reference.to_bytes()) < most
        two = combine(reference, replace(reference, contexts=(replace(reference.contexts[0], name="b"),)))
        assert len(two.to_bytes()) - len(reference.to_bytes()) < most - 500


def test_both_forms_say_the_same_and_so_does_the_digest() -> None:
    for reference in (REFERENCE, Reference.from_bytes(OLD_FILE.read_bytes()), unlearned(2.0, NAMES)):
        plain, packed = (Reference.from_bytes(reference.to_bytes(form)) for form in (PLAIN, PACKED))
        assert plain.digest == packed.digest == reference.digest
        assert packed.to_bytes() == reference.to_bytes()
        assert packed.to_bytes(PLAIN) == reference.to_bytes(PLAIN)
        for one, other in zip(reference.contexts, packed.contexts, strict=True):
            assert (one.name, one.misfit, one.scope, one.joint) == (
                other.name, other.misfit, other.scope, other.joint
            )  # fmt: skip
            for left, right in zip(one.features, other.features, strict=True):
                assert (left.name, left.origin, left.tails) == (right.name, right.origin, right.tails)
                assert (left.tau, left.mean, left.frames) == (right.tau, right.mean, right.frames)


floats = st.floats(-(2.0**100), 2.0**100, width=32)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(floats, min_size=1, max_size=31, unique=True),
    st.lists(st.floats(0, 1, width=32), min_size=31, max_size=31),
    st.tuples(floats, st.floats(0, 1e300), st.floats(1, 1e9), st.integers(1, 2**53)),
)
def test_any_numbers_come_back_to_the_bit(
    values: list[float], shares: list[float], scalars: tuple[float, float, float, int]
) -> None:
    known = REFERENCE.contexts[0].features[0]
    edges, lower = np.array(sorted(values)), np.array(sorted(shares)[: len(values)])
    mean, sigma, tau, frames = scalars
    feature = replace(
        known, edges=edges, lower=lower, upper=np.sqrt(lower).astype(np.float32).astype(np.float64),
        mean=mean, sigma=sigma, tau=tau, frames=frames,
    )  # fmt: skip
    nothing = replace(known, frames=0, edges=np.zeros(0), lower=np.zeros(0), upper=np.zeros(0), tails=())
    back = unpack(pack([nothing, feature, known]), 3)[1]
    assert back.scalars == (mean, sigma, known.drive_sigma, known.margin, tau)
    assert (back.frames, back.drives, back.tails) == (frames, known.drives, known.tails)
    for name in ("edges", "lower", "upper"):
        np.testing.assert_array_equal(getattr(back, name), getattr(feature, name))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_columns_are_refused_or_read_as_a_sound_reference(data: st.DataObject) -> None:
    """Past the deflated bytes' checksum: what somebody makes, not what a disk does."""
    document = json.loads(DATA)
    context = document["contexts"][0]
    columns = bytearray(zlib.decompress(base64.b64decode(context["features"])))
    for _ in range(data.draw(st.integers(1, 4))):
        columns[data.draw(st.integers(0, len(columns) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del columns[data.draw(st.integers(0, len(columns) - 1)) :]
    context["features"] = base64.b64encode(zlib.compress(columns)).decode()
    try:
        reference = Reference.from_bytes(json.dumps(document).encode())
    except DriftReferenceError as error:
        assert "not a drift reference" in str(error)
        return
    assert Reference.from_bytes(reference.to_bytes()).digest == reference.digest


@pytest.mark.parametrize(
    ("change", "path", "word"),
    [
        ({"origins": ["picture"]}, (), "one for each name"),
        ({"names": ["a"], "origins": ["picture"]}, (), "more than its features|edges|windows|early"),
        ({"features": "AAAA"}, ("contexts", 0), "context day: it is not deflated"),
        ({"features": "%"}, ("contexts", 1), "context night: it is not deflated"),
        ({"features": base64.b64encode(zlib.compress(bytes(2**21))).decode()}, ("contexts", 0), "too much"),
        ({"features": base64.b64encode(zlib.compress(b"")).decode()}, ("contexts", 0), "ends too early"),
    ],
)
def test_a_packed_file_that_is_wrong_is_refused_by_what_is_wrong(
    change: dict[str, object], path: tuple[str | int, ...], word: str
) -> None:
    document = json.loads(DATA)
    part = document
    for key in path:
        part = part[key]
    part.update(change)
    assert re.search(word, refused(json.dumps(document).encode()))


@pytest.mark.parametrize(
    ("oldest", "version"),
    [("0", PLAIN), ("0.2.9", PLAIN), (PACKED_SINCE, PACKED), ("0.3", PACKED), ("1", PACKED), ("x", PLAIN)],
)
def test_what_old_daemons_get_is_what_they_read(oldest: str, version: int) -> None:
    assert version_for(oldest) == version
    assert version_of(REFERENCE.to_bytes(version).decode()) == version
