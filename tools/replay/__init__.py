"""Replay: recorded or simulated drives through the daemon's own path, frame by frame, none dropped.

The daemon's capture, mailbox, frame loop, swappable detector and drift watch run as they do on a vehicle, in
lock-step; what is left out is what a recording has no use for: servers, a state folder, updates. Several
drives run one after the other, so that the same command gives the same lines.
"""
