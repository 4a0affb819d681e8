"""The demonstration: the whole loop on one machine, seen as it happens, and a report of it."""
