"""Print what a running daemon's cameras see: `python -m tools.examples.detections [ADDRESS]`."""

import sys

from edge.serve.client import PerceptionClient

with PerceptionClient(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50061") as client:
    for message in client.detections(min_score=0.5):
        seen = [f"{found.class_name} {found.score:.2f}" for found in message.detections.detections]
        print(message.detections.frame.camera, message.sequence, *(seen or ["nothing"]), flush=True)
