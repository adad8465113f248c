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
# Heartbeats in memory: on a read-only root or a slow disk the worker would look dead.
WORKER_TMP_DIR: Final = "/dev/shm" if os.path.isdir("/dev/shm") else None


def keep_for_good(_worker: object = None) -> None:
    """Leave what a worker starts with out of garbage collection: it stays until the end.

    Else a request in fifteen or so waits for all of it to be looked through: 90 ms. A collection
    before it takes as long, and finds next to nothing.
    """
    gc.freeze()


def address(env: Mapping[str, str], port: int) -> str:
    """Choose where to listen: loopback unless HOST says otherwise, at PORT or the given one."""
    host = env.get("HOST", "127.0.0.1")
    return f"{f'[{host}]' if ':' in host else host}:{env.get('PORT') or port}"
