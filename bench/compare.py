"""Side by side in one run: the same pictures, the same model, everybody in turns.

A turn is a few pictures of one size by one contender; the order is shuffled each time, so that
whatever else the machine does slows all alike. A pause lets the threads of the one before, which
spin for a while, come to rest; it also lets the caches go cold. `overhead` measures what the
service adds to the bare inference in steady work: no contender spins there, so none has to pause.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.contenders import (
    OUR_HTTP,
    OUR_HTTP_PLAIN,
    PLAIN,
    Contender,
    cpu_seconds,
    running_contender,
)
from bench.results import Part, format_ratio, plot, quantile, quiet, ratio, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAUSE_SECONDS = 0.25
STEADY = 5  # times that each picture is asked for in a turn of `overhead`
BARE, DETECTOR, THEIRS = "session.run", "our Detector", "Ultralytics predict"
BARE_OPENVINO, OPENVINO = "OpenVINO, bare", "OpenVINO in our Detector"
OPENVINO_F32 = "OpenVINO, bare, told f32"
# Ultralytics' predict and the plain server feed floats in planes, so they run the float parent.
CONTENDERS = {
    "INT8": (BARE, DETECTOR, OUR_HTTP, OUR_HTTP_PLAIN, BARE_OPENVINO, OPENVINO),
    "FP32": (BARE, DETECTOR, OUR_HTTP, THEIRS, PLAIN, BARE_OPENVINO, OPENVINO_F32, OPENVINO),
}
LAYERS = {"INT8": (BARE, DETECTOR, OUR_HTTP, OUR_HTTP_PLAIN)}  # none of them spins


@dataclass(frozen=True)
class Pace:
    """How the contenders take turns."""

    turns: int
    times: int = 1  # that each picture is asked for in a turn
    pause: float = PAUSE_SECONDS


@dataclass(frozen=True)
class Model:
    """A network in its files, by precision; a file may be missing."""

    name: str
    files: dict[str, Path]


@dataclass
class Record:
    """What one contender did with the pictures of one size."""

    milliseconds: list[float]
    cpu_milliseconds: float
    boxes: list[int]


Records = dict[tuple[str, str, str], Record]  # by size, precision, contender


def compare(
    part: Part, model: Model, pictures: dict[str, list[Path]], turns: int
) -> dict[str, object]:
    """Run every contender of a model, write what came of it, and return the raw data."""
    return _measure(part, model, pictures, CONTENDERS, Pace(turns))


def overhead(
    part: Part, model: Model, pictures: dict[str, list[Path]], turns: int
) -> dict[str, object]:
    """Measure what Detector and HTTP add to the bare inference while they have work to do."""
    return _measure(part, model, pictures, LAYERS, Pace(turns, STEADY, pause=0))


def _measure(
    part: Part,
    model: Model,
    pictures: dict[str, list[Path]],
    chosen: Mapping[str, tuple[str, ...]],
    pace: Pace,
) -> dict[str, object]:
    data = {size: [path.read_bytes() for path in paths] for size, paths in pictures.items()}
    with ExitStack() as stack:
        contenders = {
            (precision, name): stack.enter_context(
                running_contender(name, model.files[precision], part.folder / "logs")
            )
            for precision, names in chosen.items()
            if precision in model.files
            for name in names
        }
        records = {
            (size, *key): record
            for size, files in data.items()
            for key, record in _in_turns(contenders, files, pace).items()
        }
    raw: dict[str, object] = {
        "model": model.name,
        "files": {precision: path.name for precision, path in model.files.items()},
        "pace": vars(pace),
        "records": [
            {"size": size, "precision": precision, "contender": name, **vars(record)}
            for (size, precision, name), record in records.items()
        ],
    }
    part.write(raw, _tables(model, records, list(data)))
    plot(part.folder / f"{part.name}.png", lambda axes: _draw(axes, records, list(data)), len(data))
    return raw


def _in_turns(
    contenders: dict[tuple[str, str], Contender], files: list[bytes], pace: Pace
) -> dict[tuple[str, str], Record]:
    shuffle = random.Random(1).shuffle
    records = {key: Record([], 0.0, []) for key in contenders}
    for contender in contenders.values():
        for data in files:  # memory is taken on the first
            contender.ask(data)
    for _ in range(pace.turns):
        order = list(contenders)
        shuffle(order)
        for key in order:
            time.sleep(pace.pause)
            before = cpu_seconds(contenders[key].processes())
            answers = [contenders[key].ask(data) for data in files * pace.times]
            spent = cpu_seconds(contenders[key].processes()) - before
            records[key].cpu_milliseconds += spent * 1000 / len(answers) / pace.turns
            records[key].milliseconds += [answer.milliseconds for answer in answers]
            records[key].boxes = [answer.boxes for answer in answers[: len(files)]]
    return records


def _tables(model: Model, records: Records, sizes: list[str]) -> str:
    head = ["", *[f"{size}: p50, p10-p90 (CPU) ms" for size in sizes], "boxes"]
    keys = list(dict.fromkeys((precision, name) for _, precision, name in records))
    rows = [
        [
            f"{name}, {precision}",
            *[_times(records[size, precision, name]) for size in sizes],
            " ".join(map(str, records[sizes[0], precision, name].boxes)),
        ]
        for precision, name in keys
    ]
    ratios = [
        [
            f"{_named(ours)} over {_named(theirs)}",
            *[_ratio_text(records, s, ours, theirs) for s in sizes],
        ]
        for ours, theirs in _pairs(model)
        if {ours, theirs} <= set(keys)
    ]
    above = [
        [
            f"{name} above session.run, {precision}, ms",
            *[f"{_above(records, size, precision, name):.1f}" for size in sizes],
        ]
        for precision, name in keys
        if name in (DETECTOR, OUR_HTTP, OUR_HTTP_PLAIN)
    ]
    return "\n\n".join((table(head, rows), table(["", *sizes], ratios + above)))


def _pairs(model: Model) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    pairs = []
    if "FP32" in model.files:
        for precision in model.files:
            pairs += [
                ((precision, DETECTOR), ("FP32", THEIRS)),
                ((precision, OUR_HTTP), ("FP32", PLAIN)),
            ]
        pairs.append((("FP32", BARE), ("FP32", OPENVINO_F32)))
    for precision in model.files:
        pairs += [
            ((precision, BARE), (precision, BARE_OPENVINO)),
            ((precision, DETECTOR), (precision, OPENVINO)),
        ]
    if len(model.files) > 1:
        pairs.append((("INT8", DETECTOR), ("FP32", DETECTOR)))
    return pairs


def _named(key: tuple[str, str]) -> str:
    return f"{key[1]} {key[0]}"


def _ratio_text(records: Records, size: str, ours: tuple[str, str], theirs: tuple[str, str]) -> str:
    one, other = records[(size, *ours)], records[(size, *theirs)]
    return format_ratio(ratio(one.milliseconds, other.milliseconds))


def _times(record: Record) -> str:
    middle = statistics.median(record.milliseconds)
    low, high = quantile(record.milliseconds, 0.1), quantile(record.milliseconds, 0.9)
    return f"{middle:.1f}, {low:.0f}-{high:.0f} ({record.cpu_milliseconds:.0f})"


def _above(records: Records, size: str, precision: str, name: str) -> float:
    http, bare = records[size, precision, name], records[size, precision, BARE]
    return statistics.median(http.milliseconds) - statistics.median(bare.milliseconds)


def _draw(axes: list[Axes], records: Records, sizes: list[str]) -> None:
    keys = list(dict.fromkeys((precision, name) for _, precision, name in records))[::-1]
    for axis, size in zip(axes, sizes, strict=True):
        for y, (precision, name) in enumerate(keys):
            taken: Any = records[size, precision, name].milliseconds
            colour = "tab:orange" if name in (THEIRS, PLAIN) else "tab:blue"
            colour = "tab:green" if "OpenVINO" in name else colour
            axis.plot([quantile(taken, 0.1), quantile(taken, 0.9)], [y, y], color=colour, alpha=0.4)
            axis.plot(statistics.median(taken), y, "o", color=colour)
        axis.set_title(size)
        axis.set_xlim(left=0)
        axis.set_xlabel("ms, median and p10 to p90")
        first = axis is axes[0]
        axis.set_yticks(
            range(len(keys)), [f"{n}, {p}" for p, n in keys] if first else [""] * len(keys)
        )
        quiet(axis)
