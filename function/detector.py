"""The detector: one ONNX Runtime session on CPU, warmed before it serves."""

from __future__ import annotations

import ast
import logging
import math
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from function.admission import AT_WORK, Admission, Processors
from function.boxes import (
    Floats,
    Ints,
    Letterbox,
    check_output,
    decode,
    letterbox,
    non_max_suppression,
    suppress,
)
from function.context import METADATA, VOTING_IOU, Bounds, Context, vote
from function.detections import MAX_DETECTIONS, Detail, Detections, Thresholds
from function.errors import ModelError, NotReady
from function.image import RESIZED_BY, Image
from function.memory_budget import Memory
from function.result import ModelJson
from function.session import OpenedSession, cpu_isa, open_session, open_single
from function.spans import stage_span
from function.tiles import (
    FEW,
    SIDE,
    TOO_FAR,
    SecondLook,
    Sight,
    Tile,
    input_scale,
    merge,
    merge_far,
    plan_second_look,
)

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]

LETTERBOX_GREY = 114  # what Ultralytics pads with in training
# Too faint to count as a product, yet a "gap" that holds such a box is mostly none (six in ten on
# labelled photos): it is a product in shadow or behind a sign.
FAINT_CONFIDENCE = 0.11
# A class of one of these names is room for products; everything else is a product.
GAP_NAMES = {"gap", "void", "empty", "out of stock"}
# The least that is kept; what the audit takes for a gap is function.shelf's to say. Gaps are of one
# kind and do not overlap: less overlap than products may have is a double.
LEAST_GAP_CONFIDENCE = 0.1
GAP_IOU = 0.45
MAX_GAPS = 300
# What an image that is decoded waits for processors, at most.
WAIT_SECONDS = 10.0
# YOLO11L takes a second on a slow processor. Readiness says it first, liveness ends the pod.
STALLED_SECONDS, HUNG_SECONDS = 15.0, 30.0
TASK = "detect"  # as Ultralytics calls it; exports of other tools may not say
InputType = np.dtype[np.uint8] | np.dtype[np.float32]
INPUT_TYPES: dict[str, InputType] = {
    "tensor(uint8)": np.dtype(np.uint8),  # (1, height, width, 3), what model.quantize makes
    "tensor(float)": np.dtype(np.float32),  # (1, 3, height, width), ordinary exports
}


class Timings(dict[str, float]):
    """Milliseconds a stage of one audit took."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block."""
        start = time.perf_counter()
        try:
            with stage_span(name):
                yield
        finally:
            self[name] = round(self.get(name, 0) + (time.perf_counter() - start) * 1000, 2)


def preprocess(
    image: Image, size: tuple[int, int], step: int = 0, times: float = 1.0
) -> tuple[Pixels, Letterbox]:
    """Letterbox an image into `size` (width, height), or as much of it as the image needs.

    The image is as large as fits, or `times` smaller.

    Returns the tensor (1, height, width, 3) of uint8 RGB and the `Letterbox` that undoes it.
    """
    box = letterbox(image.width, image.height, size, step, times)
    width, height = box.size
    left, top = box.pad
    right, bottom = left + box.content[0], top + box.content[1]
    tensor = np.empty((1, height, width, 3), dtype=np.uint8)
    tensor[0, top:bottom, left:right] = image.resized(box.content)
    for padding in (np.s_[:top], np.s_[bottom:], np.s_[:, :left], np.s_[:, right:]):
        tensor[0][padding] = LETTERBOX_GREY
    return tensor, box


def to_float_nchw(tensor: Pixels) -> Floats:
    """Turn (1, H, W, 3) uint8 into the (1, 3, H, W) float in 0 to 1 of ordinary exports."""
    planes = np.ascontiguousarray(tensor.transpose(0, 3, 1, 2), dtype=np.float32)
    planes /= 255
    return planes


