"""`python -m tools.cli`: the command line of the very interpreter that is named."""

from __future__ import annotations

from tools.cli import main

main()
