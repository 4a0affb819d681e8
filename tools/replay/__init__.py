"""Replay: a recorded or simulated drive through the detector, frame by frame, as fast as the machine can."""
