"""`cloud init`, `cloud enrol`, `cloud vehicles` and `cloud status` as people run them."""

from __future__ import annotations

import json
import ssl
import stat
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID
from sqlalchemy import select

from cloud.config import RolloutConfig, load_config
from cloud.fleet.enrolment_desk import EnrolmentDesk, NotGivenError, token_sha256
from cloud.fleet.pki import PkiError, check_vehicle_name, vehicle_of
from cloud.fleet.rollouts import Rollouts
from cloud.fleet.vehicle_records import IdentityInUse, Record, VehicleRecords
from cloud.fleet.vehicles import list_vehicles
from cloud.store.audit_entry import AuditEntry
from cloud.store.models import Candidate, EnrolmentToken, Release, Run, Vehicle, Verdict
from cloud.store.states import RunState, VerdictKind
from edge.errors import TrafficVisionError
from edge.fleet.identity import new_key, renewal_due, request_for, used_since
from protos.enrolment import ticket_of_text
from protos.traffic_vision.v1 import common_pb2 as common
from tests import clouds
from tests.models_factory import rectangles_model
from tests.rollout_fleet import publish
from tools.cli import root


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(root, ["cloud", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "sqlite" not in path.name
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cloud"
    assert run("init", folder, "--address", "cloud.example:50071", "--name", "cloud.example").exit_code == 0
    return folder


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_init_makes_everything_and_a_second_time_changes_nothing(folder: Path) -> None:
    before = files(folder)
    assert {"cloud.toml", "pki/ca.crt", "pki/ca.key", "pki/server.crt", "pki/server.key"} <= set(before)
    for name in ("objects", "keys", "repository", "data"):
        assert (folder / name).is_dir()
    assert run("init", folder).exit_code == 0
    assert run("init", folder, "--name", "cloud.example").exit_code == 0
    assert files(folder) == before


def test_init_finishes_what_a_kill_cut_short_without_a_new_key(folder: Path) -> None:
    before = files(folder)
    for name in ("ca.crt", "server.crt"):
        (folder / "pki" / name).unlink()
    run("init", folder)
    after = files(folder)
    assert {name: after[name] for name in ("pki/ca.key", "pki/server.key")} == {
        name: before[name] for name in ("pki/ca.key", "pki/server.key")
    }
    ssl.create_default_context(cadata=after["pki/ca.crt"].decode())


def test_another_name_for_the_server_gives_it_another_certificate_for_the_same_key(folder: Path) -> None:
    before = files(folder)
    path = folder / "cloud.toml"
    path.write_text(path.read_text().replace('["cloud.example"]', '["other.example", "10.0.0.7"]'))
    run("init", folder)
    names = certificate(folder / "pki" / "server.crt").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert set(names.value.get_values_for_type(x509.DNSName)) == {"localhost", "other.example"}
    assert {str(ip) for ip in names.value.get_values_for_type(x509.IPAddress)} == {
        "127.0.0.1",
        "::1",
        "10.0.0.7",
    }
    assert files(folder)["pki/server.key"] == before["pki/server.key"]


def test_a_choice_that_the_configuration_contradicts_is_refused(folder: Path) -> None:
    with pytest.raises(TrafficVisionError, match=r"address = 'cloud.example:50071' already: change it there"):
        run("init", folder, "--address", "elsewhere:1")


def test_a_folder_of_something_else_and_a_bad_choice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(TrafficVisionError, match="neither empty nor a cloud's folder"):
        run("init", tmp_path)
    with pytest.raises(TrafficVisionError, match="cannot be made"):
        run("init", tmp_path / "thesis.txt")
    with pytest.raises(TrafficVisionError, match="HOST:PORT"):
        run("init", tmp_path / "new", "--listen", "nowhere")
    assert run("init", tmp_path / "new").exit_code == 0


def test_keys_are_private_and_certificates_begin_in_2000(folder: Path) -> None:
    keys = [*folder.rglob("*.key")]
    assert {path.name for path in keys} == {"ca.key", "server.key"}
    for path in keys:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for path in (folder / "pki", folder / "keys"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    _, given = clouds.enrol_vehicle(load_config(folder / "cloud.toml"), "car-1")
    made = x509.load_der_x509_certificate(given.certificate_der)
    for one in (made, *(certificate(path) for path in folder.rglob("*.crt"))):
        assert one.not_valid_before_utc == datetime(2000, 1, 1, tzinfo=timezone.utc)
        assert one.not_valid_after_utc > datetime.now(timezone.utc)


def test_a_key_that_everybody_may_read_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    run("enrol", "car-1", "--cloud", folder)
    assert "everybody" not in caplog.text
    (folder / "pki" / "ca.key").chmod(0o644)
    run("enrol", "car-1", "--cloud", folder)
    assert "ca.key: everybody may read this private key" in caplog.text


def test_a_vehicles_certificate_names_it_and_is_good_for_nothing_else(folder: Path) -> None:
    before = datetime.now(timezone.utc).replace(microsecond=0)
    _, given = clouds.enrol_vehicle(load_config(folder / "cloud.toml"), "car-1")
    made = x509.load_der_x509_certificate(given.certificate_der)
    made.verify_directly_issued_by(certificate(folder / "pki" / "ca.crt"))
    assert vehicle_of(made) == "car-1"
    extensions = made.extensions
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert before <= used_since(made) <= datetime.now(timezone.utc)
    assert made.not_valid_after_utc - used_since(made) == timedelta(days=30)
    assert renewal_due(made) == used_since(made) + timedelta(days=20)


def test_a_ticket_says_where_to_go_and_whom_to_trust(folder: Path, tmp_path: Path) -> None:
    printed = run("enrol", "car-1", "--cloud", folder, "--valid-hours", "2")
    (line,) = printed.stdout.splitlines()
    ticket = ticket_of_text(line)
    assert (ticket.vehicle, ticket.enrol_address) == ("car-1", "cloud.example:50072")
    authority = certificate(folder / "pki" / "ca.crt")
    assert x509.load_der_x509_certificate(ticket.authority_der) == authority
    assert authority.fingerprint(hashes.SHA256()).hex() in printed.stderr
    assert "cloud.example:50072" in printed.stderr
    kept = tmp_path / "ticket"
    again = run("enrol", "car-1", "--cloud", folder, "-o", kept)
    assert again.stdout == "" and stat.S_IMODE(kept.stat().st_mode) == 0o600
    other = ticket_of_text(kept.read_text())
    assert other.token != ticket.token
    with clouds.database(load_config(folder / "cloud.toml")) as store, store.reading() as session:
        tokens = {row.sha256: row for row in session.scalars(select(EnrolmentToken))}
        actions = [entry.action for entry in session.scalars(select(AuditEntry).order_by(AuditEntry.id))]
    assert set(tokens) == {token_sha256(ticket.token), token_sha256(other.token)}
    now = datetime.now(timezone.utc)
    assert tokens[token_sha256(ticket.token)].expires <= now, "a newer one took its place"
    assert now < tokens[token_sha256(other.token)].expires <= now + timedelta(hours=24)
    assert actions == ["ticket issued", "ticket issued"]
    for path in folder.rglob("*"):
        assert not path.is_file() or ticket.token.encode() not in path.read_bytes(), path


def test_of_two_that_come_with_a_ticket_at_once_one_gets_a_certificate(folder: Path) -> None:
    config = load_config(folder / "cloud.toml")
    token = ticket_of_text(run("enrol", "car-1", "--cloud", folder).stdout).token
    given: list[bytes] = []
    with ExitStack() as stack:
        desks = [stack.enter_context(clouds.desk(config)) for _ in range(4)]  # as of several processes

        def ask(desk: EnrolmentDesk) -> None:
            with suppress(NotGivenError):
                given.append(desk.enrol(token, request_for(new_key()), "a test").certificate_der)

        clouds.in_threads(*(partial(ask, desk) for desk in desks))
    assert len(given) == 1
    with clouds.database(config) as store, store.reading() as session:
        actions = [entry.action for entry in session.scalars(select(AuditEntry))]
    assert actions.count("enrolled") == 1 and actions.count("enrolment refused") == 3


def test_the_addresses_follow_from_each_other(tmp_path: Path) -> None:
    def addresses(**serve: str) -> tuple[str, str, str]:
        path = tmp_path / "cloud.toml"
        path.write_text("[serve]\n" + "".join(f'{key} = "{value}"\n' for key, value in serve.items()))
        read = load_config(path).serve
        return read.enrolment_listen, read.fleet_address, read.enrolment_address

    assert addresses() == ("127.0.0.1:50072", "127.0.0.1:50071", "127.0.0.1:50072")
    assert addresses(listen="[::]:7000", address="fleet.example:443") == (
        "[::]:7001",
        "fleet.example:443",
        "fleet.example:7001",
    )
    assert addresses(enrol_listen="0.0.0.0:5", enrol_address="enrol.example:443")[::2] == (
        "0.0.0.0:5",
        "enrol.example:443",
    )
    assert addresses(listen="127.0.0.1:0")[0] == "127.0.0.1:0"
    with pytest.raises(TrafficVisionError, match="expected another port than listen's"):
        addresses(listen="127.0.0.1:7", enrol_listen="127.0.0.1:7")


def test_a_vehicle_of_a_fleet_is_told_so_and_an_unknown_fleet_is_refused(folder: Path) -> None:
    for fleet in ("trucks", "no fleet", ""):
        with pytest.raises(TrafficVisionError, match="there is no fleet"):
            run("enrol", "truck-1", "--cloud", folder, "--fleet", fleet)
    with clouds.database(load_config(folder / "cloud.toml")) as store:
        assert list_vehicles(store) == []
    run("keys", "delegate", "trucks", "--config", folder / "cloud.toml")
    ticket = run("enrol", "truck-1", "--cloud", folder, "--fleet", "trucks").stdout
    assert ticket_of_text(ticket).fleet == "trucks"
    assert ticket_of_text(run("enrol", "van-1", "--cloud", folder).stdout).fleet == ""
    listed = json.loads(run("vehicles", "list", "--json", "--config", folder / "cloud.toml").stdout)
    assert {row["name"]: row["fleet"] for row in listed} == {"truck-1": "trucks", "van-1": None}


def test_a_vehicle_goes_to_the_fleet_of_a_later_ticket_when_it_uses_it(folder: Path) -> None:
    config = load_config(folder / "cloud.toml")

    def fleet() -> str | None:
        with clouds.database(config) as store:
            return list_vehicles(store)[0].fleet

    clouds.enrol_vehicle(config, "van-1")
    run("keys", "delegate", "trucks", "--config", folder / "cloud.toml")
    ticket = ticket_of_text(run("enrol", "van-1", "--cloud", folder, "--fleet", "trucks").stdout)
    assert fleet() is None, "it takes the others' releases until then"
    with clouds.desk(config) as desk:
        desk.enrol(ticket.token, request_for(new_key()), "a test")
    assert fleet() == "trucks"
    clouds.enrol_vehicle(config, "van-1")
    assert fleet() is None


def test_a_ticket_carries_the_floors_of_its_day_and_fleet(folder: Path) -> None:
    config = load_config(folder / "cloud.toml")
    before = datetime.now(timezone.utc).replace(microsecond=0)
    ticket = ticket_of_text(run("enrol", "van-1", "--cloud", folder).stdout)
    issued = datetime.fromtimestamp(ticket.issued_wall_ns / 1e9, timezone.utc)
    assert before <= issued <= datetime.now(timezone.utc)
    assert ticket.release_floor == 0, "nothing is released"
    for version in ("1", "2", "3"):
        publish(config, rectangles_model(version=version), version)
    starting = ("rollout", "start", "--release")
    with clouds.database(config) as store:
        Rollouts(store, RolloutConfig(automatic=False)).look()  # 1 and 2 were there before rollouts
    run(*starting, "3", "--config", folder / "cloud.toml")
    assert ticket_of_text(run("enrol", "van-1", "--cloud", folder).stdout).release_floor == 2
    run("keys", "delegate", "trucks", "--config", folder / "cloud.toml")
    trucks = ticket_of_text(run("enrol", "truck-1", "--cloud", folder, "--fleet", "trucks").stdout)
    assert trucks.release_floor == 0, "the others' releases are not for it"
    with clouds.database(config) as store, store.reading() as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.action == "ticket issued"))
        assert [entry.detail["release_floor"] for entry in entries] == [0, 2, 0]


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "-a", "ä", "a" * 64, "a\n"])
def test_a_name_that_cannot_be_a_vehicles_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(PkiError, match="no vehicle's name"):
        check_vehicle_name(name)
    if not name.startswith("-"):
        with pytest.raises(PkiError):
            run("enrol", name, "--cloud", folder)
    with clouds.database(load_config(folder / "cloud.toml")) as store:
        assert list_vehicles(store) == []


