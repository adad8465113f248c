"""Imports go one way, and the rooms without IO import none."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from conftest import ROOT

# The laws of the house: what each room may import of ours, besides itself. The longest name that a
# module lies in is its room, and a room that is not named may not be imported.
ALLOWED: Mapping[str, set[str]] = {
    "events": set(),
    "events.source": {"events"},
    "events.repair": {"events"},
    "function": {"events"},
    "monitor": {
        *("events", "function.bearer", "function.boxes", "function.errors"),
        *("function.problems", "function.serving", "function.spreadsheet"),
    },
    "model": {"function"},
    "knative.rollout": {"function.boxes", "events.checks", "events.log"},
    "local": {"events", "events.source", "events.repair", "function", "model"},
}
OURS = {"events", "function", "model", "monitor", "knative", "local", "bench", "tests"}
# The vocabulary of every process: what grows here is read by all of them.
MAX_VOCABULARY = 11
# Calls that import by name.
IMPORTERS = ("import_module", "__import__", "run_module")
PURE = [
    "function/boxes.py",
    "function/context.py",
    "function/detections.py",
    "function/result.py",
    "function/rows.py",
    "function/shelf.py",
    "events/s3_envelopes.py",
    "events/s3_notification.py",
    "events/types.py",
    "monitor/fold.py",
    "monitor/intake.py",
    "monitor/messages.py",
    "monitor/packed.py",
    "monitor/records.py",
    "monitor/gap_events.py",
    "knative/rollout/judge.py",
    "knative/rollout/objects.py",
    "knative/rollout/plan.py",
    "knative/rollout/verdict.py",
]
IO = {
    *("io", "os", "pathlib", "socket", "time", "logging"),
    *("boto3", "botocore", "urllib3", "flask", "PIL", "kubernetes"),
}


def imported(source: str, package: str = "") -> set[str]:
    """Name every module that a source of a package imports, wherever in it and however.

    `from a import b` may mean a module a.b.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(IMPORTERS):
            names |= {str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant)}
    return names


def room_of(module: str) -> str:
    """Find the room that a module of ours lies in; empty where it lies in none."""
    inside = [room for room in ALLOWED if f"{module}.".startswith(f"{room}.")]
    return max(inside, key=len, default="")


def may_import(room: str, module: str) -> bool:
    """Tell whether the table lets a room import a module of ours."""
    if room_of(module) == room:
        return True
    # A package that is entered on the way to an allowed module counts as that module.
    return any(
        module == allowed
        or (f"{module}.".startswith(f"{allowed}.") and room_of(module) == room_of(allowed))
        or f"{allowed}.".startswith(f"{module}.")
        for allowed in ALLOWED[room]
    )


