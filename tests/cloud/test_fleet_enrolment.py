"""`cloud init`, `cloud enrol`, `cloud revoke` and `cloud status` as people run them."""

from __future__ import annotations

import json
import ssl
import stat
from datetime import datetime, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from sqlalchemy import select

from cloud.config import load_config
from cloud.fleet.pki import PkiError, check_vehicle_name, vehicle_of_uri
from cloud.fleet.vehicle_records import Record, VehicleRecords
from cloud.store.models import AuditEntry, Candidate, Certificate, Release, Run, Vehicle, Verdict
from cloud.store.states import RunState, VerdictKind
from edge.errors import TrafficVisionError
from tests import clouds
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
    for name in ("objects", "keys", "repository", "data", "vehicles"):
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
    run("enrol", "car-1", "--cloud", folder)
    keys = [*folder.rglob("*.key")]
    assert len(keys) == 3
    for path in keys:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for path in folder.rglob("*.crt"):
        assert certificate(path).not_valid_before_utc == datetime(2000, 1, 1, tzinfo=timezone.utc)
        assert certificate(path).not_valid_after_utc > datetime.now(timezone.utc)


def test_a_vehicles_certificate_names_it_and_is_good_for_nothing_else(folder: Path) -> None:
    run("enrol", "car-1", "--cloud", folder)
    made = certificate(folder / "vehicles" / "car-1" / "client.crt")
    made.verify_directly_issued_by(certificate(folder / "pki" / "ca.crt"))
    extensions = made.extensions
    (uri,) = extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.UniformResourceIdentifier
    )
    assert vehicle_of_uri(uri) == "car-1"
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_enrolling_again_keeps_what_is_there(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"model")
    arguments = ("enrol", "car-1", "--cloud", folder, "--camera", "front=sim:7?light=noon", "--model", model)
    printed = run(*arguments).stdout.strip()
    own = folder / "vehicles" / "car-1"
    assert Path(printed) == own
    before = files(own)
    assert set(before) == {"edge.toml", "ca.crt", "client.crt", "client.key", "factory.onnx", "root.json"}
    text = before["edge.toml"].decode()
    for line in ('vehicle = "car-1"', 'url = "sim:7?light=noon"', 'address = "cloud.example:50071"'):
        assert line in text.splitlines()
    run(*arguments)
    assert files(own) == before
    with clouds.database(load_config(folder / "cloud.toml")) as store, store.reading() as session:
        assert len(list(session.scalars(select(Certificate)))) == 1
        actions = [entry.action for entry in session.scalars(select(AuditEntry).order_by(AuditEntry.id))]
    assert actions == ["enrolled", "certified"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "-a", "ä", "a" * 64, "a\n"])
def test_a_name_that_cannot_be_a_vehicles_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(PkiError, match="no vehicle's name"):
        check_vehicle_name(name)
    if not name.startswith("-"):
        with pytest.raises(PkiError):
            run("enrol", name, "--cloud", folder)
    assert list((folder / "vehicles").iterdir()) == []


def test_what_cannot_be_enrolled_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrafficVisionError, match="no such model file"):
        run("enrol", "car-1", "--cloud", folder, "--model", tmp_path / "none.onnx")
    with pytest.raises(TrafficVisionError, match="cannot be read"):
        run("enrol", "car-1", "--cloud", tmp_path)
    assert run("enrol", "car-1", "--cloud", folder, "--camera", "front").exit_code == 2
    (folder / "pki" / "ca.key").unlink()
    with pytest.raises(TrafficVisionError, match=r"ca\.key.*cannot be read"):
        run("enrol", "car-1", "--cloud", folder)


def test_a_revoked_vehicle_cannot_be_enrolled_again(folder: Path) -> None:
    run("enrol", "car-1", "--cloud", folder)
    config = folder / "cloud.toml"
    for _ in range(2):
        assert run("revoke", "car-1", "--reason", "stolen", "--config", config).exit_code == 0
    with pytest.raises(TrafficVisionError, match="was revoked"):
        run("enrol", "car-1", "--cloud", folder)
    with pytest.raises(TrafficVisionError, match="no vehicle 'car-2'"):
        run("revoke", "car-2", "--reason", "stolen", "--config", config)
    with clouds.database(load_config(config)) as store, store.reading() as session:
        (entry,) = session.scalars(select(AuditEntry).where(AuditEntry.action == "revoked"))
    assert (entry.subject, entry.detail) == ("car-1", {"reason": "stolen"})


def test_the_status_of_a_new_cloud_is_empty(folder: Path) -> None:
    status = json.loads(run("status", "--config", folder / "cloud.toml", "--json").stdout)
    tables = ("vehicles", "drift", "samples", "runs", "releases", "rollouts", "pins")
    assert status == {table: [] for table in tables}
    assert "vehicles: none" in run("status", "--config", folder / "cloud.toml").stdout


def test_the_status_shows_the_whole_loop(folder: Path) -> None:
    for name in ("car-1", "car-2", "car-3"):
        run("enrol", name, "--cloud", folder)
    run("revoke", "car-3", "--reason", "x", "--config", folder / "cloud.toml")
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
