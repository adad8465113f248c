#!/usr/bin/env bash
# The whole path and a canary on Knative in kind: a photo becomes an event, a good revision gets all of the traffic,
# and one that misses products gets none. Leaves the cluster for a look: kind delete cluster --name shelfwatch
set -euo pipefail
cd "$(dirname "$0")/../.."

cluster=shelfwatch
knative=1.23.0 # as in knative/system
sample=local/samples/store-17/cam-1/aisle-5-gaps.jpg
kubectl() { command kubectl --context "kind-$cluster" "$@"; }
ours() { kubectl --namespace shelfwatch "$@"; }

fail() {
  echo "e2e: $1" >&2
  ours get ksvc,revisions,pods,jobs --output wide >&2 || true
  ours get events --sort-by .lastTimestamp 2>/dev/null | tail -30 >&2 || true
  ours logs --tail 50 --selector app.kubernetes.io/name=shelf-rollout >&2 || true
  exit 1
}

# Retries, as webhooks of Knative answer a moment later than their pods are ready.
apply() {
  for _ in {1..30}; do
    "$@" | kubectl apply --filename - && return
    sleep 5
  done
  fail "$* could not be applied"
}

traffic() { ours get ksvc shelf-detector --output "jsonpath={range .status.traffic[?(@.percent>0)]}{.revisionName}={.percent} {end}"; }
newest() { ours get ksvc shelf-detector --output 'jsonpath={.status.latestCreatedRevisionName}'; }

rollout() { # rollout complete|failed: runs the conductor and wants it to end so
  ours delete job shelf-rollout shelf-rollout-abort --ignore-not-found --wait
  apply rollout_job
  ours wait job/shelf-rollout --for "condition=$1" --timeout 600s || fail "the rollout has not $1"
}
# Of the two hooks the other one is for failed syncs.
rollout_job() {
  command kubectl kustomize tests/e2e/rollout |
    python3 -c 'import sys; print("---\n".join(d for d in sys.stdin.read().split("---\n") if "name: shelf-rollout-abort" not in d))'
}

IMAGE=dev.local/shelfwatch:dev make image
kind get clusters | grep --quiet --line-regexp "$cluster" || kind create cluster --name "$cluster" --wait 180s
kind load docker-image --name "$cluster" dev.local/shelfwatch:dev dev.local/shelfwatch-local:dev

echo "== Knative $knative"
kubectl apply --filename "https://github.com/knative/operator/releases/download/knative-v$knative/operator.yaml"
kubectl wait deployment --all --all-namespaces --for condition=Available --timeout 300s
apply command kubectl kustomize knative/system
kubectl --namespace knative-serving wait knativeserving/knative-serving --for condition=Ready --timeout 600s

echo "== the path"
kubectl apply --filename knative/base/namespace.yaml
ours create secret generic shelfwatch-tokens --from-literal EVENTS_TOKEN=e2e --dry-run=client --output yaml | kubectl apply --filename -
apply command kubectl kustomize tests/e2e/path
ours rollout status deployment/aws --timeout 180s
ours exec deployment/aws -- python -m local.aws
ours wait ksvc/shelf-detector --for condition=Ready --timeout 400s || fail "the function is not ready"
ours rollout status deployment/shelfwatch-source --timeout 180s

echo "== a photo becomes an event"
ours exec --stdin deployment/aws -- python -c '
import sys, urllib.request as r
url = "http://aws:4566/shelves/store-1/cam-1/photo.jpg"
r.urlopen(r.Request(url, data=sys.stdin.buffer.read(), method="PUT"), timeout=30)' <"$sample"
ours exec deployment/aws -- timeout 120 python -c '
import os
from local.aws import aws_env
os.environ.update(aws_env("http://aws:4566"))
import boto3
from local.subscriber import receive_events
url = "http://aws:4566/000000000000/shelves-subscriber"
sqs, s3 = boto3.client("sqs"), boto3.client("s3")
while not (events := list(receive_events(sqs, s3, url, 20))):
    pass
print(events[0]["type"], events[0]["subject"], events[0]["data"]["count"], events[0]["data"]["model"]["revision"])
assert events[0]["type"] == "io.shelfwatch.shelf.audited" and events[0]["data"]["count"] > 50' || fail "no event came"

echo "== the first revision is pinned"
rollout complete
first=$(newest)
[[ $(traffic) == "$first=100 " ]] || fail "the traffic is $(traffic)not all on $first"

echo "== a good revision gets all of the traffic"
ours patch ksvc shelf-detector --type merge --patch '{"spec": {"template": {"metadata": {"annotations": {"e2e": "second"}}}}}'
for _ in {1..60}; do [[ $(newest) == "$first" ]] || break; sleep 1; done
second=$(newest)
rollout complete
[[ $second != "$first" && $(traffic) == "$second=100 " ]] || fail "the traffic is $(traffic)not all on $second"

echo "== one that misses products gets none"
ours patch ksvc shelf-detector --type json \
  --patch '[{"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "SHELFWATCH_CONFIDENCE", "value": "0.99"}}]'
for _ in {1..60}; do [[ $(newest) == "$second" ]] || break; sleep 1; done
rollout failed
[[ $(newest) != "$second" && $(traffic) == "$second=100 " ]] || fail "the traffic is $(traffic)not all on $second"
echo "e2e: all three hold"
