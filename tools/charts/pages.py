"""Pages that are one HTML file: no script, nothing fetched, light and dark."""

from __future__ import annotations

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
