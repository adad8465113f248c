"""The session: threads within the limits, and an optimised copy that answers as its source does."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import function.session
from function.config import Config
from function.detector import LETTERBOX_GREY, Detector
from function.errors import ModelError
from function.session import available_threads, open_session, optimized_path, write_optimized
from model.render import render_shelf


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model in a folder of its own, without a copy."""
    return Path(shutil.copy(Config().model_path, tmp_path_factory.mktemp("model")))


def test_at_least_one_thread_is_there() -> None:
    assert available_threads()[0] >= 1


@pytest.mark.parametrize(
    ("quota_v2", "quota_v1", "affinity", "expected"),
    [
        pytest.param(None, None, 2, (2, "affinity"), id="none"),
        pytest.param(1.0, None, 8, (1, "cgroup v2"), id="v2"),
        pytest.param(1.5, None, 8, (2, "cgroup v2"), id="rounded-up"),
        pytest.param(0.2, None, 8, (1, "cgroup v2"), id="a-fifth"),
        pytest.param(None, 3.0, 8, (3, "cgroup v1"), id="v1"),
        pytest.param(16.0, None, 4, (4, "affinity"), id="wide-quota"),
    ],
)
def test_the_tightest_limit_decides_the_threads(
    monkeypatch: pytest.MonkeyPatch,
    quota_v2: float | None,
    quota_v1: float | None,
    affinity: float,
    expected: tuple[int, str],
) -> None:
    for name, limit in [("quota_v2", quota_v2), ("quota_v1", quota_v1), ("affinity", affinity)]:
        monkeypatch.setattr(function.session, f"_{name}", lambda limit=limit: limit)
    assert available_threads() == expected


def test_the_start_log_says_what_was_decided_and_why(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "function.detector")
    Detector.load(model, threads=1)
    Detector.load(model)
    one, all_of_them = (
        vars(record) for record in caplog.records if record.message == "model.loaded"
    )
    assert (one["threads"], one["threads_from"]) == (1, "setting")
    assert (all_of_them["threads"], all_of_them["threads_from"]) == available_threads()
    assert one["graph"] == "shelf.onnx"


def test_the_optimised_copy_answers_bit_for_bit_as_its_source(tmp_path: Path, model: Path) -> None:
    source = open_session(model, 1)
    copied = Path(shutil.copy(model, tmp_path))
    copy = write_optimized(copied)
    opened = open_session(copied, 1)
    assert (source.graph, opened.graph) == ("shelf.onnx", copy.name)
    assert opened.digest == source.digest
    assert opened.session.get_inputs()[0].shape == source.session.get_inputs()[0].shape
    for height, width in ((800, 800), (640, 480), (480, 640)):
        tensor = np.full((1, height, width, 3), LETTERBOX_GREY, np.uint8)
        tensor[0, :480, :480] = render_shelf(1, width=480, height=480).image
        one, other = (s.run(None, {"pixels": tensor})[0] for s in (source.session, opened.session))
        np.testing.assert_array_equal(one, other)
    assert Detector.load(copied, 1).model == Detector.load(model, 1).model


def test_the_optimised_copy_is_for_every_processor(tmp_path: Path, model: Path) -> None:
    copy = write_optimized(Path(shutil.copy(model, tmp_path)))
    nodes = onnx.load(copy).graph.node
    assert {"QLinearConv", "QLinearSigmoid"} <= {node.op_type for node in nodes}
    assert {node.domain for node in nodes} <= {"", "com.microsoft"}  # none of its ".nchwc"


def test_a_copy_of_another_model_or_version_is_not_loaded(tmp_path: Path, model: Path) -> None:
    own = Path(shutil.copy(model, tmp_path))
    digest = open_session(own, 1).digest.removeprefix("sha256:")
    name = optimized_path(own, digest).name
    for other in (name.replace(digest[:12], "0123456789ab"), name.replace("ort-", "ort-0.")):
        (tmp_path / other).write_bytes(b"of another model or version")
    assert open_session(own, 1).graph == "shelf.onnx"


def test_a_broken_copy_is_named(tmp_path: Path, model: Path) -> None:
    own = Path(shutil.copy(model, tmp_path))
    digest = open_session(own, 1).digest.removeprefix("sha256:")
    copy = optimized_path(own, digest)
    copy.write_bytes(b"half")
    with pytest.raises(ModelError, match=copy.name):
        open_session(own, 1)


def test_no_half_of_a_copy_is_left(tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("hello")
    with pytest.raises(ModelError, match=r"text\.onnx is missing or not an ONNX model"):
        write_optimized(text)
    assert list(tmp_path.iterdir()) == [text]
