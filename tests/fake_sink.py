"""A sink that answers as told and remembers what it acknowledged."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = int | tuple[int, Mapping[str, str], bytes] | None


class FakeSink(ThreadingHTTPServer):
    """`reply` decides the answer to each event: a status, all of it, or None to hang up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply: Callable[[dict[str, object]], Reply] = lambda _: 204
        self.acknowledged: list[dict[str, object]] = []
        self.refused: list[dict[str, object]] = []
        self.authorization: str | None = None
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Print no traceback: a killed source hangs up."""


class Handler(BaseHTTPRequestHandler):
    server: FakeSink
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.authorization = self.headers["authorization"]
        reply = self.server.reply(event)
        status, headers, body = reply if isinstance(reply, tuple) else (reply, {}, b"")
        if status is not None and 200 <= status < 300:
            self.server.acknowledged.append(event)
        else:
            self.server.refused.append(event)
        if status is None:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running_sink(tls: ssl.SSLContext | None = None) -> Iterator[FakeSink]:
    """Serve for the length of the block."""
    with FakeSink() as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
