#!/bin/sh
# Puts what a requirements file lists into .venv: local/install.sh PYTHON REQUIREMENTS WHAT
# Says what it does while it works, and in one sentence what to do where it cannot.
set -eu
python=$1 requirements=$2 what=$3
log=build/install.log

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

seconds() { date +%s; }

command -v "$python" >/dev/null 2>&1 || fail "$python is not there: install Python 3.11 or newer, or name yours: make PYTHON=python3.12 …"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version 2>&1 || echo "$python") is not 3.11 or newer: make PYTHON=python3.12 …"

mkdir -p build
began=$(seconds)
if [ ! -x .venv/bin/pip ]; then
    printf 'Making .venv with %s …\n' "$python" >&2
    "$python" -m venv .venv >"$log" 2>&1 ||
        fail "$python cannot make a virtual environment: on Debian and Ubuntu, apt-get install python3-venv; what it said is in $log"
fi
printf 'Installing %s into .venv …\n' "$what" >&2
.venv/bin/pip install --disable-pip-version-check --no-input --require-hashes -r "$requirements" >"$log" 2>&1 &
pip=$!
trap 'kill "$pip" 2>/dev/null; exit 130' INT TERM
while kill -0 "$pip" 2>/dev/null; do
    if [ -t 2 ]; then printf '\r%s s ' "$(($(seconds) - began))" >&2; fi
    sleep 1
done
if [ -t 2 ]; then printf '\r' >&2; fi
wait "$pip" || fail "The download failed: check the network, HTTPS_PROXY and pip's index, then run make again; what pip said is in $log"
printf 'Installed in %s s; .venv has %s MB.\n' "$(($(seconds) - began))" "$(du -sm .venv | cut -f1)" >&2
