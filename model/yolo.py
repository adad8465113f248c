"""The one door to Ultralytics (AGPL-3.0), which lives in the venv of model/requirements.txt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from function.session import available_cpus

CACHE = Path("build/ultralytics").absolute()  # its settings and fonts; not the user's home


class YoloError(Exception):
    """Ultralytics is missing or cannot use what it was given; says so in one sentence."""


def open_yolo(weights: str) -> Any:
    """Load a checkpoint (x.pt), or build a network with random weights (yolo11l.yaml).

    A checkpoint is a pickle, so load only what you trust. Published names such as yolo11l.pt are
    downloaded by Ultralytics where no such file is here. Raises `YoloError`.
    """
    ultralytics = _import_ultralytics()
    try:
        return ultralytics.YOLO(weights, task="detect")
    # Ultralytics raises bare Exceptions, and unpickling whatever it likes.
    except Exception as err:
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        msg = f"{weights} is not here, cannot be downloaded or is no YOLO checkpoint: {reason}"
        raise YoloError(msg) from err


def architecture(yolo: Any) -> str:
    """Name the network of a checkpoint, e.g. yolo11n."""
    return Path(str(yolo.model.yaml.get("yaml_file", "yolo"))).stem


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


def smart_value(text: str) -> Any:
    """Turn the text of a setting into what Ultralytics takes, as its own command line does."""
    _import_ultralytics()
    from ultralytics.cfg import smart_value

    return smart_value(text)


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
