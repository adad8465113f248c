"""What the documents promise exists, and what exists is in the documents."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from conftest import ROOT
from prometheus_client import CollectorRegistry
from schemas import validate

from events.codec import new_event
from events.repair.commands import DONE, FAILED, INTERRUPTED, MISUSED, POSTPONED
from events.repair.selection import REPLAYED
from events.sns_publisher import attributes_of
from events.source.config import SourceConfig
from events.source.metrics import SourceMetrics
from events.types import DATA_SCHEMAS, Ignored, Reason
from function.app import create_app
from function.config import Config
from function.detector import Detector
from function.errors import HTTP_PROBLEMS, ShelfWatchError, TryAgain
from function.metrics import Metrics
from local.subscriber import REMEMBER_SECONDS
from monitor.app import create_app as create_monitor
from monitor.config import Config as MonitorConfig
from monitor.intake import DOUBTFUL
from monitor.metrics import Metrics as MonitorMetrics
from monitor.watcher import make_watcher

DOCS = ROOT / "docs"
EVENTS_MD = (DOCS / "events.md").read_text()
README = (ROOT / "README.md").read_text()
# The pages of docs/, without their index.
PAGES = sorted(set(DOCS.rglob("*.md")) - {DOCS / "README.md"})
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *(ROOT / "model" / "MODEL_CARD.md", DOCS / "README.md"),
    *(ROOT / "local" / "samples" / "README.md", ROOT / "observability" / "compose" / "README.md"),
    *PAGES,
]
MAX_README_BYTES = 6144  # a first page, read in five minutes; the rest has pages of its own
TARGETS = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_the_readme_stays_a_first_page() -> None:
    assert len(README.encode()) <= MAX_README_BYTES


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    lines = re.findall(r"^- \[([\w/.]+)\]\(([\w/.]+)\): \S", index, re.MULTILINE)
    assert all(text == target for text, target in lines)
    assert {target for _, target in lines} == {str(page.relative_to(DOCS)) for page in PAGES}


@pytest.mark.parametrize("page", [DOCS / "README.md", *PAGES], ids=name_of)
def test_a_page_starts_with_what_its_reader_can_do_after_it(page: Path) -> None:
    heading, _, rest = page.read_text().partition("\n\n")
    assert re.fullmatch(r"# .+", heading)
    assert re.match(r"After this page you (can|know) [^|`#]{20}", rest)


class Recorder(dict[str, str]):
    """An environment that remembers what was asked for."""

    def __init__(self, given: dict[str, str]) -> None:
        super().__init__(given)
        self.asked: set[str] = set()

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # dict's own takes any default
        self.asked.add(name)
        return super().get(name, default)


def subclasses(kind: type[ShelfWatchError]) -> Iterator[type[ShelfWatchError]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


@pytest.mark.parametrize("config", [Config, SourceConfig])
def test_every_setting_is_documented(config: type[Config] | type[SourceConfig]) -> None:
    env = Recorder({"QUEUE_URL": "q", "K_SINK": "http://s"})
    config.from_env(env)
    assert env.asked
    page = (DOCS / "settings.md").read_text()
    assert {name for name in env.asked if f"`{name}`" not in page} == set()


def test_every_route_is_documented(detector: Detector) -> None:
    rules = create_app(Config(), detector).url_map.iter_rules()
    routes = {
        f"{method} {rule.rule}"
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint != "static"
    }
    page = (DOCS / "http.md").read_text()
    assert {route for route in routes if f"`{route}`" not in page} == set()


def test_every_status_is_in_the_table_of_problems_with_its_retry() -> None:
    """What `TryAgain` means, 500 and 408 are worth another try."""
    kinds = [kind for kind in subclasses(ShelfWatchError) if "slug" in vars(kind)]
    expected: dict[int, set[str]] = {400: {"invalid-event"}}
    for status, slug in [
        *((kind.status, kind.slug) for kind in kinds),
        *((status, slug) for status, (slug, _, _) in HTTP_PROBLEMS.items()),
    ]:
        expected.setdefault(status, set()).add(slug)
    rows = re.findall(
        r"^\| (\d{3}) \| (.+) \| (no|yes.*) \|$",
        (DOCS / "problems.md").read_text(),
        re.MULTILINE,
    )
    assert {
        int(status): set(re.findall(r"`([a-z-]+)`", slugs)) for status, slugs, _ in rows
    } == expected
    waits = {kind.status for kind in kinds if issubclass(kind, TryAgain)}
    assert {int(row[0]) for row in rows if row[2] == "yes, after `Retry-After`"} == waits
    assert {int(row[0]) for row in rows if row[2] != "no"} == {*waits, 408, 500}


@pytest.mark.parametrize("metrics", [Metrics, SourceMetrics])
def test_every_metric_is_documented(metrics: type[Metrics] | type[SourceMetrics]) -> None:
    registry: CollectorRegistry = metrics().registry
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in registry.collect()
    }
    assert len(names) >= 7
    page = (DOCS / "metrics.md").read_text()
    assert {name for name in names if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_every_make_target_of_a_document_exists(page: Path) -> None:
    lines = re.findall(r"`(?:\w+=\S+ )?make ([^`]+)`|^ {4}make ([^#\n]+)", page.read_text(), re.M)
    words = {word for line in lines for word in "".join(line).split() if re.match("[a-z]", word)}
    assert words <= set(TARGETS)


def test_the_readme_names_the_two_commands() -> None:
    assert {"run", "test"} <= set(re.findall(r"^ {4}make (\w+)", README, re.MULTILINE))


def test_make_alone_lists_every_job() -> None:
    printed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    jobs = set(phony[1].split()) - {".venv"}
    assert jobs <= set(TARGETS)
    assert set(re.findall(r"^  (\S+)  +\S", printed, re.MULTILINE)) == jobs


def test_scale_and_cost_reckon_with_what_was_measured() -> None:
    """What `bench.events` printed stands in one page; two others reckon with it."""
    measured = (DOCS / "reliability.md").read_text()
    rounds = re.findall(r"detector ([\d.]+) ms CPU a photo, function ([\d.]+) ms", measured)
    alone, path = (median(map(float, each)) / 1000 for each in zip(*rounds, strict=True))
    source = re.search(r"source alone: (\d+) events a CPU second", measured)
    assert source
    rate = int(source[1])
    scale, cost = ((DOCS / f"{name}.md").read_text() for name in ("scale", "cost"))
    rows = dict(re.findall(r"^\| ([^|]+?) \| \**([\d.]+)", scale, re.MULTILINE))
    in_all = path + 1 / rate
    assert rows["detector alone, shipped YOLO11n INT8 at 896"] == f"{alone:.3f}"
    assert rows["function, bucket to topic"] == f"{path:.3f}"
    assert rows["**a photo, all in all**"] == rows["CPU seconds a photo"] == f"{in_all:.3f}"
    assert rows["vCPUs to have in the busiest hour"] == f"{46.3 * in_all / 0.6:.1f}"
    assert f"| CPU seconds | {in_all * 1000:.0f} |" in cost
    said = f"{rate:,}".replace(",", " ")
    assert f"{said} events a CPU second" in scale
    assert f"| {said} |" in (DOCS / "performance.md").read_text()


@pytest.mark.parametrize(("given", "whole"), [("1", True), ("0", False), ("", False)])
def test_make_run_prints_whole_events_for_json_1_alone(given: str, whole: bool) -> None:
    command = ["make", "--dry-run", "run", f"JSON={given}"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ("--json" in printed) == whole


def test_the_readmes_output_is_a_real_event() -> None:
    blocks = re.findall(r"```\n(\{.*?\n\})\n```", README, re.DOTALL)
    event = next(json.loads(block) for block in blocks if "specversion" in block)
    assert event["type"] == "io.shelfwatch.shelf.audited"
    for name in ("detections", "rows", "gaps"):
        event["data"][name] = event["data"][name][:1]  # the rest is cut
    validate(event["type"], event["data"])
    digest = Detector.load(Config().model_path, 1).model.digest
    assert event["data"]["model"]["digest"] == digest
    assert digest.removeprefix("sha256:") in (ROOT / "model" / "MODEL_CARD.md").read_text()


def test_pages_tell_the_same_of_the_same_photo() -> None:
    """One photo's audit is pasted in four places, from one model."""
    blocks = re.findall(r"```\n(\{.*?\n\})\n```", README, re.DOTALL)
    data = next(json.loads(block) for block in blocks if "specversion" in block)["data"]
    gap, more = data["gaps"]
    products, gaps = data["count"], 1 + int(more.split()[1])
    rows, filled = len(data["rows"]) - 1 + int(data["rows"][-1].split()[1]), data["fill_rate"]
    numbers = [gap["confidence"], round(gap["facings"]), *gap["xyxy"]]
    pasted = {
        "README.md": rf"aisle-5 +{products} products +{gaps} gaps +{filled:.0%}  gaps\.jpg",
        "docs/shelf.md": rf"/gaps\.jpg +{products} +{rows} +{gaps} +\d+ +{filled:.0%}",
        "docs/page.md": rf"gaps\.jpg,gap,1,1,,{','.join(map(str, numbers))}",
        "docs/http.md": rf"gaps\.jpg 200 {products}",
    }
    for page, line in pasted.items():
        assert re.search(rf"{line}$", (ROOT / page).read_text(), re.MULTILINE), page
    assert f"\n{products} {filled} {gap}\n" in README  # what `POST /predict` answers


