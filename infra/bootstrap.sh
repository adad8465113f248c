#!/usr/bin/env bash
# From an empty account to Argo CD, which does the rest: infra/bootstrap.sh [--yes | --export]
#
# Reads infra/settings.env. Every step looks for what is there already: run it again after a fault, or after
# a change of the settings. Without --yes Terraform shows each plan and asks. --export only prints the
# variables that Terraform gets: eval "$(infra/bootstrap.sh --export)".
set -euo pipefail
cd "$(dirname "$0")/.."

approve=()
case ${1-} in
  "" | --export) ;;
  --yes) approve=(-auto-approve) ;;
  *) echo "usage: infra/bootstrap.sh [--yes | --export]" >&2; exit 2 ;;
esac

step() { printf '\n== %s\n' "$1"; }
fail() { echo "bootstrap: $1" >&2; exit 1; }

################################################################################
# What it needs
################################################################################

for tool in aws terraform kubectl helm openssl git; do
  command -v "$tool" >/dev/null || fail "$tool is not installed"
done

[[ -f infra/settings.env ]] || fail "infra/settings.env is missing: copy infra/settings.env.example and fill it in"
# The shell would run whatever is no assignment, and say so in its own words.
if grep -q $'\r' infra/settings.env; then
  fail "infra/settings.env must have the line ends of Unix, got those of Windows"
fi
odd=$(grep -vnE "^[[:space:]]*(#.*)?$|^[[:space:]]*(export[[:space:]]+)?[A-Za-z_][A-Za-z0-9_]*=('[^']*'|\"[^\"]*\"|[^[:space:]'\"]*)([[:space:]]+#.*|[[:space:]]*)$" infra/settings.env | head -n 1) || true
[[ -z $odd ]] || fail "a line of infra/settings.env must be NAME=value, with quotes around what has spaces or quotes in it, got line $odd"
set -a
# shellcheck source=/dev/null
. infra/settings.env
set +a
for setting in ACCOUNT_ID AWS_REGION GITHUB_REPOSITORY TF_VAR_api_cidrs; do
  [[ ${!setting-} ]] || fail "$setting is empty in infra/settings.env"
done
must_be() { [[ ${!1} =~ $2 ]] || fail "$1 must be $3, got '${!1}' in infra/settings.env"; }
must_be ACCOUNT_ID '^[0-9]{12}$' "the twelve digits of an account"
must_be GITHUB_REPOSITORY '^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$' "owner/name"
must_be TF_VAR_api_cidrs '^\[ *"[0-9a-fA-F.:]+/[0-9]+"( *, *"[0-9a-fA-F.:]+/[0-9]+")* *\]$' "a list of blocks like '[\"198.51.100.7/32\"]'"
for setting in HOSTED_ZONE_ID CERTIFICATE_EMAIL; do
  [[ -z ${DOMAIN-} || ${!setting-} ]] || fail "DOMAIN is set, and $setting is empty in infra/settings.env"
done

