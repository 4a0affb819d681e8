"""The child process of an RTSP camera: reads and decodes by FFmpeg, and writes records into a pipe.

`python -m edge.frames.rtsp_reader DESCRIPTOR`; a JSON line on standard input says what to read, since a
command line is for all to see, and camera URLs carry passwords.

FFmpeg conceals what is lost or damaged, and makes further pictures from what it concealed. Here only pictures
go out that are made from what the camera sent alone: after damage, none before the next key frame.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from edge.frames.backlog import Backlog
from edge.frames.records import MAX_WORDS, Header, Kind, pack

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Start with the first packet, and look at none twice: the camera's SDP says what comes.
_OPTIONS = {"probesize": "32", "analyzeduration": "0", "fpsprobesize": "0", "allowed_media_types": "video"}
# FFmpeg says it nowhere else that what a picture is made from is missing: RTP's gaps, H.264's, HEVC's.
_LOSSES = ("RTP: missed", "bad cseq", "Frame num gap", "Could not find ref with POC")


class Losses(logging.Handler):
    """Hears from FFmpeg's log that packets were lost on the way."""

    def __init__(self) -> None:
        """Nothing heard yet."""
        super().__init__()
        self._heard = False

    def emit(self, record: logging.LogRecord) -> None:
        """Hear a line."""
        self._heard |= record.getMessage().startswith(_LOSSES)

    def taken(self) -> bool:
        """Whether something was heard since this was asked last."""
        heard, self._heard = self._heard, False
        return heard


class Output:
    """The pipe."""

    def __init__(self, descriptor: int) -> None:
        """Into that descriptor."""
        self._descriptor = descriptor

    def picture(self, frame: VideoFrame, time_ns: int) -> None:
        """A picture, which is converted to BGR."""
        picture = frame.reformat(format="bgr24")
        plane = picture.planes[0]
        row = picture.width * 3
        data = memoryview(plane)
        if plane.line_size != row:
            starts = range(0, plane.line_size * picture.height, plane.line_size)
            data = memoryview(b"".join(data[start : start + row] for start in starts))
        data = data[: row * picture.height]
        self._write(Header(Kind.PICTURE, picture.width, picture.height, time_ns, len(data)), data)

    def words(self, kind: Kind, text: str) -> None:
        """A record of another kind."""
        data = text.encode(errors="replace")[:MAX_WORDS]
        self._write(Header(kind, 0, 0, time.monotonic_ns(), len(data)), memoryview(data))

    def _write(self, header: Header, data: memoryview) -> None:
        rest = memoryview(pack(header))
        for part in (rest, data):
            while part:
                part = part[os.write(self._descriptor, part) :]


class Decoding:
    """Decodes packet after packet, and lets out what is whole."""

    def __init__(self, decoder: VideoCodecContext, losses: Losses, output: Output) -> None:
        """With a decoder that has seen nothing yet."""
        self._decoder = decoder
        self._losses = losses
        self._output = output
        self._is_whole = False  # what pictures are made from is all there
        self._damage = ""  # empty where nothing was yet, and nothing is missed

    def packet(self, packet: Packet[VideoStream], time_ns: int) -> None:
        """Decode what came at that time."""
        import av

        try:
            frames = self._decoder.decode(packet)
        except av.error.FFmpegError as error:
            self._harm(f"it does not decode: {error.strerror}")
            self._output.words(Kind.BROKEN, self._damage)
            return
        if self._losses.taken():
            self._harm("it is made from a frame that was lost on the way")
        elif any(frame.is_corrupt for frame in frames):
            self._harm("it is damaged, or parts of it are missing")
        elif any(frame.key_frame for frame in frames):
            self._is_whole = True
        if self._is_whole:
            for frame in frames:
                self._output.picture(frame, time_ns)
        elif self._damage:
            self._output.words(Kind.BROKEN, self._damage)

    def skip(self) -> None:
        """Begin anew with the next key frame: packets were let go."""
        self._decoder.flush_buffers()
        self._losses.taken()
        self._is_whole, self._damage = False, ""

    def _harm(self, reason: str) -> None:
        # A flushed decoder gives nothing before it can decode all of it, which it knows better than anyone.
        self._decoder.flush_buffers()
        self._is_whole, self._damage = False, reason


def main() -> None:
    """Read until the pipe or the camera ends."""
    asked = json.loads(sys.stdin.readline())
    output = Output(int(sys.argv[1]))
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):  # the daemon wants no more
        output.words(Kind.END, _read(asked, output))


def _read(asked: dict[str, Any], output: Output) -> str:
    """Read; returns why it ended."""
    output.words(Kind.STATE, "no answer while opening")
    import av

    losses = Losses()
    logger = logging.getLogger("libav")
    logger.setLevel(1)  # below logging.DEBUG is where PyAV puts that of FFmpeg
    logger.propagate = False
    logger.addHandler(losses)
    av.logging.set_level(av.logging.DEBUG)
    try:
        with av.open(asked["url"], options={**_OPTIONS, "rtsp_transport": asked["transport"]}) as container:
            if not container.streams.video:
                return "it has no video"
            stream = container.streams.video[0]
            decoder = stream.codec_context
            if decoder is None:
                return "this FFmpeg has no decoder for its video"
            # With more threads than one, H.264's decoder does not say which pictures lack parts.
            decoder.thread_count = 1
            output.words(Kind.STATE, f"no frame ({decoder.name})")
            decoding = Decoding(decoder, losses, output)
            _decode_all(container.demux(stream), decoding, output)
    except av.error.FFmpegError as error:
        return f"{error.strerror}"
    return "it ended the stream"


def _decode_all(packets: Any, decoding: Decoding, output: Output) -> None:
    backlog, skipped = Backlog(time.monotonic()), 0
    asked_s = time.monotonic()
    for packet in packets:
        time_ns = time.monotonic_ns()
        if backlog.read(asked_s, time_ns / 1e9):
            skipped += 1
        else:
            if skipped:
                output.words(Kind.SKIPPED, str(skipped))
                decoding.skip()
                skipped = 0
            if packet.size:
                decoding.packet(packet, time_ns)
        asked_s = time.monotonic()


if __name__ == "__main__":
    main()