def broken_laws(path: str, source: str) -> set[str]:
    """Name what a module imports of ours against the table."""
    room = room_of(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    package = path.rpartition("/")[0].replace("/", ".")
    ours = {name for name in imported(source, package) if name.partition(".")[0] in OURS}
    return {name for name in ours if not may_import(room, name)}


def modules() -> Iterator[tuple[str, str]]:
    for room in {room.partition(".")[0] for room in ALLOWED}:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text()


def test_imports_go_one_way() -> None:
    found = list(modules())
    rooms = {room_of(path.removesuffix(".py").replace("/", ".")) for path, _ in found}
    assert rooms - {""} == set(ALLOWED)
    assert {path: broken for path, source in found if (broken := broken_laws(path, source))} == {}


@pytest.mark.parametrize(
    ("path", "line", "broken"),
    [
        ("function/app.py", "from events.source.sink import Sink", True),
        ("function/app.py", "from events import source", True),
        ("function/app.py", "import events.repair.sweep", True),
        ("function/app.py", "def f():\n    import events.source.sink", True),
        ("function/app.py", "if TYPE_CHECKING:\n    from events.source.sink import Sink", True),
        ("function/app.py", "importlib.import_module('events.source.sink')", True),
        ("function/app.py", "from .result import Result", False),
        ("function/app.py", "from events.codec import from_http", False),
        ("events/codec.py", "from events.source.config import SourceConfig", True),
        ("events/codec.py", "from function.errors import ShelfWatchError", True),
        ("events/codec.py", "from . import source", True),
        ("events/codec.py", "from .types import Reason", False),
        ("events/source/sink.py", "from events.repair import commands", True),
        ("events/source/sink.py", "from ..repair.commands import age", True),
        ("events/source/sink.py", "from .. import types", False),
        ("events/source/sink.py", "from events.types import Reason", False),
        ("events/repair/sweep.py", "import events.source.health", True),
        ("monitor/app.py", "from function.app import create_app", True),
        ("monitor/app.py", "from function.bearer import require_token", False),
        ("function/app.py", "from monitor.fold import fold", True),
        ("model/train.py", "from events.codec import Json", True),
        ("knative/rollout/exam.py", "from function.detector import Detector", True),
        ("knative/rollout/exam.py", "from function.boxes import match_one_to_one", False),
        ("local/stack.py", "import tests.conftest", True),
    ],
)
def test_the_table_catches_an_import_against_the_way(path: str, line: str, broken: bool) -> None:
    assert bool(broken_laws(path, line)) == broken


def test_the_page_of_the_architecture_has_the_same_table() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `([a-z/]+)/` \| .+ \| (.+) \|$", page, re.MULTILINE)
    table = {room.replace("/", "."): set(re.findall(r"`([\w.]+)`", may)) for room, may in rows}
    assert {**table, "local": ALLOWED["local"]} == ALLOWED


def test_the_vocabulary_of_events_is_small() -> None:
    """A package below `events` that the table does not name belongs to it, too."""
    paths = (path.removesuffix(".py") for path, _ in modules() if not path.endswith("__init__.py"))
    found = {path for path in paths if room_of(path.replace("/", ".")) == "events"}
    assert len(found) <= MAX_VOCABULARY, found


def libraries(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path.read_text())}


@pytest.mark.parametrize("path", PURE)
def test_pure_modules_do_no_io(path: str) -> None:
    assert not libraries(ROOT / path) & IO


@pytest.mark.parametrize("room", ["function", "events", "knative", "monitor"])
def test_the_service_imports_no_training_tools(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert not libraries(path) & {"torch", "ultralytics", "cv2", "onnx", "pycocotools"}, path


@pytest.mark.parametrize("room", ["function", "events", "knative", "local", "model"])
def test_the_monitors_libraries_are_the_monitors_alone(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert not libraries(path) & {"alembic", "psycopg", "sqlalchemy"}, path


@pytest.mark.parametrize("room", ["function", "events", "knative", "monitor"])
def test_only_settings_and_process_files_read_the_environment(room: str) -> None:
    readers = {
        path.name
        for path in (ROOT / room).rglob("*.py")
        # Setting a default for a library reads nothing.
        if "os.environ" in path.read_text().replace("os.environ.setdefault", "")
    }
    assert readers <= {"config.py", "gunicorn.conf.py", "__main__.py", "replay.py", "sweep.py"}


def test_nothing_clears_the_environment() -> None:
    """Whoever needs another environment gives it to a child, or a client its settings."""
    assert [path for path, source in modules() if "environ.clear" in source] == []


def test_create_app_fits_on_a_screen() -> None:
    tree = ast.parse((ROOT / "function" / "app.py").read_text())
    (found,) = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "create_app"]
    assert (found.end_lineno or 0) - found.lineno + 1 <= 90


def test_a_model_is_made_without_what_the_service_needs_for_events() -> None:
    """The venv of model/requirements.txt has none of these."""
    absent = ("boto3", "cloudevents", "flask", "gunicorn", "prometheus_client", "urllib3")
    steps = ("calibrate", "evaluate", "export", "gate", "quantize", "train")
    script = "import sys\n"
    script += "".join(f"sys.modules[{name!r}] = None\n" for name in absent)
    script += "".join(f"import model.{step}\n" for step in steps)
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
