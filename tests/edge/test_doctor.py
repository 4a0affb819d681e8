"""The doctor's judgements, on machines that the tests make up in a folder."""

from __future__ import annotations

import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from edge.config import EdgeConfig, load_config
from edge.doctor import addresses, certificates, clock, cloud, disk, heat, memory, model, service, tuf_root
from edge.doctor.examination import examine
from edge.doctor.finding import Finding, Level
from edge.doctor.report import as_document, as_text, has_failed
from edge.errors import TrafficVisionError
from edge.state_folder import StateFolder
from tests.certificates import PAST, Authority
from tests.daemons import write_config
from tests.waiting import eventually

NOW = datetime(2026, 11, 24, tzinfo=timezone.utc)


@pytest.fixture
def config(tmp_path: Path) -> EdgeConfig:
    return load_config(write_config(tmp_path, {"url": "sim:7?size=64x64"}))


def levels(findings: list[Finding]) -> list[str]:
    return [finding.level.value for finding in findings]


def test_one_that_breaks_stops_no_other(tmp_path: Path) -> None:
    def breaks(config: EdgeConfig) -> list[Finding]:
        raise ZeroDivisionError("a defect")

    def refuses(config: EdgeConfig) -> list[Finding]:
        raise TrafficVisionError("rtsp://me:secret@10.0.0.1/ is away")

    path = write_config(tmp_path, {"url": "sim:7"})
    findings = examine(path, {"a": breaks, "b": refuses, "c": lambda config: []})
    assert levels(findings) == ["ok", "failure", "failure"]
    assert "ZeroDivisionError: a defect" in findings[1].text
    assert "secret" not in as_text(findings) and "secret" not in as_document(findings)
    assert json.loads(as_document(findings))["failed"] is True


def test_a_configuration_that_is_refused_is_a_finding(tmp_path: Path) -> None:
    (finding,) = examine(tmp_path / "none.toml")
    assert finding.level is Level.FAILURE and "cannot be read" in finding.text


def test_warnings_fail_nothing() -> None:
    findings = [Finding("a", Level.OK, "x"), Finding("b", Level.WARNING, "y", "do z")]
    assert not has_failed(findings)
    assert as_text(findings).splitlines()[-1] == "1 ok, 1 warning, 0 failure"
    assert "-> do z" in as_text(findings)


