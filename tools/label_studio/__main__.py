"""Start Label Studio: run by the Python of the environment that it is installed in.

On loopback, with SQLite in one folder that nobody else on this machine can read, without telemetry, without
open sign-up. The first start makes a user, a password and a token, and shows where they are. This process
becomes the server, which ends with Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from edge.errors import TrafficVisionError
from tools.label_studio.serving import Place, prepare


def main() -> None:
    """Read the arguments, and become the server."""
    parser = argparse.ArgumentParser(prog="make label-studio", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for everything that it keeps")
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    try:
        server = Path(sys.executable).with_name("label-studio")
        if not server.is_file():
            raise TrafficVisionError(f"{server}: Label Studio is not installed here: make setup-label-studio")
        _refuse_if_taken(arguments.port)
        place = Place(arguments.folder.absolute(), arguments.port)
        environment, told = prepare(place)
    except TrafficVisionError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    print(told, flush=True)
    os.umask(0o077)
    os.execve(server, [str(server), *place.arguments()], {**os.environ, **environment})  # noqa: S606


def _refuse_if_taken(port: int) -> None:
    """The server would take another port, and say so where nobody looks."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise TrafficVisionError(
                f"port {port} on 127.0.0.1 cannot be used ({error.strerror}): is one running already? "
                "Another port: make label-studio LABEL_STUDIO_PORT=8081"
            ) from None


if __name__ == "__main__":
    main()
