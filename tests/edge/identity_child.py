"""Puts one new pair after the other in place at argv[1], until it is killed."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

from edge.fleet.identity import Identity, new_key, write_identity
from tests.certificates import Authority


def main() -> None:
    path, authority = Path(sys.argv[1]), Authority()
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    while True:
        key = new_key()
        until = now + datetime.timedelta(days=30)
        write_identity(path, Identity(key, authority.sign(key.public_key(), "v", now, until)))
        print("put", flush=True)


if __name__ == "__main__":
    main()
