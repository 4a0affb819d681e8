"""One drift detector that others publish, in an environment of its own: `python -I peer_child.py KIND`.

Each line on standard input is an order, each line on standard output its answer. {"reference": FILE,
"rate_hz": R} begins anew; {"frames": FILE} takes frames that follow those before, and says at which there was
an alarm of any feature (numbers from the file's first) and how much processor time it took. Files are
`float32[n, features]`, .npy. This file knows nothing of the project: the environment has only the peer.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

# The usual significance; where a package has a default of its own, that.
ALPHA = 0.01
WINDOW = 200  # frames
REFERENCE = 2000  # frames of the reference that a two-sample test gets, evenly spread: larger ones cost more
REARMED_S = 20.0

Frames = Any  # float32[n, features]
Look = Callable[[Frames], bool]


class ScipyWindow:
    """`scipy.stats.ks_2samp` once a second, the last 200 frames against the reference."""

    def __init__(self, reference: Frames, rate_hz: float) -> None:
        """Begin with no frame seen."""
        self._test = import_module("scipy.stats").ks_2samp
        self._reference = reference
        self._seen = np.zeros((0, reference.shape[1]), np.float32)
        self._stride, self._since = max(1, round(rate_hz)), 0

    def update(self, vector: Frames) -> bool:
        """Take a frame; whether there is an alarm."""
        self._seen = np.vstack([self._seen[-WINDOW + 1 :], vector])
        self._since += 1
        if self._since < self._stride or len(self._seen) < WINDOW:
            return False
        self._since = 0
        return any(
            self._test(self._reference[:, column], self._seen[:, column], method="asymp").pvalue < ALPHA
            for column in range(self._seen.shape[1])
        )


class AlibiDetect:
    """alibi-detect's KSDrift, all features at once, on windows of 200 frames one after the other."""

    def __init__(self, reference: Frames, rate_hz: float) -> None:
        """Begin with no frame seen."""
        self._detector = import_module("alibi_detect.cd").KSDrift(reference, p_val=ALPHA)
        self._seen: list[Frames] = []

    def update(self, vector: Frames) -> bool:
        """Take a frame; whether there is an alarm."""
        self._seen.append(vector)
        if len(self._seen) < WINDOW:
            return False
        window, self._seen = np.array(self._seen), []
        return bool(self._detector.predict(window)["data"]["is_drift"])


class Frouros:
    """frouros' IncrementalKSTest, one a feature."""

    def __init__(self, reference: Frames, rate_hz: float) -> None:
        """Begin with no frame seen."""
        kind = import_module("frouros.detectors.data_drift").IncrementalKSTest
        self._detectors = [kind(window_size=WINDOW) for _ in range(reference.shape[1])]
        for detector, column in zip(self._detectors, reference.T, strict=True):
            detector.fit(X=column)

    def update(self, vector: Frames) -> bool:
        """Take a frame; whether there is an alarm."""
        found = [
            detector.update(value=value)[0] for detector, value in zip(self._detectors, vector, strict=True)
        ]
        return any(test is not None and test.p_value < ALPHA for test in found)


class River:
    """A detector of river, one a feature; it has no reference: what came before is what is held against."""

    def __init__(self, name: str, reference: Frames) -> None:
        """Begin with no frame seen."""
        kind = getattr(import_module("river.drift"), name)
        more = {"seed": 0} if name == "KSWIN" else {}
        self._detectors = [kind(**more) for _ in range(reference.shape[1])]

    def update(self, vector: Frames) -> bool:
        """Take a frame; whether there is an alarm."""
        for detector, value in zip(self._detectors, vector, strict=True):
            detector.update(float(value))
        return any(detector.drift_detected for detector in self._detectors)


KINDS: dict[str, tuple[str, Callable[[Frames, float], Any]]] = {
    "ks_2samp": ("scipy", ScipyWindow),
    "ksdrift": ("alibi-detect", AlibiDetect),
    "frouros": ("frouros", Frouros),
    "kswin": ("river", lambda reference, rate_hz: River("KSWIN", reference)),
    "adwin": ("river", lambda reference, rate_hz: River("ADWIN", reference)),
}


class Run:
    """A detector on one stream, and when it may alarm again."""

    def __init__(self, kind: str, reference: Frames, rate_hz: float) -> None:
        """Make the detector ready."""
        step = max(1, len(reference) // REFERENCE)
        self._detector = KINDS[kind][1](np.ascontiguousarray(reference[::step][:REFERENCE]), rate_hz)
        self._rest = round(REARMED_S * rate_hz)
        self._armed_at = 0
        self._frame = 0

    def take(self, frames: Frames) -> dict[str, object]:
        """The alarms among these frames, and what the detector took."""
        alarms = []
        started = time.process_time()
        for number, vector in enumerate(frames):
            if self._detector.update(vector) and self._frame + number >= self._armed_at:
                alarms.append(number)
                self._armed_at = self._frame + number + self._rest
        spent = time.process_time() - started
        self._frame += len(frames)
        return {"alarms": alarms, "cpu_s": spent}


def main() -> None:
    """Run it."""
    kind = sys.argv[1]
    import_module(
        {"alibi-detect": "alibi_detect.cd", "river": "river.drift"}.get(KINDS[kind][0], KINDS[kind][0])
    )
    print(json.dumps({"release": version(KINDS[kind][0])}), flush=True)
    run = None
    for line in sys.stdin:
        order = json.loads(line)
        if "reference" in order:
            run = Run(kind, np.load(order["reference"]), order["rate_hz"])
            print(json.dumps({"ready": True}), flush=True)
        elif run is not None:
            print(json.dumps(run.take(np.load(order["frames"]))), flush=True)


if __name__ == "__main__":
    main()