def test_what_cannot_be_enrolled_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrafficVisionError, match="cannot be read"):
        run("enrol", "car-1", "--cloud", tmp_path)
    for hours in ("0", "-1", "721", "soon"):
        assert run("enrol", "car-1", "--cloud", folder, "--valid-hours", hours).exit_code == 2
    (folder / "pki" / "ca.key").unlink()
    with pytest.raises(TrafficVisionError, match=r"ca\.key.*cannot be read"):
        run("enrol", "car-1", "--cloud", folder)
    assert run("init", tmp_path / "new", "--listen", "127.0.0.1:0").exit_code == 0
    with pytest.raises(TrafficVisionError, match="vehicles need fixed ports"):
        run("enrol", "car-1", "--cloud", tmp_path / "new")


def test_a_revoked_vehicle_cannot_be_enrolled_again(folder: Path) -> None:
    run("enrol", "car-1", "--cloud", folder)
    config = folder / "cloud.toml"
    revoking = ("vehicles", "revoke", "--reason", "stolen", "--config", config)
    for _ in range(2):
        assert run(*revoking, "car-1").exit_code == 0
    with pytest.raises(TrafficVisionError, match="was revoked"):
        run("enrol", "car-1", "--cloud", folder)
    with pytest.raises(TrafficVisionError, match="no vehicle 'car-2'"):
        run(*revoking, "car-2")
    with clouds.database(load_config(config)) as store, store.reading() as session:
        (entry,) = session.scalars(select(AuditEntry).where(AuditEntry.action == "revoked"))
    assert (entry.subject, entry.detail) == ("car-1", {"reason": "stolen"})


