"""An RTSP camera whose pictures carry their number; run by the system's Python, which has GStreamer.

`python3 server.py [--size WxH] [--rate HZ] [--keys FRAMES]`: says `port N` once it serves rtsp://127.0.0.1:N/cam
and then obeys lines on standard input: `size WxH` (for whoever connects from then on; who is connected is cut
off). It ends at the input's end.
"""

import argparse
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from scene import scene  # noqa: E402

_LAUNCH = (
    "( appsrc name=camera is-live=true format=time"
    " caps=video/x-raw,format=I420,width={width},height={height},framerate={rate}/1"
    " ! x264enc tune=zerolatency threads=1 speed-preset=ultrafast bitrate=4000 key-int-max={keys}"
    " ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
)


class Camera(GstRtspServer.RTSPMediaFactory):
    """Gives every client the scene from its beginning."""

    def __init__(self, width, height, rate, keys):
        """Of that size, frames per second, and frames from one key frame to the next."""
        super().__init__()
        self.width, self.height, self.rate = width, height, rate
        self.set_launch(_LAUNCH.format(width=width, height=height, rate=rate, keys=keys))

    def do_configure(self, media):
        """Feed a client's pipeline."""
        number = 0
        chroma = bytes([128]) * (self.width * self.height // 2)
        period = Gst.SECOND // self.rate

        def push(source):
            nonlocal number
            buffer = Gst.Buffer.new_wrapped(scene(number, self.width, self.height) + chroma)
            buffer.pts, buffer.duration = number * period, period
            number += 1
            return source.emit("push-buffer", buffer) == Gst.FlowReturn.OK

        source = media.get_element().get_child_by_name("camera")
        timer = GLib.timeout_add(1000 // self.rate, push, source)
        media.connect("unprepared", lambda media: GLib.source_remove(timer))


def main():
    """Serve until the input's end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--rate", type=int, default=15)
    parser.add_argument("--keys", type=int, default=15)
    asked = parser.parse_args()
    Gst.init(None)
    loop = GLib.MainLoop()
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")

    def mount(size):
        width, height = map(int, size.split("x"))
        camera = Camera(width, height, asked.rate, asked.keys)
        server.get_mount_points().add_factory("/cam", camera)
        server.client_filter(lambda server, client: GstRtspServer.RTSPFilterResult.REMOVE)

    mount(asked.size)
    server.attach(None)
    print("port", server.get_bound_port(), flush=True)

    def obey():
        for line in sys.stdin:
            word, _, value = line.strip().partition(" ")
            if word == "size":
                GLib.idle_add(mount, value)
        GLib.idle_add(loop.quit)

    threading.Thread(target=obey, daemon=True).start()
    loop.run()


main()