def test_every_exit_code_of_the_commands_is_documented() -> None:
    for exit_code in (DONE, FAILED, MISUSED, POSTPONED, INTERRUPTED):
        assert f"| {exit_code} |" in EVENTS_MD


@pytest.mark.parametrize(
    ("module", "page"),
    [
        pytest.param("function", "shelf.md", id="audit"),
        pytest.param("local", "settings.md", id="run"),
        pytest.param("events.source", "settings.md", id="source"),
        pytest.param("events.repair.sweep", "events.md", id="sweep"),
        pytest.param("events.repair.replay", "events.md", id="replay"),
        pytest.param("local.subscriber", "events.md", id="subscriber"),
        pytest.param("knative.rollout", "canary.md", id="rollout"),
        *(
            pytest.param(module, "settings.md", id=module)
            for module in ("monitor", "monitor.migrate", "monitor.silence", "monitor.digest")
        ),
    ],
)
def test_every_option_of_a_program_is_documented(module: str, page: str) -> None:
    usage = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    options = set(re.findall(r"--[a-z-]+", usage)) - {"--help"}
    text = (DOCS / page).read_text()
    assert usage.startswith("usage: ")
    # What stands on a person's machine looks at nothing of AWS.
    assert "--check" in options or module.startswith("local")
    assert {option for option in options if f"`{option}" not in text} == set()


