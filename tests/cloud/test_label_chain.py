"""Chains of labelling services, and what all services keep to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cloud.config import ConfigError, load_config
from cloud.labeling import (
    Answer,
    Labels,
    ServiceAwayError,
    SimulatedService,
    Truth,
    UnlabeledSample,
    open_label_source,
)
from cloud.labeling.chain import Chain
from tests.label_contract import check_source, samples, settings, suggestion, surroundings
from tests.retrains import RED, Scripted, night


class Doubting:
    """Refuses everything, and says what it thinks it is."""

    name = "doubting"

    def label(self, asked: Sequence[UnlabeledSample]) -> Iterator[Answer]:
        for sample in asked:
            yield Answer(
                sample.id,
                None,
                "in doubt",
                suggestions=(suggestion(1, 1, 9, 9, "red", 0.3),),
                suggested_by="it",
            )


class Noting(Scripted):
    """Notes what it is given to begin with."""

    def __init__(self) -> None:
        super().__init__({})
        self.given: list[UnlabeledSample] = []

    def label(self, samples: Sequence[UnlabeledSample]) -> Iterator[Answer]:
        self.given += samples
        return super().label(samples)


def test_the_simulated_service_keeps_the_contract(tmp_path: Path) -> None:
    truth = Truth(96, 64, (RED,), {"timeofday": "night"})
    asked = samples(surroundings(tmp_path), 3)
    asked[2] = replace(asked[2], source_id="rtsp://elsewhere")
    answers = check_source(lambda: SimulatedService({"test": lambda *_: truth}), asked)
    assert [answer.labels is not None for answer in answers] == [True, True, False]


def test_what_one_refuses_the_next_is_asked_and_what_one_waits_for_stays_with_it(tmp_path: Path) -> None:
    asked = samples(surroundings(tmp_path), 4)
    first = Scripted({"0.jpg": night(RED), "1.jpg": None, "2.jpg": "unknown", "3.jpg": "unknown"})
    second = Scripted({"2.jpg": night(), "3.jpg": "nobody knows"})
    first.name, second.name = "first", "second"
    chain = Chain([first, second])
    assert chain.name == "first, then second"
    answers = check_source(lambda: Chain([first, second]), asked)
    assert answers == [
        Answer(1, night(RED), service="first"),
        Answer(3, night(), service="second"),
        Answer(4, None, "nobody knows", service="second"),
    ]
    assert set(second.asked) == {"2.jpg", "3.jpg"}


def test_the_next_begins_with_the_boxes_that_the_one_before_doubted(tmp_path: Path) -> None:
    asked = samples(surroundings(tmp_path), 2, [suggestion(0, 0, 5, 5, "red")])
    noting = Noting()
    answers = list(Chain([Doubting(), noting]).label(asked))
    assert [answer.labels for answer in answers] == [night(RED)] * 2
    assert [each.suggestions for each in noting.given] == [(suggestion(1, 1, 9, 9, "red", 0.3),)] * 2
    assert {each.suggested_by for each in noting.given} == {"it"}


def test_answers_of_the_first_come_though_the_second_is_away(tmp_path: Path) -> None:
    class Away:
        name = "away"

        def label(self, asked: Sequence[UnlabeledSample]) -> Iterator[Answer]:
            raise ServiceAwayError("not at home")
            yield

    asked = samples(surroundings(tmp_path), 2)
    came = []
    with pytest.raises(ServiceAwayError):
        for answer in Chain([Scripted({"1.jpg": "unknown"}), Away()]).label(asked):
            came.append(answer)
    assert [answer.labels for answer in came] == [night(RED)]


def test_the_configuration_names_the_services_in_order(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0" * 40)
    (tmp_path / "big.pt").write_bytes(b"a checkpoint")
    config = settings(
        tmp_path,
        services=["simulated", "teacher", "label-studio"],
        label_studio={"token_file": "token"},
        teacher={"models": ["./big.pt"]},
    )
    assert config.teacher.models == (str(tmp_path / "big.pt"),)
    source = open_label_source(config, surroundings(tmp_path))
    assert source.name == "simulated, then teacher, then label-studio"
    assert open_label_source(settings(tmp_path), surroundings(tmp_path)).name == "simulated"
    assert isinstance(night(RED), Labels)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('services = ["label-studio"]', "expected label_studio.token_file"),
        ('services = ["teacher"]', "expected teacher.models"),
        ('services = ["simulated", "simulated"]', "expected each service once"),
        ('services = ["people"]', "expected 'simulated', 'label-studio' or 'teacher'"),
        ('[labels.label_studio]\nurl = "ftp://host"', 'expected "http[s]://HOST'),
        ('[labels.label_studio]\nurl = "http://me:secret@host"', "without a user or a password"),
        ("[labels.teacher]\nfloor = 0.7", "expected floor to be at most confidence"),
        ('[labels.attributes]\n"time of day" = ["a", "b"]', "expected names of letters"),
        ("[labels.label_studio]\ntoken = 'x'", "unknown key 'labels.label_studio.token'"),
    ],
)
def test_what_cannot_be_used_is_named_and_no_password_shown(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "cloud.toml"
    path.write_text(f"[labels]\n{text}\n")
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    assert says in str(refused.value) and "secret" not in str(refused.value)
