"""Export an Ultralytics checkpoint to float ONNX, ready for `model.quantize`.

Runs in the venv of model/requirements.txt (torch, Ultralytics; AGPL-3.0), never in the service.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

OPSET = 17  # static quantisation stops at 20; 17 has all that YOLO needs


def export(weights: Path, output: Path, size: int = 640, label: str | None = None) -> None:
    """Write the float ONNX file of a checkpoint: static (1, 3, size, size), no NMS inside.

    `label` renames the class of a one-class model, which Ultralytics calls "item". A checkpoint
    is a pickle, so load only what you trust. Raises `ModuleNotFoundError` without Ultralytics.
    """
    os.environ.setdefault("YOLO_OFFLINE", "true")  # no update checks, no downloads
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    from ultralytics import YOLO

    with tempfile.TemporaryDirectory() as folder:
        # Ultralytics writes beside the checkpoint, which may be read-only.
        copy = Path(shutil.copy(weights, folder))
        yolo = YOLO(copy, task="detect")
        if label is not None:
            yolo.model.names = {0: label}
        exported = yolo.export(
            format="onnx",
            imgsz=size,
            opset=OPSET,
            batch=1,
            dynamic=False,
            simplify=True,
            nms=False,
            device="cpu",
        )
        shutil.move(exported, output)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m model.export", description=__doc__)
    parser.add_argument("weights", type=Path, help="Ultralytics checkpoint, e.g. best.pt")
    parser.add_argument("--output", type=Path, required=True, help="float ONNX file to write")
    parser.add_argument("--size", type=int, default=640, help="input side in pixels (640)")
    parser.add_argument("--label", help="name of the class of a one-class model, e.g. product")
    args = parser.parse_args()
    if not args.weights.is_file():
        sys.exit(f"{args.weights} is not a file")
    try:
        export(args.weights, args.output, args.size, args.label)
    except ModuleNotFoundError as err:
        sys.exit(f"{err.name} is missing: pip install -r model/requirements.txt in its own venv")
    print(f"wrote {args.output}, {args.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
