"""The conductor as its own process, real functions behind a splitter, users who keep asking."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import ROOT, free_port
from onnx import numpy_helper

from local.aws import aws_env
from local.stack import running_function
from tests.rollout.fake_knative import FakeRevision
from tests.rollout.stage import Load, Stage, running_stage, write_kubeconfig

STABLE, BROKEN, GOOD = (f"shelf-detector-0000{n}" for n in (1, 2, 3))
JUDGE = ROOT / "knative" / "rollout" / "judge"


def break_model(path: Path) -> Path:
    """Shuffle the weights of the shipped model: a file like it that finds nothing true."""
    model = onnx.load(ROOT / "model" / "shelf.onnx")
    rng = np.random.default_rng(8)
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.ndim == 4:
            shuffled = rng.permutation(weights.ravel()).reshape(weights.shape)
            tensor.CopyFrom(numpy_helper.from_array(shuffled, tensor.name))
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Three functions under gunicorn, by revision; one has a broken model."""
    folder = tmp_path_factory.mktemp("functions")
    broken = break_model(folder / "broken.onnx")
    env = {**aws_env("http://127.0.0.1:9"), "SHELFWATCH_THREADS": "1"}
    with ExitStack() as stack:
        urls = {}
        for revision in (STABLE, BROKEN, GOOD):
            (folder / revision).mkdir()
            model = {"SHELFWATCH_MODEL": str(broken)} if revision == BROKEN else {}
            settings = {**env, **model, "K_REVISION": revision}
            function = running_function(free_port(), settings, folder / revision)
            urls[revision], _ = stack.enter_context(function)
        yield urls


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    """One picture of the shipped judge, and patience: other tests use the same cores."""
    folder = tmp_path / "judge"
    folder.mkdir()
    for name in ("floors.json", "gaps.jpg", "gaps.txt"):
        shutil.copy(JUDGE / name, folder)
    floors = json.loads((folder / "floors.json").read_text())
    patient = {"p95_ms": 60_000, "p95_slack_ms": 60_000}
    (folder / "floors.json").write_text(json.dumps(floors | patient))
    return folder


def conduct(stage: Stage, judge: Path, folder: Path) -> tuple[int, list[dict[str, object]]]:
    """Run the conductor; returns its exit code and its log."""
    settings = {
        "KUBECONFIG": str(write_kubeconfig(folder, stage.api_url)),
        "KSVC": "shelf-detector",
        "NAMESPACE": "shelf",
        "JUDGE": str(judge),
        "HOLD_SECONDS": "0.5",
        "POLL_SECONDS": "0.1",
        "WAIT_SECONDS": "60",
        "ROUNDS": "1",
    }
    env = {k: v for k, v in os.environ.items() if k != "KUBERNETES_SERVICE_HOST"}
    done = subprocess.run(
        [sys.executable, "-m", "knative.rollout"],
        cwd=ROOT,
        env={**env, **settings, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    (folder / "conductor.log").write_text(done.stderr)
    return done.returncode, [json.loads(line) for line in done.stderr.splitlines()]


@pytest.mark.timeout(600)
def test_a_broken_model_is_stopped_and_the_next_good_one_goes_all_the_way(
    backends: dict[str, str], judge: Path, tmp_path: Path
) -> None:
    picture = (JUDGE / "gaps.jpg").read_bytes()
    with running_stage(backends) as stage:
        with stage.lock:
            stage.knative.settle(STABLE)
            stage.knative.apply(FakeRevision(BROKEN))
        with Load(stage.urls[""], picture) as users:
            code, log = conduct(stage, judge, tmp_path)
        exams = [line for line in log if line["event"] == "exam.held"]
        assert (code, len(exams), exams[0]["share"]) == (42, 1, 0), log
        assert str(exams[0]["verdict"]).startswith("Inaccurate: F1 0.0")
        assert stage.knative.share(STABLE) == 100
        assert stage.knative.annotations
        assert set(users.answers) == {(200, STABLE)}

        with stage.lock:
            stage.knative.apply(FakeRevision(GOOD))
        with Load(stage.urls[""], picture) as users:
            code, log = conduct(stage, judge, tmp_path)
        exams = [line for line in log if line["event"] == "exam.held"]
        assert code == 0, log
        assert [exam["share"] for exam in exams] == [0, 20, 50, 100]
        assert stage.knative.share(GOOD) == 100
        assert set(users.answers) == {(200, STABLE), (200, GOOD)}
        assert stage.knative.problems == []
