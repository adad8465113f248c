"""Rules, dashboard and configuration agree with each other and with the code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from conftest import ROOT

from events.source.metrics import SourceMetrics
from function.metrics import Metrics
from knative.rollout import prometheus
from knative.rollout.prometheus import REVISION
from monitor.metrics import Metrics as MonitorMetrics
from tests.faults.postgresql import Server

OBSERVABILITY = ROOT / "observability"
COMPOSE = OBSERVABILITY / "compose"
RULE_FILES = sorted((OBSERVABILITY / "rules").glob("*.yaml"))
GROUPS = [group for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
DASHBOARD, STOCK = (
    json.loads((OBSERVABILITY / "dashboards" / f"{name}.json").read_text())
    for name in ("shelfwatch", "stock")
)


def targets(dashboard: dict[str, Any], query: str) -> list[str]:
    """List a dashboard's queries of a language: `expr` of Prometheus, `rawSql` of PostgreSQL."""
    found = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return [target[query] for target in found if query in target]


QUERIES = targets(DASHBOARD, "expr")
RULE_TESTS = Path(__file__).parent / "rules.yaml"
# Others' metrics that the rules use: those of Prometheus, kube-state-metrics and Argo CD.
FOREIGN = {
    *("up", "kube_job_failed", "kube_job_status_start_time", "kube_node_info"),
    *("kube_deployment_spec_replicas", "kube_cronjob_status_last_successful_time"),
    "argocd_app_info",
}


def run(*command: str) -> str:
    """Run a tool and return what it printed; a machine without it skips the test, CI does not."""
    if not shutil.which(command[0]):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_rules() -> None:
    assert "SUCCESS" in run("promtool", "check", "rules", *map(str, RULE_FILES))


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", str(RULE_TESTS))


OWN = 'shelfwatch_request_seconds_count{{{of},method="POST",route="/",status="{status}"}}'
START = "process_start_time_seconds{{{of}}}"
PROXY = 'kn_serving_invocation_duration_seconds_count{{{of},http_response_status_code="{status}"}}'


@pytest.mark.parametrize(
    ("query", "series", "status", "counted", "share"),
    [
        ("refused", OWN, "403", "0+1x40", 0.5),  # of each two events one is refused
        ("refused", OWN, "403", "0+0x38 1 2", None),  # two may be somebody else's
        ("refused", OWN, "401", "0+1x40", None),  # strangers', or a token that the source waits for
        ("refused", OWN, "503", "0+1x40", None),
        ("errors", OWN, "502", "0+4x40", 0.8),
        ("errors", OWN, "503", "0+4x40", 0),
        ("met", PROXY, "502", "0+4x40", 0.8),  # its container died: it counted nothing itself
        ("met", PROXY, "503", "0+4x40", 0),
        ("met", PROXY, "502", "0+0.1x40", None),  # too few requests
        ("deaths", START, "", "7+0x36 8 8 9 9", 2),
        ("deaths", START, "", "7+0x40", 0),
    ],
)
def test_the_conductor_sees_what_went_wrong(
    tmp_path: Path, query: str, series: str, status: str, counted: str, share: float | None
) -> None:
    of = f'namespace="shelf",{REVISION}="r"'
    counts = {series.format(of=of, status="204"): "0+1x40"}
    counts[series.format(of=of, status=status)] = counted
    samples = [] if share is None else [{"labels": "{}", "value": share}]
    expr = prometheus.queries("shelf", "r", 60)[query]
    asked = {"expr": expr, "eval_time": "10m", "exp_samples": samples}
    case = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in counts.items()],
        "promql_expr_test": [asked],
    }
    path = tmp_path / "case.yaml"
    path.write_text(json.dumps({"tests": [case]}))
    assert "SUCCESS" in run("promtool", "test", "rules", str(path))


