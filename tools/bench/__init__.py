"""Benchmarks: figures beside the floor and the peers, taken in one run, with the targets they are held to."""
