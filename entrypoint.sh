#!/bin/sh
# The image's commands, given as container args. Each takes this shell's place, and so gets the signals.
set -eu

command=${1:-function}
[ $# -eq 0 ] || shift

case $command in
  function) exec gunicorn -c function/gunicorn.conf.py "$@" ;;
  source) exec python -m events.source "$@" ;;
  monitor) exec gunicorn -c monitor/gunicorn.conf.py "$@" ;;
  migrate | silence | digest) exec python -m "monitor.$command" "$@" ;;
  replay | sweep) exec python -m "events.repair.$command" "$@" ;;
  rollout) exec python -m knative.rollout "$@" ;;
  *)
    echo "$command is none of function, source, monitor, migrate, silence, digest, replay, sweep, rollout" >&2
    exit 2
    ;;
esac
