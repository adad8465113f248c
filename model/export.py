"""Export an Ultralytics checkpoint to float ONNX, ready for `model.quantize`.

Runs in the venv of model/requirements.txt (torch, Ultralytics; AGPL-3.0), never in the service.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import onnx
from onnx import helper

from function.detector import Detector
from function.errors import ModelError
from model.gate import GateError, load_float, metadata_of
from model.options import at_least
from model.yolo import YoloError, architecture, open_yolo

OPSET = 17  # static quantisation stops at 20; 17 has all that YOLO needs


def export(weights: Path, output: Path, size: int, added: dict[str, str], label: str = "") -> None:
    """Write the float ONNX file of a checkpoint: static (1, 3, size, size), no NMS inside.

    `label` renames the class of a one-class model, which Ultralytics calls "item"; `added` goes
    into the metadata. Raises `YoloError`, and `GateError` for a file that would not serve.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Ultralytics writes beside the checkpoint, which may be read-only.
        yolo = open_yolo(shutil.copy(weights, folder))
        if label:
            if len(yolo.model.names) != 1:
                msg = f"{weights} has {len(yolo.model.names)} classes, --label names the only one"
                raise YoloError(msg)
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
        finish(Path(exported), output, {"name": f"shelf-{architecture(yolo)}"} | added)


def finish(exported: Path, output: Path, added: dict[str, str]) -> None:
    """Add metadata to an exporter's file and move it to `output` once it has proved to serve.

    Raises `GateError`.
    """
    model = load_float(exported)
    metadata = metadata_of(model) | added
    metadata["description"] = metadata["name"]  # the exporter's tells paths of this machine
    del model.metadata_props[:]
    helper.set_model_props(model, metadata)
    draft = output.with_suffix(".draft.onnx")
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        onnx.save(model, draft)
        Detector.load(draft).warm_up()
        draft.replace(output)
    except ModelError as err:
        msg = f"The export does not serve: {err}"
        raise GateError(msg) from err
    finally:
        draft.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m model.export", description=__doc__)
    add = parser.add_argument
    add("weights", type=Path, help="Ultralytics checkpoint, e.g. build/train/…/weights/best.pt")
    add("--output", type=Path, required=True, help="float ONNX file to write")
    add("--size", type=at_least(1), default=640, help="input side in pixels (640)")
    add("--label", default="", help="name of the class of a one-class model, e.g. product")
    add("--name", help="model name in every result; shelf-<network> unless given")
    add("--training-data", help="what it was trained on, for the file's metadata")
    add("--license", help="of the weights, for the file's metadata; Ultralytics' unless given")
    args = parser.parse_args(argv)
    if not args.weights.is_file():
        sys.exit(f"{args.weights} is not a file")
    given = {"name": args.name, "training_data": args.training_data, "license": args.license}
    added = {key: value for key, value in given.items() if value}
    try:
        export(args.weights, args.output, args.size, added, args.label)
    except (GateError, YoloError) as err:
        sys.exit(str(err))
    print(f"wrote {args.output}, {args.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
