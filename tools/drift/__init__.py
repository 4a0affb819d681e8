"""Drift by hand: references made of drives, drives judged by a reference, and the report of it."""