@pytest.mark.parametrize(
    ("found", "level"),
    [
        ({"onnxruntime": "1.32.0"}, "ok"),
        ({}, "failure"),
        ({"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}, "failure"),
    ],
)
def test_exactly_one_wheel_is_right(found: dict[str, str], level: str) -> None:
    assert model.judge_wheels(found).level.value == level


def test_room_on_the_disk() -> None:
    assert disk.judge_space(10**10, 0, 10**9).level is Level.OK
    assert disk.judge_space(10**9, 0, 10**9).level is Level.WARNING
    assert disk.judge_space(10**9, 9 * 10**8, 10**9).level is Level.OK, "the spool has its room already"
    assert disk.judge_space(10**8, 0, 10**9).level is Level.FAILURE


def test_the_days_bytes() -> None:
    assert disk.judge_budget(0, 100, 50).level is Level.OK
    assert disk.judge_budget(100, 100, 50).level is Level.WARNING
    assert "has no effect" in disk.judge_budget(0, 100, 200).advice


def test_the_disk_is_written_and_left_as_it_was(config: EdgeConfig, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    findings = disk.disk(config)
    assert [finding.subject for finding in findings] == ["disk space", "disk write", "disk budget"]
    assert sorted(tmp_path.iterdir()) == before


@given(st.text(max_size=60))
def test_no_meminfo_breaks_it(text: str) -> None:
    found = memory.parse_available(text)
    assert found is None or found >= 0


def test_memory_and_the_limit_of_a_group(config: EdgeConfig, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable:    4000000 kB\n")
    assert levels(memory.memory(config, tmp_path)) == ["ok"]
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("100000000\n")
    assert levels(memory.memory(config, tmp_path)) == ["failure"]
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert levels(memory.memory(config, tmp_path)) == ["ok"]
    assert memory.judge(300, None, 250).level is Level.WARNING


def test_the_clock() -> None:
    assert clock.judge_time(1.8e9, 1.7e9).level is Level.OK
    assert clock.judge_time(1000, 1.7e9).level is Level.FAILURE, "a board without a battery"
    assert clock.judge_time(5e9, 1.7e9).level is Level.FAILURE
    kept, free = clock.KernelClock(True, 0.002), clock.KernelClock(False, 16.0)
    assert clock.judge_keeper(kept, False, "ptp").level is Level.OK
    assert clock.judge_keeper(free, True, "system").level is Level.OK
    assert "phc2sys" in clock.judge_keeper(free, False, "ptp").advice
    assert clock.judge_keeper(None, False, "system").level is Level.WARNING


def test_the_kernel_answers() -> None:
    found = clock.kernel_clock()
    assert found is None or found.error_s >= 0


def test_certificates_of_a_vehicle(tmp_path: Path) -> None:
    ours, other = Authority("ours"), Authority("another")
    cert, key = ours.vehicle("v1").write(tmp_path, "v1")
    key.chmod(0o600)
    ca = tmp_path / "ca.crt"
    ca.write_bytes(ours.certificate)
    cloud_section = {"address": "127.0.0.1:1", "ca": str(ca), "cert": str(cert), "key": str(key)}
    path = write_config(tmp_path, {"url": "sim:7"}, cloud=cloud_section)
    config = load_config(path)
    assert levels(certificates.certificates(config)) == ["ok"] * 4
    key.chmod(0o644)
    assert "chmod 600" in certificates.certificates(config)[-1].advice
    key.chmod(0o600)
    ca.write_bytes(other.certificate)
    assert levels(certificates.certificates(config)) == ["ok", "ok", "warning", "ok"]
    key.write_bytes(other.vehicle("v1").key)
    assert "is not the key of" in "".join(finding.text for finding in certificates.certificates(config))
    key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nsecret\n")
    (finding,) = certificates.certificates(config)
    assert finding.level is Level.FAILURE and "secret" not in finding.text


@pytest.mark.parametrize(
    ("now", "level"),
    [
        (PAST - timedelta(days=400), "failure"),
        (PAST - timedelta(days=100), "ok"),
        (PAST - timedelta(days=10), "warning"),
        (PAST, "failure"),
    ],
)
def test_a_certificates_time(now: datetime, level: str) -> None:
    certificate = x509.load_pem_x509_certificate(Authority().server(until=PAST).certificate)
    assert certificates.judge_validity("c", certificate, now).level.value == level


def test_a_key_that_its_group_reads_is_right() -> None:
    path = Path("k")
    modes = {
        mode: certificates.judge_mode("key", path, mode).level.value for mode in (0o600, 0o640, 0o660, 0o644)
    }
    assert modes == {0o600: "ok", 0o640: "ok", 0o660: "warning", 0o644: "failure"}


def test_no_cloud_answers(config: EdgeConfig, tmp_path: Path) -> None:
    assert levels(cloud.cloud(config)) == ["ok"]
    ours = Authority()
    cert, key = ours.vehicle("v1").write(tmp_path, "v1")
    (tmp_path / "ca.crt").write_bytes(ours.certificate)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    section = {"address": f"127.0.0.1:{port}", "ca": "ca.crt", "cert": str(cert), "key": str(key)}
    (finding,) = cloud.cloud(load_config(write_config(tmp_path, {"url": "sim:7"}, cloud=section)))
    assert finding.level is Level.WARNING and "refused" in finding.text


def test_a_roots_time_and_a_file_that_is_none(tmp_path: Path) -> None:
    assert tuf_root.judge(1, NOW + timedelta(days=300), NOW, 60).level is Level.OK
    assert tuf_root.judge(1, NOW + timedelta(days=3), NOW, 60).level is Level.WARNING
    assert tuf_root.judge(1, NOW, NOW, 60).level is Level.WARNING
    for name in ("ca", "cert", "key"):
        (tmp_path / name).touch()
    section = {"address": "a:1", "ca": "ca", "cert": "cert", "key": "key"}
    for content in ("{}", "[1]", "no json", '{"signed": 7, "signatures": []}'):
        (tmp_path / "root.json").write_text(content)
        path = write_config(tmp_path, {"url": "sim:7"}, cloud=section, updates={"root": "root.json"})
        assert levels(tuf_root.tuf_root(load_config(path))) == ["failure"], content


def test_an_address_is_free_taken_or_our_own(config: EdgeConfig) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = addresses.trouble(address)
        assert said and addresses.judge("serve", address, said, None).level is Level.FAILURE
        assert addresses.judge("serve", address, said, 42).level is Level.OK
    eventually(lambda: not addresses.trouble(address), "the port is free again")
    assert addresses.running_daemon(config.state_folder) is None
    with StateFolder(config.state_folder):
        assert addresses.running_daemon(config.state_folder) == os.getpid()
    assert addresses.running_daemon(config.state_folder) is None


def test_a_unix_socket_that_a_kill_left_is_free(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert addresses.trouble(f"unix:{path}") == ""
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(path))
        held.listen()
        assert addresses.trouble(f"unix:{path}")
    assert addresses.trouble(f"unix:{path}") == ""


def test_heat_of_a_board(config: EdgeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert levels(heat.heat(config, tmp_path)) == ["ok"]
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("x86_pkg_temp\n")
    (zone / "temp").write_text("51000\n")
    (tmp_path / "sys/class/thermal/thermal_zone1").mkdir()  # off: it has no temperature
    counts = tmp_path / "sys/devices/system/cpu/cpu3/thermal_throttle"
    counts.mkdir(parents=True)
    (counts / "core_throttle_count").write_text("0\n")
    findings = heat.heat(config, tmp_path)
    assert levels(findings) == ["ok", "ok"] and "51 °C" in findings[0].text
    (zone / "temp").write_text("97000\n")
    (counts / "core_throttle_count").write_text("12\n")
    monitor = tmp_path / "sys/class/hwmon/hwmon1"
    monitor.mkdir(parents=True)
    (monitor / "name").write_text("soctherm_oc\n")
    (monitor / "oc1_event_cnt").write_text("3\n")
    vcgencmd = tmp_path / "vcgencmd"
    vcgencmd.write_text("#!/bin/sh\necho throttled=0x50005\n")
    vcgencmd.chmod(0o755)
    findings = heat.heat(config, tmp_path)
    assert levels(findings) == ["warning"] * 4
    assert "core slowed down 12 times" in findings[1].text
    assert "now: under-voltage, throttled" in findings[2].text
    assert "soctherm_oc oc1_event_cnt" in findings[3].text


@given(st.text(max_size=20))
def test_no_word_of_a_board_breaks_it(word: str) -> None:
    heat.judge_pi(word)


RUNS = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled", "NRestarts": "0"}


@pytest.mark.parametrize(
    ("shown", "level"),
    [
        ({"LoadState": "not-found"}, "ok"),
        (RUNS, "ok"),
        ({**RUNS, "NRestarts": "3"}, "warning"),
        ({**RUNS, "UnitFileState": "disabled"}, "warning"),
        ({**RUNS, "ActiveState": "failed", "Result": "start-limit-hit"}, "failure"),
    ],
)
def test_the_service(shown: dict[str, str], level: str) -> None:
    assert service.judge(shown).level.value == level


@pytest.mark.services
def test_the_way_to_a_cloud_is_walked_to_its_end(tmp_path: Path) -> None:
    """A gRPC server with mutual TLS, a vehicle of its own, one of another fleet's, and a wrong authority."""
    ours, others = Authority("ours"), Authority("others")
    issued = ours.server("localhost")
    server = grpc.server(ThreadPoolExecutor(2))
    port = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials([(issued.key, issued.certificate)], ours.certificate, True),
    )
    server.start()
    try:

        def judged(authority: Authority, vehicle: Authority) -> Finding:
            (tmp_path / "ca.crt").write_bytes(authority.certificate)
            cert, key = vehicle.vehicle("v1").write(tmp_path, "v1")
            section = {"address": f"localhost:{port}", "ca": "ca.crt", "cert": str(cert), "key": str(key)}
            (finding,) = cloud.cloud(load_config(write_config(tmp_path, {"url": "sim:7"}, cloud=section)))
            return finding

        taken = judged(ours, ours)
        assert taken.level is Level.OK and "takes this vehicle's certificate" in taken.text
        refused = judged(ours, others)
        assert refused.level is Level.FAILURE and "refuses this vehicle" in refused.advice
        unknown = judged(others, ours)
        assert unknown.level is Level.FAILURE and "cloud.ca must be the authority" in unknown.advice
    finally:
        server.stop(None).wait(60)
