#!/usr/bin/env bash
# Does what a newcomer does: the README's first commands, word for word, in a copy of the tree and an empty home.
# Prints the seconds and megabytes of each: tests/newcomer.sh [COMMAND…], all of them unless told, such as "make run".
set -euo pipefail
cd "$(dirname "$0")/.."

PORT=${PORT:-18080} AWS_PORT=${AWS_PORT:-14566} BOARD_PORT=${BOARD_PORT:-18081}
export PORT AWS_PORT BOARD_PORT
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
git ls-files -z | xargs -0 cp --parents -t "$home"
cd "$home"

if [ $# -gt 0 ]; then
    commands=("$@")
else
    mapfile -t commands < <(sed -n 's/^    \(make [a-z]*\)\( .*\)\?$/\1/p' README.md)
fi
[ ${#commands[@]} -gt 0 ] || { echo "README.md has no command" >&2; exit 1; }

# Nothing of the person who runs this: neither a virtual environment, nor a cache or a setting of pip's but its index.
clean() {
    env -i HOME="$home" PATH=/usr/local/bin:/usr/bin:/bin PORT="$PORT" AWS_PORT="$AWS_PORT" BOARD_PORT="$BOARD_PORT" CI="${CI:-}" \
        ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} ${PIP_CERT:+PIP_CERT="$PIP_CERT"} \
        ${HTTPS_PROXY:+HTTPS_PROXY="$HTTPS_PROXY"} PIP_NO_CACHE_DIR=1 "$@"
}

# `make run` stays: it has done its work once the page answers and the samples' events are there.
until_it_runs() {
    # shellcheck disable=SC2016 # the inner shell's own number, which is its group's too
    clean setsid sh -c 'echo $$ >running; exec $0' "$1" >out.log 2>err.log &
    local child=$! events=0
    while [ "$events" -lt 6 ]; do
        kill -0 "$child" 2>/dev/null || { cat out.log err.log >&2; return 1; }
        sleep 0.2
        events=$(grep -c '^store-' out.log || true)
    done
    clean curl --silent --fail --output /dev/null "http://127.0.0.1:$PORT/"
    cat err.log out.log >&2
    kill -INT -- "-$(cat running)"
    wait "$child" || true
}

printf '%-16s %8s %8s\n' command seconds MB
for command in "${commands[@]}"; do
    began=$(date +%s)
    if [ "$command" = "make run" ]; then
        until_it_runs "$command"
    else
        # shellcheck disable=SC2086 # a command and its target
        clean $command >out.log 2>err.log || { tail -n 50 out.log err.log >&2; exit 1; }
    fi
    printf '%-16s %8s %8s\n' "$command" "$(($(date +%s) - began))" "$(du -sm .venv | cut -f1)"
done
