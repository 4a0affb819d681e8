"""What befalls a drive besides its light: weather, a dirty lens, a turned camera, a wrong exposure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge.errors import TrafficVisionError

WEATHERS = ("clear", "rain", "fog")
LENSES = ("clean", "smear")
MOST_TURN_DEG = 15.0
MOST_STOPS = 6.0
WEATHER_COMES_S = 10.0  # from the first drop, or the fog's edge, to all of it
_ALWAYS = -math.inf


class ConditionsError(TrafficVisionError):
    """A drive was asked for under conditions that the simulation does not know."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What holds at one moment of a drive.

    Attributes:
        rain, fog: 0 none, 1 all of it.
        smear: dirt is wiped over the lens.
        turn_deg: the camera looks this far to the right of where it was mounted to look.
        stops: the exposure is this far above what the exposure control wants; 1 doubles the light.
    """

    rain: float = 0.0
    fog: float = 0.0
    smear: bool = False
    turn_deg: float = 0.0
    stops: float = 0.0

    def attributes(self) -> dict[str, str]:
        """Return BDD100K's word for the weather, and one for each fault that there is."""
        words = {"weather": "rainy" if self.rain >= 0.5 else "foggy" if self.fog >= 0.5 else "clear"}
        if self.smear:
            words["lens"] = "smeared"
        if self.turn_deg:
            words["camera"] = f"turned by {self.turn_deg:g} degrees"
        if self.stops:
            words["exposure"] = f"off by {self.stops:+g} stops"
        return words


AS_IT_SHOULD_BE = Moment()


@dataclass(frozen=True, slots=True)
class Conditions:
    """What befalls a drive, and when. Times are seconds of drive; what has none holds from the start.

    Attributes:
        weather: one of WEATHERS; it comes within WEATHER_COMES_S from `weather_at` on.
        lens: one of LENSES; what is wiped over it is there at once, as are the two below.
        turn: degrees to the right by which somebody turned the camera; negative to the left.
        exposure: stops by which the exposure is off.
    """

    weather: str = "clear"
    weather_at: float = _ALWAYS
    lens: str = "clean"
    lens_at: float = _ALWAYS
    turn: float = 0.0
    turn_at: float = _ALWAYS
    exposure: float = 0.0
    exposure_at: float = _ALWAYS

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn.

        Raises:
            ConditionsError: a word is unknown, a number out of its range, or a time is of nothing.
        """
        for key, word, known in (("weather", self.weather, WEATHERS), ("lens", self.lens, LENSES)):
            if word not in known:
                raise ConditionsError(f"unknown {key} {word!r}: give one of {', '.join(known)}")
        for key, value, most in (
            ("turn", self.turn, MOST_TURN_DEG),
            ("exposure", self.exposure, MOST_STOPS),
        ):
            if not -most <= value <= most:
                raise ConditionsError(f"{key} must lie between -{most:g} and {most:g}, not {value:g}")
        for key, at, nothing in (
            ("weather", self.weather_at, self.weather == "clear"),
            ("lens", self.lens_at, self.lens == "clean"),
            ("turn", self.turn_at, not self.turn),
            ("exposure", self.exposure_at, not self.exposure),
        ):
            if math.isnan(at):
                raise ConditionsError(f"{key}_at must be a number of seconds, not {at}")
            if nothing and at != _ALWAYS:
                raise ConditionsError(f"{key}_at={at:g} is of nothing that changes: give {key} as well")

    def at(self, t: float) -> Moment:
        """Return what holds at `t` seconds of drive."""
        come = min(max((t - self.weather_at) / WEATHER_COMES_S, 0.0), 1.0)
        return Moment(
            rain=come if self.weather == "rain" else 0.0,
            fog=come if self.weather == "fog" else 0.0,
            smear=self.lens == "smear" and t >= self.lens_at,
            turn_deg=self.turn if t >= self.turn_at else 0.0,
            stops=self.exposure if t >= self.exposure_at else 0.0,
        )

    @property
    def suffix(self) -> str:
        """What tells this drive from the same one under no conditions, where it is empty."""
        words = [self.weather] if self.weather != "clear" else []
        words += [self.lens] if self.lens != "clean" else []
        words += [f"turn{self.turn:g}"] if self.turn else []
        words += [f"exposure{self.exposure:g}"] if self.exposure else []
        return "".join(f"-{word}" for word in words)


NOTHING = Conditions()
