"""Who is compared: each in a process of its own, and asked one picture at a time.

Several sessions in one process would spin in each other's way; as processes they wait for their
turn. Peers run with their own defaults, on the same processors.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from function.detections import Thresholds
from function.detector import Detector, postprocess, to_float_nchw
from function.image import read_image
from local.processes import HOST, Child, free_port, running

Run = Callable[[bytes], int]  # JPEG bytes in, the number of boxes out
READY_SECONDS = 180.0
IDLE_SECONDS = 1.0  # uvicorn closes after 5
TICK, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
BOUNDARY = "shelfwatch-bench"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
JPEG = {"content-type": "image/jpeg"}


# --- in a process of their own ---------------------------------------------------------------


def bare_session(model: Path) -> Run:
    """(a) `session.run` as our Detector opens it; the tensor is there already."""
    detector = Detector.load(model)
    session, name = detector.session, detector.model.input_name
    return _bare(detector, lambda tensor: session.run(None, {name: tensor}))


def _bare(detector: Detector, infer: Callable[[Any], object]) -> Run:
    """Time nothing but an inference, of tensors that are made before."""
    tensors: dict[bytes, Any] = {}

    def run(data: bytes) -> int:
        if data not in tensors:
            image = read_image(data, detector.model.input_size)
            tensors[data] = _fed(detector, detector.preprocess(image)[0])
            run(data)
        start = time.perf_counter()
        infer(tensors[data])
        run.milliseconds = (time.perf_counter() - start) * 1000  # type: ignore[attr-defined]  # its own time, for whoever calls it
        return 0

    return run


def our_detector(model: Path) -> Run:
    """(b) From JPEG bytes to detections."""
    detector = Detector.load(model)
    detector.warm_up()
    size = detector.model.input_size
    return lambda data: len(detector.detect(read_image(data, size), Thresholds()))


def ultralytics(model: Path) -> Run:
    """(d) Ultralytics' own predict on the ONNX file, OpenCV decoding as it does."""
    import cv2

    from model.yolo import open_yolo

    yolo, asked = open_yolo(str(model)), Thresholds()
    width, height = Detector.load(model).model.input_size

    def run(data: bytes) -> int:
        (result,) = yolo.predict(
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR),
            imgsz=(height, width),
            conf=asked.confidence,
            iou=asked.iou,
            max_det=asked.max_detections,
            rect=False,
            device="cpu",
            verbose=False,
        )
        return len(result.boxes)

    return run


def openvino(model: Path) -> Run:
    """(f) Our Detector with OpenVINO for its engine, on the same file."""
    infer, detector = _openvino(model)

    def run(data: bytes) -> int:
        image = read_image(data, detector.model.input_size)
        tensor, box = detector.preprocess(image)
        output = infer(_fed(detector, tensor))
        model = detector.model
        found = postprocess(
            output, len(model.names), box, Thresholds(), model.gap_classes, model.context
        )
        return len(found)

    return run


def bare_openvino(model: Path, precision: str = "") -> Run:
    """(f) Nothing but OpenVINO's inference, in the precision that it chooses unless it is told."""
    infer, detector = _openvino(model, precision)
    return _bare(detector, infer)


def _openvino(model: Path, precision: str = "") -> tuple[Callable[[Any], Any], Detector]:
    import openvino

    detector = Detector.load(model)  # reads the file's metadata
    hints = {"PERFORMANCE_HINT": "LATENCY"}
    if precision:
        hints["INFERENCE_PRECISION_HINT"] = precision
    compiled = openvino.Core().compile_model(model, "CPU", hints)
    request = compiled.create_infer_request()
    return lambda tensor: request.infer({0: tensor})[compiled.output(0)], detector


def _fed(detector: Detector, tensor: Any) -> Any:
    return tensor if detector.model.input_dtype == np.uint8 else to_float_nchw(tensor)


IN_PROCESS: dict[str, Callable[[Path], Run]] = {
    "session.run": bare_session,
    "our Detector": our_detector,
    "Ultralytics predict": ultralytics,
    "OpenVINO, bare": bare_openvino,
    "OpenVINO, bare, told f32": partial(bare_openvino, precision="f32"),
    "OpenVINO in our Detector": openvino,
}


# --- how they are asked ----------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """One picture's time and how many boxes were found on it."""

    milliseconds: float
    boxes: int


class Contender(Protocol):
    """Something that is asked for a picture's boxes."""

    def ask(self, data: bytes) -> Answer:
        """Have one picture looked at."""

    def processes(self) -> list[int]:
        """Name its processes."""


def work(connection: Connection, name: str, model: Path) -> None:
    """Answer pictures until the other side hangs up."""
    run = IN_PROCESS[name](model)
    connection.send("ready")
    try:
        while True:
            data = connection.recv_bytes()
            start = time.perf_counter()
            boxes = run(data)
            whole = (time.perf_counter() - start) * 1000
            connection.send(Answer(getattr(run, "milliseconds", whole), boxes))
    except EOFError:
        pass


@dataclass(frozen=True)
class Worker:
    """A contender without a server."""

    process: multiprocessing.process.BaseProcess
    connection: Connection

    def ask(self, data: bytes) -> Answer:
        """Have one picture looked at; its way to the process is not counted."""
        self.connection.send_bytes(data)
        answer: Answer = self.connection.recv()
        return answer

    def processes(self) -> list[int]:
        """Name its process."""
        assert self.process.pid
        return [self.process.pid]


