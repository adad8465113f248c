#!/usr/bin/env bash
# Brings up kind with Knative as the operator installs it, and walks there: `make e2e`. On a cluster that is there already,
# `python -m tests.e2e.walk` alone. Leaves the cluster for a look: kind delete cluster --name shelfwatch
set -euo pipefail
cd "$(dirname "$0")/../.."

cluster=shelfwatch
knative=1.23.0 # as in knative/serving
mkdir -p build
export KUBECONFIG=$PWD/build/e2e.kubeconfig # of its own: kubectl reaches no other cluster by mistake

IMAGE=dev.local/shelfwatch:dev make image
# Two nodes for pods, so that one can be drained. Its network enforces policies.
kind get clusters | grep --quiet --line-regexp "$cluster" || kind create cluster --name "$cluster" --wait 180s --config - <<'KIND'
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes: [{role: control-plane}, {role: worker}, {role: worker}]
KIND
kind export kubeconfig --name "$cluster"
kind load docker-image --name "$cluster" dev.local/shelfwatch:dev dev.local/shelfwatch-local:dev

echo "== Knative $knative"
kubectl apply --server-side --filename "https://github.com/knative/operator/releases/download/knative-v$knative/operator.yaml"
kubectl wait deployment --all --all-namespaces --for condition=Available --timeout 300s
for _ in {1..30}; do # its webhook answers a moment later than its pod is ready
  kubectl apply --server-side --kustomize knative/serving && break
  sleep 5
done
kubectl --namespace knative-serving wait knativeserving/knative-serving --for condition=Ready --timeout 600s

.venv/bin/python -m tests.e2e.walk "$@"
.venv/bin/python -m tests.e2e.signature
