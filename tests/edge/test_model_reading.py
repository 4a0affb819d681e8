"""A model file is read apart from the frames, and is the same file, or refused for the same reason."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.perception import child_limits, model_reading
from edge.perception.metadata import to_json
from edge.perception.model_file import ModelFile, ModelFileError, parse_model_file
from edge.perception.model_reading import APART_BYTES, read_apart
from tests.update_world import model

LARGE = model("large", padding=APART_BYTES)


def read(data: bytes, memory_bytes: int = 4_000_000_000) -> ModelFile:
    return read_apart(data, "test", stopping=threading.Event(), memory_bytes=memory_bytes)


def facts(file: ModelFile) -> tuple[object, ...]:
    found = {field.name: getattr(file, field.name) for field in dataclasses.fields(file)}
    return (to_json(found.pop("metadata")), *found.items())


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_reading, "_known", model_reading._Known())


@pytest.fixture
def only_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> ModelFile:
        raise AssertionError("it was read here")

    monkeypatch.setattr(model_reading, "parse_model_file", refuse)


def test_a_large_file_is_read_apart_and_is_the_same(only_apart: None) -> None:
    assert facts(read(LARGE)) == facts(parse_model_file(LARGE, "test"))


def test_the_same_bytes_are_not_read_twice_and_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = model_reading.ask_child

    def noted(module: str, about: dict[str, str], *others: Any, **named: Any) -> dict[str, Any]:
        asked.append(about["origin"])
        return ask(module, about, *others, **named)

    monkeypatch.setattr(model_reading, "ask_child", noted)
    files = [model(f"large-{number}", padding=APART_BYTES) for number in range(4)]
    stopping = threading.Event()
    for origin, data in [("a", files[0]), ("b", files[0]), ("c", files[1]), ("d", files[0])]:
        assert facts(read_apart(data, origin, stopping=stopping)) == facts(parse_model_file(data, origin))
    assert asked == ["a", "c"]
    # Three are remembered.
    for origin, data in [("e", files[2]), ("f", files[3]), ("g", files[0]), ("h", files[1])]:
        assert facts(read_apart(data, origin, stopping=stopping)) == facts(parse_model_file(data, origin))
    assert asked == ["a", "c", "e", "f", "h"]
    damaged = bytearray(files[0])
    damaged[len(damaged) // 2] ^= 1
    assert read_apart(bytes(damaged), "i", stopping=stopping).digest != parse_model_file(files[0], "i").digest
    assert asked[-1] == "i"


def test_a_small_one_is_read_at_once(only_apart: None) -> None:
    with pytest.raises(AssertionError, match="it was read here"):
        read(model("small"))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.booleans())
def test_damage_is_refused_with_the_same_words(seed: int, cut: bool) -> None:
    rng = np.random.default_rng(seed)
    damaged = bytearray(LARGE)
    # The weights' padding lies in the middle: what says something is at the ends.
    for at in rng.choice(np.r_[0:200, len(damaged) - 200 : len(damaged)], 3, replace=False):
        damaged[at] ^= int(rng.integers(1, 256))
    data = bytes(damaged[: int(rng.integers(APART_BYTES, len(damaged)))] if cut else damaged)
    try:
        expected = facts(parse_model_file(data, "test"))
    except ModelFileError as error:
        with pytest.raises(ModelFileError) as refused:
            read(data)
        assert str(refused.value) == str(error)
    else:
        assert facts(read(data)) == expected


def test_what_takes_too_much_memory_to_read_is_refused(only_apart: None) -> None:
    with pytest.raises(ModelFileError, match=r"test: it takes more than 20 MB of memory"):
        read(LARGE, memory_bytes=20_000_000)


def test_what_the_machine_has_not_left_says_nothing_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    # A machine that is short of memory cannot be made here: its kernel says how much there is.
    monkeypatch.setattr(child_limits, "available_bytes", lambda: 40_000_000)
    assert facts(read(LARGE)) == facts(parse_model_file(LARGE, "test"))


def test_a_daemon_that_stops_waits_for_no_child() -> None:
    stopping = threading.Event()
    stopping.set()
    assert facts(read_apart(LARGE, "test", stopping=stopping)) == facts(parse_model_file(LARGE, "test"))


def test_where_no_process_can_be_started_it_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.Popen", refuse)
    assert facts(read(LARGE)) == facts(parse_model_file(LARGE, "test"))
