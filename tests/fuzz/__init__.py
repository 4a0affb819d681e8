"""Inputs from outside, mutated: nothing may crash. How long, and a case once more: `tests.fuzz.fuzzing`."""
