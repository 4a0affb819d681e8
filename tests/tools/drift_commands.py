"""`traffic-vision drift` as it is typed, and simulated drives small enough for it."""

from __future__ import annotations

from click.testing import CliRunner, Result

from edge.errors import TrafficVisionError
from tools.cli import root


def sim(seed: int, light: str = "noon", *, seconds: float = 15, rate: float = 2, **more: int) -> str:
    extra = "".join(f"&{key}={value}" for key, value in more.items())
    return f"sim:{seed}?light={light}&seconds={seconds:g}&rate={rate:g}&size=160x90{extra}"


def run(*arguments: object) -> Result:
    # More threads than cores make a small model slow.
    return CliRunner().invoke(root, ["drift", *map(str, arguments), "--threads", "1"])


def done(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, TrafficVisionError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)
