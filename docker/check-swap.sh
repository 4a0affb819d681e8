#!/usr/bin/env bash
# Shows that a new model comes into the running vehicle: while its model is exchanged, the edge's container stays the
# one that it is, with the process that it has. With compose.yaml up:
#   docker/check-swap.sh [SECONDS TO WAIT, 5400]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
limit_s=${1:-5400}
poll_s=${POLL_S:-5}
edge_toml=/var/lib/traffic-vision/van-1/edge.toml
cloud_toml=/srv/traffic-vision/cloud.toml

compose() { docker compose -f "$here/compose.yaml" "$@"; }
container() { compose ps --quiet edge; }
process() { docker inspect --format '{{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}' "$1"; }
model() {
  compose exec -T edge /opt/traffic-vision/bin/traffic-vision edge update status --json --config "$edge_toml" \
    | sed -n '/"runs": {/,/}/ s/.*"sha256": "\([0-9a-f]*\)".*/\1/p'
}

container_before=$(container)
if [[ -z "$container_before" ]]; then
  echo "the service edge does not run: docker compose -f docker/compose.yaml up -d" >&2
  exit 1
fi
process_before=$(process "$container_before")
model_before=$(model || true)
if [[ -z "$model_before" ]]; then
  echo "the vehicle's daemon does not say which model runs" >&2
  exit 1
fi
echo "before: container ${container_before:0:12}, process $process_before, model ${model_before:0:12}"

echo "a retrain begins, or goes on: http://127.0.0.1:8081"
compose exec -T trigger traffic-vision cloud run --now --config "$cloud_toml"
end=$((SECONDS + limit_s))
while model_after=$(model || true) && [[ -z "$model_after" || "$model_after" == "$model_before" ]]; do
  if ((SECONDS >= end)); then
    echo "no new model within $limit_s s; the retrains:" >&2
    compose exec -T trigger traffic-vision cloud runs --config "$cloud_toml" >&2
    exit 1
  fi
  sleep "$poll_s"
done

container_after=$(container)
process_after=$(process "$container_after")
echo "after:  container ${container_after:0:12}, process $process_after, model ${model_after:0:12}"
if [[ "$container_before" != "$container_after" || "$process_before" != "$process_after" ]]; then
  echo "the model was exchanged with the container or its process" >&2
  exit 1
fi
echo "the model was exchanged within the running container: its id and its process are unchanged"