def test_what_events_md_says_of_the_events_is_so() -> None:
    fields = {**{name: "x" for name in ("store", "camera")}, "id": "1", "source": "s"}
    data = {"model": {"revision": "r"}, "count": 1, "gaps": [], "fill_rate": 1, "warnings": []}
    attributes = attributes_of(
        new_event({**fields, "type": "t"}, {**data, "reason": {"type": "urn:x"}})
    )
    assert {name for name in attributes if f"`{name}`" not in EVENTS_MD} == set()
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


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_every_file_that_a_document_names_exists(page: Path) -> None:
    rooms = "function|events|model|local|knative|argocd|infra|observability|bench|tests|docs"
    paths = re.findall(rf"`((?:{rooms}|\.ci|\.github)/[\w./-]*)`", page.read_text())
    missing = {path for path in paths if not (ROOT / path).exists()}
    assert missing - {"infra/settings.env"} == set()  # the reader makes that one


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_every_module_that_a_document_runs_exists(page: Path) -> None:
    ours = r"python -m ((?:function|events|model|local|knative|bench|tests)[\w.]*\w)"
    for module in re.findall(ours, page.read_text()):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_the_project_names_no_machine_and_no_mirror() -> None:
    for path in ROOT.glob("requirements*.txt"):
        assert not re.search(r"index-url|find-links|file://", path.read_text()), path


def test_every_limit_of_the_http_page_is_a_constant_of_the_code() -> None:
    page = (DOCS / "http.md").read_text()
    named = set(re.findall(r"`([A-Z][A-Z_]+_[A-Z_]+)`", page)) - {
        *("PREDICT_TOKEN", "PREDICT_S3_BUCKETS", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        *("UPLOADS_BUCKET", "UPLOADS_TOKEN", "RESULTS_BUCKET"),
    }
    code = "".join(path.read_text() for path in (ROOT / "function").glob("*.py"))
    assert len(named) > 10
    assert {name for name in named if not re.search(rf"^{name} = ", code, re.MULTILINE)} == set()


def anchor_of(heading: str) -> str:
    """Name a heading as GitHub does: lower case, blanks to hyphens, punctuation left out."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_every_link_of_a_document_leads_somewhere(page: Path) -> None:
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


STOCK_MD = (DOCS / "stock.md").read_text()


def test_what_the_monitor_has_is_on_its_page(tmp_path: Path) -> None:
    env = Recorder({"DATABASE_URL": f"sqlite:///{tmp_path}/monitor.sqlite"})
    config = MonitorConfig.from_env(env)
    app = create_monitor(config, make_watcher(config))
    routes = {
        f"{method} {re.sub('[a-z]+:', '', rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint != "static"
    }
    metrics = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in MonitorMetrics().registry.collect()
    }
    types = {name.removeprefix("io.shelfwatch.") for name in DATA_SCHEMAS} - {
        *("shelf.audited", "image.rejected")
    }
    assert min(map(len, (env.asked, routes, metrics, types))) > 4
    names = env.asked | routes | metrics | types | {code for code in DOUBTFUL}
    assert {name for name in names if f"`{name}`" not in STOCK_MD} == set()
