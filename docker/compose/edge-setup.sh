#!/bin/sh
# Sets up the vehicle van-1 of compose.yaml: its key, its certificate, a camera that replays a drive into the night.
# What is there is kept, so it can be run again at any time.
set -eu

VEHICLE=${VEHICLE:-/var/lib/traffic-vision/van-1}
TICKETS=${TICKETS:-/tickets}
MODELS=${MODELS:-/models}
TRAFFIC_VISION=${TRAFFIC_VISION:-/opt/traffic-vision/bin/traffic-vision}
CAMERA=${CAMERA:-sim:42?light=noon-night&dusk=420&fade=30&seconds=0&rate=5}

[ -e "$VEHICLE/enrolled" ] && exit 0
"$TRAFFIC_VISION" edge enrol "$TICKETS/van-1.ticket" "$VEHICLE" \
  --camera "front=$CAMERA" --model "$MODELS/baseline.onnx"
touch "$VEHICLE/enrolled"
