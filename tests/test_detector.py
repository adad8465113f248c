"""The session: which files serve, that it is warm before it answers, and that it sheds load."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import PIL.Image
import pytest
from onnx import TensorProto, helper

import function.detector
from function.audit import audit_image
from function.boxes import box_iou, letterbox
from function.config import Config
from function.detections import Detail, Thresholds
from function.detector import Detector, postprocess, preprocess, to_float_nchw
from function.errors import ModelError, NotReady, Overloaded
from function.image import Image, read_image
from function.metrics import Metrics
from model.render import render_shelf

GREY = Image.of(np.full((48, 64, 3), 128, np.uint8))


def save_model(
    path: Path,
    output: np.ndarray,
    *,
    input_type: int = TensorProto.FLOAT,
    input_shape: tuple[int | str, ...] = (1, 3, 32, 32),
    names: str | None = "{0: 'product'}",
    stride: str | None = None,
    context: str | None = None,
    product_side: str | None = None,
    task: str | None = None,
    imgsz: str = "[32, 32]",
) -> Path:
    """Write a model that takes an image and answers `output`."""
    size = helper.make_node("Shape", ["images"], ["size"])  # so that the input is used
    constant = helper.make_node(
        "Constant", [], ["value"], value=onnx.numpy_helper.from_array(output.astype(np.float32))
    )
    identity = helper.make_node("Identity", ["value"], ["output0"])
    graph = helper.make_graph(
        [size, constant, identity],
        "constant",
        [helper.make_tensor_value_info("images", input_type, input_shape)],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, output.shape)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    given = {
        "imgsz": imgsz,
        "names": names,
        "stride": stride,
        "context": context,
        "product_side": product_side,
        "task": task,
    }
    helper.set_model_props(made, {key: value for key, value in given.items() if value is not None})
    onnx.save(made, path)
    return path


# One box over the middle half of a 32 x 32 input.
ONE_BOX = np.zeros((1, 5, 21))
ONE_BOX[0, :, 7] = [16, 16, 16, 12, 0.9]


@pytest.mark.parametrize(
    ("input_type", "input_shape", "output"),
    [
        pytest.param(TensorProto.FLOAT, (1, 3, 32, 32), ONE_BOX, id="float"),
        pytest.param(TensorProto.FLOAT, ("b", 3, "h", "w"), ONE_BOX, id="dynamic"),
        pytest.param(TensorProto.UINT8, (1, 32, 32, 3), ONE_BOX, id="uint8"),
        pytest.param(
            TensorProto.FLOAT, (1, 3, 32, 32), ONE_BOX.transpose(0, 2, 1), id="transposed"
        ),
        pytest.param(
            TensorProto.FLOAT,
            (1, 3, 32, 32),
            np.array([[[8, 10, 24, 22, 0.9, 0], [0] * 6]]),
            id="end-to-end",
        ),
    ],
)
def test_every_ultralytics_export_serves(
    tmp_path: Path, input_type: int, input_shape: tuple[int | str, ...], output: np.ndarray
) -> None:
    path = save_model(tmp_path / "own.onnx", output, input_type=input_type, input_shape=input_shape)
    detector = Detector.load(path, threads=1)
    detector.warm_up()
    detections = detector.detect(GREY, Thresholds())
    # 64 x 48 fits into 32 x 32 at a half, with 4 rows of padding above.
    np.testing.assert_allclose(detections.xyxy, [[16, 12, 48, 36]], atol=0.01)
    np.testing.assert_allclose(detections.confidence, [0.9], atol=1e-6)
    assert detector.model.name == "own"
    assert detector.model.input_size == (32, 32)


def test_an_image_is_seen_as_large_as_fits_or_smaller(tmp_path: Path) -> None:
    detector = Detector.load(save_model(tmp_path / "m.onnx", ONE_BOX), threads=1)
    detector.warm_up()
    # Of 32 x 32 the image of 64 x 48 takes 16 x 12 now: the box is all of it.
    detections = detector.detect(GREY, Thresholds(), times=2)
    np.testing.assert_allclose(detections.xyxy, [[0, 0, 64, 48]], atol=0.01)


@pytest.mark.parametrize(
    ("product_side", "detail", "looks"),
    [
        pytest.param("6", "auto", 2, id="large-for-the-model"),
        pytest.param("6", "fast", 1, id="but-fast"),
        pytest.param("7", "auto", 1, id="usual"),
        pytest.param(None, "auto", 1, id="a-model-that-does-not-say"),
    ],
)
def test_what_the_model_has_learned_decides_on_a_look_from_further_off(
    tmp_path: Path, product_side: str | None, detail: Detail, looks: int
) -> None:
    detector = Detector.load(save_model(tmp_path / "m.onnx", ONE_BOX, product_side=product_side))
    detector.warm_up()
    photo = io.BytesIO()
    GREY.picture.save(photo, "JPEG")
    result = audit_image(photo.getvalue(), detector, Thresholds(detail=detail), Metrics())
    (product,) = result["detections"]
    assert result["looks"] == looks
    assert product["xyxy"] == ([0, 0, 64, 48] if looks == 2 else [16, 12, 48, 36])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda path: None, "missing or not an ONNX model", id="missing"),
        pytest.param(lambda path: path.write_bytes(b"hello"), "not an ONNX model", id="text"),
        pytest.param(
            lambda path: save_model(path, ONE_BOX, names=None), "must name its classes", id="names"
        ),
        pytest.param(
            lambda path: save_model(path, ONE_BOX, names="['a', 'b']"),
            "must name its classes",
            id="list",
        ),
        pytest.param(
            lambda path: save_model(path, np.zeros((1, 5))), "output of", id="classification"
        ),
        pytest.param(
            lambda path: save_model(path, np.zeros((1, 84, 21))), "its 1 classes", id="classes"
        ),
        pytest.param(
            lambda path: save_model(path, ONE_BOX, input_shape=(1, 1, 32, 32)), "RGB", id="grey"
        ),
        pytest.param(
            lambda path: save_model(path, ONE_BOX, input_type=TensorProto.INT64), "int64", id="type"
        ),
        pytest.param(
            lambda path: save_model(path, ONE_BOX, input_shape=(1, 3)), "RGB image", id="flat"
        ),
        pytest.param(
            lambda path: save_model(path, ONE_BOX, input_shape=(1, 3, "h", "w"), stride="[8]"),
            r"must be a number of pixels, got '\[8\]'",
            id="stride",
        ),
        *(
            pytest.param(
                lambda path, side=side: save_model(path, ONE_BOX, product_side=side),
                f"must be a number of pixels above 0, got '{side}'",
                id=f"product-side-{side}",
            )
            for side in ("large", "0", "nan")
        ),
        pytest.param(
            lambda path: save_model(path, np.zeros((1, 5, 21)), task="obb"),
            "must be 'detect', got 'obb'",
            id="task",
        ),
        *(
            pytest.param(
                lambda path, imgsz=imgsz: save_model(
                    path, ONE_BOX, input_shape=(1, 3, "h", "w"), imgsz=imgsz
                ),
                "must be a height and a width in pixels, got",
                id=f"imgsz-{imgsz}",
            )
            for imgsz in ("640", "abc", "[640]", "['a', 'b']", "[0, 640]", "[640, 640, 3]", "(")
        ),
    ],
)
def test_a_file_that_cannot_serve_is_refused_in_one_sentence(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "model.onnx"
    make(path)
    with pytest.raises(ModelError, match=words) as caught:
        Detector.load(path, threads=1)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_start_log_names_the_weights_licence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "function.detector")
    Detector.load(Config().model_path, threads=1)
    Detector.load(save_model(tmp_path / "own.onnx", ONE_BOX), threads=1)
    shipped, own = (vars(record) for record in caplog.records if record.message == "model.loaded")
    assert shipped["license"].startswith("evaluation only")
    assert own["license"] == "unknown"


def test_nothing_is_detected_before_the_warm_up(tmp_path: Path) -> None:
    detector = Detector.load(save_model(tmp_path / "m.onnx", ONE_BOX), threads=1)
    assert not detector.ready
    with pytest.raises(NotReady):
        detector.detect(GREY, Thresholds())
    detector.warm_up()
    assert detector.ready


def test_output_without_numbers_is_never_served(tmp_path: Path) -> None:
    detector = Detector.load(save_model(tmp_path / "m.onnx", ONE_BOX * np.nan), threads=1)
    with pytest.raises(ModelError, match="NaN"):
        detector.warm_up()
    assert not detector.ready


def test_an_output_that_only_shows_when_it_runs_is_refused_by_the_warm_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_model(tmp_path / "m.onnx", np.zeros((1, 7, 21)))
    monkeypatch.setattr(function.detector, "_check_output", lambda *_: None)  # as with free axes
    detector = Detector.load(path, threads=1)
    with pytest.raises(ModelError, match=r"\(1, 7, 21\)"):
        detector.warm_up()
    assert not detector.ready


GRID = np.mgrid[4:32:8, 4:32:8].reshape(2, -1)  # the middles of 16 anchors
SIDES = np.full_like(GRID, 6)


@pytest.mark.parametrize(
    ("output", "names", "words"),
    [
        pytest.param(
            [*GRID, *SIDES, np.full(16, 0.01), np.full(16, 0.7)],
            "{0: 'product'}",
            r"output \(1, 16, 6\) must be corners, a confidence and a whole class number a row",
            id="yolov5",
        ),
        pytest.param(
            [*GRID, *SIDES, np.zeros(16), np.zeros(16)],
            "{0: 'product'}",
            "must be corners",
            id="yolov5-rounded",
        ),
        pytest.param(
            [*GRID / 32, *SIDES / 32, np.full(16, 0.9)],
            "{0: 'product'}",
            "must be in pixels of its input, got 0.88 at most",
            id="rt-detr",
        ),
        pytest.param(
            [*GRID / 32, *SIDES / 32, np.full(16, 0.9), np.full(16, 0.01)],
            "{0: 'product', 1: 'gap'}",
            "must be in pixels of its input",
            id="rt-detr-of-two-classes",
        ),
    ],
)
def test_boxes_of_another_family_are_refused_by_the_warm_up(
    tmp_path: Path, output: list[np.ndarray], names: str, words: str
) -> None:
    path = save_model(tmp_path / "m.onnx", np.array([np.array(output).T]), names=names)
    detector = Detector.load(path, threads=1)
    with pytest.raises(ModelError, match=words):
        detector.warm_up()
    assert not detector.ready


def test_a_wait_that_is_too_long_is_shed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function.detector, "WAIT_SECONDS", 0.05)
    detector = Detector.load(save_model(tmp_path / "m.onnx", ONE_BOX), threads=1)
    detector.warm_up()
    with detector.processors.hold(1), pytest.raises(Overloaded, match="waited"):
        detector.detect(GREY, Thresholds())
    assert len(detector.detect(GREY, Thresholds())) == 1


@pytest.mark.parametrize(
    ("input_type", "input_shape", "stride", "shape"),
    [
        pytest.param(TensorProto.FLOAT, (1, 3, "h", "w"), "8", (1, 24, 32, 3), id="planes"),
        pytest.param(TensorProto.UINT8, (1, "h", "w", 3), "8", (1, 24, 32, 3), id="pixels"),
        pytest.param(TensorProto.UINT8, (1, "h", "w", 3), "16", (1, 32, 32, 3), id="coarse"),
        pytest.param(TensorProto.UINT8, (1, "h", "w", 3), None, (1, 32, 32, 3), id="no-stride"),
        pytest.param(TensorProto.UINT8, (1, 32, 32, 3), "8", (1, 32, 32, 3), id="fixed"),
    ],
)
def test_a_model_of_free_sides_gets_no_more_than_the_image_needs(
    tmp_path: Path,
    input_type: int,
    input_shape: tuple[int | str, ...],
    stride: str | None,
    shape: tuple[int, ...],
) -> None:
    path = save_model(
        tmp_path / "m.onnx", ONE_BOX, input_type=input_type, input_shape=input_shape, stride=stride
    )
    detector = Detector.load(path, threads=1)
    detector.warm_up()
    tensor, box = detector.preprocess(GREY)  # 64 x 48
    assert tensor.shape == shape
    assert box.size == (shape[2], shape[1])
    # The box that the model tells at (16, 16) of its input lies higher the less is padded.
    top = (10 - box.pad[1]) * 2
    np.testing.assert_allclose(
        detector.detect(GREY, Thresholds()).xyxy, [[16, top, 48, top + 24]], atol=0.01
    )
    assert detector.json()["input"] == [32, 32]


def test_preprocess_pads_with_grey_and_keeps_pixels() -> None:
    tensor, box = preprocess(Image.of(np.full((48, 64, 3), 7, np.uint8)), (64, 64))
    assert tensor.shape == (1, 64, 64, 3)
    assert box.pad == (0, 8)
    assert (tensor[0, 8:56] == 7).all()
    assert (tensor[0, :8] == 114).all()
    assert (tensor[0, 56:] == 114).all()
    planes = to_float_nchw(tensor)
    assert planes.shape == (1, 3, 64, 64)
    np.testing.assert_array_equal(np.round(planes[0, :, 20, 20] * 255), [7, 7, 7])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_shipped_model_finds_most_products_of_a_drawn_shelf(
    detector: Detector, tmp_path: Path, seed: int
) -> None:
    shelf = render_shelf(seed)
    path = tmp_path / "shelf.jpg"
    PIL.Image.fromarray(shelf.image).save(path, quality=92)
    image = read_image(path.read_bytes(), detector.model.input_size)
    found = detector.detect(image, Thresholds())
    best = [box_iou(box, found.xyxy).max(initial=0) for box in shelf.xyxy]
    assert np.mean(np.array(best) >= 0.5) >= 0.7
    assert 0.7 <= len(found) / len(shelf.xyxy) <= 1.3
    assert (found.xyxy[:, 2:] <= [image.width, image.height]).all()


def test_the_shipped_model_finds_nothing_on_a_grey_wall(detector: Detector) -> None:
    assert len(detector.detect(GREY, Thresholds())) == 0


def test_the_cap_is_told(detector: Detector) -> None:
    image = Image.of(render_shelf(1).image)
    assert image.pixels.shape == (1280, 960, 3)
    everything = detector.detect(image, Thresholds())
    capped = detector.detect(image, Thresholds(max_detections=5))
    exact = detector.detect(image, Thresholds(max_detections=len(everything)))
    assert (len(capped), capped.truncated) == (5, True)
    assert (len(exact), exact.truncated) == (len(everything), False)
    np.testing.assert_array_equal(capped.confidence, everything.confidence[:5])


@pytest.mark.parametrize(
    ("confidence", "limit", "sure", "faint", "truncated"),
    [
        pytest.param(0.25, 1000, 2, 1, False, id="faint-ones-are-kept-apart"),
        pytest.param(0.1, 1000, 4, 0, False, id="asked-for-they-are-detections"),
        pytest.param(0.25, 2, 2, 1, False, id="faint-ones-do-not-count-as-too-many"),
        pytest.param(0.25, 1, 1, 1, True, id="too-many"),
    ],
)
def test_boxes_below_the_threshold_are_faint_not_detections(
    confidence: float, limit: int, sure: int, faint: int, truncated: bool
) -> None:
    scores = [0.9, 0.6, 0.2, 0.105]
    boxes = [[100 * i + 50, 50, 40, 40] for i in range(len(scores))]
    output = np.zeros((1, 5, 100), np.float32)
    output[0, :4, :4], output[0, 4, :4] = np.array(boxes).T, scores
    box = letterbox(640, 640, (640, 640))
    thresholds = Thresholds(confidence=confidence, max_detections=limit)
    detections = postprocess(output, 1, box, thresholds)
    assert (len(detections), len(detections.faint)) == (sure, faint)
    assert detections.truncated is truncated


class CountedSession:
    """A session that counts its runs."""

    def __init__(self, session: Any) -> None:
        self.session, self.runs = session, 0

    def run(self, *arguments: object) -> object:
        self.runs += 1
        return self.session.run(*arguments)


def test_a_crowd_gets_the_answers_that_each_gets_alone() -> None:
    detector = Detector.load(Config().model_path, threads=2)
    detector.warm_up()
    assert detector.single is None
    detector.prepare_for_crowds()
    wide, single = CountedSession(detector.session), CountedSession(detector.single)
    detector = replace(detector, session=wide, single=single)
    images = [Image.of(render_shelf(seed, width=480, height=480).image) for seed in range(3)]
    alone = [detector.detect(image, Thresholds()) for image in images]
    assert (wide.runs, single.runs) == (3, 0)
    with ThreadPoolExecutor(6) as crowd:
        found = list(crowd.map(lambda image: detector.detect(image, Thresholds()), images * 4))
    assert single.runs >= 6
    for detections, expected in zip(found, alone * 4, strict=True):
        np.testing.assert_array_equal(detections.xyxy, expected.xyxy)
        np.testing.assert_array_equal(detections.confidence, expected.confidence)
        np.testing.assert_array_equal(detections.gap_xyxy, expected.gap_xyxy)
