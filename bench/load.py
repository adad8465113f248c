"""Rising load, until and beyond what the server can do: what is answered, how fast, what is shed.

Requests come at random moments (Poisson) at a rate that does not wait for answers, as from many
cameras; a latency counts from the moment a request was due. The steps are multiples of what three
clients in a closed loop get through, measured in turns with the bare inference in a loop. In the
last steps two uploads trickle in, a byte at a time, and in all of them the live probe is asked ten
times a second. wrk, where it is installed, holds a closed loop against it. The load comes from the
same machine and takes its share of it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from bench.compare import BARE
from bench.contenders import (
    BOUNDARY,
    FORM,
    OUR_HTTP,
    Server,
    Worker,
    form,
    running_server,
    running_worker,
)
from bench.results import Part, plot, quantile, quiet, table
from local.processes import HOST

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = "2 MP"  # what a fixed camera sends
STEPS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.5, 2.0, 4.0)
SHORT_STEPS = (0.5, 1.0, 4.0)
SLOW_FROM, SLOW_UPLOADS = 1.5, 2
CLIENTS = 96  # requests that may be under way at a time
LIVE_EVERY = 0.1  # seconds
WRK_CONNECTIONS = (1, 2, 3, 8)
# The knee: the highest load at which less than a hundredth is refused.
REFUSED_AT_KNEE = 0.01
CGROUPS = Path("/sys/fs/cgroup")
PERIOD = "100000"  # microseconds; both versions' default


@dataclass
class Step:
    """One load, and what came of it."""

    load: float  # of what a closed loop gets through
    rate: float  # requests a second that were due
    seconds: float
    accepted: list[float] = field(default_factory=list)  # milliseconds
    answers: list[str] = field(default_factory=list)  # statuses, or errors in their place
    live: list[float] = field(default_factory=list)  # milliseconds

    @property
    def refused(self) -> float:
        """Return the share of requests that were answered 503."""
        return self.answers.count("503") / max(1, len(self.answers))

    def json(self) -> dict[str, object]:
        """Write all there is to know, the answers counted."""
        return {**vars(self), "answers": Counter(self.answers)}


def measure_load(
    part: Part, model: Path, pictures: dict[str, list[Path]], one_core: bool
) -> dict[str, object]:
    """Load the server step by step, and write what came of it."""
    picture = pictures[SIZE][0]
    data, seconds = picture.read_bytes(), part.choose(4, 10)
    env = {"SHELFWATCH_THREADS": "1"} if one_core else {}
    with ExitStack() as stack:
        server = stack.enter_context(running_server(OUR_HTTP, model, part.folder / "logs", env))
        limit = stack.enter_context(limited(server.processes())) if one_core else "none"
        unloaded = [server.ask(data).milliseconds for _ in range(part.choose(10, 40))]
        bare_rates, rates = [], []
        with running_worker(BARE, model) as bare:
            for _ in range(part.choose(1, 3)):
                if not one_core:  # the limit is not its
                    bare_rates.append(bare_loop(bare, data, seconds))
                rates.append(closed_loop(server, data, seconds))
        capacity = statistics.median(rates)
        steps = [
            run_step(server, data, load, load * capacity, seconds)
            for load in (STEPS if part.full else SHORT_STEPS)
        ]
        wrk = []
        for connections in WRK_CONNECTIONS:
            while server.post(data)[0] != 200:  # wrk leaves requests behind
                time.sleep(0.5)
            wrk.append(run_wrk(server, picture, connections, seconds))
    alone = statistics.median(unloaded)
    raw: dict[str, object] = {
        "size": SIZE,
        "limit": limit,
        "unloaded_ms": unloaded,
        "closed_loop_per_second": capacity,
        "bare_loop_per_second": bare_rates,
        "steps": [step.json() for step in steps],
        "wrk": [found for found in wrk if found],
    }
    part.write(raw, _tables(limit, alone, capacity, bare_rates, steps, wrk))
    plot(part.folder / f"{part.name}.png", lambda axes: _draw(axes, steps, alone), 2)
    return raw


# --- one core --------------------------------------------------------------------------------


@contextmanager
def limited(processes: list[int]) -> Iterator[str]:
    """Give processes one core: by a cgroup's quota, or else by affinity. Yields how."""
    made = _cgroup()
    if made is None:
        core = min(os.sched_getaffinity(0))
        for process in processes:
            for thread in Path(f"/proc/{process}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {core})
        yield "affinity to one core"
        return
    for process in processes:
        (made / "cgroup.procs").write_text(str(process))
    try:
        yield f"a cgroup with a quota of one core ({made.parent})"
    finally:
        for left in (made / "cgroup.procs").read_text().split():
            (made.parent / "cgroup.procs").write_text(left)
        made.rmdir()


def _cgroup() -> Path | None:
    """Make a group with a quota of one core, of version 1 or 2; None where that is not allowed."""
    name = f"shelfwatch-bench-{os.getpid()}"
    ways = {CGROUPS / "cpu" / name: "cpu.cfs_quota_us", CGROUPS / name: "cpu.max"}
    for folder, quota in ways.items():
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / quota).write_text(PERIOD)  # as long as the period: one core
        except OSError:
            folder.rmdir()
        else:
            return folder
    return None


