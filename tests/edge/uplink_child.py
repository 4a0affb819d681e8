"""A vehicle's uplink as a process that can be killed: `python -m tests.edge.uplink_child FOLDER ADDRESS`.

Prints `ready`, and `empty` each time it sees its spool empty; ends when its standard input does.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from edge.backoff import BackoffOptions
from edge.fleet.channel import ChannelOptions, open_channel
from edge.fleet.spool import Spool
from edge.fleet.uplink import SAMPLES, Uplink, UplinkOptions
from tests.certificates import SERVER_NAME
from tests.fleet_cloud import sample


def main() -> None:
    folder, address = Path(sys.argv[1]), sys.argv[2]
    quick = BackoffOptions(0.01, 0.2)
    spool = Spool(folder / "spool")
    options = ChannelOptions(
        address, folder / "ca.crt", folder / "client.crt", folder / "client.key", SERVER_NAME, backoff=quick
    )
    with open_channel(options) as channel:
        link = Uplink(SAMPLES, spool, channel, UplinkOptions(backoff=quick))
        link.start()
        print("ready", flush=True)
        for line in sys.stdin:
            item_id = line.strip()
            assert spool.append(item_id, sample(item_id))
            print("spooled", item_id, flush=True)
        pause = threading.Event()
        while spool.status().items:
            pause.wait(0.01)
        link.stop()


if __name__ == "__main__":
    main()
