"""The ONNX Runtime session: how many threads, which options, and the graph it starts from.

    python -m function.session [model.onnx]

writes the optimised copy of a model beside it, for an image's build: most of a session's start is
the search for nodes to fuse. The copy holds what is so on every processor; what depends on the one
it runs on, the layout, is left to the start. Its name tells the model's digest and the runtime's
version, so that one of another model or version is never loaded.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnxruntime as ort

from function.config import Config
from function.errors import ModelError

# Two runs of the shipped model take as much. The system gives pages as they are used. In pieces,
# the arena would lie between pictures in the heap, and keep what was freed below it.
ARENA_BYTES = 112 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class OpenedSession:
    """A session, and what was decided for it and why."""

    session: ort.InferenceSession
    digest: str  # of the model's file, whichever graph was loaded
    threads: int
    threads_from: str  # "setting", or what limits this process
    graph: str  # the file that was loaded: the model's, or its optimised copy


def open_session(path: Path, threads: int = 0) -> OpenedSession:
    """Open a model, from its optimised copy where there is one.

    `threads` 0 means as many as this process may use. Raises `ModelError`.
    """
    threads, threads_from = (threads, "setting") if threads else available_threads()
    graph, digest = _graph(path)
    return OpenedSession(
        session=_session(graph, _options(threads)),
        digest=f"sha256:{digest}",
        threads=threads,
        threads_from=threads_from,
        graph=graph.name,
    )


def open_single(path: Path) -> ort.InferenceSession:
    """Open a model for one thread, as `open_session` does. Raises `ModelError`."""
    return _session(_graph(path)[0], _options(1))


def _graph(path: Path) -> tuple[Path, str]:
    """Choose the file to load, and give the digest of the model's own."""
    digest = _digest(path)
    copy = optimized_path(path, digest)
    return (copy if copy.exists() else path), digest


def optimized_path(path: Path, digest: str) -> Path:
    """Name the optimised copy of the model with that digest, for this version of the runtime."""
    return path.with_name(f"{path.stem}.{digest[:12]}.ort-{ort.__version__}.onnx")


def write_optimized(path: Path) -> Path:
    """Write a model's optimised copy beside it, whole or not at all. Raises `ModelError`."""
    copy = optimized_path(path, _digest(path))
    draft = copy.with_suffix(".draft")
    options = _options(1)
    # One level below "all", whose layouts are those of this processor.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(draft)
    _session(path, options)
    return draft.replace(copy)


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning workers take the processor from decoding and from the other pods of the node.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Two sessions, and two runs of one, take memory from one arena: 40 MB less than from two.
    _register_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Weights are packed for the processor at start, by all threads instead of one.
    options.add_session_config_entry("session.prepack.enable_parallel", "1")
    options.log_severity_level = 3
    return options


@cache
def _register_arena() -> None:
    """Give this process one arena for all sessions."""
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(
        memory, ort.OrtArenaCfg({"initial_chunk_size_bytes": ARENA_BYTES})
    )


def _session(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as err:  # ONNX Runtime's own exceptions share no base but this
        raise _no_model(path) from err


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as err:
        raise _no_model(path) from err


def _no_model(path: Path) -> ModelError:
    return ModelError(f"{path} is missing or not an ONNX model")


def available_cpus() -> int:
    """Count the processors this process may use."""
    return available_threads()[0]


def available_threads() -> tuple[int, str]:
    """Count the processors this process may use, and name what limits them."""
    limits = {"cgroup v2": _quota_v2(), "cgroup v1": _quota_v1(), "affinity": _affinity()}
    known = {name: limit for name, limit in limits.items() if limit}
    tightest = min(known, key=lambda name: known[name])
    return max(1, math.ceil(known[tightest])), tightest


def _affinity() -> float:
    return float(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


def _quota_v2() -> float | None:
    """Read "max 100000" or "150000 100000" (microseconds a period); None where there is none."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _quota_v1() -> float | None:
    try:
        folder = Path("/sys/fs/cgroup/cpu")
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        return quota / int((folder / "cpu.cfs_period_us").read_text()) if quota > 0 else None
    except (OSError, ValueError):
        return None


def cpu_isa() -> str:
    """Name the widest instruction set that decides INT8 numerics, e.g. avx512_vnni or avx2."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        flags = []
    for isa in ("amx_int8", "avx512_vnni", "avx_vnni", "avx512f", "avx2"):
        if isa in flags:
            return isa
    return platform.machine()


def main() -> None:
    """Write the optimised copy of the model that is served, or of the one named."""
    parser = argparse.ArgumentParser(prog="python -m function.session", description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=Config().model_path)
    try:
        print(write_optimized(parser.parse_args().model))
    except ModelError as err:
        sys.exit(str(err))


if __name__ == "__main__":
    main()
