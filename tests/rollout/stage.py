"""A stand-in for a cluster on this machine: the fake's API over HTTP, and a traffic splitter.

The splitter leads requests to real function processes as the fake's Route is programmed.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import urllib3

from tests.rollout.fake_knative import FakeKnative, answer

HOST = "127.0.0.1"
TICK_SECONDS = 0.02
PAUSE_SECONDS = 0.2  # between two questions of a user
PACE = 10  # seconds of the fake's time in one of ours
KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{{name: fake, cluster: {{server: "{url}"}}}}]
contexts: [{{name: fake, context: {{cluster: fake, user: nobody}}}}]
current-context: fake
users: [{{name: nobody, user: {{}}}}]
"""


@dataclass
class Stage:
    """The fake, under a lock, where it listens, and what its gateways lead to."""

    knative: FakeKnative
    backends: Mapping[str, str]  # URL of the function process of each revision
    lock: threading.Lock = field(default_factory=threading.Lock)
    urls: dict[str, str] = field(default_factory=dict)  # of the tags; "" is everybody's
    api_url: str = ""

    def backend(self, tag: str) -> str:
        """Choose who answers, as the Route is programmed; raises `LookupError` for nobody."""
        with self.lock:
            routed = [t for t in self.knative.routed if not tag or t.get("tag") == tag]
        shares = [1 if tag else t["percent"] for t in routed]
        if not sum(shares):
            raise LookupError(tag)
        return self.backends[random.choices(routed, shares)[0]["revisionName"]]


Handle = Callable[[BaseHTTPRequestHandler, bytes], tuple[int, str, bytes]]


@contextmanager
def serving(handle: Handle, **headers: str) -> Iterator[str]:
    """Serve HTTP on a free port for the length of the block; yields the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, content_type, data = handle(self, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def running_stage(backends: Mapping[str, str]) -> Iterator[Stage]:
    """Serve API and splitter for the length of the block, time passing."""
    stage = Stage(FakeKnative(), backends)
    http = urllib3.PoolManager(retries=False, maxsize=16)

    def api(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        content_type = request.headers.get("content-type", "")
        with stage.lock:
            response = answer(
                stage.knative.handle, request.command, request.path, body, content_type
            )
        return response.status, "application/json", response.data

    def gateway(tag: str) -> Handle:
        def lead(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
            headers = {k: v for k, v in request.headers.items() if k.lower() == "content-type"}
            try:
                url = stage.backend(tag) + request.path
            except LookupError:
                return 404, "text/plain", b"no such host"
            response = http.request(request.command, url, body=body, headers=headers)
            return response.status, response.headers["content-type"], response.data

        return lead

    over = threading.Event()

    def pass_time() -> None:
        last = time.monotonic()
        while not over.wait(TICK_SECONDS):
            now = time.monotonic()
            with stage.lock:
                stage.knative.advance((now - last) * PACE)
            last = now

    with ExitStack() as stack:
        stage.api_url = stack.enter_context(serving(api))
        for tag in ("", "stable", "candidate"):
            stage.urls[tag] = stack.enter_context(serving(gateway(tag)))
        stage.knative.url_of = stage.urls.__getitem__
        clock = threading.Thread(target=pass_time, daemon=True)
        clock.start()
        try:
            yield stage
        finally:
            over.set()
            clock.join()


def write_kubeconfig(folder: Path, api_url: str) -> Path:
    """Write a kubeconfig that leads to the fake."""
    path = folder / "kubeconfig"
    path.write_text(KUBECONFIG.format(url=api_url))
    return path


class Load:
    """One user who keeps asking; every answer is kept."""

    def __init__(self, url: str, picture: bytes) -> None:
        self.url = url
        self.picture = picture
        self.answers: list[tuple[int, str]] = []  # status, revision
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        http = urllib3.PoolManager(retries=False)
        headers = {"content-type": "image/jpeg"}
        while not self._over.wait(PAUSE_SECONDS):
            response = http.request(
                "POST", f"{self.url}/predict", body=self.picture, headers=headers
            )
            revision = response.json()["model"]["revision"] if response.status == 200 else ""
            self.answers.append((response.status, revision))
