"""Drift: does what is seen still look as it did while the model was right?

    reference = edge.drift.fit(features, rate_hz, names)      # float[frames, features]
    monitor = edge.drift.DriftMonitor(reference)
    state = monitor.observe(time_ns, vector)                   # DriftState about once a second
    states = edge.drift.scan(reference, features, rate_hz)     # the same of a whole series, weeks of it
    arrays = edge.drift.scan_arrays(reference, features, rate_hz)
    arrays = edge.drift.scan_times(reference, features, times_ns)   # of frames that come as they come

`edge.drift.features.extract` computes the features that the daemon watches; any others do as well.
"""

from edge.drift.explaining import explained
from edge.drift.fitting import fit, unlearned
from edge.drift.monitor import DriftMonitor
from edge.drift.reference import DriftReferenceError, Reference, align, combine
from edge.drift.scanning import scan, scan_arrays, scan_times
from edge.drift.series import Scan
from edge.drift.state import DriftState, FeatureDrift, Kind, Origin, Scope, Verdict

__all__ = [
    "DriftMonitor",
    "DriftReferenceError",
    "DriftState",
    "FeatureDrift",
    "Kind",
    "Origin",
    "Reference",
    "Scan",
    "Scope",
    "Verdict",
    "align",
    "combine",
    "explained",
    "fit",
    "scan",
    "scan_arrays",
    "scan_times",
    "unlearned",
]
