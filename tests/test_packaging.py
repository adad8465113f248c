"""What ships and how: rules of image, workflows and Compose that need no Docker."""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def jobs(workflow: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(workflow.read_text())["jobs"]
    return found


def steps(workflow: Path) -> list[dict[str, object]]:
    return [step for job in jobs(workflow).values() for step in job.get("steps", [])]


def test_there_are_workflows() -> None:
    names = {path.stem for path in WORKFLOWS}
    assert names == {"ci", "e2e", "image", "promoted", "release", "security"}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_a_commit_and_names_its_tag(workflow: Path) -> None:
    for line in re.findall(r"uses: (.*)", workflow.read_text()):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+|\$/\.github/\S+", line), line


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_make_targets_that_exist(workflow: Path) -> None:
    matrix = jobs(workflow).get("check", {}).get("strategy", {})
    words = " ".join(matrix.get("matrix", {}).get("make", []))
    for step in steps(workflow):
        command = str(step.get("run", "make")).replace("${{ matrix.make }}", words)
        if command.startswith("make"):
            assert set(command.split()[1:]) <= TARGETS, command
        else:  # packages of the runner, and the check that gathers the others
            assert re.match(r"sudo apt-get |for result in ", command), command


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_do_nothing_that_a_job_does_not_ask_for(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {}
    writes = {
        (name, scope)
        for name, job in jobs(workflow).items()
        for scope, access in job.get("permissions", {}).items()
        if access == "write"
    }
    assert writes <= {
        ("security", "security-events"),
        ("codeql", "security-events"),
        ("publish", "contents"),
        ("publish", "id-token"),
        ("offer", "contents"),
        ("offer", "pull-requests"),
    }


def test_one_check_needs_all_others() -> None:
    ci = jobs(ROOT / ".github" / "workflows" / "ci.yaml")
    assert set(ci["required"]["needs"]) == set(ci) - {"required"}


def test_the_image_is_scanned_before_it_is_kept_for_the_push() -> None:
    commands = [step["run"] for step in steps(WORKFLOWS[2]) if "run" in step]
    assert commands == ["make image", "make compose", "make scan", "make sbom", "make package"]


COMMANDS = ["function", "source", "monitor", "migrate", "silence", "digest", "replay", "sweep"]


@pytest.mark.parametrize("command", [*COMMANDS, "rollout"])
def test_the_image_knows_every_command(command: str) -> None:
    modules = re.findall(rf"\b{command}\b.*\) exec (.*) \"\$@\"", entrypoint())
    assert len(modules) == 1
    path = modules[0].replace('"', "").split()[-1].replace("$command", command)
    files = (path, f"{path.replace('.', '/')}.py", f"{path.replace('.', '/')}/__main__.py")
    assert any((ROOT / file).is_file() for file in files)


def entrypoint() -> str:
    return (ROOT / "entrypoint.sh").read_text()


def test_an_unknown_command_is_named_and_refused() -> None:
    done = subprocess.run([ROOT / "entrypoint.sh", "fly"], capture_output=True, text=True)
    assert (done.returncode, "fly is none of function, source" in done.stderr) == (2, True)


def test_the_image_gets_nothing_that_is_not_listed() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    listed = {rule[1:].split("/")[0] for rule in rules if rule.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    sources = {name.split("/")[0] for names in copied for name in names.split()}
    assert sources == listed


def test_compose_names_the_images_of_others_by_version_and_digest() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    images = [service["image"] for service in services.values() if "build" not in service]
    assert len(images) == 5
    for image in images:
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+@sha256:[0-9a-f]{64}", image), image


def test_compose_publishes_on_loopback_alone_and_hardens_what_is_ours() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) > 4
    assert all(port.startswith("127.0.0.1:") for port in ports)
    ours = {name: service for name, service in services.items() if "build" in service}
    assert set(ours) == {"aws", "function", "resources", "source", "subscriber"}
    for service in ours.values():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def imports_at_start(path: Path) -> set[str]:
    """Name the libraries that a module imports when it is imported itself."""
    tree = ast.parse(path.read_text())
    modules = {alias.name for n in tree.body if isinstance(n, ast.Import) for alias in n.names}
    modules |= {n.module or "" for n in tree.body if isinstance(n, ast.ImportFrom)}
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize(
    ("lock", "rooms"),
    [
        ("requirements-local.txt", ("events", "function", "local", "monitor")),
        ("requirements.txt", ("events", "function", "knative/rollout", "monitor")),
    ],
)
def test_a_lock_holds_what_the_rooms_that_run_from_it_import(
    lock: str, rooms: tuple[str, ...]
) -> None:
    """`make run` installs the first, and the image the second; the tests' own venv has more."""
    ours = {"bench", "events", "function", "knative", "local", "model", "monitor", "tests"}
    paths = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    libraries = set().union(*map(imports_at_start, paths)) - ours - set(sys.stdlib_module_names)
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text(), re.M))
    names = packages_distributions()
    # Pip's names know neither case nor the kind of dash.
    assert {
        library
        for library in libraries
        if not {name.lower().replace("_", "-") for name in names[library]} & locked
    } == set()


def test_clean_removes_the_folders_that_git_ignores() -> None:
    """`.terraform` is no job's: `make terraform` keeps its own in build/."""
    folders = re.findall(r"^([.\w-]+)/$", (ROOT / ".gitignore").read_text(), re.MULTILINE)
    command = ["make", "-n", "clean"]
    removed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {".hypothesis", ".venv", "build"} <= set(folders)  # what the tests leave, too
    assert set(folders) - {".terraform"} <= set(removed.split())