# --- load ------------------------------------------------------------------------------------


def bare_loop(worker: Worker, data: bytes, seconds: float) -> float:
    """Return the inferences a second of `session.run` in a loop, nothing around it."""
    worker.ask(data)
    until, count = time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        worker.ask(data)
        count += 1
    return count / seconds


def closed_loop(server: Server, data: bytes, seconds: float, clients: int = 3) -> float:
    """Return the pictures a second that clients get, each of which waits for its answer."""
    until, counts = time.perf_counter() + seconds, [0] * clients

    def client(index: int) -> None:
        own = Server(server.child, server.port, server.boxes)
        while time.perf_counter() < until:
            counts[index] += own.post(data)[0] == 200

    threads = [threading.Thread(target=client, args=(index,)) for index in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def run_step(server: Server, data: bytes, load: float, rate: float, seconds: float) -> Step:
    """Send pictures at a rate, whatever becomes of them."""
    step, stop, body = Step(load, rate, seconds), threading.Event(), form(data)
    connections = threading.local()
    moments = random.Random(load)

    def send(due: float) -> None:
        if not hasattr(connections, "own"):
            connections.own = HTTPConnection(HOST, server.port, timeout=60)
        try:
            connections.own.request("POST", "/predict", body, FORM)
            answer = connections.own.getresponse()
            answer.read()
        except (OSError, HTTPException) as err:
            connections.own.close()
            step.answers.append(type(err).__name__)
            return
        step.answers.append(str(answer.status))
        if answer.status == 200:
            step.accepted.append((time.perf_counter() - due) * 1000)

    slow = [slow_upload(server.port, stop) for _ in range(SLOW_UPLOADS if load >= SLOW_FROM else 0)]
    probe = threading.Thread(target=ask_live, args=(server.port, step, stop))
    probe.start()
    with ThreadPoolExecutor(CLIENTS) as clients:
        due = time.perf_counter()
        until = due + seconds
        while (due := due + moments.expovariate(rate)) < until:
            time.sleep(max(0.0, due - time.perf_counter()))
            clients.submit(send, due)
    stop.set()
    for thread in (probe, *slow):
        thread.join()
    return step


def ask_live(port: int, step: Step, stop: threading.Event) -> None:
    """Probe as a kubelet does, on a new connection each time, but more often."""
    while not stop.wait(LIVE_EVERY):
        client = HTTPConnection(HOST, port, timeout=10)
        start = time.perf_counter()
        try:
            client.request("GET", "/health/live")
            client.getresponse().read()
            step.live.append((time.perf_counter() - start) * 1000)
        except OSError as err:
            step.answers.append(f"live: {type(err).__name__}")
        finally:
            client.close()


def slow_upload(port: int, stop: threading.Event) -> threading.Thread:
    """Begin a picture and send a byte of it now and then."""

    def trickle() -> None:
        with socket.create_connection((HOST, port)) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: bench\r\nContent-Length: 1000000\r\n"
                + f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n".encode()
            )
            while not stop.wait(0.2):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return  # the server gave up on it

    thread = threading.Thread(target=trickle)
    thread.start()
    return thread


