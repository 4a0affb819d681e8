from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import DEFAULT_ADDRESS, ConfigError, load_config

CONFIG = """
vehicle = "truck-7"
state_folder = "state"

[[cameras]]
name = "front"
url = "sim:7?light=noon"

[model]
factory = "factory.onnx"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("factory.onnx", "ca.crt", "client.crt", "client.key", "root.json", "day.ref"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "edge.toml"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str) -> str:
    path = write(folder, text)
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_the_least_configuration_has_defaults(folder: Path) -> None:
    config = load_config(write(folder, CONFIG))

    assert config.vehicle == "truck-7"
    assert config.state_folder == folder / "state"
    assert config.model.factory == folder / "factory.onnx"
    assert config.model.providers == ("cpu",)
    assert config.cameras[0].pace == "realtime"
    assert config.serve.address == DEFAULT_ADDRESS
    assert config.cloud is None and config.drift is None and config.updates is None


def test_every_section_is_read_and_paths_are_relative_to_the_file(folder: Path) -> None:
    (folder / "drive").mkdir()
    text = (
        CONFIG.replace('url = "sim:7?light=noon"', 'url = "drive"\nrate_limit_hz = 5\npace = 2')
        + """
providers = ["cuda", "cpu"]
threads = 0
[drift]
reference = "day.ref"
target_hours = 12
[sampler]
drift_spacing_s = 0.5
[spool]
limit_bytes = 1000
[cloud]
address = "cloud.example:7443"
ca = "ca.crt"
cert = "client.crt"
key = "client.key"
[updates]
root = "root.json"
fleet = "trucks"
[serve]
address = "unix:run/p.sock"
[log]
level = "debug"
format = "text"
"""
    )

    config = load_config(write(folder, text))

    assert config.cameras[0].url == str(folder / "drive")
    assert config.cameras[0].rate_limit_hz == 5.0
    assert config.cameras[0].pace == 2.0
    assert config.model.providers == ("cuda", "cpu")
    assert config.drift is not None and config.drift.reference == folder / "day.ref"
    assert config.cloud is not None and config.cloud.key == folder / "client.key"
    assert config.updates is not None and config.updates.fleet == "trucks"
    assert config.serve.address == f"unix:{folder / 'run' / 'p.sock'}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("url =", "ulr =", "unknown key 'cameras[0].ulr'; did you mean 'url'?"),
        ("[model]", "[modle]", "unknown key 'modle'; did you mean 'model'? (and 1 more)"),
        ("[model]", "[x]", "unknown key 'x'; known here: vehicle, state_folder, cameras, model"),
        ('vehicle = "truck-7"', "", "key 'vehicle' is missing"),
        ('"truck-7"', "7", "vehicle = 7: expected a valid string"),
        ('"truck-7"', '"a b"', "vehicle = 'a b': expected 1 to 63 letters"),
        ('"truck-7"', "1979-05-27", "1979-05-27 is a date or time"),
        ("factory.onnx", "none.onnx", "model.factory = 'none.onnx': expected a file, and there is none"),
        ("factory.onnx", ".", "model.factory = '.': expected a file, and that is a folder"),
        ("[model]", "[model]\nthreads = 2.0", "model.threads = 2.0: expected a valid integer"),
        ("[model]", "[model]\nthreads = true", "model.threads = True: expected a valid integer"),
        ("[model]", "[model]\nproviders = []", "model.providers = []: expected one or more"),
        ("[model]", "pace = 'fast'\n[model]", 'cameras[0].pace = \'fast\': expected "realtime", "lockstep"'),
        ("[model]", "pace = 0\n[model]", "cameras[0].pace = 0: expected"),
        ("[model]", "pace = true\n[model]", "cameras[0].pace = True: expected"),
        ("[model]", "stale_after_ms = inf\n[model]", "cameras[0].stale_after_ms = inf: expected a finite"),
        ("[model]", "[[cameras]]\nname = 'front'\nurl = 'x'\n[model]", "'front' is there twice"),
        ("[[cameras]]", "[cameras]", "cameras = {'name': 'front'"),
        (
            "[model]",
            "[serve]\naddress = '0.0.0.0:80'\n[model]",
            "serve.tls = None: expected [serve.tls] with client_ca: 0.0.0.0:80",
        ),
        ("[model]", "[serve]\naddress = '127.0.0.1:70000'\n[model]", "serve.address = '127.0.0.1:70000'"),
        ("[model]", "[log]\nlevel = 'loud'\n[model]", "log.level = 'loud': expected 'debug', 'info'"),
        ("[model]", "[model", "not TOML: "),
        ("[model]", "x = " + "[" * 5000, "not "),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(folder: Path, old: str, new: str, message: str) -> None:
    assert message in refusal(folder, CONFIG.replace(old, new, 1))


def test_no_cameras_are_refused(folder: Path) -> None:
    text = CONFIG.replace("[[cameras]]", "[ignored]").split("[ignored]")[0] + "cameras = []\n[model]\n"
    assert "cameras = []: expected one [[cameras]] section or more" in refusal(
        folder, text + 'factory = "factory.onnx"'
    )


def test_a_password_is_in_no_message(folder: Path) -> None:
    camera = "[[cameras]]\nname = 'front'\nurl = 'rtsp://me:secret@10.0.0.9/1'\n"
    message = refusal(folder, CONFIG.replace("[model]", camera + "[model]"))
    assert "secret" not in message and "***@10.0.0.9" in message


def test_a_missing_file_and_bytes_that_are_no_text(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"'.*none\.toml' cannot be read: No such file"):
        load_config(folder / "none.toml")
    (folder / "edge.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(folder / "edge.toml")


@pytest.mark.parametrize("number", ["9" * 5000, "0x" + "f" * 5000], ids=["decimal", "hexadecimal"])
def test_a_number_of_thousands_of_digits_is_refused(folder: Path, number: str) -> None:
    assert "not a configuration" in refusal(folder, f"{CONFIG}threads = {number}")


def test_a_path_that_is_too_long_is_refused(folder: Path) -> None:
    long = "a" * 5000
    assert "cannot be looked at" in refusal(folder, CONFIG.replace("factory.onnx", long))
