"""Either end of an upload dies by SIGKILL in the middle; afterwards each sample is in the store, once."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.backoff import BackoffOptions
from edge.fleet.channel import open_channel
from edge.fleet.spool import Spool
from edge.fleet.uplink import SAMPLES, Uplink, UplinkOptions
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests.certificates import Authority
from tests.fleet_cloud import Cloud, sample, serving, vehicle_options
from tests.waiting import eventually

QUICK = BackoffOptions(0.01, 0.2)


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()
            child.wait(timeout=60)


def read(child: subprocess.Popen[str], lines: int) -> list[str]:
    assert child.stdout is not None
    return [child.stdout.readline() for _ in range(lines)]


def test_the_cloud_is_killed_again_and_again(tmp_path: Path) -> None:
    authority, rng = Authority(), random.Random(5)
    cloud = tmp_path / "cloud"
    (cloud / "store").mkdir(parents=True)
    authority.server().write(cloud, "server")
    (cloud / "ca.crt").write_bytes(authority.certificate)
    ids = [f"s{number}" for number in range(120)]
    spool = Spool(tmp_path / "spool")
    for item_id in ids:
        spool.append(item_id, sample(item_id))
    said: list[str] = []
    port = "0"
    link = None
    for life in range(4):
        with process("tests.fleet_cloud", str(cloud), port) as server:
            port = read(server, 1)[0].split()[1]
            if link is None:
                own = vehicle_options(
                    tmp_path / "v", f"127.0.0.1:{port}", authority, authority.vehicle("v"), backoff=QUICK
                )
                channel = open_channel(own)
                link = Uplink(SAMPLES, spool, channel, UplinkOptions(backoff=QUICK))
                link.start()
            if life < 3:
                said += read(server, rng.randrange(10, 30))
                server.kill()
            else:
                eventually(lambda: spool.status().items == 0, "the spool is empty")
                assert link.stop(timeout_s=30)
                channel.close()
                server.kill()
            assert server.stdout is not None
            said += server.stdout.readlines()
    stored = [line.split()[1] for line in said if line.startswith("stored")]
    assert len(stored) == len(set(stored))
    whole = [path for path in (cloud / "store").iterdir() if path.suffix != ".tmp"]  # it died in the middle
    kept = {path.name: path.read_bytes() for path in whole}
    assert kept == {item_id: fleet.Sample.FromString(sample(item_id)).jpeg for item_id in ids}
    assert spool.status().acknowledged == len(ids)
    assert link is not None and link.status().stream.failures >= 3


def test_the_vehicle_is_killed_again_and_again(tmp_path: Path) -> None:
    authority, rng, cloud = Authority(), random.Random(6), Cloud()
    spooled: set[str] = set()
    with serving(cloud, authority) as address:
        vehicle_options(tmp_path / "v", address, authority, authority.vehicle("v"))
        for life in range(4):
            with process("tests.edge.uplink_child", str(tmp_path / "v"), address) as vehicle:
                assert vehicle.stdin is not None and vehicle.stdout is not None
                assert read(vehicle, 1) == ["ready\n"]
                for number in range(25):
                    vehicle.stdin.write(f"life{life}-{number}\n")
                    vehicle.stdin.flush()
                if life < 3:
                    lines = read(vehicle, rng.randrange(5, 25))
                    vehicle.kill()
                else:
                    lines = []
                    vehicle.stdin.close()
                    assert vehicle.wait(timeout=120) == 0
                lines += vehicle.stdout.readlines()
                spooled |= {line.split()[1] for line in lines if line.startswith("spooled")}
    assert len(spooled) > 40
    assert spooled <= set(cloud.inserts)
    assert set(cloud.inserts.values()) == {1} and not cloud.conflicts
    assert all(content == sample(item_id) for item_id, content in cloud.content.items())
    assert Spool(tmp_path / "v" / "spool").status().items == 0
