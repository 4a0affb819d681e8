"""Mutated configurations: each is read, or refused by a `ConfigError` of one line."""

from __future__ import annotations

import random
from pathlib import Path

from edge.config import ConfigError, load_config
from tests.fuzz.fuzzing import MARKS, mutated, run_cases

pytestmark = MARKS

WHOLE = """\
vehicle = "car-1"
state_folder = "state"
[[cameras]]
name = "front"
url = "rtsp://user:hunter2@10.0.0.9/stream?token=hunter2"
rate_limit_hz = 10.0
stale_after_ms = 500.0
pace = "realtime"
region = [0.0, 0.1, 1.0, 0.8]
mask = [[[0.0, 0.9], [1.0, 0.9], [1.0, 1.0]]]
size = [1280, 720]
fourcc = "MJPG"
[[cameras]]
name = "rear"
url = "sim:7"
pace = 2.0
[model]
factory = "factory.onnx"
providers = ["cpu"]
threads = 2
[drift]
rate_hz = 2.0
[sampler]
uncertain_share = 0.1
[spool]
limit_bytes = 1_000
[cloud]
address = "cloud.example:443"
ca = "pem"
cert = "pem"
key = "pem"
[updates]
root = "pem"
[serve]
address = "unix:daemon.sock"
more_addresses = ["127.0.0.1:0"]
[http]
address = "127.0.0.1:8080"
[vehicle_state]
socket = "vehicle.sock"
[clock]
source = "ptp"
[disk]
bytes_per_day = 5
[log]
level = "info"
"""
VALUES = (
    "0", "-1", "1e400", "-0.0", "nan", "inf", "9" * 5000, "0x" + "f" * 40, "true", '""', "'\\u0000'",
    '"' + "a" * 5000 + '"', '"\\u0000"', '"\\ud7ff\\U0010ffff"', "[]", "{}", "[[[[]]]]", "[" * 99 + "]" * 99,
    "1979-05-27T07:32:00Z", "07:32:00", '"unix:"', '"unix:\\u0000"', '"[::1]:99999"', '"://"', '"rtsp://"',
    '"/dev/null"', '"/"', '"."', '"factory.onnx/x"', "[1, 'a', 2.0]", "{a = {b = {}}}", '"127.0.0.1:٣"',
)  # fmt: skip
ONCE_MORE: tuple[int, ...] = ()


def mutated_config(chance: random.Random) -> bytes:
    lines = WHOLE.splitlines()
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = chance.randrange(len(lines))
        key, equals, _ = lines[at].partition("=")
        kind = chance.randrange(5)
        if kind == 0 and equals:
            lines[at] = f"{key}= {chance.choice(VALUES)}"
        elif kind == 1:
            lines.insert(at, chance.choice(lines))
        elif kind == 2:
            del lines[at]
        elif kind == 3:
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif equals:
            lines[at] = f"{key.strip()}.{chance.choice(lines).partition('=')[0].strip()} = 1"
        if not lines:
            lines = ["x"]
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    return mutated(data, chance, [WHOLE.encode()]) if chance.random() < 0.5 else data


def test_config(tmp_path: Path) -> None:
    for name in ("factory.onnx", "pem"):
        (tmp_path / name).write_bytes(b"x")
    path = tmp_path / "edge.toml"
    path.write_text(WHOLE)
    load_config(path)  # what is mutated is sound

    def case(chance: random.Random) -> None:
        path.write_bytes(mutated_config(chance))
        try:
            load_config(path)
        except ConfigError as error:
            text = str(error)
            assert "\n" not in text and len(text) < 2000, text
            # Only where the mutation left the URL one: then nobody may read the password.
            assert "user:hunter2@10" not in text, text

    run_cases(case, ONCE_MORE)