def test_each_alert_is_tested_both_ways() -> None:
    cases = [
        case
        for test in yaml.safe_load(RULE_TESTS.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
    ]
    for fires in (True, False):
        assert {case["alertname"] for case in cases if bool(case["exp_alerts"]) is fires} == set(
            ALERTS
        ), fires


def test_the_clusters_rules_are_the_same() -> None:
    """`make rules` writes them anew."""
    cluster = yaml.safe_load((OBSERVABILITY / "prometheusrule.yaml").read_text())
    assert (cluster["kind"], cluster["spec"]) == ("PrometheusRule", {"groups": GROUPS})


def test_each_alert_has_a_severity_a_summary_and_a_runbook() -> None:
    runbooks = re.findall(r"^### (\w+)$", (ROOT / "docs" / "operate.md").read_text(), re.MULTILINE)
    assert sorted(runbooks) == sorted(ALERTS)
    for name, alert in ALERTS.items():
        assert alert["labels"]["severity"] in ("page", "ticket"), name
        assert alert["annotations"]["runbook_url"] == f"docs/operate.md#{name.lower()}"
        assert alert["annotations"]["summary"], name


def test_each_runbook_says_the_alerts_severity() -> None:
    text = (ROOT / "docs" / "operate.md").read_text()
    for name, alert in ALERTS.items():
        assert f"### {name}\n\n*{alert['labels']['severity']} · " in text, name


def exported(
    of: tuple[Metrics | SourceMetrics | MonitorMetrics, ...] = (Metrics(), SourceMetrics()),
) -> set[str]:
    """Name every series of some processes, function and source unless told."""
    names = set()
    for metrics in of:
        for family in metrics.registry.collect():
            kinds = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
            names |= {family.name + end for end in kinds.get(family.type, ("",))}
    return names


def test_each_query_asks_for_what_there_is() -> None:
    there_is = exported() | exported((MonitorMetrics(),)) | RECORDED | FOREIGN
    for expr in [*QUERIES, *targets(STOCK, "expr"), *(rule["expr"] for rule in RULES)]:
        bare = re.sub(r'"[^"]*"|\{[^}]*\}|\b(?:by|on) \([^)]*\)', " ", expr)
        asked = set(re.findall(r"\b(?:shelfwatch|process|kube|argocd)[a-z_:0-9]+|\bup\b", bare))
        assert asked, expr
        assert asked <= there_is, expr


def test_each_metric_of_ours_is_on_the_dashboard() -> None:
    recorded = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
    shown = " ".join(QUERIES)
    shown += " ".join(expr for name, expr in recorded.items() if name in shown)
    shown += " ".join(expr for name, expr in recorded.items() if name in shown)
    stems = {re.sub("_(total|bucket|sum|count)$", "", name) for name in exported()}
    ours = {stem for stem in stems if stem.startswith("shelfwatch_")}
    assert {stem for stem in ours if stem not in shown} == {"shelfwatch_references"}
    of_monitor = {
        re.sub("_(total|bucket|sum|count|created)$", "", name)
        for name in exported((MonitorMetrics(),))
    }
    assert {stem for stem in of_monitor if stem not in " ".join(targets(STOCK, "expr"))} == set()


MUTED = """
    INSERT INTO views (id, bucket, folder, store, seen, state, steps, base_photo, late)
    VALUES ('of-muted', 'b', 'muted/cam', 'muted', 0, '', 0, '', 0);
    INSERT INTO episodes
    (id, view, store, opened, photo, uri, box, row, facings, closed, ended, settled_photo)
    SELECT 'muted-' || ended, 'of-muted', 'muted', 1764290000000, '', '', '[]', 0, 1, closed,
        ended, ''
    FROM (VALUES ('filled', 1764300000000), ('moved', 1764300000000), ('', NULL)) e (ended, closed);
    INSERT INTO mutes SELECT id, view, '', '[]', 0 FROM episodes WHERE store = 'muted';
"""


@pytest.mark.parametrize("query", targets(STOCK, "rawSql"))
def test_postgresql_answers_each_query_of_the_stock_dashboard(
    query: str, postgresql: Server
) -> None:
    """As Grafana sends them: with its macros written out, and the stores as quoted names."""
    macros = {"$__unixEpochFrom()": "1764288000", "$__unixEpochTo()": "1764374400"}
    for macro, value in {**macros, "$store": "'muted', 'store-x'"}.items():
        query = query.replace(macro, value)
    assert "$" not in query
    with psycopg.connect(postgresql.url) as connection:
        connection.execute(MUTED.encode())
        answer = connection.execute(query.encode())
        assert answer.description
        found = {value for row in answer for value in row}
        connection.rollback()
    # What a person said is no gap is in no panel.
    assert found <= {None, 0} or "FROM episodes" not in query


@pytest.mark.parametrize("dashboard", [DASHBOARD, STOCK], ids=["shelfwatch", "stock"])
def test_panels_have_names_of_their_own_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_prometheus_and_alertmanager_take_their_configuration(tmp_path: Path) -> None:
    rules = OBSERVABILITY / "rules"
    text = (COMPOSE / "prometheus.yml").read_text().replace("/etc/prometheus/rules", str(rules))
    config = tmp_path / "prometheus.yml"
    config.write_text(text)
    assert f"{len(RULE_FILES)} rule files found" in run("promtool", "check", "config", str(config))
    assert "SUCCESS" in run("amtool", "check-config", str(COMPOSE / "alertmanager.yml"))


def test_an_alert_that_silences_others_exists_as_they_do() -> None:
    config = yaml.safe_load((COMPOSE / "alertmanager.yml").read_text())
    named = set(re.findall(r"ShelfWatch\w+", json.dumps(config)))
    assert named
    assert named <= set(ALERTS)


def test_jobs_have_one_name_in_compose_and_cluster() -> None:
    compose = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())["scrape_configs"]
    monitors = list(yaml.safe_load_all((OBSERVABILITY / "podmonitors.yaml").read_text()))
    labels = [
        {each["targetLabel"]: each.get("replacement") for each in endpoint["relabelings"]}
        for monitor in monitors
        for endpoint in monitor["spec"]["podMetricsEndpoints"]
        # A laptop has neither.
        if endpoint["port"] != "http-usermetric" and monitor["metadata"]["name"] != "argocd"
    ]
    # Compose runs no monitor.
    jobs = [each["job"] for each in labels if not each["job"].startswith("shelfwatch-monitor")]
    assert jobs == [job["job_name"] for job in compose]
    assert len({each["job"] for each in labels}) == len(labels)
    assert "revision" in labels[0]
    assert compose[0]["static_configs"][0]["labels"] == {"revision": "local"}


