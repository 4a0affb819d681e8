"""What cannot make a connection is told before one is tried; what a connection fails at is told in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from edge.fleet.channel import ChannelError, ChannelOptions, explain, open_channel
from protos.traffic_vision.v1 import fleet_pb2_grpc
from tests.certificates import PAST, SERVER_NAME, Authority
from tests.fleet_cloud import Cloud, serving, vehicle_options


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def options(tmp_path: Path, authority: Authority) -> ChannelOptions:
    return vehicle_options(tmp_path, "127.0.0.1:1", authority, authority.vehicle("v"))


@pytest.mark.parametrize(
    "address", ["", "host", "host:", "host:0", "host:65536", ":1", "http://host:1", "a b:1"]
)
def test_an_address_that_is_none(options: ChannelOptions, address: str) -> None:
    with pytest.raises(ChannelError, match="must be HOST:PORT"):
        open_channel(replace(options, address=address))


@pytest.mark.parametrize("address", ["host:1", "127.0.0.1:65535", "[::1]:443", "cloud.example.com:8443"])
def test_an_address_that_is_one(options: ChannelOptions, address: str) -> None:
    open_channel(replace(options, address=address)).close()


@pytest.mark.parametrize("name", ["ca", "certificate", "key"])
def test_a_file_that_is_missing_or_something_else_is_named(options: ChannelOptions, name: str) -> None:
    path: Path = getattr(options, name)
    path.write_bytes(b"-----BEGIN NOTHING-----\n\xff secret")
    with pytest.raises(ChannelError, match=path.name) as raised:
        open_channel(options)
    assert "secret" not in str(raised.value)
    path.unlink()
    with pytest.raises(ChannelError, match=rf"{path.name}.*No such file"):
        open_channel(options)


def test_a_key_of_another_certificate(options: ChannelOptions, authority: Authority) -> None:
    options.key.write_bytes(authority.vehicle("other").key)
    with pytest.raises(ChannelError, match=r"client\.key.*is not that of.*client\.crt"):
        open_channel(options)


def test_a_certificate_of_another_authority_is_warned_of(
    options: ChannelOptions, caplog: pytest.LogCaptureFixture
) -> None:
    Authority("stranger").vehicle("v").write(options.ca.parent, "client")
    open_channel(options).close()
    assert "does not come from the authority" in caplog.text


def test_a_key_that_everybody_may_read_is_told(
    options: ChannelOptions, caplog: pytest.LogCaptureFixture
) -> None:
    options.key.chmod(0o600)
    open_channel(options).close()
    assert "everybody" not in caplog.text
    options.key.chmod(0o644)
    open_channel(options).close()
    assert f"everybody may read the private key {options.key}" in caplog.text


def told(options: ChannelOptions) -> str:
    with open_channel(options) as channel, pytest.raises(grpc.RpcError) as raised:
        list(fleet_pb2_grpc.FleetServiceStub(channel).UploadSamples(iter([]), timeout=30))
    return explain(raised.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda o, a: replace(o, address="127.0.0.1:1"), "nothing answers"),
        (lambda o, a: replace(o, server_name="elsewhere.test"), "is for another name"),
        (lambda o, a: replace(o, server_name=None), "is for another name"),
        (lambda o, a: o.ca.write_bytes(Authority().certificate) and o, "not from the authority"),
        (lambda o, a: o.ca.write_bytes(Authority("another").certificate) and o, "not from the authority"),
        (lambda o, a: Authority().vehicle("v").write(o.ca.parent, "client") and o, "does not accept this"),
    ],
)
def test_each_way_to_fail_is_told_in_words(
    tmp_path: Path,
    authority: Authority,
    change: Callable[[ChannelOptions, Authority], ChannelOptions],
    expected: str,
) -> None:
    with serving(Cloud(), authority) as address:
        good = vehicle_options(tmp_path, address, authority, authority.vehicle("v"))
        assert expected in told(change(good, authority))


def test_a_certificate_that_has_ended_is_told_as_that(tmp_path: Path, authority: Authority) -> None:
    with serving(Cloud(), authority, own=authority.server(until=PAST)) as address:
        good = vehicle_options(tmp_path, address, authority, authority.vehicle("v"))
        assert "out of date" in told(good)


def test_the_name_can_be_given_where_the_address_is_not_it(tmp_path: Path, authority: Authority) -> None:
    with serving(Cloud(), authority) as address:
        good = vehicle_options(tmp_path, address, authority, authority.vehicle("v"))
        assert good.server_name == SERVER_NAME
        with open_channel(good) as channel:
            assert list(fleet_pb2_grpc.FleetServiceStub(channel).UploadSamples(iter([]), timeout=30)) == []
