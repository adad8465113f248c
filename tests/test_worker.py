"""The worker: a caller has so long to send a request, and what gunicorn refuses is a problem."""

import contextlib
import http.client
import inspect
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import GOOD_SAMPLE, ROOT, free_port
from gunicorn.http.errors import InvalidChunkSize, InvalidResponseHeader, LimitRequestLine
from gunicorn.workers.gthread import ThreadWorker

from function.worker import RequestTimeout, TimedSocket, problem_response, status_of
from local.aws import aws_env
from local.processes import running
from local.stack import answers

SECONDS = 3.0  # a test that keeps within them survives a stall of two


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The function under its own gunicorn settings, but for short time-outs."""
    folder, port = tmp_path_factory.mktemp("impatient"), free_port()
    conf = folder / "gunicorn.conf.py"
    conf.write_text(
        "import function.worker\n"
        f"function.worker.REQUEST_SECONDS = function.worker.HEADER_SECONDS = {SECONDS}\n"
        "function.worker.WAITING_SECONDS = 60.0\n"  # else a slow body would end by this one
        + (ROOT / "function" / "gunicorn.conf.py").read_text()
    )
    env = {**aws_env("http://127.0.0.1:9"), "PORT": str(port)}
    with running("The function", ["gunicorn", "-c", str(conf)], env, folder / "log") as child:
        child.wait_until(lambda: answers(f"http://127.0.0.1:{port}/health/ready"), 60)
        yield port, folder / "log"
        child.check()


def drip(port: int, head: bytes) -> tuple[bytes, float]:
    """Send a head and then a byte every tenth of a second; return the answer and when it came."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=0.1) as peer:
        peer.sendall(head)
        while time.monotonic() - started < 10 * SECONDS:
            try:
                answer = peer.recv(65536)
            except TimeoutError:
                peer.sendall(b"x")
            else:
                return answer, time.monotonic() - started
    return b"", time.monotonic() - started


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", id="header"),
        pytest.param(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: 100000\r\n\r\n",
            id="image",
        ),
        pytest.param(
            b"POST /predict HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: multipart/form-data; boundary=X\r\n"
            b"Content-Length: 100000\r\n\r\n",
            id="form",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", id="refused-unread"
        ),
        pytest.param(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n100000\r\n",
            id="chunk",
        ),
        pytest.param(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            b"Origin: http://localhost\r\nContent-Length: 100000\r\n\r\n",
            id="browser",
        ),
    ],
)
def test_who_sends_a_byte_at_a_time_is_answered_in_time(
    impatient: tuple[int, Path], head: bytes
) -> None:
    answer, seconds = drip(impatient[0], head)
    # Chromium sends again by itself what was answered 408 on a connection that it had kept.
    status = b"401" if b"POST / " in head else b"400" if b"Origin: " in head else b"408"
    assert answer.startswith(b"HTTP/1.1 " + status), answer
    assert answer.count(b"HTTP/1.1") == 1
    assert b"application/problem+json" in answer
    assert SECONDS * 0.9 < seconds < 4 * SECONDS


def test_each_request_of_a_connection_has_its_own_time(impatient: tuple[int, Path]) -> None:
    port, log = impatient
    image = GOOD_SAMPLE.read_bytes()
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for _ in range(6):
        client.putrequest("POST", "/predict")
        client.putheader("Content-Type", "image/jpeg")
        client.putheader("Content-Length", str(len(image)))
        client.endheaders()
        connection = client.sock
        time.sleep(SECONDS * 0.2)
        client.send(image)
        answer = client.getresponse()
        assert (answer.status, len(answer.read()) > 1000) == (200, True)
        assert client.sock is connection, "the connection was closed"
    client.close()
    assert '"level": "error"' not in log.read_text()


def test_a_time_out_set_by_gunicorn_stays_its_own() -> None:
    """Its graceful close waits two seconds for the peer, whatever is left of the request's time."""
    one, other = socket.socketpair()
    with TimedSocket(fileno=one.detach()) as timed, other:
        timed.deadline = time.monotonic() + 60
        timed.settimeout(0.05)
        with pytest.raises(TimeoutError):
            timed.recv(10)
        assert timed.gettimeout() == 0.05
        timed.deadline = time.monotonic()
        timed.setblocking(True)
        with pytest.raises(RequestTimeout):
            timed.recv(10)
        other.sendall(b"late, but here")
        assert timed.recv(4) == b"late"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestTimeout(), 408),
        (LimitRequestLine(1, 2), 414),
        (InvalidChunkSize(b"zz"), 400),
        (InvalidResponseHeader("x"), 500),
        (RuntimeError("the secret is 42"), 500),
    ],
)
def test_what_gunicorn_raises_has_a_status(error: Exception, status: int) -> None:
    assert status_of(error) == status
    head, _, body = problem_response(status).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["status"] == status


def test_what_the_worker_overrides_is_still_there() -> None:
    """gunicorn calls these from its own loop, and promises none of them."""
    for name in (
        *("accept", "enqueue_req", "finish_request", "get_thread_pool", "handle"),
        *("handle_error", "init_process", "murder_pending", "run", "_keepalive_after"),
    ):
        assert callable(getattr(ThreadWorker, name)), name
    made = inspect.getsource(ThreadWorker.__init__)
    for name in ("pending_conns", "keepalived_conns", "nr_conns", "poller", "method_queue"):
        assert f"self.{name} =" in made, name
    assert "conn.data_ready" in inspect.getsource(ThreadWorker.handle)
    for name in ("accept", "on_client_socket_readable", "finish_request"):
        assert "self.enqueue_req(conn)" in inspect.getsource(getattr(ThreadWorker, name)), name
    assert "self.murder_pending()" in inspect.getsource(ThreadWorker.run)


def test_probes_are_answered_while_all_other_threads_wait_for_bodies(
    impatient: tuple[int, Path],
) -> None:
    port, _ = impatient
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    with contextlib.ExitStack() as peers:
        for first in [b""] * 200 + [head] * 64 + [head + b"Content-Length: 9\r\n\r\n"] * 64:
            peer = peers.enter_context(socket.create_connection(("127.0.0.1", port)))
            peer.sendall(first)
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        client.request("GET", "/health/live")
        assert client.getresponse().status == 200
        client.close()


MEMORY = """
import resource
from pathlib import Path
from function.worker import tune_malloc

tune_malloc()
pages = lambda: int(Path("/proc/self/statm").read_text().split()[1])
for size in (3_000_000, 30_000_000):
    b"x" * size
    before, faults = pages(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        held = [b"x" * size for _ in range(4)]
        del held
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults, pages() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep")
def test_an_ordinary_photos_memory_is_kept_and_a_large_ones_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    (faults, kept), (_, kept_of_large) = [map(int, x.split()) for x in done.stdout.splitlines()]
    page = os.sysconf("SC_PAGE_SIZE")
    assert faults < 2 * 4 * 3_000_000 / page  # of 40 blocks, the first four and some change
    assert kept < 5 * 3_000_000 / page
    assert kept_of_large < 3_000_000 / page
