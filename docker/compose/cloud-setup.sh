#!/bin/sh
# Makes the cloud of compose.yaml: its folder, simulated data, the baseline, a ticket for the vehicle van-1.
# What is there is kept, so it can be run again at any time.
set -eu

CLOUD=${CLOUD:-/srv/traffic-vision}
TICKETS=${TICKETS:-/tickets}
MODELS=${MODELS:-/models}
# Where the server listens, and where the vehicle finds it.
LISTEN=${LISTEN:-0.0.0.0:50071}
ADDRESS=${ADDRESS:-cloud:50071}
# Drives of the simulated data: trained on by day; judged by, by day and by night.
DAY_DRIVES=${DAY_DRIVES:-40}
JUDGED_DRIVES=${JUDGED_DRIVES:-30}

if [ ! -e "$CLOUD/cloud.toml" ]; then
  traffic-vision cloud init "$CLOUD" --listen "$LISTEN" --address "$ADDRESS" --name "${ADDRESS%:*}"
fi
if ! grep -q '^\[orchestration\]' "$CLOUD/cloud.toml"; then
  cat >> "$CLOUD/cloud.toml" <<'TOML'

[orchestration]
orchestrator = "airflow"
url = "http://airflow:8081"
pages = "http://127.0.0.1:8081"

[trigger]
min_samples = 24
min_drift_samples = 24

[gate]
holdout = ["holdout-day", "holdout-night"]
min_boxes = 50

[training]
epochs = 12
batch = 16
imgsz = 320
TOML
fi

# simulate FOLDER SEED DRIVES LIGHT [MORE...]: labelled pictures, whole or not at all.
simulate() {
  folder=$1 seed=$2 drives=$3 light=$4
  shift 4
  [ -e "$CLOUD/$folder" ] && return
  rm -rf "$CLOUD/$folder.new"
  traffic-vision data simulate --seed "$seed" --drives "$drives" --frames 4 --light "$light" "$@" \
    -o "$CLOUD/$folder.new"
  mv "$CLOUD/$folder.new" "$CLOUD/$folder"
}
simulate baseline-data 10000 "$DAY_DRIVES" noon --val-drives 2
simulate holdout-day 30000 "$JUDGED_DRIVES" noon
simulate holdout-night 31000 "$JUDGED_DRIVES" night

traffic-vision cloud baseline --model "$MODELS/baseline.onnx" --checkpoint "$MODELS/baseline.pt" \
  --data "$CLOUD/baseline-data" --config "$CLOUD/cloud.toml"

# A second ticket would end what the vehicle got for the first.
if [ ! -e "$TICKETS/van-1.ticket" ]; then
  traffic-vision cloud enrol van-1 --cloud "$CLOUD" -o "$TICKETS/van-1.ticket"
fi
