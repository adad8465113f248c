"""Imports go one way, and the rooms without IO import none."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

# Who may import whom, besides itself.
ALLOWED = {
    "events": set(),
    "function": {"events"},
    "model": {"function"},
    "local": {"function", "events", "model"},
    "knative": {"function"},
}
PURE = [
    "function/boxes.py",
    "function/detections.py",
    "function/shelf.py",
    "events/s3_envelopes.py",
    "events/s3_notification.py",
    "knative/rollout/judge.py",
    "knative/rollout/objects.py",
    "knative/rollout/plan.py",
    "knative/rollout/verdict.py",
]
IO = {
    "io",
    "os",
    "pathlib",
    "socket",
    "time",
    "logging",
    "boto3",
    "botocore",
    "urllib3",
    "flask",
    "PIL",
    "kubernetes",
}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_go_one_way(room: str) -> None:
    modules = list((ROOT / room).rglob("*.py"))
    assert modules
    for path in modules:
        foreign = imports(path) & (set(ALLOWED) - {room})
        assert foreign <= ALLOWED[room], path


@pytest.mark.parametrize("path", PURE)
def test_pure_modules_do_no_io(path: str) -> None:
    assert not imports(ROOT / path) & IO


def test_the_conductor_takes_nothing_of_the_service_but_the_geometry_of_boxes() -> None:
    for path in (ROOT / "knative").rglob("*.py"):
        tree = ast.walk(ast.parse(path.read_text()))
        modules = {node.module for node in tree if isinstance(node, ast.ImportFrom)}
        assert {m for m in modules if m and m.startswith("function")} <= {"function.boxes"}, path


@pytest.mark.parametrize("room", ["function", "events", "knative"])
def test_the_service_imports_no_training_tools(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert not imports(path) & {"torch", "ultralytics", "cv2", "onnx", "pycocotools"}, path


@pytest.mark.parametrize("room", ["function", "events", "knative"])
def test_only_settings_and_process_files_read_the_environment(room: str) -> None:
    readers = {
        path.name for path in (ROOT / room).rglob("*.py") if "os.environ" in path.read_text()
    }
    assert readers <= {
        *("config.py", "gunicorn.conf.py", "__main__.py"),
        *("replay.py", "sweep.py"),
    }


def test_a_model_is_made_without_what_the_service_needs_for_events() -> None:
    """The venv of model/requirements.txt has none of these."""
    absent = ("boto3", "cloudevents", "flask", "gunicorn", "prometheus_client", "urllib3")
    steps = ("calibrate", "evaluate", "export", "gate", "quantize", "train")
    script = "import sys\n"
    script += "".join(f"sys.modules[{name!r}] = None\n" for name in absent)
    script += "".join(f"import model.{step}\n" for step in steps)
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