def test_the_list_of_vehicles(folder: Path) -> None:
    config = load_config(folder / "cloud.toml")
    listing = ("vehicles", "list", "--config", folder / "cloud.toml")
    assert run(*listing).stdout == "no vehicle is enrolled\n"
    assert json.loads(run(*listing, "--json").stdout) == []
    run("enrol", "car-0", "--cloud", folder)
    _, given = clouds.enrol_vehicle(config, "car-1")
    clouds.enrol_vehicle(config, "car-2")
    run("vehicles", "revoke", "car-2", "--reason", "x", "--config", folder / "cloud.toml")
    ends = x509.load_der_x509_certificate(given.certificate_der).not_valid_after_utc
    status = common.VehicleStatus(
        certificate_expires_wall_ns=int(ends.timestamp()) * 10**9,
        model=common.ModelState(active=common.ModelRef(name="streets", version="2")),
    )
    with clouds.database(config) as store:
        twice = IdentityInUse("a", "b", "ipv4:192.0.2.1:1")
        VehicleRecords(store).commit(
            [Record("car-1", clouds.a_hello(status=status).hello), Record("car-1", twice)]
        )
    lines = {line["name"]: line for line in json.loads(run(*listing, "--json").stdout)}
    assert list(lines) == ["car-0", "car-1", "car-2"]
    assert lines["car-0"]["enrolled"] is None and lines["car-0"]["certificate_until"] is None
    assert lines["car-0"]["ticket_until"] and not lines["car-1"]["ticket_until"]
    one = lines["car-1"]
    assert one["certificate_until"] == one["certificate_seen_until"] == ends.isoformat()
    assert (one["daemon_version"], one["model"]) == ("1.2", "streets 2")
    assert one["enrolled"] and one["connected_since"] and one["used_twice"] and not one["revoked"]
    assert lines["car-2"]["revoked"] and not lines["car-2"]["used_twice"]
    rows = run(*listing).stdout.splitlines()
    assert len(rows) == 4 and f"{ends:%Y-%m-%d %H:%MZ}" in rows[2] and "identity used twice" in rows[2]
    assert "ticket until" in rows[1] and "revoked" in rows[3]


