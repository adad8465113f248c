#!/usr/bin/env bash
# Builds the image and holds it to its rules, as `make image` on a laptop and in CI.
#   BASE           the base image, by tag or digest (python:3.12-slim)
#   IMAGE          the name it gets (shelfwatch:latest)
#   PIN_BASE       if set, the base's digest is looked up, built from and told in a label
#   VERSION        the release it is for, a label
#   CACHE          a folder where BuildKit keeps layers between builds; wants a docker-container builder
#   BUILD_OPTIONS  more options of `docker build`, such as --secret id=pip,src=pip.conf
set -euo pipefail
cd "$(dirname "$0")/../.."

base=${BASE:-python:3.12-slim}
image=${IMAGE:-shelfwatch:latest}
docker=${DOCKER:-docker}
max_megabytes=450
ready_seconds=60 # a few on an idle machine
# The container gets what a pod gets.
memory=$(sed -n 's/^ *limits: {memory: \([0-9]*\)Mi}.*/\1m/p' knative/base/detector.yaml)
hardened=(--read-only --cap-drop ALL --security-opt no-new-privileges --cpus 1 --memory "$memory" --memory-swap "$memory" --pids-limit 128)
sample=local/samples/store-17/aisle-5/gaps.jpg
names=()

fail() { echo "image: $1" >&2; exit 1; }
clean_up() { for name in "${names[@]}"; do "$docker" rm --force "$name" >/dev/null 2>&1 || true; done; }
trap clean_up EXIT

build() { # build NAME TARGET
  local options=(--target "$2" --tag "$1" --build-arg "BASE=$base" --build-arg "BASE_DIGEST=$base_digest")
  options+=(--build-arg "VERSION=${VERSION:-unreleased}" --build-arg "REVISION=$(git rev-parse HEAD)")
  read -ra more <<<"${BUILD_OPTIONS:-}"
  if [[ -n ${CACHE:-} ]]; then
    "$docker" buildx build --load --cache-from "type=local,src=$CACHE/$2" \
      --cache-to "type=local,dest=$CACHE/$2,mode=max" "${options[@]}" "${more[@]}" .
  else
    DOCKER_BUILDKIT=1 "$docker" build "${options[@]}" "${more[@]}" .
  fi
}

start() { # start NAME OPTION… -- ARG…: a hardened container in the background
  local name=$1 options=()
  shift
  while [[ $1 != -- ]]; do options+=("$1"); shift; done
  shift
  names+=("$name")
  "$docker" run --detach --name "$name" "${hardened[@]}" "${options[@]}" "$image" "$@" >/dev/null
}

stops() { # stops NAME: SIGTERM ends it with exit code 0, and nothing was killed for memory
  "$docker" stop --time 60 "$1" >/dev/null
  local state
  state=$("$docker" inspect --format '{{.State.ExitCode}} {{.State.OOMKilled}}' "$1")
  [[ $state == "0 false" ]] || { "$docker" logs "$1" >&2; fail "$1 ended with exit code and OOMKilled $state"; }
}

logs_json() { # logs_json NAME: whatever a container prints is for machines
  "$docker" logs "$1" 2>&1 | python3 -c 'import json, sys; [json.loads(line) for line in sys.stdin]' ||
    { "$docker" logs "$1" >&2; fail "$1 logs a line that is no JSON"; }
}

exits() { # exits CODE ARG…: a command that ends by itself
  local code=0
  "$docker" run --rm "${hardened[@]}" "$image" "${@:2}" >/dev/null 2>&1 || code=$?
  [[ $code == "$1" ]] || fail "the command '${*:2}' ended with exit code $code, not $1"
}

inside() { "$docker" run --rm --network none "${hardened[@]}" --entrypoint sh "$image" -c "$1"; }

base_digest=
if [[ -n ${PIN_BASE:-} ]]; then
  base_digest=$("$docker" buildx imagetools inspect --format '{{.Manifest.Digest}}' "$base")
  base=$base@$base_digest
fi
build "$image" shelfwatch
build "${image%:*}-local:${image##*:}" local

[[ $("$docker" inspect --format '{{.Config.User}}' "$image") == 65532:65532 ]] || fail "it does not run as 65532"
[[ $(inside 'id -u') == 65532 ]] || fail "it does not run as 65532"
for label in title version revision licenses base.name; do
  [[ -n $("$docker" inspect --format "{{index .Config.Labels \"org.opencontainers.image.$label\"}}" "$image") ]] ||
    fail "the label $label is missing"
done
# shellcheck disable=SC2016 # for the shell inside
inside 'for tool in gcc cc g++ make pip git curl; do ! command -v $tool || exit 1; done' ||
  fail "it holds a tool that a service does not need"
inside 'python -c "
import importlib.util, sys
sys.exit([name for name in (\"torch\", \"ultralytics\", \"onnx\", \"pytest\", \"ministack\", \"pip\") if importlib.util.find_spec(name)] or 0)"' ||
  fail "it holds packages of training or tests"
inside '! ls -a | grep -vxE "\.|\.\.|LICENSE|entrypoint.sh|events|function|knative|model|monitor"' || fail "it holds other files"

port=$((20000 + RANDOM % 10000))
start "shelfwatch-check-$port" --publish "127.0.0.1:$port:8080" -- function
for ((tries = 0; ; tries++)); do
  curl --silent --fail "127.0.0.1:$port/health/ready" >/dev/null && break
  ((tries < ready_seconds * 10)) || { "$docker" logs "shelfwatch-check-$port" >&2; fail "it was not ready in $ready_seconds s"; }
  sleep 0.1
done
count=$(curl --silent --fail --form "file=@$sample" "127.0.0.1:$port/predict" |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["count"])')
((count > 50)) || fail "it found $count products in $sample"
"$docker" exec "shelfwatch-check-$port" sh -c '! touch /app/x /tmp/x 2>/dev/null' || fail "its root can be written"
resident=$("$docker" stats --no-stream --format '{{.MemUsage}}' "shelfwatch-check-$port")
stops "shelfwatch-check-$port"
logs_json "shelfwatch-check-$port"
"$docker" logs "shelfwatch-check-$port" 2>&1 | grep >/dev/null '"graph": *"shelf\..*\.ort-' || fail "the graph was not loaded from its optimised copy"

# Where the queue cannot be reached, the source waits, until it is told to stop.
start "shelfwatch-check-source-$port" --env AWS_DEFAULT_REGION=us-east-1 --env AWS_ACCESS_KEY_ID=x \
  --env AWS_SECRET_ACCESS_KEY=x --env K_SINK=http://127.0.0.1:9 --env AWS_ENDPOINT_URL=http://127.0.0.1:9 \
  --env QUEUE_URL=http://127.0.0.1:9/0/q -- source
for ((tries = 0; tries < 300; tries++)); do
  "$docker" logs "shelfwatch-check-source-$port" 2>&1 | grep -q . && break
  sleep 0.1
done
stops "shelfwatch-check-source-$port"
logs_json "shelfwatch-check-source-$port"
exits 2 source
exits 0 replay --help
exits 0 sweep --help
exits 0 rollout --help
exits 2 unknown

bytes=$("$docker" image inspect --format '{{.Size}}' "$image")
echo "$image on $base: $((bytes / 1000000)) MB unpacked; $count products found at --memory $memory, $resident in use"
"$docker" history --format '{{.Size}}\t{{.CreatedBy}}' "$image" | grep -v '^0B' | cut -c 1-100
((bytes < max_megabytes * 1000000)) || fail "it has $((bytes / 1000000)) MB, more than $max_megabytes"