def test_the_queue_proxy_is_scraped_where_knative_tells_and_prometheus_may_enter() -> None:
    function = next(yaml.safe_load_all((OBSERVABILITY / "podmonitors.yaml").read_text()))
    endpoints = {each["port"]: each for each in function["spec"]["podMetricsEndpoints"]}
    assert endpoints.keys() == {"user-port", "http-usermetric"}
    queue_proxy = endpoints["http-usermetric"]
    given = {each["targetLabel"]: each for each in queue_proxy["relabelings"]}
    of_function = {each["targetLabel"]: each for each in endpoints["user-port"]["relabelings"]}
    assert given["revision"] == of_function["revision"]
    assert given["job"] != of_function["job"]  # or its series would count as the function's
    [kept] = queue_proxy["metricRelabelings"]
    told = ["kn_serving_queue_depth", "kn_serving_invocation_duration_seconds_count", "go_info"]
    assert [bool(re.fullmatch(kept["regex"], name)) for name in told] == [True, True, False]
    serving = yaml.safe_load_all((ROOT / "knative" / "serving" / "serving.yaml").read_text())
    config = next(each for each in serving if each["kind"] == "KnativeServing")["spec"]["config"]
    assert config["observability"]["request-metrics-protocol"] == "prometheus"
    policies = yaml.safe_load_all((ROOT / "knative/base/networkpolicy.yaml").read_text())
    ports = [
        allowed["port"]
        for policy in policies
        for rule in policy["spec"].get("ingress", [])
        if "monitoring" in json.dumps(rule) and policy["metadata"]["name"] == "shelf-detector"
        for allowed in rule["ports"]
    ]
    assert ports == [8080, 9091]


