#!/usr/bin/env bash
# Offers a pull request by which source, sweep, replay and the conductor run from the version that has all of the traffic.
# COMMIT is what Argo CD has brought out; main may name a later candidate already.
set -euo pipefail
cd "$(dirname "$0")/.."

overlay=knative/overlays/prod/kustomization.yaml
tag() { awk -v name="$1" '$2 == "name:" { ours = $3 == name } ours && $1 == "newTag:" { print $2; exit }'; }

version=$(git show "${COMMIT:-HEAD}:$overlay" | tag shelf-detector)
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || { echo "$overlay names no release of shelf-detector: ${version:-nothing}" >&2; exit 1; }
if [[ $(tag shelfwatch <"$overlay") == "$version" ]]; then
  echo "everything runs from $version already"
  exit
fi
branch=promoted-$version
if git ls-remote --exit-code --heads origin "$branch" >/dev/null; then
  echo "$branch is offered already"
  exit
fi

written=$(awk -v version="$version" '$2 == "name:" { ours = $3 == "shelfwatch" }
  ours && $1 == "newTag:" { sub(/newTag: .*/, "newTag: " version) } { print }' "$overlay")
printf '%s\n' "$written" >"$overlay"
git switch --quiet --create "$branch"
git -c user.name=promoted -c user.email=promoted@users.noreply.github.com commit --quiet --all --message "Run everything from $version"
git push --quiet origin "$branch"
gh pr create --base main --head "$branch" --title "Run everything from $version" \
  --body "The function has all of its traffic on $version. With this, source, sweep, replay and the conductor run from it, too."
