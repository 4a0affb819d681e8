"""Features of drives, by the daemon's own way from a frame to them; kept in a folder, for they take long."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.drift import DriftMonitor, DriftState
from edge.drift.features import NAMES, extract
from edge.files import atomic_write
from edge.perception.detector import Detector
from tools.bench.drift.setting import Progress
from tools.bench.rounds import BenchError
from tools.drift.replay import feature_rows, load_detector
from tools.drives.light import light
from tools.drives.render import render

RATE_HZ = 2.0  # the daemon's


@dataclass(frozen=True, slots=True, eq=False)
class Drive:
    """What was seen of one drive.

    Attributes:
        times_ns: `int64[n]` from its first frame.
        values: `float32[n, F]` features.
        moving: `bool[n]` whether the picture moves: standing adds nothing to a reference, nor to a judgement.
    """

    times_ns: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    moving: npt.NDArray[np.bool_]

    @property
    def driven(self) -> npt.NDArray[np.float32]:
        """The features of what was seen in motion, `float32[m, F]`: what a reference is made of."""
        return self.values[self.moving]

    def judged_by(self, monitor: DriftMonitor, begin_ns: int = 0) -> Iterator[DriftState]:
        """The states of a monitor that sees it from a moment on."""
        for time_ns, vector, moving in zip(self.times_ns, self.values, self.moving, strict=True):
            state = monitor.observe(begin_ns + int(time_ns), vector, moving=bool(moving))
            if state is not None:
                yield state


def drive_features(
    sources: Sequence[str],
    model: Path,
    cache: Path | None,
    *,
    workers: int = 1,
    progress: Progress = lambda done, of: None,
) -> dict[str, Drive]:
    """The features of each source, by its name.

    Args:
        sources: what `edge.frames.sources.open_source` takes.
        model: the model file that finds what is in the frames.
        cache: folder in which they are kept, made where there is none; an interrupted run goes on from there.
        workers: processes that share the work.
        progress: told how many sources are done, of how many.

    Raises:
        BenchError: a file of the cache cannot be read.
        TrafficVisionError: a source or the model cannot be used.
    """
    stamp = _stamp(model)
    found: dict[str, Drive] = {}
    missing = []
    for source in dict.fromkeys(sources):
        kept = _read(_file(cache, stamp, source), source) if cache else None
        if kept is None:
            missing.append(source)
        else:
            found[source] = kept
    of = len(found) + len(missing)
    progress(len(found), of)

    def take(source: str, drive: Drive) -> None:
        found[source] = drive
        if cache:
            _write(_file(cache, stamp, source), drive)
        progress(len(found), of)

    if cache:
        cache.mkdir(parents=True, exist_ok=True)
    _in_processes(missing, model, workers, take)
    return found


def _in_processes(
    sources: Sequence[str], model: Path, workers: int, take: Callable[[str, Drive], None]
) -> None:
    if workers == 1 or len(sources) < 2:
        for source in sources:
            take(source, _features(source, model))
        return
    # Fresh processes: what this one has loaded has threads.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        coming = {pool.submit(_features, source, model): source for source in sources}
        try:
            for future in as_completed(coming):
                take(coming[future], future.result())
        finally:
            pool.shutdown(cancel_futures=True)


def _features(source: str, model: Path) -> Drive:
    # A row may hold its frame: it goes as soon as its numbers are taken.
    rows = [(row.time_ns, row.vector, row.moving) for row in feature_rows(source, _detector(model), RATE_HZ)]
    if not rows:
        raise BenchError(f"{source!r} gave no frame that the detector could look at")
    times, values, moving = zip(*rows, strict=True)
    return Drive(
        np.array(times, np.int64) - times[0], np.array(values, np.float32), np.array(moving, np.bool_)
    )


@lru_cache(maxsize=1)
def _detector(model: Path) -> Detector:
    return load_detector(model, ("cpu",), threads=1)


def _stamp(model: Path) -> str:
    """Changes with the model, and with what a feature of one fixed frame is."""
    try:
        data = model.read_bytes()
    except OSError as error:
        raise BenchError(f"cannot read the model {str(model)!r}: {error.strerror}") from None
    boxes = np.array([[40, 60, 120, 140, 0.8, 0], [300, 200, 420, 300, 0.4, 1]], np.float32)
    probe = extract(render(1, 20.0, light("noon")).image, boxes, class_names=("car", "person"))
    parts = [hashlib.sha256(data).digest(), " ".join(NAMES).encode(), probe.tobytes()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _file(cache: Path, stamp: str, source: str) -> Path:
    return cache / f"{hashlib.sha256(f'{stamp} {RATE_HZ:g} {source}'.encode()).hexdigest()[:24]}.npz"


def _read(path: Path, source: str) -> Drive | None:
    """What is kept of a source; None: nothing, or not whether it moves, as in older files.

    No simulated drive ever stands (`edge.vehicle_state.motion` has the figures), so theirs are whole.
    """
    if not path.exists():
        return None
    try:
        with np.load(path) as kept:
            times_ns, values = kept["times_ns"], kept["values"]
            if "moving" in kept:
                return Drive(times_ns, values, kept["moving"])
            return (
                Drive(times_ns, values, np.ones(len(times_ns), np.bool_))
                if source.startswith("sim:")
                else None
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BenchError(f"{str(path)!r} cannot be read ({error}): remove it") from None


def _write(path: Path, drive: Drive) -> None:
    data = io.BytesIO()
    np.savez_compressed(data, times_ns=drive.times_ns, values=drive.values, moving=drive.moving)
    atomic_write(path, data.getvalue())
