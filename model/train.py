"""Train or fine-tune a detector of products and gaps on labelled photos and drawn shelves.

Photos need not be labelled for both: the loss of a class comes from those that are labelled for it.

Runs in the venv of model/requirements.txt (torch, Ultralytics; AGPL-3.0), never in the service.
Everything is written below build/train/<name>/: a checkpoint after each epoch, loss curves,
precision-recall and sheets of validation pictures with boxes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from function.session import available_cpus
from model.crops import TrainingPhoto
from model.labelled import LabelledPhoto, read_dataset, read_gaps
from model.options import at_least
from model.photos import DatasetError, label_path, naming
from model.render import write_dataset
from model.yolo import (
    YoloError,
    anneal_by_the_clock,
    architecture,
    computes_bfloat16,
    learn_what_is_labelled,
    open_yolo,
    save_every,
    settings_of,
    train_in_bfloat16,
    trainer_of,
)

PRODUCT, GAP = 0, 1
CROP = 0.72  # of the long side: a step costs half of one on whole photos
CHECKPOINT_SECONDS = 600.0
RUNS = Path("build/train")
RANDOM = "random"
FINISHED = -1  # what Ultralytics writes as the epoch in the end
RESUME = "resume.pt"  # the last whole checkpoint of an unfinished run
# From weights that know something; random ones take larger steps (Ultralytics' rule for AdamW and
# one class).
LEARNING_RATE, LEARNING_RATE_FROM_RANDOM = 0.0005, 0.002
# What worked best of what was tried on 1,181 shelf photos.
RECIPE = {
    "optimizer": "AdamW",
    "batch": 8,
    "nbs": 8,  # steps after each batch: the default waits for 64 images, few steps on small sets
    "lrf": 0.01,
    "cos_lr": True,
    "warmup_epochs": 0.3,
    "warmup_bias_lr": 0.0,
    "close_mosaic": 0,  # there is none: model.crops makes what is seen
    "max_det": 1000,  # a shelf holds more than the default 300
    "plots": True,
}


def prepare(
    data: Path, folder: Path, drawn: int = 0, gaps: Path | None = None
) -> tuple[Path, list[TrainingPhoto]]:
    """Read what to train on, and lay out below `folder` what Ultralytics validates on.

    `data` holds images/{train,val} and labels/{train,val} in YOLO's format; `drawn` shelves of
    `model.render` go into training with them. With `gaps`, photos on which gaps are labelled and
    nothing else, there are two classes: everything in `data` is a product, unless a photo of that
    file name stands in `gaps` too. Returns Ultralytics' YAML file. Raises `DatasetError`.
    """
    shutil.rmtree(folder, ignore_errors=True)  # another data set's links
    _lay_out(data / "images" / "val", folder / "images" / "val", 2 if gaps else 1)
    found = _by_name(read_dataset(data / "images" / "train"))
    empty = _by_name(read_gaps(gaps)) if gaps else {}
    if gaps:
        _refuse_gaps(found.values())
    photos = [_photo(found.get(name), empty.get(name)) for name in sorted(found | empty)]
    if drawn:
        write_dataset(folder / "drawn", drawn, seed=0, gaps=bool(gaps))
        photos += [
            TrainingPhoto(
                path=photo.path,
                cxcywh=_cxcywh(photo),
                class_id=photo.class_id,
                labelled=frozenset((PRODUCT, GAP)),
            )
            for photo in read_dataset(folder / "drawn" / "images")
        ]
    # YAML takes JSON, which needs no library to write.
    described = {
        "path": str(folder.absolute()),
        "train": str((data / "images" / "train").absolute()),
        "val": "images/val",
        "names": {"0": "product", "1": "gap"} if gaps else {"0": "product"},
    }
    path = folder / "data.yaml"
    path.write_text(json.dumps(described, indent=2))
    return path, photos


def _photo(products: LabelledPhoto | None, gaps: LabelledPhoto | None) -> TrainingPhoto:
    """Join what is labelled on a photo in two sets; the larger of its two files is read."""
    known = [(PRODUCT, products)] if products else []
    known += [(GAP, gaps)] if gaps else []
    return TrainingPhoto(
        path=max((photo.path for _, photo in known), key=_bytes),
        cxcywh=np.vstack([_cxcywh(photo) for _, photo in known]),
        class_id=np.concatenate([np.full(len(photo.boxes), label) for label, photo in known]),
        labelled=frozenset(label for label, _ in known),
    )


def _bytes(path: Path) -> int:
    with naming(path):
        return path.stat().st_size


def _cxcywh(photo: LabelledPhoto) -> npt.NDArray[np.float64]:
    return np.hstack((photo.boxes[:, :2] + photo.boxes[:, 2:] / 2, photo.boxes[:, 2:]))


def _by_name(photos: Sequence[LabelledPhoto]) -> dict[str, LabelledPhoto]:
    """Key photos by their file names, and by their paths where folders repeat a name."""
    stems = Counter(photo.path.stem for photo in photos)
    return {
        photo.path.stem if stems[photo.path.stem] == 1 else str(photo.path): photo
        for photo in photos
    }


def _refuse_gaps(photos: Iterable[LabelledPhoto]) -> None:
    """Refuse labels that would train as products, and be counted as gaps by what follows."""
    if odd := next((photo for photo in photos if GAP in photo.class_id), None):
        msg = (
            f"beside photos of gaps, class {GAP} means a gap: products must have another one, "
            f"and gaps a folder of their own, got class {GAP} in {label_path(odd.path)}"
        )
        raise DatasetError(msg)


def _lay_out(source: Path, target: Path, classes: int) -> None:
    """Link the photos of one split, and write their labels anew, in `classes` classes.

    Ultralytics leaves out a photo with a class that it was not told of: such a thing is a product.
    It writes caches beside the labels, and `source` may be read-only.
    """
    for photo in read_dataset(source):
        link = target / photo.path.relative_to(source)
        _link(photo.path, link)
        known = np.where(photo.class_id < classes, photo.class_id, PRODUCT).tolist()
        rows = zip(known, *_cxcywh(photo).T.tolist(), strict=True)
        labels = label_path(link)
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    os.symlink(source.absolute(), target)


def train(args: argparse.Namespace) -> Path:
    """Train as the command line says and return the best checkpoint.

    Raises `DatasetError` and `YoloError`.
    """
    run: Path = args.runs / args.name
    weights = run / "weights"
    if (weights / "last.pt").is_file() and not args.resume:
        msg = f"{run} exists: RESUME=1 or --resume goes on with it, NAME= or --name starts another"
        raise YoloError(msg)
    if _epoch(weights / "last.pt") == FINISHED and not (weights / RESUME).is_file():
        print(f"{run} has all its epochs")
        return weights / "best.pt"
    data, photos = prepare(args.data, run / "prepared", args.drawn, args.gaps)
    seen = trainer_of(photos, args.size, crop_side(args.size))
    if (weights / RESUME).is_file():
        _resume(weights, seen, args.hours)
    else:
        yolo = _start(args.arch, args.weights)
        where = {"project": str(args.runs.absolute()), "name": args.name, "exist_ok": True}
        _run(yolo, args.hours, trainer=seen, data=str(data), **_settings(args), **where)
    return weights / "best.pt"


def crop_side(size: int) -> int:
    """Return the side of what training cuts out of photos of that size, a multiple of 32."""
    return max(round(size * CROP / 32), 1) * 32


def _run(yolo: Any, hours: float | None, **settings: Any) -> None:
    """Train, and after each epoch keep what is needed to go on; every ten minutes with `hours`.

    Ultralytics writes last.pt in place: a process killed meanwhile leaves half a file.
    """

    def keep(trainer: Any) -> None:
        draft = shutil.copy(trainer.last, trainer.wdir / f"{RESUME}.draft")
        os.replace(draft, trainer.wdir / RESUME)

    yolo.add_callback("on_train_start", learn_what_is_labelled)
    if settings["device"] == "cpu" and computes_bfloat16():
        yolo.add_callback("on_train_start", train_in_bfloat16)
    yolo.add_callback("on_model_save", keep)
    yolo.add_callback("on_train_end", lambda trainer: (trainer.wdir / RESUME).unlink())
    if hours:
        yolo.add_callback("on_train_batch_start", anneal_by_the_clock(hours))
        yolo.add_callback("on_train_batch_end", save_every(CHECKPOINT_SECONDS, keep))
        settings |= {"time": hours, "warmup_epochs": 0, "val": False}
    yolo.train(**settings)


def _resume(weights: Path, trainer: type, hours: float | None) -> None:
    """Go on after the last whole epoch, if one is left to do; with `hours`, for that long."""
    yolo = open_yolo(str(weights / RESUME))
    if _epoch(weights / "best.pt") is None:
        shutil.copy(weights / RESUME, weights / "best.pt")
    if hours or yolo.ckpt["epoch"] + 1 < yolo.ckpt["train_args"]["epochs"]:
        _run(yolo, hours, trainer=trainer, resume=True, **_device())
    else:  # killed while it was validated for the last time
        print(f"{weights.parent} has all its epochs")


def _epoch(checkpoint: Path) -> int | None:
    """Read the last epoch, or `FINISHED`; None of no checkpoint, or half a one."""
    try:
        return int(open_yolo(str(checkpoint)).ckpt["epoch"]) if checkpoint.is_file() else None
    except YoloError:
        return None


def _start(arch: str | None, weights: str | None) -> Any:
    """Open the weights to start from; those of `arch` unless others are given."""
    if weights == RANDOM:
        return open_yolo(f"{arch or 'yolo11n'}.yaml")
    yolo = open_yolo(weights or f"{arch or 'yolo11n'}.pt")
    if arch and architecture(yolo) != arch:
        msg = f"{weights} holds a {architecture(yolo)}, not a {arch}"
        raise YoloError(msg)
    return yolo


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    rate = LEARNING_RATE_FROM_RANDOM if args.weights == RANDOM else LEARNING_RATE
    chosen = {"epochs": args.epochs, "imgsz": args.size, "lr0": rate}
    given = dict(setting.split("=", 1) for setting in args.set)
    return RECIPE | chosen | _device() | settings_of(given)


def _device() -> dict[str, Any]:
    """Use a GPU where there is one; `amp` is float16, which is slower on a CPU."""
    import torch

    if torch.cuda.is_available():
        return {"device": 0, "amp": True, "workers": 8}
    # One process feeds the network; more would take its processors.
    return {"device": "cpu", "amp": False, "workers": 1 if available_cpus() > 1 else 0}


def _setting(text: str) -> str:
    if "=" not in text:
        msg = f"{text!r} is not KEY=VALUE"
        raise argparse.ArgumentTypeError(msg)
    return text


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours < math.inf:
        msg = f"must be a number above 0, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return hours


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model.train", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with images/{train,val} and labels/…")
    add("--gaps", type=Path, help="folder of photos on which gaps are labelled, and nothing else")
    add("--drawn", type=at_least(0), default=0, help="shelves to draw and train on as well (0)")
    add("--arch", help="network, e.g. yolo11n (the default), yolo11s, yolo11l")
    add(
        "--weights",
        help="checkpoint to start from; <arch>.pt, which Ultralytics downloads, unless given; "
        f"{RANDOM!r} starts from nothing",
    )
    add("--epochs", type=at_least(1), default=30, help="times through the photos (30)")
    add("--hours", type=_hours, help="train for so long instead of a number of epochs")
    add("--size", type=at_least(1), default=640, help="input side in pixels (640)")
    add("--name", help="of the run, in build/train; shelf-<arch> unless given")
    add("--runs", type=Path, default=RUNS, help="folder of the runs (build/train)")
    add("--resume", action="store_true", help="go on after the last epoch of the run, if any")
    add(
        "--set",
        type=_setting,
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="any other setting of Ultralytics, e.g. batch=16 lr0=0.001 freeze=3",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = _parser().parse_args(argv)
    args.name = args.name or f"shelf-{args.arch or 'yolo11n'}"
    try:
        best = train(args)
    except (DatasetError, YoloError) as err:
        sys.exit(str(err))
    print(f"best checkpoint: {best}; curves and pictures beside it in {best.parent.parent}")
    print(f"next: python -m model.export {best} --output {args.name}.onnx --label product")


if __name__ == "__main__":
    main()
