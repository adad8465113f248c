#!/usr/bin/env bash
# Everything that can be known of infra/ without an account; `make terraform` calls it.
#
# Terraform downloads its provider and the registry's modules. Where TF_REATTACH_PROVIDERS names a
# provider that is running already, nothing is downloaded: then the cluster's own module is checked,
# and the cluster's root, which is mostly the registry's modules, only for its format.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$PWD/build/terraform
rm -f "$build"/*.jsonl
tools=$PWD/.venv-tools/bin
export TF_IN_AUTOMATION=1 TF_INPUT=0 CHECKPOINT_DISABLE=1 TF_PLUGIN_CACHE_DIR=$build/plugins
mkdir -p "$TF_PLUGIN_CACHE_DIR"

# in_root ROOT COMMAND…: with what Terraform keeps of a root outside of the sources
in_root() { TF_DATA_DIR=$build/${1//\//-} terraform -chdir="infra/terraform/$1" "${@:2}"; }

check() {
  echo "== $1"
  in_root "$1" init -backend=false -no-color >"$build/init.log" || { cat "$build/init.log"; return 1; }
  in_root "$1" validate -no-color
  in_root "$1" test -no-color
  in_root "$1" test -json -verbose >"$build/${1##*/}.jsonl" # its plans, for tests/test_terraform.py
}

# A plan outside of a test wants a state and an account; the stand-in wants neither.
plan_with_stand_in() {
  echo "== shelfwatch, a plan"
  rm -rf "$build/plan" && cp -r infra/terraform/shelfwatch "$build/plan"
  printf 'terraform {\n  backend "local" {}\n}\n' >"$build/plan/offline_override.tf"
  terraform -chdir="$build/plan" init -no-color >"$build/init.log" || { cat "$build/init.log"; return 1; }
  terraform -chdir="$build/plan" plan -refresh=false -no-color -var account_id=123456789012 -var region=eu-west-1 \
    -var github_repository=example/shelfwatch >"$build/plan.log" || { cat "$build/plan.log"; return 1; }
  grep '^Plan:' "$build/plan.log"
}

terraform version | sed -n 1p
terraform fmt -check -recursive -diff infra/terraform

check shelfwatch
check monitor
check cluster/modules/entrance
if [[ ${TF_REATTACH_PROVIDERS-} ]]; then
  plan_with_stand_in
  echo "== cluster: only its format was checked, as its modules come from the registry"
else
  check cluster
fi

echo "== policies"
SHELFWATCH_PLANS=$build SHELFWATCH_PARLIAMENT=$tools/parliament .venv/bin/pytest -q tests/test_terraform.py

echo "== checkov"
"$tools/checkov" -d infra/terraform --framework terraform --quiet --compact --skip-download 2>&1 |
  grep -v 'Failed to download module' # the registry's are their own maintainers' matter

echo "== shellcheck"
"$tools/shellcheck" infra/bootstrap.sh infra/terraform/check.sh .ci/run
