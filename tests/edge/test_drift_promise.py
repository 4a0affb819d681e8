"""Is the promise kept? The seeds are fixed, so each figure is always the same."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from edge.drift import Reference, fit, scan_arrays
from tests.edge.drift_streams import ar1

RATE_HZ = 1.0
FEATURES = 4


@lru_cache(maxsize=3)
def reference_of(rho: float, target_hours: float, seed: int = 0) -> Reference:
    series = ar1(np.random.default_rng(seed), rho, 24 * 3600, FEATURES)
    names = [f"feature {number}" for number in range(FEATURES)]
    return fit(series, RATE_HZ, names, target_hours=target_hours)


@pytest.mark.parametrize("rho", [0.0, 0.8, 0.95])
def test_alarms_without_a_change_are_about_as_rare_as_promised(rho: float) -> None:
    target_hours, hours = 4.0, 100
    reference = reference_of(rho, target_hours)
    stream = ar1(np.random.default_rng(1), rho, hours * 3600, FEATURES)
    alarms = len(scan_arrays(reference, stream, RATE_HZ).onsets())
    # 25 are promised; from half as rare again to four times as rare is kept, chance included.
    assert 6 <= alarms <= 38


def test_a_shift_by_two_sigma_is_found_within_a_window_or_so() -> None:
    reference = reference_of(0.8, 24.0)
    window_s = reference.contexts[0].features[0].tails[0].frames / RATE_HZ
    delays = []
    for seed in range(20):
        stream = ar1(np.random.default_rng(seed + 10), 0.8, 2400, FEATURES)
        stream[1200:, 0] += 2
        onsets = scan_arrays(reference, stream, RATE_HZ).onsets()
        late = onsets[onsets >= 1200]
        delays.append(float(late[0] - 1200) if len(late) else np.inf)
    assert np.median(delays) <= 0.9 * window_s
    assert np.quantile(delays, 0.9) <= 1.3 * window_s
