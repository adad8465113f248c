"""What a part of the bench leaves behind: raw data as JSON, a Markdown table, a plot."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from function.session import available_threads, cpu_isa

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PACKAGES = ("onnxruntime", "numpy", "pillow", "openvino", "ultralytics", "torch", "fastapi")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part's folder, and how long its runs are."""

    name: str
    folder: Path
    full: bool
    load: float = field(default_factory=lambda: round(os.getloadavg()[0], 2))  # of others, before

    def choose(self, short: int, full: int) -> int:
        """Choose a count by the form of the bench."""
        return full if self.full else short

    def write(self, raw: Mapping[str, object], table: str) -> None:
        """Write the raw data, with the machine, and the table; print the table."""
        self.folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "part": self.name,
            "full": self.full,
            "machine": {**machine(), "load": self.load},
            **raw,
        }
        (self.folder / f"{self.name}.json").write_text(json.dumps(facts, indent=1) + "\n")
        (self.folder / f"{self.name}.md").write_text(table + "\n")
        print(f"\n{table}\n", flush=True)


def machine() -> dict[str, object]:
    """Describe where this ran, and what else did."""
    threads, limit = available_threads()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": _cpu_model(),
        "isa": cpu_isa(),
        "threads": threads,
        "limited_by": limit,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "linux": platform.release(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "?")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a Markdown table; every column but the first is of numbers."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def quantile(values: Sequence[float], share: float) -> float:
    """Choose the value below which `share` of the values lie; NaN for none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Compare medians: of everything, and the lowest and highest of five slices of the run.

    Both were measured in turns, so a slice has seen the same machine on both sides.
    """
    count = min(5, len(ours), len(theirs))
    slices = [
        statistics.median(_slice(ours, i, count)) / statistics.median(_slice(theirs, i, count))
        for i in range(count)
    ]
    return statistics.median(ours) / statistics.median(theirs), min(slices), max(slices)


def _slice(values: Sequence[float], index: int, count: int) -> Sequence[float]:
    return values[index * len(values) // count : (index + 1) * len(values) // count]


def format_ratio(of: tuple[float, float, float]) -> str:
    """Write a ratio with its spread."""
    return f"{of[0]:.2f} ({of[1]:.2f}-{of[2]:.2f})"


def plot(path: Path, draw: Callable[[list[Axes]], object], columns: int = 1) -> None:
    """Let `draw(axes)` draw into a figure of so many axes beside each other, and save it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, columns, figsize=(4.6 * columns, 3.6), squeeze=False)
    draw(list(axes[0]))
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def quiet(axes: Axes) -> None:
    """Take away what a plot does not need."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
