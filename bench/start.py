"""From the start of a process to its first answer, on one core, and the memory it then takes.

The files are in the page cache: this measures the start, not the disk. The start of each
contender, server or not, ends with its answer to one picture.
"""

from __future__ import annotations

import compileall
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.compare import BARE, DETECTOR, OPENVINO, THEIRS, Model
from bench.contenders import OUR_HTTP, PLAIN, resident_mib, running_contender
from bench.results import Part, plot, quiet, table
from function.session import write_optimized
from local.processes import ROOT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COPY = f"{OUR_HTTP}, from an optimised copy"
STARTED = {
    "INT8": (BARE, DETECTOR, OUR_HTTP, COPY, OPENVINO),
    "FP32": (OUR_HTTP, THEIRS, PLAIN),
}


@contextmanager
def on_one_core() -> Iterator[None]:
    """Keep this process, and those it starts, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure_starts(
    part: Part, models: list[Model], pictures: dict[str, list[Path]], rounds: int
) -> dict[str, object]:
    """Start everybody `rounds` times, in turns, and write what came of it."""
    files = [path.read_bytes() for paths in pictures.values() for path in paths]
    found: dict[str, dict[str, list[float]]] = {}
    runs = [
        (model, precision, name)
        for model in models
        for precision, names in STARTED.items()
        if precision in model.files
        for name in names
    ]
    for room in ("function", "events", "bench"):  # as an image's build does
        compileall.compile_dir(ROOT / room, quiet=1)
    for number in range(rounds + 1):  # the first fills the page cache
        for model, precision, name in runs:
            file = model_file(part, model.files[precision], optimized=name == COPY)
            start = _start(part, name, file, files if number else files[:1])
            if number:
                row = found.setdefault(f"{model.name}: {name}, {precision}", {})
                for key, value in start.items():
                    row.setdefault(key, []).append(value)
    raw: dict[str, object] = {"rounds": rounds, "found": found}
    part.write(raw, _table(found))
    plot(part.folder / f"{part.name}.png", lambda axes: _draw(axes, found), 2)
    return raw


def model_file(part: Part, model: Path, optimized: bool) -> Path:
    """Put a model where its optimised copy is beside it, or where there is none."""
    folder = part.folder / "models" / ("copy" if optimized else "plain")
    folder.mkdir(parents=True, exist_ok=True)
    file = Path(shutil.copy(model, folder))
    if optimized:
        write_optimized(file)
    return file


def _start(part: Part, name: str, model: Path, files: list[bytes]) -> dict[str, float]:
    with on_one_core():
        started = time.perf_counter()
        contender_name = OUR_HTTP if name == COPY else name
        with running_contender(contender_name, model, part.folder / "logs") as contender:
            ready = time.perf_counter() - started
            contender.ask(files[0])
            answered = time.perf_counter() - started
            rest = resident_mib(contender.processes())
            for data in files:
                contender.ask(data)
            later = resident_mib(contender.processes())
    return {"ready_s": ready, "first_answer_s": answered, "rest_mib": rest, "later_mib": later}


def _table(found: dict[str, dict[str, list[float]]]) -> str:
    head = [
        "one core",
        "ready, s",
        "first answer, s",
        "RSS after it, MiB",
        "RSS after pictures of all sizes, MiB",
    ]
    rows = [
        [
            name,
            _seconds(row["ready_s"], 2),
            _seconds(row["first_answer_s"], 2),
            *[f"{statistics.median(row[key]):.0f}" for key in ("rest_mib", "later_mib")],
        ]
        for name, row in found.items()
    ]
    return table(head, rows)


def _seconds(values: list[float], digits: int) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def _draw(axes: list[Axes], found: dict[str, dict[str, list[float]]]) -> None:
    names = list(found)[::-1]
    for axis, key, label in zip(
        axes, ("first_answer_s", "later_mib"), ("s to the first answer", "MiB"), strict=True
    ):
        axis.barh(range(len(names)), [statistics.median(found[name][key]) for name in names])
        axis.set_yticks(range(len(names)), names if axis is axes[0] else [""] * len(names))
        axis.set_xlabel(label)
        quiet(axis)
