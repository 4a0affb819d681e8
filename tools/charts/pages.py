"""Pages that are one HTML file: no script, nothing fetched, light and dark."""

from __future__ import annotations

import base64
import math

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape


def page_environment(package: str) -> Environment:
    """Templates of a package, with `page.css` at hand; what goes in is escaped.

    Args:
        package: where the templates are.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("tools.charts", ".")]),
        autoescape=select_autoescape(["jinja", "html"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


NOTHING = "–"


def number(value: float | None, decimals: int = 3, sign: str = "") -> str:
    """A figure with so many decimals; NOTHING where there is none."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:{sign}.{decimals}f}"


def jpeg_uri(jpeg: bytes) -> str:
    """A picture as an address that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
