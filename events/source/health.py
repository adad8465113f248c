"""Metrics and health of the source over HTTP, on a port of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Check = Callable[[], bool]


@contextmanager
def serving_health(
    host: str, port: int, registry: CollectorRegistry, live: Check, ready: Check
) -> Iterator[int]:
    """Serve `/metrics`, `/health/live` and `/health/ready` for the length of the block.

    Yields the port, which is a free one where 0 was asked for.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            checks = {"/health/live": live, "/health/ready": ready}
            if self.path == "/metrics":
                self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
            elif check := checks.get(self.path):
                ok = check()
                self._answer(200 if ok else 503, b"ok\n" if ok else b"no\n")
            else:
                self._answer(404, b"There is nothing here\n")

        def _answer(self, status: int, body: bytes, content_type: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: probes come every few seconds."""

    with ThreadingHTTPServer((host, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
