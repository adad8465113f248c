"""A real function in a memory cgroup of the pod's size, and what it took to answer."""

from __future__ import annotations

import http.client
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from local.aws import aws_env
from local.processes import HOST, free_port, running_program
from local.stack import answers

POD_BYTES = 1280 * 2**20
START_SECONDS = 120
CGROUP_V1, CGROUP_V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
PROBE_PAUSE = 0.1


@dataclass
class Function:
    """The function under test."""

    port: int
    master: int
    log: Path
    cgroup: Path | None

    def worker(self) -> int:
        """Return the one worker's process id."""
        children = Path(f"/proc/{self.master}/task/{self.master}/children").read_text().split()
        return int(children[0]) if children else 0

    def forget_peak(self) -> None:
        """Have the worker's peak begin at what it holds now."""
        Path(f"/proc/{self.worker()}/clear_refs").write_text("5")

    def peak(self) -> int:
        """Return the peak of the worker and what gunicorn's master holds, in MiB."""
        return (_status(self.worker(), "VmHWM") + _status(self.master, "VmRSS")) // 1024

    def kills(self) -> int:
        """Count what the kernel has killed for want of memory; 0 without a cgroup."""
        if not self.cgroup:
            return 0
        events = self.cgroup / "memory.events"
        file = events if events.exists() else self.cgroup / "memory.oom_control"
        counts = dict(line.split() for line in file.read_text().splitlines())
        return int(counts.get("oom_kill", 0))

    def post(
        self,
        body: bytes,
        content_type: str = "image/jpeg",
        path: str = "/predict",
        **headers: str,
    ) -> int:
        """Post a body and return the answer's status; 0 where the connection broke."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=120)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request("POST", path, body, {"Content-Type": content_type, **named})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except OSError:
            return 0
        finally:
            connection.close()


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0


@dataclass
class Prober:
    """Asks whether the function lives, as Kubernetes does, and keeps the slowest answer."""

    port: int
    slowest: float = 0.0
    failed: int = 0
    _end: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask until told to stop."""
        while not self._end.wait(PROBE_PAUSE):
            started = time.monotonic()
            connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
            try:
                connection.request("GET", "/health/live")
                self.failed += connection.getresponse().status != 200
            except OSError:
                self.failed += 1
            finally:
                connection.close()
            self.slowest = max(self.slowest, time.monotonic() - started)

    @classmethod
    @contextmanager
    def probing(cls, port: int) -> Iterator[Prober]:
        """Ask for the length of the block."""
        prober = cls(port)
        thread = threading.Thread(target=prober.run)
        thread.start()
        try:
            yield prober
        finally:
            prober._end.set()
            thread.join()


@contextmanager
def running_limited(folder: Path) -> Iterator[Function]:
    """Run the function for the length of the block, in a cgroup where this machine lets us."""
    port, log = free_port(), folder / "function.log"
    env = {**aws_env("http://127.0.0.1:9"), "HOST": HOST, "PORT": str(port), "EVENTS_AUTH": "none"}
    env["EVENTS_BUCKETS"] = "shelves"
    with _cgroup() as cgroup:
        enter = f"echo $$ > {cgroup}/cgroup.procs && " if cgroup else ""
        gunicorn = [sys.executable, "-m", "gunicorn", "-c", "function/gunicorn.conf.py"]
        command = ["sh", "-c", f'{enter}exec "$@"', "sh", *gunicorn]
        with running_program("The function", command, env, log) as child:
            ready = f"http://{HOST}:{port}/health/ready"
            child.wait_until(lambda: answers(ready), START_SECONDS)
            yield Function(port, child.process.pid, log, cgroup)
            child.check()


@contextmanager
def _cgroup() -> Iterator[Path | None]:
    v2 = (CGROUP_V2 / "cgroup.controllers").exists()
    group = (CGROUP_V2 if v2 else CGROUP_V1) / f"shelfwatch-limits-{os.getpid()}"
    limit = "memory.max" if v2 else "memory.limit_in_bytes"
    try:
        group.mkdir()
        (group / limit).write_text(str(POD_BYTES))
    except OSError:  # not root, or no memory controller here
        if group.exists():
            group.rmdir()
        yield None
        return
    try:
        yield group
    finally:
        for _ in range(50):  # its last processes may still be on their way out
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)
