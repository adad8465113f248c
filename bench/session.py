"""What the session's settings are worth: time to load, time of a run, memory.

Each variant is one change to what the service does, in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import function.session
from bench.compare import Model
from bench.contenders import resident_mib
from bench.results import Part, table
from bench.start import model_file
from function.detector import Detector
from function.image import Image
from function.session import open_session

AS_SERVED = "as served"
COPY = "from the optimised copy"
VARIANTS = (
    AS_SERVED,
    COPY,
    "an arena of its own",
    "no memory arena",
    "no memory pattern",
    "spinning on",
    "one thread packs the weights",
    "one thread",
)
RUNS = 15
PICTURE = Image.of(np.zeros((960, 1280, 3), np.uint8))


def measure_sessions(part: Part, models: list[Model], rounds: int) -> dict[str, object]:
    """Load and run every variant of every INT8 file, in turns, and write what came of it."""
    found: dict[str, dict[str, list[float]]] = {}
    models = [model for model in models if "INT8" in model.files]
    shapes = [Detector.load(model.files["INT8"]).preprocess(PICTURE)[0].shape for model in models]
    for _ in range(rounds):
        for model, shape in zip(models, shapes, strict=True):
            for variant in VARIANTS:
                file = model_file(part, model.files["INT8"], optimized=variant == COPY)
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    seen = pool.apply(load_and_run, (file, variant, shape))
                row = found.setdefault(f"{model.name}: {variant}", {})
                for key, value in seen.items():
                    row.setdefault(key, []).append(value)
    head = ["", "load, ms CPU", "first run, ms", "a run, ms", "a run, ms CPU", "RSS, MiB"]
    keys = ("load_cpu_ms", "first_ms", "run_ms", "run_cpu_ms", "mib")
    rows = [
        [name, *[f"{statistics.median(row[key]):.0f}" for key in keys]]
        for name, row in found.items()
    ]
    raw: dict[str, object] = {"rounds": rounds, "found": found}
    part.write(raw, table(head, rows))
    return raw


def load_and_run(file: Path, variant: str, shape: tuple[int, ...]) -> dict[str, float]:
    """Measure one variant in this process, on pixels (1, height, width, 3)."""
    with mock.patch.object(function.session, "_options", changed_options(variant)):
        started = time.process_time()
        session = open_session(file, 1 if variant == "one thread" else 0).session
        loaded = time.process_time() - started
    first = session.get_inputs()[0]
    tensor = np.zeros(shape, np.uint8)
    taken, spent = [], []
    for _ in range(RUNS):
        start, cpu = time.perf_counter(), time.process_time()
        session.run(None, {first.name: tensor})
        taken.append((time.perf_counter() - start) * 1000)
        spent.append((time.process_time() - cpu) * 1000)
    return {
        "load_cpu_ms": loaded * 1000,
        "first_ms": taken[0],
        "run_ms": statistics.median(taken[1:]),
        "run_cpu_ms": statistics.median(spent[1:]),
        "mib": resident_mib([os.getpid()]),
    }


def changed_options(variant: str) -> Any:
    """Make the service's session options, with a variant's one change."""
    made = function.session._options

    def options(threads: int) -> Any:
        found = made(threads)
        if variant in ("an arena of its own", "no memory arena"):
            found.add_session_config_entry("session.use_env_allocators", "0")
            found.enable_cpu_mem_arena = variant == "an arena of its own"
        elif variant == "no memory pattern":
            found.enable_mem_pattern = False
        elif variant == "spinning on":
            found.add_session_config_entry("session.intra_op.allow_spinning", "1")
        elif variant == "one thread packs the weights":
            found.add_session_config_entry("session.prepack.enable_parallel", "0")
        return found

    return options