NAME=${TF_VAR_name:-shelfwatch}
# The state's bucket has it before Terraform is asked.
[[ $NAME =~ ^[a-z]([a-z0-9]|-[a-z0-9])+$ && ${#NAME} -le 28 ]] ||
  fail "TF_VAR_name must be 2 to 28 of a-z, 0-9 and single - between them, got '$NAME' in infra/settings.env"
# Roles would be bound to what does not run: below, in knative/ and in the workflows these are fixed.
for setting in TF_VAR_namespace:shelfwatch "TF_VAR_cluster_name:$NAME" TF_VAR_github_branch:main; do
  name=${setting%%:*} only=${setting#*:}
  [[ ${!name:-$only} == "$only" ]] ||
    fail "$name must be '$only', as manifests and workflows have it, got '${!name}' in infra/settings.env"
done
remote=${GIT_REMOTE:-origin}
root=${ARGOCD_ROOT:-argocd/prod}
[[ -f $root/kustomization.yaml ]] || fail "ARGOCD_ROOT must be a folder like argocd/prod, got '$root' in infra/settings.env"
git remote get-url "$remote" >/dev/null 2>&1 || fail "GIT_REMOTE must be a remote of this clone, got '$remote' in infra/settings.env"
export AWS_REGION AWS_DEFAULT_REGION=$AWS_REGION TF_IN_AUTOMATION=1
export TF_VAR_account_id=$ACCOUNT_ID TF_VAR_region=$AWS_REGION TF_VAR_name=$NAME
export TF_VAR_github_repository=${GITHUB_SUBJECT:-$GITHUB_REPOSITORY}
if [[ ${DOMAIN-} ]]; then
  export TF_VAR_cert_manager="{hosted_zone_id=\"$HOSTED_ZONE_ID\"}"
  export TF_VAR_entrance=${TF_VAR_entrance-"{allowed_cidrs=[\"0.0.0.0/0\"],domain={name=\"$DOMAIN\",hosted_zone_id=\"$HOSTED_ZONE_ID\"}}"}
fi

if [[ ${1-} == --export ]]; then
  compgen -e | grep -E '^(TF_VAR_.*|AWS_REGION|AWS_DEFAULT_REGION)$' | while read -r setting; do
    printf 'export %s=%q\n' "$setting" "${!setting}"
  done
  exit
fi

step "account"
account=$(aws sts get-caller-identity --query Account --output text)
[[ $account == "$ACCOUNT_ID" ]] || fail "these credentials are of account $account, and ACCOUNT_ID is $ACCOUNT_ID"
echo "$account, $AWS_REGION"

################################################################################
# Terraform's state, then Terraform
################################################################################

state=$NAME-terraform-$ACCOUNT_ID
step "state in s3://$state"
if ! told=$(aws s3api head-bucket --bucket "$state" --expected-bucket-owner "$ACCOUNT_ID" 2>&1); then
  [[ $told == *404* ]] || fail "s3://$state cannot be used: $told"
  where=()
  [[ $AWS_REGION == us-east-1 ]] || where=(--create-bucket-configuration "LocationConstraint=$AWS_REGION")
  aws s3api create-bucket --bucket "$state" --region "$AWS_REGION" ${where[@]+"${where[@]}"} >/dev/null
fi
# A state has secrets in it, and an older one is the way back.
aws s3api put-bucket-versioning --bucket "$state" --versioning-configuration Status=Enabled
aws s3api put-public-access-block --bucket "$state" --public-access-block-configuration \
  BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true

for part in cluster shelfwatch; do
  step "terraform: $part"
  terraform -chdir="infra/terraform/$part" init -reconfigure -input=false \
    -backend-config="bucket=$state" -backend-config="region=$AWS_REGION"
  terraform -chdir="infra/terraform/$part" apply ${approve[@]+"${approve[@]}"} # an empty list is an error in the bash of macOS
done

################################################################################
# Argo CD
################################################################################

# A file of its own: kubectl cannot reach another cluster by mistake.
export KUBECONFIG=$PWD/build/kubeconfig

step "settings of the manifests"
settings=knative/settings/settings.env
mkdir -p build
{
  terraform -chdir=infra/terraform/shelfwatch output -raw settings_env
  printf '\nGIT_REPOSITORY=https://github.com/%s.git\n' "$GITHUB_REPOSITORY"
  printf 'RELEASE_WORKFLOW=https://github.com/%s/.github/workflows/release.yaml@refs/heads/main\n' "$GITHUB_REPOSITORY"
  [[ -z ${DOMAIN-} ]] || printf 'DOMAIN=%s\n' "$DOMAIN"
  [[ -z ${CERTIFICATE_EMAIL-} ]] || printf 'CERTIFICATE_EMAIL=%s\n' "$CERTIFICATE_EMAIL"
} >build/settings.env
# What is commented out there is an example, and stays so where nothing is known of it.
awk 'function name(line) { sub(/^#/, "", line); return substr(line, 1, index(line, "=") - 1) }
  NR == FNR { line[name($0)] = $0; next }
  /^#?[A-Z_]+=/ && name($0) in line { print line[name($0)]; next }
  { print }' build/settings.env "$settings" >build/settings.env.new
cmp -s build/settings.env.new "$settings" || cp build/settings.env.new "$settings"
cat "$settings"
# Without a domain there is no certificate, and a sync would wait for one. Other components stay.
overlay=knative/overlays/prod/kustomization.yaml
! grep -q '^components: *\[' "$overlay" || fail "each of the components of $overlay must stand on a line of its own"
if [[ -z ${DOMAIN-} ]]; then
  awk '/^components:/ { head = $0; next } /^ +- \.\.\/\.\.\/public( |$)/ { next }
    head && /^ +-/ { print head } { head = ""; print }' "$overlay" >build/overlay
elif grep -q '^components:' "$overlay"; then
  awk '/^ +- \.\.\/\.\.\/public( |$)/ { next } { print } /^components:/ { print "  - ../../public" }' "$overlay" >build/overlay
else
  { cat "$overlay"; printf 'components:\n  - ../../public\n'; } >build/overlay
fi
cmp -s build/overlay "$overlay" || cp build/overlay "$overlay"
kubectl kustomize "$root" >build/argocd.yaml # names the setting that is missing
kubectl kustomize knative/overlays/prod >build/shelfwatch.yaml

step "cluster"
aws eks update-kubeconfig --region "$AWS_REGION" --name "$NAME" --kubeconfig "$KUBECONFIG"
kubectl wait --for=condition=Ready nodes --all --timeout=10m

step "Argo CD"
application=argocd/platform/argo-cd.yaml # it keeps the version that the Application then keeps
version=$(awk '/chart: argo-cd$/ { found = 1 } found && /targetRevision:/ { print $2; exit }' "$application")
[[ $version ]] || fail "$application names no version of the chart argo-cd"
helm upgrade --install argocd argo-cd --repo https://argoproj.github.io/argo-helm --version "$version" \
  --namespace argocd --create-namespace --values argocd/values.yaml --wait --timeout 10m

step "token between source and function"
kubectl get namespace shelfwatch >/dev/null 2>&1 || kubectl create namespace shelfwatch
if ! kubectl -n shelfwatch get secret shelfwatch-tokens >/dev/null 2>&1; then
  openssl rand -hex 32 | tr -d '\n' |
    kubectl -n shelfwatch create secret generic shelfwatch-tokens --from-file=EVENTS_TOKEN=/dev/stdin
fi

step "password of Grafana"
kubectl get namespace monitoring >/dev/null 2>&1 || kubectl create namespace monitoring
if ! kubectl -n monitoring get secret grafana-admin >/dev/null 2>&1; then
  openssl rand -hex 16 | tr -d '\n' | kubectl -n monitoring create secret generic grafana-admin \
    --from-literal=admin-user=admin --from-file=admin-password=/dev/stdin
fi

# Argo CD's own applications and projects are made of what main says, so main has to say it first.
step "settings on $remote, branch main"
components() { awk '/^components:/ { inside = 1; next } inside && /^ +-/ { print $2; next } { inside = 0 }'; }
pushed() { # tags of images are left to Image Updater, who writes to main
  git fetch --quiet "$remote" main || fail "main of $remote cannot be fetched: what git said is above"
  git diff --quiet FETCH_HEAD -- "$settings" &&
    [[ $(git show "FETCH_HEAD:$overlay" | components) == "$(components <"$overlay")" ]]
}
waited=0
until pushed; do
  ((waited)) || printf 'waits for: git commit -m "Set the account" %s %s && git push %s HEAD:main\n' "$settings" "$overlay" "$remote"
  ((waited < ${PUSH_SECONDS-1800})) || fail "main of $remote has other settings: commit and push, then run this again"
  sleep 5
  waited=$((waited + 5))
done

step "root application"
kubectl apply -k "$root" -l shelfwatch.io/bootstrap=true

################################################################################
# What is left to a person
################################################################################

step "next"
if ! kubectl -n argocd get secret git-creds >/dev/null 2>&1; then
  printf '# Image Updater opens a pull request for each new version; with a token that may write contents and pull requests:\n'
  printf 'KUBECONFIG=build/kubeconfig kubectl -n argocd create secret generic git-creds --from-literal username=git --from-literal password=…\n\n'
fi
terraform -chdir=infra/terraform/cluster output -raw next
echo
terraform -chdir=infra/terraform/shelfwatch output -raw next
