"""Where a picture's time goes, as an account that adds up to the whole.

In turns, a picture each: the bare inference, the answer over HTTP with the stages that it tells of
itself, a refusal of a form of the same size, and the same audit without a server, whose stages are
measured in processor time. What no line explains is a line of its own.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

from bench.against import cpu_seconds
from bench.compare import BARE
from bench.contenders import OUR_HTTP, Server, running_server, running_worker
from bench.results import Part, table
from function.audit import audit_image
from function.detections import Thresholds
from function.detector import Detector, Timings
from function.metrics import Metrics
from function.worker import tune_malloc

STAGES = ("decode", "preprocess", "queue", "postprocess", "audit")  # beside the inference
REFUSED = 415
Seen = dict[str, list[float]]  # milliseconds, by what took them


class CpuTimings(Timings):
    """Milliseconds of processor that a stage of one audit took, in all threads."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block."""
        start = time.process_time()
        try:
            yield
        finally:
            self[name] = self.get(name, 0.0) + (time.process_time() - start) * 1000


def account(
    part: Part, model: Path, pictures: dict[str, list[Path]], turns: int
) -> dict[str, object]:
    """Measure each part in turns, and write the table of what it sums up to."""
    tune_malloc()  # as the function's process does
    detector = Detector.load(model)
    detector.warm_up()
    seen: dict[str, Seen] = {}
    with ExitStack() as stack:
        logs = part.folder / "logs"
        server = stack.enter_context(running_server(OUR_HTTP, model, logs))
        bare = stack.enter_context(running_worker(BARE, model))
        for size, paths in pictures.items():
            seen[size] = {}
            files = [path.read_bytes() for path in paths]
            for turn in range(turns + 1):
                for data in files:
                    found = _one(server, data) | _audited(detector, data)
                    found["bare"] = bare.ask(data).milliseconds
                    for name, milliseconds in found.items() if turn else ():
                        seen[size].setdefault(name, []).append(milliseconds)
    part.write({"milliseconds": seen}, _table(seen))
    return {"milliseconds": seen}


def _one(server: Server, data: bytes) -> dict[str, float]:
    """Ask for one picture, and for the refusal of one of its size."""
    answer: dict[str, object] = {}

    def ask() -> None:
        status, body = server.post(data)
        assert status == 200
        answer.update(json.loads(body))

    def refused() -> None:
        assert server.post(bytes(len(data)))[0] == REFUSED

    whole, whole_cpu = _timed(server, ask)
    refusal, refusal_cpu = _timed(server, refused)
    timings = answer["timings_ms"]
    assert isinstance(timings, dict)
    started = time.perf_counter()
    json.dumps(answer)
    written = (time.perf_counter() - started) * 1000
    return {
        "whole": whole,
        "whole, CPU": whole_cpu,
        "refusal": refusal,
        "refusal, CPU": refusal_cpu,
        "json": written,
        **timings,
    }


def _timed(server: Server, ask: Callable[[], None]) -> tuple[float, float]:
    spent, started = cpu_seconds(server.child), time.perf_counter()
    ask()
    milliseconds = (time.perf_counter() - started) * 1000
    return milliseconds, (cpu_seconds(server.child) - spent) * 1000


def _audited(detector: Detector, data: bytes) -> dict[str, float]:
    """Audit a picture in this process, by the processor time of its stages."""
    with mock.patch("function.audit.Timings", CpuTimings):
        started = time.process_time()
        result = audit_image(data, detector, Thresholds(), Metrics())
        whole = (time.process_time() - started) * 1000
    spent = {f"{name}, CPU": value for name, value in result["timings_ms"].items()}
    return {**spent, "audited, CPU": whole}


def _table(seen: dict[str, Seen]) -> str:
    columns = [
        _column({key: statistics.median(ms) for key, ms in of.items()}) for of in seen.values()
    ]
    rows = [
        [name, *[f"{column[name][0]:.1f} ({column[name][1]:.1f})" for column in columns]]
        for name in columns[0]
    ]
    return table(["wall (CPU), ms", *seen], rows)


def _column(median: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Set medians into lines that sum up to the last one."""
    bare_cpu = median["inference, CPU"]
    lines = {"session.run alone": (median["bare"], bare_cpu)}
    lines["inference, above it"] = (median["inference"] - median["bare"], 0.0)
    for name in STAGES:
        lines[name] = (median[name], median[f"{name}, CPU"])
    lines["connection, request and form"] = (median["refusal"], median["refusal, CPU"])
    lines["the answer's JSON"] = (median["json"], median["json"])
    wall, cpu = (sum(line[index] for line in lines.values()) for index in (0, 1))
    whole = median["whole"], median["whole, CPU"]
    lines["in no line above"] = (whole[0] - wall, whole[1] - cpu)
    lines["POST /predict"] = whole
    return lines
