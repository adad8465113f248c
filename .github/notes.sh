#!/usr/bin/env bash
# Writes the CHANGELOG's section of VERSION to build/notes.md; refuses a version that has none.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${VERSION:?the release, of the form 1.2.3}
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || { echo "VERSION is $version, not of the form 1.2.3" >&2; exit 1; }
mkdir -p build
awk -v heading="## $version" '/^## /{inside = index($0 " ", heading " ") == 1; next} inside' CHANGELOG.md >build/notes.md
grep -q '[^[:space:]]' build/notes.md || { echo "CHANGELOG.md has no section ## $version" >&2; exit 1; }
