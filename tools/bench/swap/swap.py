"""`bench swap`: the model changed a thousand times under frames that come 30 times a second.

The daemon is the real one, with a cloud that it is connected to; each change is a whole one, as at an update:
the slot read (every other time a signed release, verified from the shipped root down), the check in a child
process, the session loaded and warmed, the exchange between two frames, the old session freed. Who looks is a
client outside, and the camera knows from itself which frames it gave birth to.

Blocks of changes and blocks without take turns in the same process. The peers change their models under the
same frames in blocks of their own, in turns with the daemon's.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tools.bench.edge.clients import Client
from tools.bench.edge.daemon import BenchDaemon
from tools.bench.edge.machine import Watched
from tools.bench.edge.slope import Slope, slope
from tools.bench.edge.subject import Sized, another_version, load_sized, make_video
from tools.bench.edge.turns import Progress
from tools.bench.report import Report, Table, Target
from tools.bench.rounds import BenchError, Spread
from tools.bench.swap.blocks import P_LEAST, Compared, Pair, Side
from tools.bench.swap.daemon_side import DaemonSide, exchanges
from tools.bench.swap.peers import IN_LOOP, IN_THREAD, MLSERVER, PeerSide, Stage, open_mlserver
from tools.bench.swap.phases import InPhase, by_phase
from tools.bench.swap.vehicle import IDLE_HZ, VEHICLE, Cloud, Track

DAEMON = "the daemon"
SIZE = (320, 320)
RSS_KB_PER_SWAP = 4.0  # a model file of 14 MB that was kept once in a thousand changes would be 14
SETTLED_SHARE = (
    0.1  # of the changes, at the start, say nothing of memory: allocators and pools reach their size
)
_A_DAY_S = 86_400.0
_CONFIRMED_S = 300.0
_VIDEO_FRAMES = 240


@dataclass(frozen=True, slots=True)
class SwapSettings:
    """How much.

    Attributes:
        swaps: changes of the daemon's model.
        peer_swaps: of each peer's.
        rate_hz: frames per second.
        block: changes in one block.
        every_s: from the start of one change to that of the next, at least; a change may take longer.
        threads: of one inference.
        weights: a checkpoint, exported at `size`, or a model file; the shipped baseline unless given.
        size: height and width of a checkpoint's input.
        mlserver: environment with MLServer, made where there is none; None: it does not take part.
    """

    swaps: int = 1000
    peer_swaps: int = 200
    rate_hz: float = 30.0
    block: int = 20
    every_s: float = 0.5
    threads: int = 2
    weights: Path | None = None
    size: tuple[int, int] = SIZE
    mlserver: Path | None = None


class _Contender(Protocol):
    def pair(self, swaps: int, every_s: float, *, calm_first: bool) -> Pair: ...


@dataclass(slots=True)
class _Outcome:
    """What was found about the daemon beside its blocks."""

    rss_mb: list[float] = field(default_factory=list)
    missing: tuple[int, int] = (0, 0)
    frames: dict[str, int] = field(default_factory=dict)
    gaps_ms: list[float] = field(default_factory=list)
    exchange_ms: list[float] = field(default_factory=list)
    phases: dict[str, InPhase] = field(default_factory=dict)


def bench_swap(settings: SwapSettings, progress: Progress = lambda done, of: None) -> Report:
    """Change the models, and look.

    Args:
        settings: how much.
        progress: told how many of the daemon's changes are done.

    Raises:
        TrafficVisionError: the weights cannot be used, a process failed, or a change did not come about.
    """
    if min(settings.swaps, settings.block) < 1 or settings.peer_swaps < 0 or settings.rate_hz <= 0:
        raise BenchError("swaps and block must be 1 or more, the rate more than 0, peer swaps not negative")
    watched, outcome = Watched(), _Outcome()
    took_ms: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="traffic-vision-bench-") as name, ExitStack() as opened:
        folder = Path(name)
        (sized,) = load_sized(settings.weights, (settings.size,), folder)
        video = make_video(folder / "drive.mp4", _VIDEO_FRAMES, settings.rate_hz)
        models = _write_models(sized, folder)
        peers, missing = _open_peers(
            settings, Stage(sized, models, video, settings.rate_hz, settings.threads, folder), opened
        )
        with ExitStack() as vehicle:
            daemon, side = _open_daemon(settings, models, video, folder, vehicle)
            pairs = _in_turns(settings, side, peers, progress)
            events = len(daemon.events)
            took_ms[DAEMON] = side.held.took_ms
            outcome.rss_mb = side.held.rss_mb
            outcome.missing = side.missing()
            blocks = [pair.swaps for pair in pairs[DAEMON]]
            outcome.phases = by_phase(blocks, side.changes(daemon.events[:events]))
            daemon.stop()
            outcome.frames = dict(daemon.event("frames", 1.0, after=events)["frames"])
            # The first exchange put the release in, before the blocks.
            gaps, held = exchanges(daemon.events[:events])
            outcome.gaps_ms, outcome.exchange_ms = gaps[-settings.swaps :], held[-settings.swaps :]
        took_ms |= {name: peer.took_ms for name, peer in peers.items()}
    compared = {name: Compared.of(found, settings.rate_hz) for name, found in pairs.items()}
    return _report(settings, sized, compared, took_ms, outcome, missing, watched)


def _write_models(sized: Sized, folder: Path) -> tuple[Path, Path]:
    paths = folder / "factory.onnx", folder / "other.onnx"
    paths[0].write_bytes(sized.model.data)
    paths[1].write_bytes(another_version(sized.model, 2))
    return paths


def _open_peers(
    settings: SwapSettings, stage: Stage, opened: ExitStack
) -> tuple[dict[str, PeerSide], dict[str, str]]:
    peers: dict[str, PeerSide] = {}
    missing: dict[str, str] = {}
    if not settings.peer_swaps:
        return peers, missing
    peers[IN_LOOP] = opened.enter_context(PeerSide("in_loop", stage))
    peers[IN_THREAD] = opened.enter_context(PeerSide("in_thread", stage))
    if settings.mlserver is None:
        missing[MLSERVER] = "give it an environment of its own with --mlserver DIR"
    else:
        peers[MLSERVER] = open_mlserver(stage, settings.mlserver, opened)
    return peers, missing


def _open_daemon(
    settings: SwapSettings, models: tuple[Path, Path], video: Path, folder: Path, opened: ExitStack
) -> tuple[BenchDaemon, DaemonSide]:
    """A vehicle whose factory's model is the one, and whose last good release is the other."""
    cloud = opened.enter_context(Cloud(folder / "cloud", VEHICLE))
    track = Track(video, settings.rate_hz, folder / "births", folder / "gate")
    config = cloud.daemon_config(
        VEHICLE, track, models[0], settings.threads, check_interval_s=_A_DAY_S, idle_hz=IDLE_HZ
    )
    daemon = opened.enter_context(BenchDaemon(config))
    client = opened.enter_context(Client(daemon.address))
    client.wait_for(1, _CONFIRMED_S)
    cloud.release(models[1].read_bytes())
    daemon.event("update_confirmed", _CONFIRMED_S)
    track.shut()
    side = DaemonSide(daemon, client, track)
    opened.callback(side.close)
    return daemon, side


