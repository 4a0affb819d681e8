"""A process of simulated vehicles: `python -m tools.bench.fleet.worker FOLDER ADDRESS FIRST LAST FAILS_EACH`.

Prints a JSON line for whatever happens: vehicle, event, when (monotonic seconds, the machine's). Ends when
its standard input does.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from functools import partial
from pathlib import Path

from tools.bench.fleet.setting import FACTORY, identity_of, name_of
from tools.bench.fleet.vehicle import Place, SimulatedVehicle

LOOK_S = 0.1
START_PAUSE_S = 0.01  # between two vehicles, as engines are not started in the same moment


def main(folder: Path, address: str, first: int, last: int, fails_each: int) -> None:
    """Run the vehicles `first` up to, and not, `last`; each of so many fails with a bad model."""
    logging.basicConfig(level=logging.ERROR)
    ended = threading.Event()
    threading.Thread(target=_until_end_of_input, args=(ended,), daemon=True).start()
    lock = threading.Lock()

    def tell(vehicle: int, event: str, counter: int) -> None:
        line = {"vehicle": vehicle, "event": event, "release": counter, "at_s": time.monotonic()}
        with lock:
            print(json.dumps(line), flush=True)

    vehicles: dict[int, SimulatedVehicle] = {}
    connected: set[int] = set()
    confirmed: dict[int, int] = {}
    for number in range(first, last):
        name = name_of(number)
        place = Place(address, identity_of(folder, name), folder / "states" / name, folder / FACTORY)
        fails = fails_each > 0 and number % fails_each == 0
        vehicle = SimulatedVehicle(name, place, fails, partial(tell, number))
        vehicles[number] = vehicle
        vehicle.start()
        ended.wait(START_PAUSE_S)
    while not ended.wait(LOOK_S):
        for number, vehicle in vehicles.items():
            if number not in connected and vehicle.connected:
                connected.add(number)
                tell(number, "connected", 0)
            if vehicle.confirmed != confirmed.get(number, 0):
                confirmed[number] = vehicle.confirmed
                tell(number, "confirmed", vehicle.confirmed)
    for vehicle in vehicles.values():
        vehicle.stop()
    for vehicle in vehicles.values():
        vehicle.join()


def _until_end_of_input(ended: threading.Event) -> None:
    while sys.stdin.read(1):
        pass
    ended.set()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6]))
