"""gunicorn's threaded worker, with time limits on each request and its own refusals as problems.

A thread belongs to a request from its headers to its last byte, so a caller who sends a byte a
second would keep one for good. Connections wait for their headers without one, and probes have
threads of their own. And what gunicorn refuses itself (an endless request line, broken headers)
never reaches the app, yet its callers parse problems, too.

It overrides what gunicorn calls internal; pyproject.toml holds gunicorn below its next major.
"""

from __future__ import annotations

import ctypes
import json
import logging
import math
import resource
import selectors
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

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
# From the connection, or from the first byte of its next request, to the end of the headers.
HEADER_SECONDS = 10.0
# What of the headers is kept without a thread: Knative's take 2 KiB, gunicorn's limit is 800.
MAX_HEAD = 16 * 1024
# A body may keep its reader waiting so long, and as long again as its bytes take at this rate: EDGE
# networks bring a quarter of it, 3G all of it.
WAITING_SECONDS = 5.0
LEAST_RATE = 64 * 1024  # bytes a second
# Probes are answered while all other threads wait for bodies, and take no time themselves.
PROBES = (b"GET /health", b"GET /v2/health")
PROBE_THREADS = 4
PROBE_SECONDS = 1.0
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


# Of the files that a process may have open, those that are no connections; and where there is no
# limit, more than gunicorn's setting asks for.
OTHER_FILES, MAX_FILES = 100, 65_536


# Of a whole number in JSON, the fewest that Python can be held to. Reading one takes the square of
# its digits: 20 MiB in numbers of 4 300 digits, Python's own limit, keep all threads waiting for a
# second.
MAX_DIGITS = 640


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

    head = b""  # received before the request had a thread
    deadline = math.inf  # of the request that is being received, by time.monotonic()
    patience = ANSWER_SECONDS
    waited = received = 0.0  # seconds that the request's bytes were waited for, and how many came

    def begin(self, probe: bool) -> None:
        """Begin a request: its time is counted from now on."""
        self.deadline = time.monotonic() + (PROBE_SECONDS if probe else REQUEST_SECONDS)
        self.patience = PROBE_SECONDS if probe else ANSWER_SECONDS
        self.waited = self.received = 0.0

    def setblocking(self, flag: bool) -> None:
        """Block no longer than the peer may take for an answer."""
        self.settimeout(self.patience if flag else 0.0)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive before the deadline, and at the least rate. Raises `RequestTimeout`."""
        usual, started = self.gettimeout(), time.monotonic()
        left = max(0.001, self.deadline - started)
        if self.deadline < math.inf:
            slack = WAITING_SECONDS + self.received / LEAST_RATE - self.waited
            if slack <= 0:
                raise RequestTimeout
            left = min(left, slack)
        try:
            self.settimeout(left if usual is None else min(usual, left))
            data = super().recv(size, flags)
            self.received += len(data)
            return data
        except TimeoutError as err:
            if usual is not None and time.monotonic() - started < left:
                raise
            raise RequestTimeout from err
        finally:
            self.waited += time.monotonic() - started
            self.settimeout(usual)

    def receive_head(self) -> bool:
        """Take what has come of a request's headers; tell whether a thread is to go on.

        That is when they are whole, or longer than is kept here, or when the peer has stopped.
        """
        try:
            data = super().recv(MAX_HEAD - len(self.head))
        except (BlockingIOError, InterruptedError):
            return False
        end = self.head[-3:] + data
        self.head += data
        return not data or b"\r\n\r\n" in end or len(self.head) >= MAX_HEAD


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serve as `ThreadWorker` does, within the limits above."""

    def init_process(self) -> None:
        """Serve until told to stop."""
        tune_malloc()
        sys.set_int_max_str_digits(MAX_DIGITS)
        self.worker_connections: int = min(self.cfg.worker_connections, open_files() - OTHER_FILES)
        self.max_keepalived = self.worker_connections - self.cfg.threads
        self.probe_pool = ThreadPoolExecutor(PROBE_THREADS, "probe")
        super().init_process()

    def get_thread_pool(self) -> ThreadPoolExecutor:
        """Make the threads that requests have, but for the probes'."""
        return ThreadPoolExecutor(self.cfg.threads - PROBE_THREADS)

    def run(self) -> None:
        """Serve until told to stop, and end what is still in flight then."""
        try:
            super().run()
        finally:
            self.probe_pool.shutdown(wait=False)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection; where there is no room, the longest idle one makes it."""
        if self.nr_conns >= self.worker_connections - 1:
            self._drop_idle()
        super().accept(listener)

    def enqueue_req(self, conn: TConn) -> None:
        """Give a request a thread as soon as its headers are there."""
        if not isinstance(conn.sock, TimedSocket):
            conn.sock = TimedSocket(fileno=conn.sock.detach())
        if conn.parser and conn.parser.unreader.buf.getvalue():
            self._submit(conn, b"")  # of requests that were sent one after another
            return
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + HEADER_SECONDS
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, lambda client: self._read_head(conn))
        self._read_head(conn)

    def _read_head(self, conn: TConn) -> None:
        try:
            if not conn.sock.receive_head():
                return
        except OSError:
            self._forget(conn)
            conn.close()
            return
        self.poller.unregister(conn.sock)
        self.pending_conns.remove(conn)
        head, conn.sock.head = conn.sock.head, b""
        self._submit(conn, head)

    def _submit(self, conn: TConn, head: bytes) -> None:
        """Have a thread handle the request that begins with `head`."""
        conn.data_ready = True
        conn.sock.begin(head.startswith(PROBES))
        conn.init()
        conn.sock.setblocking(True)
        conn.parser.unreader.unread(head)
        pool = self.probe_pool if head.startswith(PROBES) else self.tpool
        done = pool.submit(self.handle, conn)
        done.add_done_callback(
            lambda future: self.method_queue.defer(self.finish_request, conn, future)
        )

    def murder_pending(self) -> None:
        """Close connections whose headers did not come in time; while stopping, all silent ones."""
        now = time.monotonic()
        for conn in list(self.pending_conns):
            if conn.timeout < now or not (self.alive or conn.sock.head):
                self._forget(conn)
                if conn.sock.head:
                    self.handle_error(None, conn.sock, conn.client, RequestTimeout())
                conn.close()

    def _drop_idle(self) -> None:
        silent = (conn for conn in self.pending_conns if not conn.sock.head)
        idle = next(silent, None) or next(iter(self.keepalived_conns), None)
        if idle:
            self._forget(idle)
            idle.close()

    def _forget(self, conn: TConn) -> None:
        self.poller.unregister(conn.sock)
        (self.pending_conns if conn in self.pending_conns else self.keepalived_conns).remove(conn)
        self.nr_conns -= 1

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


def open_files() -> int:
    """Raise the number of files that this process may have open as far as it may; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return MAX_FILES if soft == resource.RLIM_INFINITY else soft


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
