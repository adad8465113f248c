"""What the README promises exists, and what exists is in the README."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT
from prometheus_client import CollectorRegistry

from events.codec import new_event
from events.repair import replay, sweep
from events.repair.commands import DONE, FAILED, INTERRUPTED, MISUSED, POSTPONED
from events.repair.selection import REPLAYED
from events.sns_publisher import attributes_of
from events.source.config import SourceConfig
from events.source.metrics import SourceMetrics
from events.types import Ignored, Reason
from function.app import create_app
from function.config import Config
from function.detector import Detector
from function.metrics import Metrics
from local.subscriber import REMEMBER_SECONDS

EVENTS_MD = (ROOT / "docs" / "events.md").read_text()
README = (ROOT / "README.md").read_text()


class Recorder(dict[str, str]):
    """An environment that remembers what was asked for."""

    def __init__(self, given: dict[str, str]) -> None:
        super().__init__(given)
        self.asked: set[str] = set()

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.asked.add(name)
        return super().get(name, default)


@pytest.mark.parametrize("config", [Config, SourceConfig])
def test_every_setting_is_documented(config: type[Config] | type[SourceConfig]) -> None:
    env = Recorder({"QUEUE_URL": "q", "K_SINK": "s"})
    config.from_env(env)
    assert env.asked
    assert {name for name in env.asked if f"`{name}`" not in README} == set()


def test_every_route_is_documented(detector: Detector) -> None:
    rules = create_app(Config(), detector).url_map.iter_rules()
    routes = {
        f"{method} {rule.rule}"
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint != "static"
    }
    assert {route for route in routes if f"`{route}`" not in README} == set()


@pytest.mark.parametrize("metrics", [Metrics, SourceMetrics])
def test_every_metric_is_documented(metrics: type[Metrics] | type[SourceMetrics]) -> None:
    registry: CollectorRegistry = metrics().registry
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in registry.collect()
    }
    assert len(names) >= 7
    assert {name for name in names if f"`{name}`" not in README} == set()


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`(?:\w+=\S+ )?make ([a-z ]+)`", README))
    assert {"lint types test", "run", "serve"} <= named
    assert {target for words in named for target in words.split()} <= targets


def test_the_readmes_output_is_a_real_event() -> None:
    blocks = re.findall(r"```\n(\{.*?\n\})\n```", README, re.DOTALL)
    event = next(json.loads(block) for block in blocks if "specversion" in block)
    assert event["type"] == "io.shelfwatch.shelf.audited"
    digest = Detector.load(Config().model_path, 1).model.digest
    assert event["data"]["model"]["digest"] == digest
    assert digest.removeprefix("sha256:") in (ROOT / "model" / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("command", [replay, sweep])
def test_every_option_and_exit_code_of_the_commands_is_documented(
    command: ModuleType, run_command: Callable[..., tuple[int, str]]
) -> None:
    code, printed = run_command(command, "http://127.0.0.1:9", "--help")
    options = set(re.findall(r"--[a-z-]+", printed)) - {"--help"}
    assert (code, len(options) > 5) == (0, True)
    assert {option for option in options if f"`{option}" not in EVENTS_MD} == set()
    for exit_code in (DONE, FAILED, MISUSED, POSTPONED, INTERRUPTED):
        assert f"| {exit_code} |" in EVENTS_MD


def test_what_events_md_says_of_the_events_is_so() -> None:
    fields = {**{name: "x" for name in ("store", "camera")}, "id": "1", "source": "s"}
    data = {"model": {"name": "m", "revision": "r"}, "count": 1, "gaps": [], "fill_rate": 1}
    told = attributes_of(new_event({**fields, "type": "t"}, {**data, "reason": {"type": "urn:x"}}))
    assert {name for name in told if f"`{name}`" not in EVENTS_MD} == set()
    assert {reason for reason in Reason if f"| `{reason}` |" not in EVENTS_MD} == set()
    assert {kind for kind in Ignored if f"`{kind}`" not in EVENTS_MD} == set()
    assert f"{REMEMBER_SECONDS // 86400} days" in EVENTS_MD


def test_every_reason_of_a_dead_letter_has_a_command_that_mends_it() -> None:
    page = (ROOT / "docs" / "operate.md").read_text()
    table = page.partition("| `reason` |")[2].partition("\n\n")[0]
    rows = {cells[1].strip(" `"): cells[2:] for cells in map(CELLS.split, table.splitlines()[2:])}
    assert set(rows) == set(Reason)
    for reason, (meaning, mends, _) in rows.items():
        assert len(meaning.split()) > 5, reason
        commands = re.findall(r"`((?:in_cluster|aws) [^`]+)`", mends)
        assert commands, reason
        replayed = any(f"--reason {reason} --send" in command for command in commands)
        assert replayed or reason not in REPLAYED, reason


CELLS = re.compile(r"(?<!\\)\|")


def test_every_file_of_the_readme_exists() -> None:
    paths = re.findall(
        r"`((?:function|events|model|local|knative|argocd|tests|docs|\.ci)/[\w./]*)`", README
    )
    paths += re.findall(r"\]\(([\w./]+)\)", README)
    assert len(paths) > 5
    assert {path for path in paths if not (ROOT / path).exists()} == set()


def test_the_project_names_no_machine_and_no_mirror() -> None:
    for path in ROOT.glob("requirements*.txt"):
        assert not re.search(r"index-url|find-links|file://", path.read_text()), path


def test_every_limit_of_the_http_page_is_a_constant_of_the_code() -> None:
    page = (ROOT / "docs" / "http.md").read_text()
    named = set(re.findall(r"`([A-Z][A-Z_]+_[A-Z_]+)`", page)) - {
        *("PREDICT_TOKEN", "PREDICT_S3_BUCKETS", "OTEL_EXPORTER_OTLP_ENDPOINT")
    }
    code = "".join(path.read_text() for path in (ROOT / "function").glob("*.py"))
    assert len(named) > 10
    assert {name for name in named if not re.search(rf"^{name} = ", code, re.MULTILINE)} == set()


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchor_of(heading: str) -> str:
    """Name a heading as GitHub does: lower case, blanks to hyphens, punctuation left out."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path) if path else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert anchor in map(anchor_of, headings), target