def postprocess(
    output: Floats,
    classes: int,
    box: Letterbox,
    thresholds: Thresholds,
    gap_classes: Sequence[int] = (),
    context: Context | None = None,
    bounds: Bounds | None = None,
) -> Detections:
    """Turn one model output into detections in image pixels, best first.

    `gap_classes` are those of the `classes` that are no products. `bounds` are the photo's where
    the image is a part of one.
    """
    lowest = min(thresholds.confidence, FAINT_CONFIDENCE)
    products = [label for label in range(classes) if label not in gap_classes]
    xyxy, confidence, class_id = decode(
        output,
        classes,
        context.least(lowest) if context else lowest,
        products if gap_classes else (),
    )
    if context:
        whole = bounds or (0, 0, box.width, box.height)
        xyxy, confidence, class_id, truncated = _in_context(
            xyxy, confidence, class_id, box, thresholds, context, whole
        )
    else:
        # One more than allowed, so that "exactly at the cap" is not called truncated; all where
        # the best may be of classes that are not asked for.
        most = len(xyxy) if thresholds.classes else thresholds.max_detections + 1
        kept = non_max_suppression(xyxy, confidence, class_id, thresholds.iou, most)
        xyxy, confidence, class_id = box.undo(xyxy[kept]), confidence[kept], class_id[kept]
        truncated = False
    # What is not asked for, or too much, takes its place all the same: without it there would be
    # gaps.
    wanted = np.isin(class_id, thresholds.classes or class_id)
    allowed = wanted & (wanted.cumsum() <= thresholds.max_detections)
    counts = confidence >= thresholds.confidence
    truncated |= bool((wanted & ~allowed & counts).any())
    # A box that lay in the padding has no area left.
    solid = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    sure = solid & allowed & counts
    faint = solid & ~sure & (confidence >= lowest)
    gap_xyxy, gap_confidence = _seen_gaps(
        output, classes, box, gap_classes, min(thresholds.confidence, LEAST_GAP_CONFIDENCE)
    )
    return Detections(
        xyxy=xyxy[sure],
        confidence=confidence[sure],
        class_id=class_id[sure],
        truncated=truncated,
        faint=xyxy[faint],
        faint_confidence=confidence[faint],
        sees_gaps=bool(gap_classes),
        gap_xyxy=gap_xyxy,
        gap_confidence=gap_confidence,
    )


def _in_context(
    xyxy: Floats,
    confidence: Floats,
    class_id: Ints,
    box: Letterbox,
    thresholds: Thresholds,
    context: Context,
    bounds: Bounds,
) -> tuple[Floats, Floats, Ints, bool]:
    """Choose boxes in image pixels, best first, by what lies around them; and say if any are left.

    Who votes on a box is the same for every threshold, and what rescores it is better than it, so
    a box is the same whatever is asked for.
    """
    kept, better, worse = suppress(
        xyxy, confidence, class_id, thresholds.iou, MAX_DETECTIONS + 1, VOTING_IOU
    )
    voters = confidence[worse] >= max(FAINT_CONFIDENCE, context.least(FAINT_CONFIDENCE))
    voted = box.undo(vote(xyxy, confidence, kept, better[voters], worse[voters]))
    rescored = context.rescore(voted, confidence[kept], class_id[kept], bounds)
    order = np.argsort(-rescored, kind="stable")
    counted = confidence[kept[MAX_DETECTIONS:]] >= context.least(thresholds.confidence)
    return voted[order], rescored[order], class_id[kept[order]], bool(counted.any())


