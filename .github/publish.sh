#!/usr/bin/env bash
# Pushes the image that was checked and scanned, not one built anew; signs it and what it holds; tells of it.
# Who we are is known from the workflow's identity: no key is stored.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${VERSION:?the release, of the form 1.2.3}
repository=${REPOSITORY:?where the image goes, such as 000000000000.dkr.ecr.eu-central-1.amazonaws.com/shelfwatch}
name=$repository:$version

docker load --input build/image.tar.gz
docker tag "${IMAGE:-shelfwatch:latest}" "$name"
docker push "$name" # tags are immutable: a version that is there already ends it here
digest=$(docker inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$name" | grep --fixed-strings "$repository@")

cosign sign --yes "$digest"
cosign attest --yes --type cyclonedx --predicate build/sbom.cdx.json "$digest"

base=$(docker inspect --format '{{index .Config.Labels "org.opencontainers.image.base.name"}}' "$name")
printf '\nThe image is %s, built on %s.\n' "$digest" "$base" >>build/notes.md
gh release create "v$version" --target "$(git rev-parse HEAD)" --title "$version" --notes-file build/notes.md build/sbom.cdx.json
