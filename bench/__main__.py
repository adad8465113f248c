"""The whole bench, or some of its parts: `python -m bench [--full] [--only PART …]`

Each part writes raw data (JSON), a table (Markdown) and a plot into --output. Runs in a venv with
requirements.txt and bench/requirements.txt; `make bench` builds it. Peers cannot run the shipped
INT8 file, so their part wants its float parent: --fp32. YOLO11L comes with --large-int8 and
--large-fp32; what is not given is left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from bench.account import account
from bench.compare import Model, compare, overhead
from bench.load import measure_load
from bench.memory import measure_memory
from bench.pictures import draw_pictures
from bench.results import Part
from bench.session import measure_sessions
from bench.start import measure_starts
from function.config import Config

PARTS = (
    "compare",
    "compare-large",
    "overhead",
    "account",
    "start",
    "session",
    "load",
    "load-one-core",
    "memory",
)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--full", action="store_true", help="the long form; else each part is cut to a minute")
    add("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    add("--int8", type=Path, default=Config().model_path, help="(%(default)s)")
    add("--fp32", type=Path, help="the float parent of --int8")
    add("--large-int8", type=Path, help="YOLO11L in INT8")
    add("--large-fp32", type=Path, help="its float parent")
    add("--output", type=Path, default=Path("build/bench"), help="(%(default)s)")
    args = parser.parse_args()
    for option in ("int8", "fp32", "large_int8", "large_fp32"):
        file = getattr(args, option)
        if file and not file.is_file():
            parser.error(f"--{option.replace('_', '-')} must be a file, got {str(file)!r}")
    pictures = draw_pictures(args.output / "pictures")
    small = _model("shipped", args.int8, args.fp32)
    large = _model("YOLO11L", args.large_int8, args.large_fp32)
    models = [model for model in (small, large) if model.files]
    measures: dict[str, Callable[[Part], object]] = {
        "compare": lambda part: compare(part, small, pictures, part.choose(2, 30)),
        "compare-large": lambda part: compare(part, large, pictures, part.choose(1, 8)),
        "overhead": lambda part: overhead(part, small, pictures, part.choose(3, 20)),
        "account": lambda part: account(part, args.int8, pictures, part.choose(3, 70)),
        "start": lambda part: measure_starts(part, models, pictures, part.choose(1, 3)),
        "session": lambda part: measure_sessions(part, models, part.choose(1, 3)),
        "load": lambda part: measure_load(part, args.int8, pictures, one_core=False),
        "load-one-core": lambda part: measure_load(part, args.int8, pictures, one_core=True),
        "memory": lambda part: measure_memory(part, args.int8, pictures, part.choose(500, 10_000)),
    }
    for name in args.only:
        if name == "compare-large" and not large.files:
            print("compare-large is left out: no --large-int8, no --large-fp32")
            continue
        started = time.monotonic()
        measures[name](Part(name=name, folder=args.output, full=args.full))
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


def _model(name: str, int8: Path | None, fp32: Path | None) -> Model:
    files = {"INT8": int8, "FP32": fp32}
    return Model(name, {precision: path for precision, path in files.items() if path})


if __name__ == "__main__":
    main()
