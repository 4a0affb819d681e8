"""The bundle's reader: it gives back what was put in, and refuses whatever else an archive can say."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.updates.bundle import (
    Bundle,
    BundleError,
    NoSuchMetadataError,
    NoSuchTargetError,
    open_bundle,
)
from protos import release_bundle
from protos.release_bundle import MARK, metadata_name, target_name

TARGET = b"a model" * 10_000
DIGEST = hashlib.sha256(TARGET).hexdigest()
FILES = {
    MARK: b"1\n",
    "metadata/1.root.json": b"root 1",
    "metadata/timestamp.json": b"stamp",
    "metadata/7.snapshot.json": b"",
    target_name(DIGEST): TARGET,
}


def entry(name: str, size: int, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = size
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def archive(
    files: dict[str, bytes], *more: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT
) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as tar:
        for name, data in files.items():
            tar.addfile(entry(name, len(data)), io.BytesIO(data))
        for info, data in more:
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


@pytest.fixture
def written(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / "release.tvbundle"
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def bundle(written: Callable[[bytes], Path]) -> Iterator[Bundle]:
    with open_bundle(written(archive(FILES))) as opened:
        yield opened


def test_what_was_put_in_comes_out(bundle: Bundle) -> None:
    assert bundle.metadata("root", 1) == b"root 1"
    assert bundle.metadata("timestamp", None) == b"stamp"
    assert bundle.metadata("snapshot", 7) == b""
    with bundle.target("models/x-1.onnx", DIGEST) as file:
        assert file.read(3) == TARGET[:3]
        with bundle.target("models/x-1.onnx", DIGEST) as other:  # readers don't disturb each other
            assert other.read() == TARGET
        assert file.read() == TARGET[3:]
        assert file.read() == b""


def test_what_is_not_in_it_is_said_so(bundle: Bundle) -> None:
    for role, version in (("root", 2), ("root", None), ("timestamp", 1), ("../1.root", 1), ("", None)):
        with pytest.raises(NoSuchMetadataError):
            bundle.metadata(role, version)
    for digest in ("0" * 64, "", f"../{MARK}", DIGEST.upper()):
        with pytest.raises(NoSuchTargetError, match=r"models/x-1\.onnx"):
            bundle.target("models/x-1.onnx", digest)


def test_a_closed_bundle_gives_nothing(bundle: Bundle) -> None:
    file = bundle.target("models/x-1.onnx", DIGEST)
    bundle.close()
    bundle.close()
    with pytest.raises(BundleError, match="closed"):
        file.read()


def test_a_file_that_is_cut_while_it_is_read_is_an_error(written: Callable[[bytes], Path]) -> None:
    path = written(archive(FILES))
    with open_bundle(path) as opened:
        file = opened.target("models/x-1.onnx", DIGEST)
        os.truncate(path, 20_000)
        with pytest.raises(BundleError, match="ends early"):
            file.read()


@pytest.mark.parametrize(
    "name",
    [
        "../metadata/1.root.json",
        "/etc/passwd",
        "metadata/../1.root.json",
        "metadata/root.json",
        "metadata/0.root.json",
        "metadata/01.root.json",
        "metadata/1.root.json/",
        "metadata/1.a/b.json",
        "metadata",
        "targets/abc",
        f"targets/{DIGEST}/x",
        f"targets/{DIGEST.upper()}",
        "metadata/1.root.json\n",
        "README",
        "",
    ],
)
def test_a_name_of_no_bundle_is_refused(written: Callable[[bytes], Path], name: str) -> None:
    path = written(archive({MARK: b"1\n"}, (entry(name, 2), b"{}")))
    with pytest.raises(BundleError):
        open_bundle(path)


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.DIRTYPE,
        tarfile.CONTTYPE,
        tarfile.GNUTYPE_SPARSE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        b"Z",
    ],
)
def test_only_plain_files_have_a_place(written: Callable[[bytes], Path], kind: bytes) -> None:
    odd = entry("metadata/1.root.json", 0, type=kind, linkname="/etc/passwd")
    with pytest.raises(BundleError, match=r"no plain file|no place"):
        open_bundle(written(archive({MARK: b"1\n"}, (odd, b""))))


def test_an_extended_header_cannot_rename_a_file(written: Callable[[bytes], Path]) -> None:
    renamed = entry("metadata/1.root.json", 2)
    renamed.pax_headers = {"path": "../../evil"}
    with pytest.raises(BundleError, match="no plain file"):
        open_bundle(written(archive({MARK: b"1\n"}, (renamed, b"{}"), form=tarfile.PAX_FORMAT)))


def test_sizes_are_capped_before_anything_is_read(written: Callable[[bytes], Path]) -> None:
    for name, limit in (
        ("metadata/1.root.json", release_bundle.MAX_METADATA_BYTES),
        (target_name(DIGEST), release_bundle.MAX_TARGET_BYTES),
    ):
        head = archive({MARK: b"1\n"})[:1024]
        huge = entry(name, limit + 1).tobuf(tarfile.USTAR_FORMAT)
        with pytest.raises(BundleError, match=f"allowed are {limit}"):
            open_bundle(written(head + huge))
        fits = entry(name, limit).tobuf(tarfile.USTAR_FORMAT)
        with pytest.raises(BundleError, match="ends within"):
            open_bundle(written(head + fits))
        negative = entry(name, -5).tobuf(tarfile.GNU_FORMAT)
        with pytest.raises(BundleError, match="-5 bytes"):
            open_bundle(written(head + negative))


def test_a_file_that_is_in_it_twice_is_refused(written: Callable[[bytes], Path]) -> None:
    with pytest.raises(BundleError, match="twice"):
        open_bundle(written(archive(FILES, (entry("metadata/1.root.json", 2), b"{}"))))


def test_too_many_files_are_refused(written: Callable[[bytes], Path]) -> None:
    many = {metadata_name("root", version): b"" for version in range(1, release_bundle.MAX_FILES + 1)}
    with pytest.raises(BundleError, match="more than 1024"):
        open_bundle(written(archive({MARK: b"1\n", **many})))


@pytest.mark.parametrize("schema", [b"", b"2\n", b"1", b"\xff\xff"])
def test_another_schema_is_refused(written: Callable[[bytes], Path], schema: bytes) -> None:
    with pytest.raises(BundleError, match="schema"):
        open_bundle(written(archive({**FILES, MARK: schema})))


def test_what_is_no_bundle_is_one_clear_error(written: Callable[[bytes], Path], tmp_path: Path) -> None:
    swapped = {name: FILES[name] for name in reversed(FILES)}
    cases = (b"", b"\0" * 1024, b"x" * 2000, archive({}), archive(swapped), archive(FILES) + b"x" * 50_000)
    for data in cases:
        with pytest.raises(BundleError, match=r"release\.tvbundle") as refused:
            open_bundle(written(data))
        assert "\n" not in str(refused.value)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "nowhere", Path("a\0b")):
        with pytest.raises(BundleError):
            open_bundle(path)


@given(length=st.integers(0, len(archive(FILES)) - 1))
@settings(max_examples=50, deadline=None)
def test_a_bundle_that_was_cut_is_refused_or_whole(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "release.tvbundle"
    path.write_bytes(archive(FILES)[:length])
    contents = sum(512 + -(-len(data) // 512) * 512 for data in FILES.values())
    if length < contents + 512:
        with pytest.raises(BundleError):
            open_bundle(path)
    else:
        open_bundle(path).close()


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_no_change_of_bytes_gives_more_than_names_and_limits_allow(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever bytes are changed: a clear error, or files of the allowed names and sizes."""
    small = {**FILES, target_name(DIGEST): b"small"}
    raw = bytearray(archive(small))
    positions = st.integers(0, 512 * 12)
    for position, value in data.draw(
        st.lists(st.tuples(positions, st.integers(0, 255)), min_size=1, max_size=8)
    ):
        raw[position] = value
    if data.draw(st.booleans()):  # what a forger does: headers that check
        for start in range(0, 512 * 12, 512):
            header = raw[start : start + 512]
            header[148:156] = b" " * 8
            raw[start + 148 : start + 156] = f"{sum(header):06o}\0 ".encode()
    path = tmp_path_factory.mktemp("changed") / "release.tvbundle"
    path.write_bytes(raw)
    try:
        opened = open_bundle(path)
    except BundleError:
        return
    with opened:
        try:
            assert len(opened.metadata("root", 1)) <= release_bundle.MAX_METADATA_BYTES
            with opened.target("models/x-1.onnx", DIGEST) as file:
                assert len(file.read()) <= len(raw)
        except (NoSuchMetadataError, NoSuchTargetError):
            pass
