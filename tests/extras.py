"""Marks for tests that need an optional part of the install."""

from __future__ import annotations

import importlib.util

import pytest

# Looked for, not imported: its import changes libraries for the process unless our boundary does it.
needs_ultralytics = pytest.mark.skipif(
    importlib.util.find_spec("ultralytics") is None, reason="needs ultralytics (the cloud extra)"
)
