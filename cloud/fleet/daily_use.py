"""What each vehicle has sent today (UTC), counted from the database once and kept up to date from then on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cloud.config import QuotasConfig
from cloud.store.models import FeatureSeries, Sample


@dataclass(slots=True)
class _Use:
    samples: int
    sample_bytes: int
    series: int


class DailyUse:
    """The quotas' book. Not for several threads at a time."""

    def __init__(self, quotas: QuotasConfig) -> None:
        """Start an empty book."""
        self._quotas = quotas
        self._midnight: datetime | None = None
        self._uses: dict[str, _Use] = {}

    def load(self, session: Session, vehicle: str, now: datetime) -> None:
        """Look up what a vehicle has sent since midnight, unless that is known."""
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if midnight != self._midnight:
            self._midnight = midnight
            self._uses.clear()
        if vehicle in self._uses:
            return
        of_samples = select(func.count(), func.coalesce(func.sum(Sample.jpeg_bytes), 0)).where(
            Sample.vehicle == vehicle, Sample.received >= midnight
        )
        of_series = select(func.count()).where(
            FeatureSeries.vehicle == vehicle, FeatureSeries.received >= midnight
        )
        samples, sample_bytes = session.execute(of_samples).one()
        series = session.execute(of_series).scalar_one()
        self._uses[vehicle] = _Use(samples, int(sample_bytes), series)

    def take_sample(self, vehicle: str, jpeg_bytes: int) -> bool:
        """Count a sample, if the quota has room for it; `load` came first."""
        use = self._uses[vehicle]
        if (
            use.samples >= self._quotas.samples_per_day
            or use.sample_bytes + jpeg_bytes > self._quotas.sample_bytes_per_day
        ):
            return False
        use.samples += 1
        use.sample_bytes += jpeg_bytes
        return True

    def take_series(self, vehicle: str) -> bool:
        """Count a series, if the quota has room for it; `load` came first."""
        use = self._uses[vehicle]
        if use.series >= self._quotas.feature_series_per_day:
            return False
        use.series += 1
        return True

    def forget(self, vehicle: str) -> None:
        """Look it up again next time: what was counted was not stored."""
        self._uses.pop(vehicle, None)

    @staticmethod
    def until_midnight_ms(now: datetime) -> int:
        """Tell how long until quotas begin anew, ms."""
        tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        return int((tomorrow - now) / timedelta(milliseconds=1)) + 1
