#!/usr/bin/env bash
# Starts compose.yaml with the images of `make image`, sends a photo through it and stops it, as `make compose`.
#   COMPOSE        how Compose is called (docker compose)
#   COMPOSE_FILE   Compose's own: compose.yaml, and files that change it
#   SERVICES       which of them are started, with what they need (all)
set -euo pipefail
cd "$(dirname "$0")/../.."

docker=${DOCKER:-docker}
read -ra compose <<<"${COMPOSE:-docker compose}"
read -ra services <<<"${SERVICES:-}"
export COMPOSE_PROJECT_NAME=shelfwatch-check
patience=60 # seconds for anything to come about on a busy machine
sample=local/samples/store-17/aisle-5/gaps.jpg
scraped='up{job="shelfwatch-function"} * on () up{job="shelfwatch-source"} == 1'

fail() { echo "compose: $1" >&2; "${compose[@]}" logs --tail 20 | cut -c 1-300 >&2; exit 1; }
trap '"${compose[@]}" down --volumes >/dev/null 2>&1' EXIT

containers() { # containers FORMAT: a line for each, finished ones, too
  "${compose[@]}" ps --all --quiet | xargs "$docker" inspect --format "{{index .Config.Labels \"com.docker.compose.service\"}} $1"
}
soon() { # soon WHAT COMMAND…: waits until it succeeds
  local end=$((SECONDS + patience))
  until "${@:2}" >/dev/null 2>&1; do
    ((SECONDS < end)) || fail "$1"
    sleep 0.5
  done
}
prometheus() { curl --silent --fail --get "http://127.0.0.1:9090/api/v1/$1" "${@:2}"; }
# Without grep's --quiet, which would end the pipe before its writer and so fail it.
told() { "${compose[@]}" logs subscriber | grep '"io.shelfwatch.shelf.audited".*"s3://shelves/store-1/cam-1/photo.jpg"'; }
is_scraped() { prometheus query --data-urlencode "query=$scraped" | grep '"value"'; }
rules_are_well() { prometheus rules | grep '"health":"ok"' | grep --invert-match -E '"health":"(unknown|err)"'; }

"${compose[@]}" up --detach --no-build "${services[@]}"
curl --silent --show-error --fail --upload-file "$sample" http://127.0.0.1:4566/shelves/store-1/cam-1/photo.jpg
soon "the subscriber was not told of the photo" told
soon "Prometheus does not find function and source" is_scraped
soon "a rule of Prometheus is not well" rules_are_well
running=$(containers '{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}')
while read -r service status restarts code; do
  [[ $status == running || "$service $status $code" == "resources exited 0" ]] || fail "$service is $status ($code)"
  ((restarts == 0)) || fail "$service was started $((restarts + 1)) times"
done <<<"$running"

"${compose[@]}" stop
ended=$(containers '{{.Config.Image}} {{.State.ExitCode}} {{.State.OOMKilled}}')
while read -r service image code killed; do
  [[ $image != shelfwatch* || "$code $killed" == "0 false" ]] || fail "$service ended with exit code and OOMKilled $code $killed"
done <<<"$ended"
echo "compose: $(wc -l <<<"$ended") services started, audited a photo and ended"