def _in_turns(
    settings: SwapSettings, side: DaemonSide, peers: dict[str, PeerSide], progress: Progress
) -> dict[str, list[Pair]]:
    """Pair after pair, a peer's between the daemon's; the order within pairs alternates."""
    contenders: dict[str, tuple[_Contender, int]] = {DAEMON: (side, settings.swaps)}
    contenders |= {name: (peer, settings.peer_swaps) for name, peer in peers.items()}
    left = {name: swaps for name, (_, swaps) in contenders.items()}
    pairs: dict[str, list[Pair]] = {name: [] for name in contenders}
    rounds = -(-settings.swaps // settings.block)
    for number in range(rounds):
        for name, (contender, swaps) in contenders.items():
            # Each in step with the daemon, so that all of them meet the same machine.
            due = round(swaps * (number + 1) / rounds) - (swaps - left[name])
            due = min(settings.block, left[name]) if name == DAEMON else due
            if due < 1:
                continue
            pairs[name].append(contender.pair(due, settings.every_s, calm_first=bool(number % 2)))
            left[name] -= due
            progress(settings.swaps - left[DAEMON], settings.swaps)
    return pairs


def _report(
    settings: SwapSettings,
    sized: Sized,
    compared: dict[str, Compared],
    took_ms: dict[str, list[float]],
    outcome: _Outcome,
    missing: dict[str, str],
    watched: Watched,
) -> Report:
    daemon = compared[DAEMON]
    growth = _growth(outcome.rss_mb)
    frames = dict(outcome.frames)
    captured = frames.pop("captured")
    targets = [
        Target("changes of the daemon's model", daemon.swapped, settings.swaps, at_least=True),
        Target("frames lost in blocks with changes", daemon.swaps.lost, 0),
        Target("frames that left in no counted way", abs(captured - sum(frames.values())), 0),
        Target(
            "frames lost by the camera's births, less those by the client's sequence",
            abs(outcome.missing[0] - outcome.missing[1]),
            0,
        ),
        Target(
            "gaps over two periods, with changes against without: p of chance",
            round(daemon.p_over, 4),
            P_LEAST,
            at_least=True,
        ),
        Target(
            "gaps' p99.9, with changes against without: p of chance",
            round(daemon.p_p999, 4),
            P_LEAST,
            at_least=True,
        ),
        Target("RSS, kB a change (low end of 95 %)", round(growth.low, 2), RSS_KB_PER_SWAP),
    ]
    notes = [
        f"RSS {growth.estimate:+.2f} kB a change, 95 %: {growth.low:+.2f} to {growth.high:+.2f} (Theil-Sen);"
        f" {min(outcome.rss_mb):.0f} to {max(outcome.rss_mb):.0f} MB, read after each change; the first"
        f" {SETTLED_SHARE:.0%} are left out",
        f"frames of the daemon's, all of them: {captured} captured, "
        + ", ".join(f"{count} {way}" for way, count in frames.items() if count),
        f"lost within two and a half periods of a change: {daemon.lost_near_swap}",
        "p by exchanging the blocks of pairs; Fisher's exact test over all gaps, which takes neighbours for"
        " independent: " + ", ".join(f"{name} {found.p_over_fisher:.3g}" for name, found in compared.items()),
        *(f"not measured: {name}: {reason}" for name, reason in missing.items()),
        *_open_verdict(daemon),
        *growth.verdict(RSS_KB_PER_SWAP, "RSS, kB a change,"),
        watched.to_text(),
    ]
    figures: dict[str, Any] = {
        "model": f"{sized.model.metadata.name} {sized.model.metadata.version}",
        "input_hw": list(sized.input_hw),
        "rate_hz": settings.rate_hz,
        "threads": settings.threads,
        "every_s": settings.every_s,
        "contenders": [_entry(name, found, took_ms[name]) for name, found in compared.items()]
        + [{"name": name, "not_measured": reason} for name, reason in missing.items()],
        "frames": {"captured": captured, **frames},
        "missing_by_births": outcome.missing[0],
        "missing_by_sequence": outcome.missing[1],
        "exchange": _spread_json(outcome.exchange_ms),
        "gap_around_exchange": _spread_json(outcome.gaps_ms),
        "phases": {
            phase: {
                "frames": found.frames,
                "lost": found.lost,
                "gap_p99_ms": _finite(found.p99_ms),
                "gap_p999_ms": _finite(found.p999_ms),
                "gap_max_ms": _finite(found.max_ms),
            }
            for phase, found in outcome.phases.items()
        },
        "rss_kb_per_swap": _finite(growth.estimate),
        "rss_kb_per_swap_95": [_finite(growth.low), _finite(growth.high)],
        "rss_mb_series": [round(value, 1) for value in outcome.rss_mb[:: max(1, len(outcome.rss_mb) // 120)]],
        "machine_state": watched.to_json(),
    }
    return Report("swap", figures, targets, _tables(settings, sized, compared, took_ms, outcome), notes)


def _tables(
    settings: SwapSettings,
    sized: Sized,
    compared: dict[str, Compared],
    took_ms: dict[str, list[float]],
    outcome: _Outcome,
) -> list[Table]:
    rows: list[tuple[str | float | None, ...]] = []
    for name, found in compared.items():
        for kind, side in (("changes", found.swaps), ("calm", found.calm)):
            p = (f"{found.p_over:.3g}", f"{found.p_p999:.3g}") if side is found.swaps else (None, None)
            lost = f"{side.lost} of {side.frames}"
            rows.append(
                (
                    f"{name}, {kind}",
                    str(found.swapped if side is found.swaps else 0),
                    lost,
                    *side.spread_ms,
                    f"{side.over} of {side.gaps}",
                    *p,
                )
            )
    period = 1e3 / settings.rate_hz
    title = (
        f"{sized.title} at {settings.rate_hz:g} frames/s, {settings.threads} threads:"
        " gaps between answered frames, ms"
    )
    spread_of = ("min", "p50", "p99", "p99.9", "max")
    columns = ("", "changes", "lost", *spread_of, f"over {2 * period:.1f}", "p", "p of p99.9")
    ratios = [
        (
            name,
            found.swaps.p50_ms / found.calm.p50_ms,
            found.swaps.p99_ms / found.calm.p99_ms,
            found.swaps.p999_ms / found.calm.p999_ms,
            _per_thousand(found.swaps),
            _per_thousand(found.calm),
        )
        for name, found in compared.items()
    ]
    times = {f"{name}: a change, ms": values for name, values in took_ms.items()}
    times |= {"the exchange alone, ms": outcome.exchange_ms, "gap around it, ms": outcome.gaps_ms}
    spreads = [(name, *_spread(values)) for name, values in times.items() if values]
    return [
        Table(title, columns, rows),
        Table(
            "with changes over without",
            ("", "p50", "p99", "p99.9", "over two periods in 1000, changes", "calm"),
            ratios,
        ),
        Table("how long it takes", ("", "min", "p50", "p99", "max"), spreads),
        Table(
            "the daemon's frames by what the change was doing when they were born: gaps, ms",
            ("", "frames", "lost", "p99", "p99.9", "max"),
            [
                (phase, str(found.frames), str(found.lost), found.p99_ms, found.p999_ms, found.max_ms)
                for phase, found in outcome.phases.items()
            ],
        ),
    ]


def _entry(name: str, found: Compared, took_ms: list[float]) -> dict[str, Any]:
    return {
        "name": name,
        "swaps": found.swapped,
        "with_swaps": _side_json(found.swaps),
        "without": _side_json(found.calm),
        "lost_near_swap": found.lost_near_swap,
        "p_over_two_periods": round(found.p_over, 5),
        "p_over_two_periods_fisher": round(found.p_over_fisher, 5),
        "p_p999": round(found.p_p999, 5),
        "swap_took": _spread_json(took_ms),
    }


def _side_json(side: Side) -> dict[str, Any]:
    gaps = {
        "min": side.min_ms,
        "p50": side.p50_ms,
        "p99": side.p99_ms,
        "p999": side.p999_ms,
        "max": side.max_ms,
    }
    return {
        "frames": side.frames,
        "lost": side.lost,
        "failed": side.failed,
        "gaps": side.gaps,
        "gaps_over_two_periods": side.over,
        **{f"gap_{name}_ms": _finite(value) for name, value in gaps.items()},
    }


def _open_verdict(found: Compared) -> list[str]:
    """A line where so few blocks could not have missed the target, so that this run decides nothing."""
    if 2.0**-found.pairs < P_LEAST:
        return []
    return [f"the verdict on gaps is open: with {found.pairs} pairs of blocks, p is never below {P_LEAST:g}"]


def _growth(rss_mb: list[float]) -> Slope:
    """Of the memory with the changes of model, kB a change."""
    settled = int(len(rss_mb) * SETTLED_SHARE)
    found = slope(list(map(float, range(settled, len(rss_mb)))), rss_mb[settled:])
    return Slope(1e3 * found.estimate, 1e3 * found.low, 1e3 * found.high)


def _per_thousand(side: Side) -> float:
    return 1e3 * side.over / max(1, side.gaps)


def _spread(values: list[float]) -> tuple[float, float, float, float]:
    spread = Spread.of(values)
    return spread.min, spread.p50, spread.p99, max(values)


def _spread_json(values: list[float]) -> dict[str, float]:
    return {**Spread.of(values).to_json("ms"), "max_ms": round(max(values), 3)} if values else {}


def _finite(value: float) -> float | None:
    return round(value, 3) if np.isfinite(value) else None
