"""What gunicorn needs to know of every server of ours: the function and the monitor."""

from __future__ import annotations

import gc
import os.path
from collections.abc import Mapping
from typing import Final

# Not a request's time-out with threads: it ends a worker whose main loop has stalled this long.
TIMEOUT: Final = 60
# Longer than the longest request, for which the source waits 55 s; Spot gives notice of 120 s.
GRACEFUL_TIMEOUT: Final = 58
KEEPALIVE: Final = 75  # longer than the proxies in front keep idle connections: they close first
MAX_PORT: Final = 65_535
# Heartbeats in memory: on a read-only root or a slow disk the worker would look dead.
WORKER_TMP_DIR: Final = "/dev/shm" if os.path.isdir("/dev/shm") else None


def keep_for_good(_worker: object = None) -> None:
    """Leave what a worker starts with out of garbage collection: it stays until the end.

    Else a request in fifteen or so waits for all of it to be looked through: 90 ms. A collection
    before it takes as long, and finds next to nothing.
    """
    gc.freeze()


def address(env: Mapping[str, str], port: int) -> str:
    """Choose where to listen: loopback unless HOST says otherwise, at PORT or the given one.

    Raises `SystemExit` with one sentence, as gunicorn reads its settings where nothing logs yet.
    """
    host, text = env.get("HOST") or "127.0.0.1", env.get("PORT") or str(port)
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MAX_PORT):
        msg = f"`PORT` must be a whole number from 1 to {MAX_PORT}, got {text!r}"
        raise SystemExit(msg)
    return f"{f'[{host}]' if ':' in host else host}:{int(text)}"
