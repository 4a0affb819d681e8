"""A bundle as the cloud writes it, read by the vehicle and verified by TUF's client as from the network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater

from cloud.release.bundling import LongWay, write_bundle
from cloud.release.errors import ReleaseError
from cloud.release.repository import list_releases
from cloud.release.role_files import current_role, read_timestamp
from edge.updates.bundle import Bundle, NoSuchMetadataError, open_bundle
from tests.update_attack import check, driving
from tests.update_world import World, model


class BundleFetcher(FetcherInterface):
    """TUF's network, out of a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def _fetch(self, url: str) -> Iterator[bytes]:
        version, _, role = url.rpartition("/")[2].removesuffix(".json").rpartition(".")
        try:
            return iter([self.bundle.metadata(role, int(version) if version else None)])
        except NoSuchMetadataError as error:
            raise DownloadHTTPError(str(error), 404) from None


def offered(world: World, bundle: Bundle, cache: Path, role: str = "models") -> list[TargetFile]:
    """What a vehicle with the first root finds in it, verified."""
    cache.mkdir(parents=True, exist_ok=True)
    updater = Updater(str(cache), "x/", fetcher=BundleFetcher(bundle), bootstrap=world.root)
    updater.refresh()
    updater.get_targetinfo(f"{role.replace('-', '/')}/-")
    listed = json.loads((cache / f"{role}.json").read_bytes())["signed"]["targets"]
    found = [updater.get_targetinfo(path) for path in listed]
    return [target for target in found if target is not None]


def test_a_bundle_holds_what_a_vehicle_needs_through_rotations(world: World, tmp_path: Path) -> None:
    world.release(model("1"))
    world.exchange("root")
    world.exchange("timestamp")
    facts = world.release(model("2"))
    content = write_bundle(world.folder, tmp_path / "out.tvbundle")
    assert (content.releases, content.roots) == ((facts,), (1, 3))
    with open_bundle(tmp_path / "out.tvbundle") as bundle:
        *_, target = offered(world, bundle, tmp_path / "cache")
        assert target.path == facts.target_path
        with bundle.target(target.path, target.hashes["sha256"]) as file:
            target.verify_length_and_hashes(file)
            file.seek(0)
            assert file.read() == model("2")


def test_the_same_bundle_is_the_same_file(world: World, tmp_path: Path) -> None:
    world.release(model("1"))
    for name in ("a", "b"):
        write_bundle(world.folder, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_each_hardware_gets_its_newest_release_and_one_may_be_asked_for(world: World, tmp_path: Path) -> None:
    first = world.release(model("1"))
    other = world.release(model("arm"), hardware_ids=("aarch64-trt",))
    newest = world.release(model("2"))
    out = tmp_path / "out.tvbundle"
    assert set(write_bundle(world.folder, out).releases) == {other, newest}
    assert write_bundle(world.folder, out, counter=1).releases == (first,)
    for counter in (4, 99):
        with pytest.raises(ReleaseError, match=f"no release {counter} .*there are: 1, 2, 3"):
            write_bundle(world.folder, out, counter=counter)


def test_a_fleets_bundle_is_the_fleets(world: World, tmp_path: Path) -> None:
    world.delegate("trucks", own_keys=True)
    world.release(model("car"))
    with pytest.raises(ReleaseError, match="there is no release yet"):
        write_bundle(world.folder, tmp_path / "out", fleet="trucks")
    facts = world.release(model("truck"), fleet="trucks")
    assert write_bundle(world.folder, tmp_path / "out", fleet="trucks").releases == (facts,)
    with open_bundle(tmp_path / "out") as bundle:
        found = offered(world, bundle, tmp_path / "cache", "models-trucks")
        assert [target.path for target in found] == [facts.target_path]
        with pytest.raises(NoSuchMetadataError):
            bundle.metadata("models", current_role(world.folder, "models").signed.version)


def test_a_bundle_for_a_long_way_lasts_and_does_not_hold_back_what_comes_by_the_network(
    world: World, tmp_path: Path
) -> None:
    slots = driving(world, tmp_path / "vehicle")
    before = read_timestamp(world.folder).version
    way = LongWay(20, world.keys.signer("snapshot"), world.keys.signer("timestamp"))
    content = write_bundle(world.folder, tmp_path / "out", way=way)
    ends = datetime.fromisoformat(content.until)
    assert timedelta(days=19.9) < ends - datetime.now(timezone.utc) <= timedelta(days=20)
    assert read_timestamp(world.folder).version == before + 2
    assert read_timestamp(world.folder).expires < ends
    with open_bundle(tmp_path / "out") as bundle:
        offered(world, bundle, slots.metadata)  # as a stick that the vehicle took
    facts = world.release(model("2"))
    result = check(world, slots)
    assert result.release == facts, result.detail


def test_a_bundle_that_is_too_late_or_altered_is_refused_as_from_the_network(
    world: World, tmp_path: Path
) -> None:
    world.release(model("1"))
    write_bundle(world.folder, tmp_path / "out")
    data = (tmp_path / "out").read_bytes()
    (tmp_path / "forged").write_bytes(data.replace(b'"release_counter":1', b'"release_counter":9'))
    assert (tmp_path / "forged").read_bytes() != data
    with open_bundle(tmp_path / "forged") as bundle, pytest.raises(RepositoryError):
        offered(world, bundle, tmp_path / "cache")
    for _ in range(2):
        world.exchange("timestamp", revoke=True)
    write_bundle(world.folder, tmp_path / "later", first_root=2)
    with open_bundle(tmp_path / "later") as bundle:
        assert len(offered(world, bundle, tmp_path / "other")) == 1, (
            "the root that the vehicle has may be left out"
        )
    write_bundle(world.folder, tmp_path / "later", first_root=3)
    with open_bundle(tmp_path / "later") as bundle, pytest.raises(RepositoryError):
        offered(world, bundle, tmp_path / "third")  # the second one is missing


def test_a_damaged_release_and_a_root_that_is_not_there_are_refused(world: World, tmp_path: Path) -> None:
    world.release(model("1"))
    for root in (0, 2):
        with pytest.raises(ReleaseError, match=f"no root {root}"):
            write_bundle(world.folder, tmp_path / "out", first_root=root)
    list_releases(world.folder)[0].file.write_bytes(b"damaged")
    with pytest.raises(ReleaseError, match="not what was released"):
        write_bundle(world.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
