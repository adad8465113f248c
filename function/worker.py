"""gunicorn's threaded worker, with time limits on each request and its own refusals as problems.

A thread belongs to a request from its first byte to its last, so a caller who sends a byte a second
would keep one for good. And what gunicorn refuses itself (an endless request line, broken headers)
never reaches the app, yet its callers parse problems, too.
"""

from __future__ import annotations

import ctypes
import json
import logging
import math
import socket
import time

from gunicorn.http.errors import (
    ConfigurationProblem,
    ExpectationFailed,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.gthread import TConn, ThreadWorker

from function.errors import http_problem

log = logging.getLogger(__name__)

# A body of 20 MiB over 6 Mbit/s; together with the work it stays within a Knative Service's 60 s.
REQUEST_SECONDS = 30.0
# For the answer; a proxy in front takes it at once, a phone without one may need a while.
ANSWER_SECONDS = 60.0


# Of glibc, malloc.h. Left alone, it raises the threshold of large blocks to the largest that was
# ever freed, and each thread keeps such blocks: four 50 MP pictures, one after another, took 309 MB
# for 196. With that threshold alone it would give small blocks back, too, and fetch them again for
# the next photo, at 1 800 page faults or 4 ms. So an ordinary photo's memory is kept, in one arena
# for all threads. In two of 16 MB each, memory rose by a tenth over 10 000 photos, whenever two
# large ones met in one; in one of 24 MB it stays, and 12 MP fetch nothing anew either.
MALLOC = {
    -3: 4 * 1024 * 1024,  # M_MMAP_THRESHOLD: blocks from here on go back when they are freed
    -1: 24 * 1024 * 1024,  # M_TRIM_THRESHOLD: free memory to keep in the arena
    -8: 1,  # M_ARENA_MAX
}


class RequestTimeout(ParseException):  # type: ignore[misc]  # gunicorn has no types
    """The request did not arrive in time."""


STATUS: dict[type[Exception], int] = {
    ConfigurationProblem: 500,
    ExpectationFailed: 417,
    InvalidResponseHeader: 500,
    InvalidResponseHeaderName: 500,
    LimitRequestHeaders: 431,
    LimitRequestLine: 414,
    RequestTimeout: 408,
    UnsupportedTransferCoding: 501,
}


class TimedSocket(socket.socket):
    """A socket whose peer has to send its request, and to take its answer, in time."""

    deadline = math.inf  # of the request that is being received, by time.monotonic()

    def setblocking(self, flag: bool) -> None:
        """Block no longer than the peer may take for an answer."""
        self.settimeout(ANSWER_SECONDS if flag else 0.0)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive before the deadline. Raises `RequestTimeout` after it."""
        usual, left = self.gettimeout(), max(0.001, self.deadline - time.monotonic())
        try:
            self.settimeout(left if usual is None else min(usual, left))
            return super().recv(size, flags)
        except TimeoutError as err:
            if time.monotonic() < self.deadline:
                raise
            raise RequestTimeout from err
        finally:
            self.settimeout(usual)


class Worker(ThreadWorker):  # type: ignore[misc]
    """Serve as `ThreadWorker` does, within the limits above."""

    def init_process(self) -> None:
        """Serve until told to stop."""
        tune_malloc()
        super().init_process()

    def handle(self, conn: TConn) -> object:
        """Handle one request on a connection, whose time begins now."""
        if not isinstance(conn.sock, TimedSocket):
            conn.sock = TimedSocket(fileno=conn.sock.detach())
        conn.sock.deadline = time.monotonic() + REQUEST_SECONDS
        return super().handle(conn)

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        try:
            return bool(super()._keepalive_after(conn, keepalive))
        except ParseException:
            return False  # in a body that nobody asked for; its answer is out already

    def handle_error(
        self, req: object, client: socket.socket, addr: object, exc: Exception
    ) -> None:
        """Answer what never reached the app, and what broke under it, with a problem."""
        status = status_of(exc)
        if status == 500:
            log.error("request.failed", exc_info=exc)
        else:
            log.warning("request.refused", extra={"status": status, "error": type(exc).__name__})
        try:
            client.sendall(problem_response(status))
        except OSError:
            log.info("request.gone")  # nobody is left to be told


def tune_malloc() -> None:
    """Have large blocks go back to the system and small ones stay (glibc; elsewhere nothing)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for parameter, value in MALLOC.items():
            mallopt(parameter, value)


def status_of(exc: Exception) -> int:
    """Choose the HTTP status of what gunicorn raises while it reads a request."""
    return STATUS.get(type(exc), 400 if isinstance(exc, ParseException) else 500)


def problem_response(status: int) -> bytes:
    """Write the whole HTTP response of a problem, after which the connection is closed."""
    problem = http_problem(status)
    body = json.dumps(problem).encode()
    head = (
        f"HTTP/1.1 {problem['status']} {problem['title']}\r\n"
        "Content-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body
