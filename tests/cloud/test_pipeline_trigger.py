"""The trigger: when vehicles agree, what the budget and the schedule say, and the log of it all."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cloud.config import ConfigError, TriggerConfig, load_config
from cloud.config.schedule import DAYS, Schedule, parse_schedule
from cloud.pipeline import trigger_log
from cloud.pipeline.agreement import Alarm, agreements, closest
from cloud.pipeline.runner import run_once
from cloud.pipeline.trigger import BY_SCHEDULE, Decision, Situation, decide
from cloud.pipeline.trigger_log import note_waiting, read_log
from cloud.pipeline.trigger_situation import observe
from cloud.store.columns import utc_now
from cloud.store.models import DriftEvent, Run, StageRecord
from cloud.store.states import RunState, StageState
from tests.retrains import SETTINGS, VEHICLE, begin, retrain_cloud
from tools.cli.cloud import command

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=timezone.utc)  # a Wednesday
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(timezone.utc))
SCHEDULES = st.builds(Schedule, st.none() | st.integers(0, 6), st.integers(0, 23), st.integers(0, 59))
ALARMS = st.lists(
    st.builds(
        Alarm,
        st.sampled_from(["a", "b", "c", "d", "e"]),
        st.sampled_from(["", "night"]),
        st.frozensets(st.sampled_from("wxyz")),
        st.integers(0, 3),
    ),
    max_size=8,
    unique_by=lambda alarm: (alarm.vehicle, alarm.context),
)


@given(ALARMS, st.integers(1, 4), st.integers(1, 3), st.integers(0, 2))
def test_who_agrees_shares_enough_and_nobody_who_does_is_left_out(
    alarms: list[Alarm], vehicles: int, features: int, samples: int
) -> None:
    found = {agreed.context: agreed for agreed in agreements(alarms, vehicles, features, samples)}
    for context in ("", "night"):
        within = {a.vehicle: a for a in alarms if a.context == context and a.samples >= samples}
        largest = _largest(within, vehicles, features)
        assert (set(found[context].vehicles) if context in found else set()) == largest
        if context in found:
            shared = set(found[context].features)
            for vehicle in largest:
                assert len(within[vehicle].features & shared) >= features
            for feature in shared:
                assert sum(feature in within[vehicle].features for vehicle in largest) >= vehicles
            assert found[context].samples == sum(within[vehicle].samples for vehicle in largest)


def _largest(within: dict[str, Alarm], vehicles: int, features: int) -> set[str]:
    """By trying all sets of vehicles: the union of those that agree among themselves."""
    names = sorted(within)
    largest: set[str] = set()
    for bits in range(1, 2 ** len(names)):
        chosen = [name for place, name in enumerate(names) if bits >> place & 1]
        everything = frozenset[str]().union(*(within[name].features for name in chosen))
        shared = {f for f in everything if sum(f in within[name].features for name in chosen) >= vehicles}
        if all(len(within[name].features & shared) >= features for name in chosen):
            largest |= set(chosen)
    return largest


@given(ALARMS, st.integers(1, 4))
def test_the_closest_agreement_is_of_as_many_vehicles_as_there_are(alarms: list[Alarm], asked: int) -> None:
    found = closest(alarms, asked, 1, 0)
    together = [len(agreed.vehicles) for v in range(1, asked + 1) for agreed in agreements(alarms, v, 1, 0)]
    assert (found is None) == (not together)
    if agreements(alarms, asked, 1, 0):
        assert found == agreements(alarms, asked, 1, 0)[0]


def night(vehicle: str, *features: str, samples: int = 5) -> Alarm:
    return Alarm(vehicle, "night", frozenset(features), samples)


RULE = TriggerConfig(min_samples=10, min_vehicles=3, min_features=2, min_samples_per_vehicle=2)
AGREED = (night("a", "noise", "scores", "blur"), night("b", "noise", "scores"), night("c", "scores", "noise"))


@pytest.mark.parametrize(
    ("alarms", "begin", "why"),
    [
        (AGREED, True, "enough"),
        (AGREED[:2], False, "2 of 3 vehicles agree (a, b on noise, scores in night, 10 samples)"),
        ((*AGREED[:2], night("c", "noise", "scores", samples=1)), False, "2 of 3 vehicles agree"),
        ((*AGREED[:2], night("c", "noise", "brightness")), False, "2 of 3 vehicles agree"),
        ((*AGREED[:2], Alarm("c", "rain", frozenset(("noise", "scores")), 5)), False, "2 of 3 vehicles"),
        ((), False, "0 of 3 vehicles agree"),
    ],
)
def test_enough_vehicles_must_agree_on_context_features_and_samples(
    alarms: tuple[Alarm, ...], begin: bool, why: str
) -> None:
    decision = decide(Situation(20, 0, 3, None, alarms=alarms), RULE)
    assert decision.begin is begin and why in decision.why
    assert [check.holds for check in decision.checks if check.name == "agreement"] == [begin]


def test_the_budget_holds_for_the_rule_and_for_the_schedule() -> None:
    rule = TriggerConfig(min_samples=1, budget_retrains=2, budget_hours=3.0, schedule="daily 11:00")
    free = Situation(5, 0, 1, 7200.0, 7200.0, retrains=1, hours=2.9)
    assert decide(free, rule, NOW).begin
    spent = Situation(5, 0, 1, 7200.0, 7200.0, retrains=2, hours=3.0)
    decision = decide(spent, rule, NOW)
    assert not decision.begin
    assert "2 of the 2 retrains of 7 days are used, 3.0 of the 3 hours of 7 days are used" in decision.why


@pytest.mark.parametrize(
    ("situation", "begin"),
    [
        (Situation(5, 0, 1, None, 3601.0), True),
        (Situation(5, 0, 1, 3601.0, 3601.0), True),
        (Situation(5, 0, 1, 3599.0, 3601.0), False),  # a retrain has begun since 11:00
        (Situation(5, 0, 1, None, 3599.0), False),  # the samples came after 11:00
        (Situation(1, 0, 1, None, 3601.0), False),
        (Situation(0, 0, 0, None, None), False),
    ],
)
def test_the_schedule_begins_what_the_numbers_do_not(situation: Situation, begin: bool) -> None:
    rule = TriggerConfig(min_samples=100, schedule="daily 11:00", schedule_min_samples=2)
    decision = decide(situation, rule, NOW)
    assert decision.begin is begin
    if begin:
        assert (decision.by, decision.why) == (BY_SCHEDULE, "the schedule, daily 11:00: 5 new samples")
    (check,) = [check for check in decision.checks if check.name == "schedule"]
    assert "next 2026-03-05 11:00 UTC" in check.why


@given(SCHEDULES, MOMENTS)
def test_a_schedule_has_one_moment_in_each_period(schedule: Schedule, now: datetime) -> None:
    latest, following = schedule.latest(now), schedule.next(now)
    assert latest <= now < following
    assert following - latest == timedelta(days=1 if schedule.weekday is None else 7)
    for moment in (latest, following):
        assert (moment.hour, moment.minute, moment.second) == (schedule.hour, schedule.minute, 0)
        assert schedule.weekday in (None, moment.weekday())
    day = "daily" if schedule.weekday is None else f"weekly {DAYS[schedule.weekday]}"
    assert parse_schedule(f"{day} {schedule.hour:02}:{schedule.minute:02}") == schedule


@pytest.mark.parametrize("text", ["daily", "daily 24:00", "weekly 03:00", "weekly Sunday 03:00", "0 3 * * *"])
def test_what_is_no_schedule_is_refused_with_its_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cloud.toml"
    path.write_text(f'[trigger]\nschedule = "{text}"\n')
    with pytest.raises(ConfigError, match=r"trigger\.schedule = .*: expected \"daily HH:MM\" or"):
        load_config(path)


def test_what_is_looked_up_is_what_vehicles_said_and_sent(tmp_path: Path) -> None:
    with retrain_cloud(tmp_path) as pipeline:
        rule = pipeline.config.trigger
        with pipeline.store.writing() as session:
            old = {"name": "contrast", "verdict": "stable"}
            event = DriftEvent(vehicle=VEHICLE, external_id="event-2", verdict="alarm", previous="stable")
            event.features, event.message = [old, {"name": "blur", "verdict": "alarm"}], b""
            session.add(event)
            run = Run(id="retrain-0001", state=RunState.REJECTED, started=utc_now() - timedelta(days=2))
            session.add(run)
            record = StageRecord(stage="train", key=run.id, state=StageState.DONE)
            record.progress, record.result = {}, {"seconds": 1800.0}
            session.add(record)
        with pipeline.store.reading() as session:
            found = observe(session, utc_now(), rule)
            later = observe(session, utc_now() + timedelta(days=8), rule)
    # Both events are of no known context; the samples are of the first one.
    assert found.alarms == (Alarm(VEHICLE, "", frozenset(("brightness", "blur")), 4),)
    assert (found.samples, found.drift_samples, found.vehicles) == (4, 4, 1)
    assert (found.retrains, found.hours) == (1, 0.5)
    assert found.since_last_s == pytest.approx(2 * 86400, abs=600) and found.oldest_s is not None
    assert later.alarms == () and (later.retrains, later.hours) == (0, 0.0)


def test_the_log_tells_each_decision_once_and_what_began_a_retrain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.replace("min_samples = 2", "min_samples = 5")
    with retrain_cloud(tmp_path, {"0.jpg": None}, settings=settings) as pipeline:
        for _ in range(3):
            assert run_once(pipeline)["state"] == "idle"
        rule = pipeline.config.trigger
        situation = Situation(9, 0, 1, None)
        other = rule.model_copy(update={"min_drift_samples": 9})
        note_waiting(pipeline.store, decide(situation, other), other)
        note_waiting(pipeline.store, decide(situation, other), other, utc_now() + timedelta(hours=1))
        assert run_once(pipeline, now_by_hand=True)["state"] == "waiting"
        with pipeline.store.reading() as session:
            entries = read_log(session, 10)
        assert [(entry.times, entry.lacking, entry.by, entry.run_id) for entry in entries] == [
            (3, ["samples"], "rule", None),
            (2, ["drift samples"], "rule", None),
            (1, ["samples"], "hand", "retrain-0001"),
        ]
        assert entries[0].why == "not yet: 4 new samples of 5" and entries[0].rule["min_samples"] == 5
        assert entries[1].last - entries[1].at > timedelta(minutes=59)
        assert entries[2].situation["samples"] == 4
        with pytest.raises(Exception, match="retrain-0001 is running"):
            begin(pipeline)
        monkeypatch.setattr(trigger_log, "KEPT", 1)
        note_waiting(pipeline.store, Decision(False, "not yet", situation), rule)
        with pipeline.store.reading() as session:
            assert [entry.run_id for entry in read_log(session, 10)] == ["retrain-0001", None]
            assert len(read_log(session, 1)) == 1


def test_people_read_the_log_and_ask_why_not_yet(tmp_path: Path) -> None:
    settings = SETTINGS.replace(
        "min_samples = 2", 'min_samples = 5\nmin_vehicles = 2\nschedule = "daily 03:00"'
    )
    config = str(tmp_path / "cloud" / "cloud.toml")
    runner = CliRunner()
    with retrain_cloud(tmp_path, settings=settings) as pipeline:
        assert "no decision yet" in runner.invoke(command, ["trigger", "log", "--config", config]).output
        run_once(pipeline)
        explained = runner.invoke(command, ["trigger", "explain", "--config", config])
        assert explained.exit_code == 0, explained.output
        lines = explained.output.splitlines()
        assert lines[0].startswith(
            "no retrain begins now: not yet: 4 new samples of 5, 1 of 2 vehicles agree"
        )
        assert lines[1] == "  no  samples: 4 new samples of 5"
        assert lines[2].startswith("  no  agreement: 1 of 2 vehicles agree (car-1 on brightness in no known")
        assert lines[-1].startswith("  no  schedule: daily 03:00: the 4 new samples came after it; next ")
        as_json = json.loads(
            runner.invoke(command, ["trigger", "explain", "--json", "--config", config]).output
        )
        assert as_json["begin"] is False and as_json["alarms"][0]["features"] == ["brightness"]
        run_id = begin(pipeline)
        assert "is running: no other begins" in (
            runner.invoke(command, ["trigger", "explain", "--config", config]).output
        )
        logged = runner.invoke(command, ["trigger", "log", "--config", config]).output.splitlines()
        assert "no retrain: not yet: 4 new samples of 5" in logged[0] and f"{run_id}: a test" in logged[1]
        line = runner.invoke(command, ["trigger", "log", "--limit", "1", "--json", "--config", config]).output
        assert json.loads(line)["run"] == run_id