def test_the_status_of_a_new_cloud_is_empty(folder: Path) -> None:
    status = json.loads(run("status", "--config", folder / "cloud.toml", "--json").stdout)
    tables = ("vehicles", "drift", "samples", "runs", "releases", "rollouts", "pins")
    assert status == {table: [] for table in tables}
    assert "vehicles: none" in run("status", "--config", folder / "cloud.toml").stdout


def test_the_status_shows_the_whole_loop(folder: Path) -> None:
    for name in ("car-1", "car-2", "car-3"):
        run("enrol", name, "--cloud", folder)
    run("vehicles", "revoke", "car-3", "--reason", "x", "--config", folder / "cloud.toml")
    config = load_config(folder / "cloud.toml")
    with clouds.database(config) as store:
        VehicleRecords(store).commit([Record("car-1", clouds.a_hello().hello)])
        with store.writing() as session:
            session.add(Run(id="run-1", state=RunState.RELEASED))
            session.flush()
            session.add(
                Candidate(sha256="a" * 64, run_id="run-1", name="streets", version="2", object_key="a" * 64)
            )
            session.flush()
            session.add(Verdict(id=1, candidate_sha256="a" * 64, verdict=VerdictKind.PASS))
            session.flush()
            session.add(
                Release(
                    counter=2,
                    candidate_sha256="a" * 64,
                    verdict_id=1,
                    target_path="models/m",
                    target_sha256="a" * 64,
                )
            )
            session.get_one(Vehicle, "car-2").last_seen = datetime(2026, 1, 1, tzinfo=timezone.utc)
    status = json.loads(run("status", "--config", folder / "cloud.toml", "--json").stdout)
    assert {line["name"]: line["state"] for line in status["vehicles"]} == {
        "car-1": "connected",
        "car-2": "away",
        "car-3": "revoked",
    }
    assert [(r["state"], r["candidate"], r["verdict"]) for r in status["runs"]] == [
        ("released", "streets 2", "pass")
    ]
    assert [(r["counter"], r["model"], r["verdict"]) for r in status["releases"]] == [
        (2, "streets 2", "pass")
    ]
    text = run("status", "--config", folder / "cloud.toml").stdout
    for word in ("car-1", "connected", "run-1", "streets 2"):
        assert word in text
