"""How property tests run: a slow machine is no failure."""

from hypothesis import settings

# Hypothesis would fail a test whose one example took over 200 ms, which a busy machine makes of any.
settings.register_profile("project", deadline=None)
settings.load_profile("project")
