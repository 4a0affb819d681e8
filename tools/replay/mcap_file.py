"""A replay as an MCAP file, for Foxglove, Rerun and whatever else reads them.

Topics of each camera, all protobuf with their whole schemas in the file:

    /CAMERA/image        foxglove.CompressedImage           the picture, JPEG
    /CAMERA/boxes        foxglove.ImageAnnotations          what was found, to be drawn over it
    /CAMERA/detections   traffic_vision.v1.FrameDetections  the same, with the model's digest
    /CAMERA/drift        traffic_vision.v1.DriftState       about once a second of the drive
    /CAMERA/stage_times  traffic_vision.v1.StageTimes       how long it took: alone not the same every time

A message's time is the drive's own: Unix time `start_ns` stands for the start of every drive.

Foxglove can draw /CAMERA/boxes over /CAMERA/image; Rerun draws the pictures
and shows the rest as decoded messages.
Checked with Rerun's own program: `rerun mcap check FILE`, `rerun mcap convert FILE -o FILE.rrd`; a
test does so where `rerun` (pip install rerun-sdk) is on the PATH.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edge.messages import frame_detections
from edge.perception.model_file import ModelFile
from tools.replay.outputs import OutputError, check_writable, put_in_place, temporary_beside
from tools.replay.path import CLOCK, Answered

if TYPE_CHECKING:
    from google.protobuf.message import Message

SUFFIX = ".mcap"
CHUNK_BYTES = 4 << 20
SUMMARY_NAME = "summary.json"

_MISSING = (
    "an MCAP needs the packages mcap, mcap-protobuf-support and foxglove-schemas-protobuf:"
    " pip install 'traffic-vision[replay]'"
)


class McapOutput:
    """An MCAP file that appears, indexed and synced, when its block ends well."""

    def __init__(self, target: str, start_ns: int, facts: dict[str, str]) -> None:
        """Open the temporary file.

        Args:
            target: a path that ends in .mcap.
            start_ns: Unix time, ns, of the start of every drive.
            facts: of the replay as a whole, for its metadata record.

        Raises:
            OutputError: another suffix, a folder that cannot be written, or the packages are missing.
        """
        self._path = Path(target).resolve()
        self._start_ns = start_ns
        if self._path.suffix.lower() != SUFFIX:
            raise OutputError(f"cannot write {target!r}: an MCAP's name ends in {SUFFIX}")
        check_writable(self._path)
        if self._path.exists() and not self._path.is_file():
            raise OutputError(f"cannot write {target!r}: an MCAP needs a regular file")
        try:
            from mcap.writer import CompressionType, Writer
            from mcap_protobuf.schema import register_schema

            from tools.replay import messages
        except ModuleNotFoundError as error:
            raise OutputError(
                f"cannot write {target!r}: there is no {error.name} here; {_MISSING}"
            ) from error
        self._messages = messages
        self._register_schema = register_schema
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._temporary = temporary_beside(self._path)
        try:
            self._file = self._temporary.open("xb")
        except OSError as error:
            raise OutputError(f"cannot write {target!r}: {error.strerror}") from error
        self._writer = Writer(self._file, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        self._writer.start(library="traffic-vision")
        self._writer.add_metadata("traffic_vision.replay", {**facts, "start_unix_ns": str(start_ns)})

    def add_model(self, model: ModelFile) -> None:
        """A metadata record of a model that answers."""
        metadata = model.metadata
        self._writer.add_metadata(
            f"traffic_vision.model/{model.digest[:12]}",  # a name of its own: readers keep one of a name
            {
                "sha256": model.digest,
                "name": metadata.name,
                "version": metadata.version,
                "precision": metadata.precision,
                "class_names": ", ".join(metadata.class_names),
            },
        )

    def add_camera(self, camera: str, source: str) -> None:
        """A metadata record of a camera, and what its frames come from."""
        self._writer.add_metadata(f"traffic_vision.camera/{camera}", {"camera": camera, "source": source})

    def write(self, event: Answered) -> None:
        """Write all that is known of a frame.

        Raises:
            OutputError: the disk is full, or the like.
        """
        frame, published = event.frame, event.published
        at = self._messages.timestamp(self._start_ns + frame.captured_ns)
        detections = frame_detections(published, CLOCK)
        times = type(detections.times)()
        times.CopyFrom(detections.times)
        # What differs from run to run stands in a topic of its own.
        detections.ClearField("times")
        detections.ClearField("published")
        messages: dict[str, Message | None] = {
            "image": self._messages.compressed_image(frame, at),
            "boxes": self._messages.image_annotations(published, at),
            "detections": detections,
            "drift": event.drift,
            "stage_times": times,
        }
        try:
            for topic, message in messages.items():
                if message is not None:
                    self._add(frame.camera, topic, message, frame.captured_ns, frame.sequence)
        except OSError as error:
            raise self._failed(error) from error

    def attach_summary(self, summary: bytes) -> None:
        """Put the summary, JSON, beside the messages.

        Raises:
            OutputError: the disk is full, or the like.
        """
        try:
            self._writer.add_attachment(0, self._start_ns, SUMMARY_NAME, "application/json", summary)
        except OSError as error:
            raise self._failed(error) from error

    def __enter__(self) -> McapOutput:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Put the file in its place, or take it away if the block failed."""
        try:
            if kind is None:
                self._writer.finish()  # type: ignore[no-untyped-call]
            self._file.close()
            if kind is None:
                put_in_place(self._temporary, self._path)
        except OSError as failure:
            if kind is None:
                raise self._failed(failure) from failure
        finally:
            self._temporary.unlink(missing_ok=True)

    def _add(self, camera: str, topic: str, message: Message, captured_ns: int, sequence: int) -> None:
        name = f"/{camera}/{topic}"
        if name not in self._channels:
            self._channels[name] = self._writer.register_channel(
                topic=name,
                message_encoding="protobuf",
                schema_id=self._schema(type(message)),
                metadata={"camera": camera},
            )
        time_ns = self._start_ns + captured_ns
        self._writer.add_message(
            channel_id=self._channels[name],
            log_time=time_ns,
            publish_time=time_ns,
            data=message.SerializeToString(deterministic=True),
            sequence=sequence,
        )

    def _schema(self, kind: Any) -> int:
        name = kind.DESCRIPTOR.full_name
        if name not in self._schemas:
            self._schemas[name] = self._register_schema(self._writer, kind)
        return self._schemas[name]

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {str(self._path)!r}: {error.strerror}")
