"""cloud.toml, read strictly: what is wrong is one line that names file, key and what is expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.config import ConfigError, PurityConfig, load_config


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cloud.toml"


def test_an_empty_file_is_a_configuration_with_its_folder(path: Path) -> None:
    path.write_text("")
    config = load_config(path)
    assert config.store.objects == path.parent / "objects"
    assert config.store.database == f"sqlite:///{path.parent}/cloud.sqlite"
    assert config.folders.pki == path.parent / "pki"


def test_paths_may_lie_elsewhere(path: Path) -> None:
    path.write_text(
        '[store]\nobjects = "/srv/objects"\ndatabase = "sqlite:////srv/x.sqlite"\n[folders]\npki = "../pki"\n'
    )
    config = load_config(path)
    assert config.store.objects == Path("/srv/objects")
    assert config.store.database == "sqlite:////srv/x.sqlite"
    assert config.folders.pki.resolve() == path.parent.parent / "pki"


def test_a_remote_is_a_path_or_an_url_and_weights_a_file_or_a_name(path: Path) -> None:
    (path.parent / "own.pt").write_bytes(b"")
    path.write_text('[dataset]\nremote = "copy"\n[training]\nweights = "own.pt"\n')
    config = load_config(path)
    assert config.dataset.remote == str(path.parent / "copy")
    assert config.training.weights == str(path.parent / "own.pt")
    path.write_text('[dataset]\nremote = "ssh://me@host/data"\n[training]\nweights = "yolo11n.pt"\n')
    config = load_config(path)
    assert (config.dataset.remote, config.training.weights) == ("ssh://me@host/data", "yolo11n.pt")


def test_a_url_of_postgresql_stays_as_it_is(path: Path) -> None:
    path.write_text('[store]\ndatabase = "postgresql+psycopg://me@host/name"\n')
    assert load_config(path).store.database == "postgresql+psycopg://me@host/name"


def test_a_rule_that_is_given_in_part_keeps_the_rest(path: Path) -> None:
    path.write_text("[purity.rules.unknown_class]\nfail_above = 0.5\n[purity]\nduplicate_bits = 3\n")
    purity, default = load_config(path).purity, PurityConfig()
    assert purity.rules.unknown_class == default.rules.unknown_class.model_copy(update={"fail_above": 0.5})
    assert purity.rules.duplicate == default.rules.duplicate
    assert purity.duplicate_bits == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[serve]\nlisen = 1\n", "unknown key 'serve.lisen'; did you mean 'listen'?"),
        ("[server]\n", "unknown key 'server'; did you mean 'serve'?"),
        (
            "[purity.rules.unknown_clas]\nrefuse = true\n",
            "unknown key 'purity.rules.unknown_clas'; did you mean 'unknown_class'?",
        ),
        (
            "[purity.rules.blurred]\nwarn_abov = 0.1\n",
            "unknown key 'purity.rules.blurred.warn_abov'; did you mean 'warn_above'?",
        ),
        (
            "[purity.rules.blurred]\nwarn_above = 2.0\n",
            "purity.rules.blurred.warn_above = 2.0: expected less than or equal to 1",
        ),
        ("[log]\nxyz = 1\n", "unknown key 'log.xyz'; known here: level"),
        ('[limits]\nsample_bytes = "4 MB"\n', "limits.sample_bytes = '4 MB': expected a valid integer"),
        ("[limits]\nin_flight = 0\n", "limits.in_flight = 0: expected greater than or equal to 1"),
        ('[serve]\nlisten = "50071"\n', "serve.listen = '50071': expected \"HOST:PORT\""),
        ('[serve]\nlisten = "localhost:65536"\n', 'expected "HOST:PORT"'),
        ("[serve]\nlisten = 2026-01-01\n", "is a date or time"),
        ("[serve\n", "not TOML"),
        ("[store]\ndatabase = 7\n", "store.database = ***"),
        (
            '[dataset]\nremote = "s3://me:secret@host/data"\n',
            "dataset.remote = ***: expected a path or an URL",
        ),
        ('[orchestration]\npages = "http://me:secret@host"\n', "orchestration.pages = ***: expected"),
        ('[training]\ndevice = "0,gpu"\n', "training.device = '0,gpu'"),
        ("[trigger]\nmin_features = 0\n", "trigger.min_features = 0: expected greater than 0"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(path: Path, text: str, says: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert says in message
    assert "\n" not in message


def test_a_file_that_is_not_there_is_said(path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(path)


def test_a_file_that_is_no_text_is_said(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(path)