def _seen_gaps(
    output: Floats, classes: int, box: Letterbox, gap_classes: Sequence[int], lowest: float
) -> tuple[Floats, Floats]:
    """Read the gaps from one model output: (g, 4) in image pixels, (g,), best first."""
    if not gap_classes:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    xyxy, confidence, class_id = decode(output, classes, lowest, gap_classes)
    one_class = np.zeros_like(class_id)
    kept = non_max_suppression(xyxy, confidence, one_class, GAP_IOU, MAX_GAPS)
    xyxy, confidence = box.undo(xyxy[kept]), confidence[kept]
    solid = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    return xyxy[solid], confidence[solid]


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the model file says of itself."""

    name: str
    digest: str
    precision: str
    license: str
    names: dict[int, str]  # of all classes
    input_name: str
    input_size: tuple[int, int]  # (width, height), the largest where it is free
    input_step: int  # the sides may be any multiples of it up to input_size; 0: none but that
    input_dtype: InputType
    context: Context | None = None  # of its products, where `model.calibrate` fitted one
    # The median of its products' shorter sides on the photos it learned from, in input pixels
    product_side: float = math.inf

    @cached_property
    def products(self) -> dict[int, str]:
        """The classes that are counted."""
        return {label: name for label, name in self.names.items() if not is_gap(name)}

    @cached_property
    def gap_classes(self) -> list[int]:
        """The classes that are room for products."""
        return [label for label, name in self.names.items() if is_gap(name)]


def is_gap(name: str) -> bool:
    """Tell a class of gaps by its name, e.g. "gap" or "Out-of-Stock"."""
    return re.sub(r"[\W_]+", " ", name).strip().lower() in GAP_NAMES


@dataclass
class Detector:
    """A session and the way to it; all may be called from many threads."""

    session: ort.InferenceSession
    model: Model
    revision: str = ""
    cpu_isa: str = ""
    path: Path | None = None  # of the file, to open it again
    threads: int = 1
    single: ort.InferenceSession | None = None  # the same of one thread, for a crowd
    # For whoever receives and decodes for `detect`.
    memory: Memory = field(default_factory=Memory)
    admission: Admission = field(default_factory=Admission)
    processors: Processors = field(default_factory=Processors)
    _ready: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def load(cls, path: Path, threads: int = 0, revision: str = "") -> Detector:
        """Read a model file; `threads` 0 means as many as the cgroup allows.

        Raises `ModelError` with one sentence for a file that cannot serve.
        """
        opened = open_session(path, threads)
        model = _describe(path, opened)
        detector = cls(
            opened.session,
            model,
            revision,
            cpu_isa(),
            admission=Admission(max(AT_WORK, opened.threads + 1)),
            path=path,
            threads=opened.threads,
        )
        log.info(
            "model.loaded",
            extra={
                "model": model.name,
                "digest": model.digest,
                "precision": model.precision,
                "license": model.license,
                "threads": opened.threads,
                "threads_from": opened.threads_from,
                "graph": opened.graph,
                "input_step": model.input_step,
                "resized_by": RESIZED_BY,
                "cpu_isa": detector.cpu_isa,
            },
        )
        return detector

    @property
    def ready(self) -> bool:
        """Whether a real inference has run."""
        return self._ready.is_set()

    def check_ready(self) -> None:
        """Raise `NotReady` unless a real inference has run, and none takes far too long."""
        if not self.ready:
            msg = "The model is not warm yet"
            raise NotReady(msg)
        self._check_running(STALLED_SECONDS)

    def check_live(self) -> None:
        """Raise `NotReady` where an inference hangs, so that the process is replaced."""
        self._check_running(HUNG_SECONDS)

    def _check_running(self, most: float) -> None:
        if self.processors.longest() > most:
            msg = f"An inference has not come back for {most:.0f} s"
            raise NotReady(msg)

    def warm_up(self) -> None:
        """Run one real inference, after which the detector is ready.

        Raises `ModelError` where the model's answer cannot be read.
        """
        started = time.monotonic()
        width, height = self.model.input_size
        grey = np.full((height, width, 3), LETTERBOX_GREY, dtype=np.uint8)
        tensor, box = self.preprocess(Image.of(grey))
        try:
            output = self._run(self.session, tensor)
            check_output(output, len(self.model.names))
            self._postprocess(output, box, Thresholds())
        except ValueError as err:
            raise ModelError(str(err)) from err
        self._ready.set()
        log.info("model.ready", extra={"seconds": round(time.monotonic() - started, 3)})

    def prepare_for_crowds(self) -> None:
        """Open the model for one thread, too; from then on each of several images gets one.

        It takes as long as a start, so whoever waits for the first answer does not wait for it.
        Raises `ModelError`.
        """
        if self.path is None or self.threads == 1:
            return
        started = time.monotonic()
        self.single = open_single(self.path)
        self.processors.count = self.threads
        seconds = round(time.monotonic() - started, 3)
        log.info("model.ready_for_crowds", extra={"seconds": seconds})

    def detect(
        self,
        image: Image,
        thresholds: Thresholds,
        timings: Timings | None = None,
        bounds: Bounds | None = None,
        times: float = 1.0,
    ) -> Detections:
        """Find the products in one image; `bounds` are the photo's where it is a part of one.

        The model sees the image as large as fits into its input, or `times` smaller.

        Raises `NotReady` before the warm-up and `Overloaded` when the wait gets too long.
        """
        self.check_ready()
        timings = Timings() if timings is None else timings
        with timings.stage("preprocess"):
            tensor, box = self.preprocess(image, times)
        with self._session_held(timings) as session, timings.stage("inference"):
            output = self._run(session, tensor)
        with timings.stage("postprocess"):
            return self._postprocess(output, box, thresholds, bounds)

    def plan(self, image: Image, detail: Detail, first: Detections) -> SecondLook:
        """Choose what of an image to look at again, by what the first look found."""
        model = self.model
        return plan_second_look(
            image.width, image.height, model.input_size, detail, first, model.product_side
        )

    def look_again(
        self,
        image: Image,
        second: SecondLook,
        first: Detections,
        thresholds: Thresholds,
        timings: Timings | None = None,
    ) -> Detections:
        """Look at an image as planned, and join that with what the first look found.

        Raises as `detect` does.
        """
        timings = Timings() if timings is None else timings
        closer = self._look_closer(image, second.tiles, first, thresholds, timings)
        if second.times == 1:
            return closer
        far = self.detect(image, thresholds, timings, times=second.times)
        if second.tiles and len(closer) >= FEW:
            return closer
        scale = input_scale(image.width, image.height, self.model.input_size)
        return merge_far(first, far, thresholds, TOO_FAR * second.times / scale)

    def _look_closer(
        self,
        image: Image,
        tiles: Sequence[Tile],
        first: Detections,
        thresholds: Thresholds,
        timings: Timings,
    ) -> Detections:
        if not tiles:
            return first
        size = image.width, image.height
        scale = image.picture.width / image.width
        looks = []
        for tile in tiles:
            corners = tile.left, tile.top, tile.right, tile.bottom
            left, top, right, bottom = (round(edge * scale) for edge in corners)
            part = Image(
                picture=image.picture.crop((left, top, right, bottom)),
                width=tile.right - tile.left,
                height=tile.bottom - tile.top,
                bytes=image.bytes,
                orientation=image.orientation,
            )
            bounds = (-tile.left, -tile.top, image.width - tile.left, image.height - tile.top)
            look = self.detect(part, thresholds, timings, bounds)
            looks.append((tile, look.moved(tile.left, tile.top)))
        with timings.stage("postprocess"):
            sight = Sight.of(*size, self.model.input_size, first)
            return merge(first, looks, size, thresholds, sight.well)

    def _postprocess(
        self,
        output: Floats,
        box: Letterbox,
        thresholds: Thresholds,
        bounds: Bounds | None = None,
    ) -> Detections:
        model = self.model
        classes = len(model.names)
        return postprocess(
            output, classes, box, thresholds, model.gap_classes, model.context, bounds
        )

    def preprocess(self, image: Image, times: float = 1.0) -> tuple[Pixels, Letterbox]:
        """Letterbox an image as `preprocess` does, for this model."""
        return preprocess(image, self.model.input_size, self.model.input_step, times)

    @contextmanager
    def _session_held(self, timings: Timings) -> Iterator[ort.InferenceSession]:
        with ExitStack() as held:
            with timings.stage("queue"):
                alone = held.enter_context(self.processors.hold(WAIT_SECONDS))
            yield self.session if alone or self.single is None else self.single

    def _run(self, session: ort.InferenceSession, tensor: Pixels) -> Floats:
        fed = tensor if self.model.input_dtype == np.uint8 else to_float_nchw(tensor)
        output: Floats = session.run(None, {self.model.input_name: fed})[0]
        if not np.isfinite(output).all():
            msg = "The model's output holds NaN or infinity"
            raise ModelError(msg)
        return output

    def json(self) -> ModelJson:
        """Describe the model as results do."""
        return {
            "name": self.model.name,
            "digest": self.model.digest,
            "precision": self.model.precision,
            "input": list(self.model.input_size),
            "cpu_isa": self.cpu_isa,
            "revision": self.revision,
        }


def _describe(path: Path, opened: OpenedSession) -> Model:
    session = opened.session
    metadata = session.get_modelmeta().custom_metadata_map
    task = metadata.get("task", TASK)
    if task != TASK:
        msg = f"The task of {path} must be {TASK!r}, got {task!r}"
        raise ModelError(msg)
    names = _names(path, metadata)
    first = session.get_inputs()[0]
    if len(session.get_inputs()) != 1 or first.type not in INPUT_TYPES:
        msg = f"The input of {path} must be one image of uint8 or float pixels, got {first.type}"
        raise ModelError(msg)
    dtype = INPUT_TYPES[first.type]
    not_one_image = f"The input of {path} must be one RGB image, got the shape {first.shape}"
    if len(first.shape) != 4:
        raise ModelError(not_one_image)
    shape = _input_shape(path, first.shape, metadata)
    if dtype == np.uint8:
        batch, height, width, channels = shape
    else:
        batch, channels, height, width = shape
    if (batch, channels) != (1, 3):
        raise ModelError(not_one_image)
    _check_output(path, session.get_outputs()[0].shape, len(names))
    sides = first.shape[1:3] if dtype == np.uint8 else first.shape[2:]
    free = not any(isinstance(side, int) for side in sides)
    return Model(
        name=metadata.get("name", path.stem),
        digest=opened.digest,
        precision=metadata.get("precision", "fp32"),
        license=metadata.get("license", "unknown"),
        names=names,
        input_name=first.name,
        input_size=(width, height),
        input_step=_stride(path, metadata) if free else 0,
        input_dtype=dtype,
        context=_context(path, metadata),
        product_side=_product_side(path, metadata),
    )


def _names(path: Path, metadata: dict[str, str]) -> dict[int, str]:
    try:
        read = ast.literal_eval(metadata["names"])
        names = {int(key): str(name) for key, name in read.items()}
    except (KeyError, ValueError, SyntaxError, AttributeError) as err:
        msg = f"{path} must name its classes: export it with Ultralytics or model.export"
        raise ModelError(msg) from err
    if all(is_gap(name) for name in names.values()):
        msg = f"{path} must name a class of products, got {', '.join(names.values())}"
        raise ModelError(msg)
    return names


def _input_shape(path: Path, shape: list[int | str], metadata: dict[str, str]) -> tuple[int, ...]:
    """Fill the free axes of a dynamic export: one RGB image of the size in its metadata."""
    text = metadata.get("imgsz", "[640, 640]")
    try:
        height, width = map(int, ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, RecursionError):
        height = width = 0
    if all(isinstance(axis, int) for axis in shape):
        return tuple(map(int, shape))
    if min(height, width) < 1:
        msg = f"The imgsz of {path} must be a height and a width in pixels, got {text!r}"
        raise ModelError(msg)
    free = (1, 3, height, width) if shape[3] != 3 else (1, height, width, 3)
    return tuple(axis if isinstance(axis, int) else free[i] for i, axis in enumerate(shape))


def _stride(path: Path, metadata: dict[str, str]) -> int:
    """Read what the sides of a dynamic export must be multiples of; 0 where it does not say."""
    try:
        return int(metadata.get("stride", "0"))
    except ValueError as err:
        msg = f"The stride of {path} must be a number of pixels, got {metadata['stride']!r}"
        raise ModelError(msg) from err


def _context(path: Path, metadata: dict[str, str]) -> Context | None:
    try:
        return Context.read(metadata[METADATA]) if METADATA in metadata else None
    except (ValueError, RecursionError) as err:
        msg = f"The metadata `{METADATA}` of {path} cannot be read: {err}"
        raise ModelError(msg) from err


def _product_side(path: Path, metadata: dict[str, str]) -> float:
    """Read how large products usually are; infinity where the file does not say."""
    text = metadata.get(SIDE, "inf")
    try:
        if (side := float(text)) > 0:
            return side
    except ValueError:
        pass
    msg = f"The metadata `{SIDE}` of {path} must be a number of pixels above 0, got {text!r}"
    raise ModelError(msg)


def _check_output(path: Path, shape: list[int | str], classes: int) -> None:
    """Refuse a file without detection boxes; free axes are left to the warm-up."""
    known = [axis for axis in shape[1:] if isinstance(axis, int)]
    if len(shape) != 3 or (len(known) == 2 and 4 + classes not in known and known[1] != 6):
        must_be = f"detections of its {classes} classes"
        msg = f"The output of {path} must be {must_be}, got the shape {shape}"
        raise ModelError(msg)