def test_kustomize_renders_what_the_cluster_reads() -> None:
    objects = list(yaml.safe_load_all(run("kubectl", "kustomize", str(OBSERVABILITY))))
    kinds = sorted(each["kind"] for each in objects)
    assert kinds == [*["ConfigMap"] * 2, *["PodMonitor"] * 5, "PrometheusRule"]
    maps = [each for each in objects if each["kind"] == "ConfigMap"]
    shown = {name: json.loads(text) for each in maps for name, text in each["data"].items()}
    assert shown == {"shelfwatch.json": DASHBOARD, "stock.json": STOCK}
    assert all(each["metadata"]["labels"] == {"grafana_dashboard": "1"} for each in maps)


def test_each_pod_is_scraped_by_one_monitor_and_may_be_reached() -> None:
    """The monitor's pods under the function's job would count as its revisions."""
    monitors = yaml.safe_load_all((OBSERVABILITY / "podmonitors.yaml").read_text())
    ours = [monitor for monitor in monitors if monitor["metadata"]["name"] != "argocd"]
    selected = [monitor["spec"]["selector"] for monitor in ours]
    assert all(selector.keys() == {"matchLabels"} for selector in selected)
    policies = [
        *yaml.safe_load_all((ROOT / "knative/base/networkpolicy.yaml").read_text()),
        *yaml.safe_load_all((ROOT / "knative/monitor/networkpolicy.yaml").read_text()),
    ]
    scraped = [
        policy["spec"]["podSelector"]["matchLabels"]
        for policy in policies
        if "monitoring" in json.dumps(policy["spec"].get("ingress", []))
    ]
    assert [selector["matchLabels"] for selector in selected] == sorted(
        scraped, key=lambda labels: [s["matchLabels"] for s in selected].index(labels)
    )


def test_alloys_settings_are_those_that_its_configuration_reads() -> None:
    chart = yaml.safe_load((OBSERVABILITY / "alloy" / "values.yaml").read_text())["alloy"]
    config = (OBSERVABILITY / "alloy" / "cluster.alloy").read_text()
    given = {setting["name"] for setting in chart["extraEnv"]}
    assert set(re.findall(r'sys\.env\("(\w+)"\)', config)) == given | {
        "HOSTNAME"
    }  # the chart's own
    assert "{{" not in config  # the chart would take it for a template


ALLOY = [COMPOSE / "config.alloy", OBSERVABILITY / "alloy" / "cluster.alloy"]


@pytest.mark.parametrize("path", ALLOY, ids=lambda path: path.name)
def test_alloys_components_are_all_there_and_all_used(path: Path) -> None:
    """No Alloy is at hand to check it; the text alone shows this much."""
    text = re.sub(r'//.*|"[^"\n]*"', lambda m: m[0] if m[0][0] == '"' else "", path.read_text())
    defined = {".".join(each) for each in re.findall(r'^([a-z.]+) "(\w+)" \{$', text, re.MULTILINE)}
    used = set(
        re.findall(r"\b((?:discovery|loki)(?:\.\w+){1,2}\.\w+)\.(?:targets|output|receiver)", text)
    )
    sources = {name for name in defined if name.startswith("loki.source.")}
    assert used == defined - sources
    assert len(sources) == 1
    assert text.count("{") == text.count("}")


def test_lines_are_read_alike_on_a_laptop_and_in_the_cluster() -> None:
    blocks = [re.search(r"^loki\.process .*?^\}$", p.read_text(), re.M | re.S) for p in ALLOY]
    assert blocks[0]
    assert blocks[1]
    assert blocks[0][0] == blocks[1][0]


def test_grafana_finds_the_dashboard_and_asks_the_prometheus_of_compose() -> None:
    folder = COMPOSE / "grafana"
    sources = yaml.safe_load((folder / "datasources" / "shelfwatch.yaml").read_text())[
        "datasources"
    ]
    assert [(each["type"], each["url"]) for each in sources] == [
        ("prometheus", "http://prometheus:9090"),
        ("loki", "http://loki:3100"),
    ]
    (provider,) = yaml.safe_load((folder / "dashboards" / "shelfwatch.yaml").read_text())[
        "providers"
    ]
    assert provider["options"]["path"] in (COMPOSE / "README.md").read_text()
    loki = yaml.safe_load((COMPOSE / "loki.yaml").read_text())
    assert loki["server"]["http_listen_port"] == 3100
    assert loki["schema_config"]["configs"][0]["schema"] == "v13"
