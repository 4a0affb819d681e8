"""What a fleet benchmark is set up with: a cloud's folder, vehicles' identities, tiny models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import onnx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from onnx import TensorProto, helper, numpy_helper

from cloud.config import CloudConfig, load_config
from cloud.fleet.enrolment import CONFIG_FILE, CloudChoices, enrol, init_cloud
from cloud.fleet.enrolment_desk import EnrolmentDesk
from cloud.fleet.pki import Authority
from cloud.fleet.repository import open_repository
from cloud.release.keys import load_keys
from cloud.release.releasing import ReleaseTerms
from cloud.release.signing import sign_release
from cloud.store import open_database
from cloud.store.models import Candidate
from cloud.store.releases import release_row
from edge.fleet.identity import key_to_pem, new_key, request_for
from edge.perception.metadata import ModelMetadata
from edge.perception.model_file import put_metadata
from protos.enrolment import ticket_of_text
from tools.bench.fleet.vehicle import HARDWARE

FACTORY = "factory.onnx"
PROBE = "probe"  # a certificate of its own, for measuring the control stream
_HW = (32, 32)

_SETTINGS = """
[rollout]
when_unsure = "advance"
[rollout.thresholds]
max_rollback_share = {allowed}
max_failure_share = {allowed}
min_reports = {min_reports}
"""
_STAGE = """
[[rollout.stages]]
name = {name}
percent = {percent}
wait_s = {wait_s}
min_reports = 0
min_share = {min_share}
"""
REPORTED_SHARE = 0.9  # of the vehicles that have a release, before its next stage


def name_of(number: int) -> str:
    """A vehicle's name."""
    return f"van-{number:04d}"


def identity_of(folder: Path, name: str) -> Path:
    """Where a vehicle's certificate is."""
    return folder / "cloud" / "vehicles" / name


def make_setting(
    folder: Path, vehicles: int, stages: Sequence[float], wait_s: float, allowed: float
) -> CloudConfig:
    """Make a cloud's folder with so many vehicles, whose rollouts have these stages.

    Args:
        folder: for everything.
        vehicles: how many.
        stages: percent of each.
        wait_s: of each stage, at least.
        allowed: the share of vehicles that may roll back.
    """
    (folder / FACTORY).write_bytes(tiny_model("factory", 0))
    cloud = folder / "cloud"
    init_cloud(cloud, CloudChoices(listen="127.0.0.1:0", address="127.0.0.1:1"))
    least = max(1, vehicles // 50)
    text = _SETTINGS.format(allowed=allowed, min_reports=least)
    for percent in stages:
        stage = {"percent": percent, "wait_s": wait_s, "min_share": REPORTED_SHARE}
        text += _STAGE.format(name=json.dumps(f"{percent:g} %"), **stage)
    path = cloud / CONFIG_FILE
    path.write_text(path.read_text() + text)
    config = load_config(path)
    serve = config.serve.model_copy(update={"enrol_address": "127.0.0.1:1"})  # nobody goes there
    config = config.model_copy(update={"serve": serve})
    _enrol(config, [PROBE, *map(name_of, range(vehicles))])
    return config


def tiny_model(version: str, padding_bytes: int) -> bytes:
    """A model file that finds nothing; its drift prior makes it so much larger."""
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, *_HW, 3])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 5, 1])
    nodes = [
        helper.make_node("Cast", ["frame"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["floats"], ["brightest"], keepdims=0),
        helper.make_node("Mul", ["brightest", "zero"], ["nothing"]),
        helper.make_node("Add", ["box", "nothing"], ["output"]),
    ]
    constants = [
        numpy_helper.from_array(np.float32(0), "zero"),
        numpy_helper.from_array(np.zeros((1, 5, 1), np.float32), "box"),
    ]
    graph = helper.make_graph(nodes, "tiny", [frame], [output], constants)
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    prior = "x" * padding_bytes or None
    about = ModelMetadata("tiny", version, "raw", ("car",), drift_prior=prior, created_by="bench fleet")
    put_metadata(model, about)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def release(config: CloudConfig, version: str, padding_bytes: int) -> int:
    """Sign and publish a tiny model, as the stage deploy does; its counter."""
    folder, keys = config.folders.repository, load_keys(config.folders.keys)
    data = tiny_model(version, padding_bytes)
    facts = sign_release(folder, keys, data, ReleaseTerms((HARDWARE,)))
    store = open_database(config.store.database)
    try:
        with store.writing() as session:
            session.add(Candidate(sha256=facts.model_sha256, name="tiny", version=version, object_key="none"))
            session.flush()
            session.add(release_row(facts))
    finally:
        store.close()
    return facts.release_counter


def _enrol(config: CloudConfig, names: Sequence[str]) -> None:
    """Each vehicle by a ticket, as by `cloud enrol` and `edge enrol`, but for the network between them."""
    authority = Authority.open(config.folders.pki)
    root = open_repository(config).root()
    store = open_database(config.store.database)
    try:
        desk = EnrolmentDesk(store, authority, timedelta(days=config.serve.certificate_days))
        for name in names:
            folder = config.folders.pki.parent / "vehicles" / name
            folder.mkdir(parents=True, exist_ok=True)
            ticket, key = ticket_of_text(enrol(config, name).text), new_key()
            given = desk.enrol(ticket.token, request_for(key), "bench fleet")
            certificate = x509.load_der_x509_certificate(given.certificate_der)
            (folder / "client.key").write_bytes(key_to_pem(key))
            (folder / "client.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
            (folder / "ca.crt").write_bytes(authority.certificate)
            (folder / "root.json").write_bytes(root)
    finally:
        store.close()
