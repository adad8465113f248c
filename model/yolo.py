"""The one door to Ultralytics (AGPL-3.0), which lives in the venv of model/requirements.txt."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from function.session import available_cpus
from model.crops import TrainingPhoto, crop, open_photo

WARM_UP = 0.02  # share of a run in which the learning rate rises
NEW_CLASS_BIAS = -4.6  # a score of 0.01: nearly no anchor shows a thing of a new class
TENSORS = ".safetensors"
CACHE = Path("build/ultralytics").absolute()  # its settings and fonts; not the user's home


class YoloError(Exception):
    """Ultralytics is missing or cannot use what it was given; says so in one sentence."""


def open_yolo(weights: str) -> Any:
    """Load a checkpoint (x.pt, x.safetensors), or build a network at random (yolo11l.yaml).

    A .pt is a pickle, so load only what you trust; a .safetensors holds numbers alone. Published
    names such as yolo11l.pt are downloaded by Ultralytics where no such file is here. Raises
    `YoloError`.
    """
    ultralytics = _import_ultralytics()
    if weights.endswith(TENSORS):
        return _from_tensors(Path(weights))
    try:
        yolo = ultralytics.YOLO(weights, task="detect")
    # Ultralytics raises bare Exceptions, and unpickling whatever it likes.
    except Exception as err:
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        msg = f"{weights} is not here, cannot be downloaded or is no YOLO checkpoint: {reason}"
        raise YoloError(msg) from err
    if isinstance(yolo.model, str):  # it takes the name of any file, and opens that later
        msg = f"weights must be a checkpoint, .pt or {TENSORS}, got {Path(weights).name}"
        raise YoloError(msg)
    return yolo


def save_tensors(yolo: Any, path: Path) -> None:
    """Write a network's weights in half precision, and what it takes to build it again."""
    from safetensors.torch import save_file

    model = yolo.model
    tensors = {
        name: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    about = {
        "arch": architecture(yolo),
        "names": json.dumps({str(label): name for label, name in model.names.items()}),
        "class_channels": str(model.model[-1].cv3[0][-1].in_channels),
    }
    save_file(tensors, path, about)


def _from_tensors(path: Path) -> Any:
    """Build the network of a file of `save_tensors`. Raises `YoloError`."""
    ultralytics = _import_ultralytics()
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = file.metadata()
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        names = {int(label): name for label, name in json.loads(about["names"]).items()}
        yolo = ultralytics.YOLO(f"{about['arch']}.yaml", task="detect")
        # The class branch is as wide as the classes that the network was first built for.
        built = type(yolo.model)(yolo.model.yaml, nc=int(about["class_channels"]), verbose=False)
        model = with_classes(built, len(names))
        model.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as err:
        msg = f"{path} must be a file of model.train or `python -m model.yolo`, got {err}"
        raise YoloError(msg) from err
    model.names = names
    model.args, model.task = yolo.model.args, yolo.model.task
    model.pt_path = str(path)  # an export goes beside it
    yolo.model = model
    yolo.ckpt = {"epoch": -1}  # Ultralytics keeps the weights of what has one
    return yolo


def architecture(yolo: Any) -> str:
    """Name the network of a checkpoint, e.g. yolo11n."""
    return Path(str(yolo.model.yaml.get("yaml_file", "yolo"))).stem


def trainer_of(photos: list[TrainingPhoto], size: int, side: int) -> type:
    """Make the trainer class that sees crops of `photos`, and learns of each what is labelled.

    `size` is the long side of the photos at inference, `side` that of a crop, in pixels.
    """
    _import_ultralytics()
    from ultralytics.models.yolo.detect import DetectionTrainer

    class ShelfTrainer(DetectionTrainer):  # type: ignore[misc]  # Ultralytics has no types
        def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
            # Built anew from its description, a head of another width would lose its weights.
            if weights is None:
                return super().get_model(cfg, weights, verbose)
            return with_classes(weights.float(), self.data["nc"])

        def build_dataset(self, img_path: Any, mode: str = "train", batch: Any = None) -> Any:
            if mode != "train":
                return super().build_dataset(img_path, mode, batch)
            return _crop_dataset(photos, size, side, self.data["nc"], self.args.seed)

        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            prepared: dict[str, Any] = super().preprocess_batch(batch)
            if self.device.type == "cpu":
                import torch

                layout = torch.channels_last
                prepared["img"] = prepared["img"].contiguous(memory_format=layout)
            return prepared

    return ShelfTrainer


def with_classes(model: Any, count: int) -> Any:
    """Give a network's head room for `count` classes; those it has keep what they learned."""
    import torch

    head = model.model[-1]
    for branch in head.cv3 if head.nc != count else ():
        old = branch[-1]
        branch[-1] = torch.nn.Conv2d(old.in_channels, count, 1)
        kept = min(count, head.nc)
        with torch.no_grad():
            branch[-1].weight[:kept], branch[-1].bias[:kept] = old.weight[:kept], old.bias[:kept]
            branch[-1].bias[kept:] = NEW_CLASS_BIAS
    head.nc, head.no = count, count + head.reg_max * 4
    model.nc = model.yaml["nc"] = count
    return model


def _crop_dataset(
    photos: list[TrainingPhoto], size: int, side: int, classes: int, seed: int
) -> Any:
    """Make the data set that torch's loader draws from: a new crop of a photo each time."""
    import torch
    from torch.utils.data import Dataset
    from ultralytics.data.dataset import YOLODataset

    class Crops(Dataset):  # type: ignore[misc]  # torch is not installed here
        collate_fn = staticmethod(YOLODataset.collate_fn)
        # What Ultralytics counts and plots.
        labels = [{"cls": p.class_id[:, None], "bboxes": p.cxcywh} for p in photos]  # noqa: RUF012

        def __init__(self) -> None:
            self.rng = np.random.default_rng(seed)

        def __len__(self) -> int:
            return len(photos)

        def __getitem__(self, index: int) -> dict[str, Any]:
            photo = photos[index]
            picture, corners = open_photo(photo)
            seen = crop(picture, corners, size, side, self.rng)
            low, high = seen.xyxy[:, :2] / side, seen.xyxy[:, 2:] / side
            boxes = np.hstack(((low + high) / 2, high - low))
            labelled = np.isin(np.arange(classes), sorted(photo.labelled))
            return {
                "img": torch.from_numpy(np.ascontiguousarray(seen.pixels.transpose(2, 0, 1))),
                "cls": torch.from_numpy(photo.class_id[seen.kept, None].astype(np.float32)),
                "bboxes": torch.from_numpy(boxes.astype(np.float32)),
                "batch_idx": torch.zeros(len(boxes)),
                "labelled": torch.from_numpy(labelled),
                "im_file": str(photo.path),
                "ori_shape": picture.size[::-1],
                "resized_shape": (side, side),
            }

    return Crops()


def learn_what_is_labelled(trainer: Any) -> None:
    """Take the loss of a class only from photos that are labelled for it.

    A callback for `on_train_start`. An anchor that a labelled thing takes is known to show nothing
    else, so there all classes count: a gap that is labelled is no product.
    """
    import torch
    from ultralytics.utils.loss import v8DetectionLoss
    from ultralytics.utils.torch_utils import unwrap_model

    class PartialLoss(v8DetectionLoss):  # type: ignore[misc]  # Ultralytics has no types
        def loss(self, preds: Any, batch: dict[str, Any]) -> Any:
            labelled = torch.stack(tuple(batch["labelled"]))[:, None]
            whole = torch.nn.BCEWithLogitsLoss(reduction="none")

            def bce(scores: Any, wanted: Any) -> Any:
                known = labelled | (wanted.sum(2, keepdim=True) > 0)
                return whole(scores, wanted) * known

            self.bce = bce
            return super().loss(preds, batch)

    model = unwrap_model(trainer.model)
    if trainer.device.type == "cpu":
        model.to(memory_format=torch.channels_last)  # a quarter faster
    model.criterion = PartialLoss(model)


def anneal_by_the_clock(hours: float) -> Callable[[Any], None]:
    """Make a callback for `on_train_batch_start`: the learning rate falls to 0 within `hours`.

    How many epochs fit into the time need not be known: a machine that others use is slow at times.
    """

    def anneal(trainer: Any) -> None:
        share = min((time.time() - trainer.train_time_start) / (hours * 3600), 1.0)
        factor = min(share / WARM_UP, 1.0) * (1 + math.cos(math.pi * share)) / 2
        for group in trainer.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    return anneal


def save_every(seconds: float, keep: Callable[[Any], None]) -> Callable[[Any], None]:
    """Make a callback for `on_train_batch_end` that writes a checkpoint now and then."""
    saved = time.monotonic()

    def save(trainer: Any) -> None:
        nonlocal saved
        if time.monotonic() - saved >= seconds:
            trainer.save_model()
            keep(trainer)
            saved = time.monotonic()

    return save


def train_in_bfloat16(trainer: Any) -> None:
    """Run the network in bfloat16 while it trains on a CPU that computes so; the rest stays float.

    A callback for `on_train_start`. The network then takes half the time. The losses get float
    predictions: in bfloat16 a box in the middle of a picture would snap to half a cell.
    """
    import torch

    model = trainer.model.to(memory_format=torch.channels_last)

    def loss(batch: dict[str, Any], predictions: Any = None) -> Any:
        if predictions is None and model.training:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                pictures = batch["img"].contiguous(memory_format=torch.channels_last)
                predictions = _in_float(model.forward(pictures))
        return type(model).loss(model, batch, predictions)

    model.loss = loss


def computes_bfloat16() -> bool:
    """Say whether this CPU has instructions for bfloat16; without, it would be slower."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _in_float(value: Any) -> Any:
    """Turn the tensors in dicts, lists and tuples to float32."""
    if isinstance(value, dict):
        return {key: _in_float(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_in_float(inner) for inner in value)
    return value.float()


def settings_of(given: dict[str, str]) -> dict[str, Any]:
    """Turn texts of settings into what Ultralytics takes, as its own command line does.

    Raises `YoloError` for one that it does not know, or of another kind.
    """
    _import_ultralytics()
    from ultralytics.cfg import get_cfg, smart_value

    settings = {name: smart_value(text) for name, text in given.items()}
    try:
        get_cfg(overrides=settings)
    except (SyntaxError, TypeError, ValueError) as err:
        msg = f"a setting must be one of Ultralytics: {str(err).strip().splitlines()[0]}"
        raise YoloError(msg) from err
    return settings


def _import_ultralytics() -> Any:
    """Import it with the processors this container has, and nothing sent or installed."""
    os.environ.setdefault("YOLO_CONFIG_DIR", str(CACHE))
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("OMP_NUM_THREADS", str(available_cpus()))  # it would set 1
    Path(os.environ["YOLO_CONFIG_DIR"]).mkdir(parents=True, exist_ok=True)
    try:
        import ultralytics
        import ultralytics.utils.torch_utils as torch_utils
    except ModuleNotFoundError as err:
        msg = f"{err.name} is missing: pip install -r model/requirements.txt in a venv of its own"
        raise YoloError(msg) from err
    # It leaves one processor free, which on two is half of them.
    torch_utils.NUM_THREADS = available_cpus()
    ultralytics.settings.update({"sync": False})  # no usage reports
    return ultralytics


def main() -> None:
    """Turn a checkpoint into a file of tensors in half precision, without a pickle's code."""
    parser = argparse.ArgumentParser(prog="python -m model.yolo", description=main.__doc__)
    parser.add_argument("weights", help="checkpoint, e.g. build/train/…/weights/best.pt")
    parser.add_argument("output", type=Path, help=f"file to write, <name>{TENSORS}")
    args = parser.parse_args()
    try:
        save_tensors(open_yolo(args.weights), args.output)
    except YoloError as err:
        sys.exit(str(err))
    print(f"wrote {args.output}, {args.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