@contextmanager
def running_worker(name: str, model: Path) -> Iterator[Worker]:
    """Run a contender of `IN_PROCESS` for the length of the block."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, name, model), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(READY_SECONDS) or ours.recv() != "ready":
            msg = f"{name} did not start with {model}"
            raise RuntimeError(msg)
        yield Worker(process, ours)
    finally:
        ours.close()
        process.join(5)
        process.kill()


@dataclass
class Server:
    """A contender that answers HTTP on loopback.

    It gets a form with one file, as browsers send it, or the picture alone, as cameras do.
    """

    child: Child
    port: int
    boxes: str  # the answer's field that lists them
    plain: bool = False  # the picture alone
    _client: http.client.HTTPConnection | None = None
    _used: float = 0.0

    def ask(self, data: bytes) -> Answer:
        """Have one picture looked at, from the request's first byte to the answer's last."""
        self._connect()
        start = time.perf_counter()
        status, body = self.post(data)
        milliseconds = (time.perf_counter() - start) * 1000
        if status != 200:
            msg = f"{self.child.name} answered {status}: {body[:200]!r}"
            raise RuntimeError(msg)
        return Answer(milliseconds, len(json.loads(body)[self.boxes]))

    def post(self, data: bytes) -> tuple[int, bytes]:
        """Send a picture over the connection that is kept."""
        client = self._connect()
        body, headers = ([data], JPEG) if self.plain else (form_parts(data), FORM)
        length = str(sum(map(len, body)))
        # In parts: joined, a large picture would be copied three times before its first byte left.
        client.request("POST", "/predict", body, headers | {"content-length": length})
        answer = client.getresponse()
        self._used = time.monotonic()
        return answer.status, answer.read()

    def _connect(self) -> http.client.HTTPConnection:
        """Connect, anew where the server may have closed a connection that was idle."""
        if self._client is None or time.monotonic() - self._used > IDLE_SECONDS:
            self._client = http.client.HTTPConnection(HOST, self.port, timeout=120)
            self._client.connect()
            self._used = time.monotonic()
        return self._client

    def processes(self) -> list[int]:
        """Name the server's processes: it leads a session of its own."""
        return in_session(self.child.process.pid)


def form(data: bytes) -> bytes:
    """Wrap a picture as a form's part named file."""
    return b"".join(form_parts(data))


def form_parts(data: bytes) -> list[bytes]:
    """Wrap a picture as `form` does, without a copy of it."""
    head = (
        f"--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="file"; filename="shelf.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return [head.encode(), data, f"\r\n--{BOUNDARY}--\r\n".encode()]


@contextmanager
def running_server(
    name: str, model: Path, logs: Path, env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run our HTTP or the plain server for the length of the block, once it answers."""
    port = free_port()
    with started_server(name, model, port, logs, env or {}) as child:
        server = Server(child, port, "detections", plain=name == OUR_HTTP_PLAIN)
        path = "/openapi.json" if name == PLAIN else "/health/ready"
        child.wait_until(lambda: answers(port, path), READY_SECONDS)
        yield server


OUR_HTTP, OUR_HTTP_PLAIN = "our HTTP", "our HTTP, no form"
PLAIN = "FastAPI + ONNX Runtime"


@contextmanager
def started_server(
    name: str, model: Path, port: int, logs: Path, env: Mapping[str, str]
) -> Iterator[Child]:
    """Start a server; it may not answer yet."""
    logs.mkdir(parents=True, exist_ok=True)
    settings = {**os.environ, "EVENTS_AUTH": "none", "PORT": str(port), **env}
    if name != PLAIN:
        settings["SHELFWATCH_MODEL"] = str(model.absolute())
        command = ["gunicorn", "-c", "function/gunicorn.conf.py"]
    else:
        settings["MODEL"] = str(model.absolute())
        command = ["uvicorn", "bench.plain_server:app", "--port", str(port)]
        command += ["--log-level", "warning"]
    with running(name, command, settings, logs / f"{port}.log") as child:
        yield child


def answers(port: int, path: str) -> bool:
    """Tell whether a GET on loopback gets a 200."""
    client = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        client.request("GET", path)
        return client.getresponse().status == 200
    except OSError:
        return False
    finally:
        client.close()


@contextmanager
def running_contender(name: str, model: Path, logs: Path) -> Iterator[Contender]:
    """Run whichever contender has that name."""
    if name in IN_PROCESS:
        with running_worker(name, model) as worker:
            yield worker
    else:
        with running_server(name, model, logs) as server:
            yield server


# --- what the kernel says of them ------------------------------------------------------------


def in_session(leader: int) -> list[int]:
    """Find the processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            found.append(int(stat.parent.name))
    return found


def cpu_seconds(processes: list[int]) -> float:
    """Sum the user and system time of processes."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def resident_mib(processes: list[int]) -> float:
    """Sum the resident memory of processes; what they share counts for each."""
    pages = sum(int(Path(f"/proc/{process}/statm").read_text().split()[1]) for process in processes)
    return pages * PAGE / 2**20


if sys.platform != "linux":
    raise SystemExit("The bench reads /proc: it runs on Linux")