def run_wrk(
    server: Server, picture: Path, connections: int, seconds: float
) -> dict[str, float] | None:
    """Run wrk with so many connections; None where it is not installed."""
    wrk = shutil.which("wrk")
    if not wrk:
        return None
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "30s", "-s"]
    command += [str(Path(__file__).with_name("post.lua")), f"http://{HOST}:{server.port}/predict"]
    done = subprocess.run(
        command, env={**os.environ, "PICTURE": str(picture)}, capture_output=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {"connections": connections, **found}


# --- what it says ----------------------------------------------------------------------------


def knee(steps: list[Step]) -> float:
    """Return the highest rate at which hardly anything was refused; 0 where none was served."""
    return max((step.rate for step in steps if step.refused < REFUSED_AT_KNEE), default=0.0)


def _tables(
    limit: str,
    alone: float,
    capacity: float,
    bare_rates: list[float],
    steps: list[Step],
    wrk: list[dict[str, float] | None],
) -> str:
    of_bare = ""
    if bare_rates:
        of_bare = f", {capacity / statistics.median(bare_rates):.2f} x the bare inference in a loop"
    said = (
        f"{SIZE}, limit: {limit}. Unloaded p50 {alone:.0f} ms; three clients in a closed loop get "
        f"{capacity:.1f} pictures a second{of_bare}; knee at {knee(steps):.1f} a second."
    )
    head = ["load", "due/s", "answered/s", "503", "other", "p50", "p95", "p99"]
    head += ["p95 / unloaded p50", "live p99", "live max"]
    rows = [_row(step, alone) for step in steps]
    tables = [said, table(head, rows)]
    found = [
        [
            f"wrk, {run['connections']:.0f} connections",
            f"{(run['requests'] - run['refused']) / run['seconds']:.1f}",
            *[f"{run[key]:.0f}" for key in ("refused", "broken", "p50", "p95", "p99")],
        ]
        for run in wrk
        if run
    ]
    if found:
        head = ["closed loop", "200 a second", "503", "broken", "p50", "p95", "p99"]
        tables.append(table(head, found))
    return "\n\n".join(tables)


def _row(step: Step, alone: float) -> list[str]:
    other = [answer for answer in step.answers if answer not in ("200", "503")]
    return [
        f"{step.load} x",
        f"{step.rate:.1f}",
        f"{len(step.accepted) / step.seconds:.1f}",
        f"{step.refused:.0%}",
        str(len(other)),
        *[f"{quantile(step.accepted, share):.0f}" for share in (0.5, 0.95, 0.99)],
        f"{quantile(step.accepted, 0.95) / alone:.1f}",
        f"{quantile(step.live, 0.99):.0f}",
        f"{max(step.live, default=float('nan')):.0f}",
    ]


def _draw(axes: list[Axes], steps: list[Step], alone: float) -> None:
    rates = [step.rate for step in steps]
    latency, throughput = axes
    for share in (0.5, 0.95, 0.99):
        taken = [quantile(step.accepted, share) for step in steps]
        latency.plot(rates, taken, "o-", markersize=3, label=f"p{share * 100:.0f}")
    latency.axhline(alone, color="grey", linewidth=0.8, label="unloaded p50")
    latency.set_ylabel("ms, accepted requests")
    latency.set_ylim(bottom=0)
    done = [len(step.accepted) / step.seconds for step in steps]
    refused = [step.rate * step.refused for step in steps]
    throughput.plot(rates, done, "o-", markersize=3, label="answered")
    throughput.plot(rates, refused, "o-", markersize=3, label="refused (503)")
    throughput.set_ylabel("a second")
    for axis in axes:
        axis.axvline(knee(steps), color="tab:red", linestyle=":", label="knee")
        axis.set_xlabel("requests a second")
        axis.legend(frameon=False, fontsize=8)
        quiet(axis)
