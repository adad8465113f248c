"""`make alerts`: what the dashboard asks has an answer, and a fault reaches whoever listens.

Not one of the quick tests: Prometheus and Alertmanager come from Debian's packages of these names.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator

import pytest

from tests.observability.live import OBSERVABILITY, Live, running_live, wait_for

DASHBOARD = json.loads((OBSERVABILITY / "dashboards" / "shelfwatch.json").read_text())
TOOLS = ("prometheus", "prometheus-alertmanager")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{missing[0]} is not installed")
    with running_live(tmp_path_factory.mktemp("live")) as live:
        published = "sum(increase(shelfwatch_events_published_total[5m])) > 2"
        assert wait_for(lambda: live.query(published)), "nothing was published"
        # Two faults: a message that is no notification, and no topic to publish to.
        aws = live.aws
        aws.sqs.send_message(QueueUrl=aws.resources.queue_url, MessageBody="no notification")
        aws.sns.delete_topic(TopicArn=aws.resources.topic_arn)
        yield live


def queries() -> Iterator[object]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            name = f"{panel['title']} {target['refId']}"
            yield pytest.param(filled(target["expr"]), id=name)


def filled(expr: str) -> str:
    """Fill Grafana's variables as a browser would with what is chosen at first."""
    chosen = {
        each["name"]: each["current"].get("value") for each in DASHBOARD["templating"]["list"]
    }
    expr = expr.replace("$__rate_interval", "1m").replace("$namespace", ".*")
    return expr.replace("$usd_per_vcpu_hour", str(chosen["usd_per_vcpu_hour"]))


@pytest.mark.parametrize("expr", list(queries()))
def test_every_query_of_the_dashboard_has_an_answer(live: Live, expr: str) -> None:
    assert "$" not in expr

    def finite() -> list[float]:
        values = [float(series["value"][1]) for series in live.query(expr)]
        return [value for value in values if math.isfinite(value)]

    assert wait_for(finite), f"{expr} has no series, or none with a number"


def test_both_processes_are_scraped_under_the_names_of_the_rules(live: Live) -> None:
    up = {series["metric"]["job"]: series["value"][1] for series in live.query("up")}
    assert up == {"shelfwatch-function": "1", "shelfwatch-source": "1"}


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("ShelfWatchDeadLetters", {"reason": "unreadable", "severity": "ticket"}),  # the source's
        ("ShelfWatchErrors", {"revision": "local", "severity": "page"}),  # the function's
    ],
)
def test_a_fault_reaches_the_webhook_with_its_runbook(
    live: Live, name: str, labels: dict[str, str]
) -> None:
    alert = wait_for(lambda: live.alert(name))
    assert alert, f"the webhook was told of {[m['groupLabels'] for m in live.told]}"
    assert labels.items() <= alert["labels"].items()
    assert alert["annotations"]["runbook_url"] == f"docs/operate.md#{name.lower()}"
    assert "<no value>" not in alert["annotations"]["summary"]


def test_every_rule_was_evaluated_without_an_error(live: Live) -> None:
    rules = live.rules()
    assert len(rules) > 20
    assert {
        str(rule["name"]): rule.get("lastError") for rule in rules if rule["health"] != "ok"
    } == {}


def test_what_works_fires_nothing(live: Live) -> None:
    """Function and source run: the alerts that say otherwise must be silent."""
    for name in ("FunctionDown", "SourceDown", "SinkAway", "PodNotReady", "NotInt8", "BacklogOld"):
        assert live.alert(f"ShelfWatch{name}") is None
