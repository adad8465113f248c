"""The monitor on a cluster: what its manifests and its code must say alike."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from test_docs import Recorder

from events.source.config import SourceConfig
from events.types import IMAGE_REJECTED, SHELF_AUDITED
from monitor.config import Config
from monitor.database import CONNECTIONS
from monitor.register import read_register
from tests.manifests.admission import complaints
from tests.manifests.render import (
    ROOT,
    example,
    have_kubectl,
    named,
    objects,
    pod_templates,
    render,
)

pytestmark = pytest.mark.skipif(not have_kubectl(), reason="there is no kubectl to render them")

PATH = "knative/monitor"
OF_THE_PROCESS = {"AWS_DEFAULT_REGION"}


def service() -> dict[str, Any]:
    found: list[dict[str, Any]] = objects(PATH, "Service", "serving.knative.dev")
    assert len(found) == 1
    return found[0]


def container(template: dict[str, Any]) -> dict[str, Any]:
    found: list[dict[str, Any]] = template["spec"]["containers"]
    assert len(found) == 1
    return found[0]


def config_map(prefix: str) -> dict[str, Any]:
    (found,) = [o for o in objects(PATH, "ConfigMap") if o["metadata"]["name"].startswith(prefix)]
    return found


def env_of(template: dict[str, Any]) -> set[str]:
    pod = container(template)
    names = {entry["name"] for entry in pod["env"]}
    return names | set(config_map("shelfwatch-monitor")["data"] if "envFrom" in pod else ())


def settings(config: Any, **given: str) -> set[str]:
    env = Recorder(given)
    config.from_env(env)
    return env.asked


def test_knative_would_take_the_service() -> None:
    assert list(complaints(service())) == []


def test_each_pod_runs_a_command_of_the_image() -> None:
    commands = {owner: container(template)["args"][0] for owner, template in pod_templates(PATH)}
    assert commands == {
        "Service/shelf-monitor": "monitor",
        "Deployment/shelfwatch-monitor-source": "source",
        "Job/shelfwatch-migrate": "migrate",
        "CronJob/shelfwatch-silence": "silence",
        "CronJob/shelfwatch-digest": "digest",
    }
    entrypoint = (ROOT / "entrypoint.sh").read_text()
    assert all(re.search(rf"\b{command}\b.*\)", entrypoint) for command in commands.values())


def test_what_the_manifests_set_is_a_setting_of_the_code(tmp_path: object) -> None:
    ours = settings(Config) | OF_THE_PROCESS
    source = settings(SourceConfig, QUEUE_URL="q", K_SINK="http://s")
    for owner, template in pod_templates(PATH):
        # All share one ConfigMap: what it holds is for one or the other.
        assert env_of(template) <= ours | source, owner
    source_env = env_of(dict(pod_templates(PATH))["Deployment/shelfwatch-monitor-source"])
    assert {"QUEUE_URL", "QUEUE_HOLDS", "K_SINK", "EVENTS_TOKEN"} <= source_env
    assert {"DATABASE_URL", "BOARD_TOKEN", "EVENTS_TOKEN", "STORES"} <= env_of(
        service()["spec"]["template"]
    )


def test_the_monitor_has_a_token_of_its_own() -> None:
    """Who may post photos' events to the function must not write the shelves' history."""
    posted = [
        variable["valueFrom"]["secretKeyRef"]
        for _, template in pod_templates(PATH)
        for variable in container(template).get("env", [])
        if variable["name"] == "EVENTS_TOKEN"
    ]
    assert posted == [{"name": "shelfwatch-monitor", "key": "EVENTS_TOKEN"}] * 2


def test_the_settings_and_the_promoted_image_are_those_of_everything_else() -> None:
    given = dict(line.split("=", 1) for line in example().splitlines() if "=" in line)
    data = config_map("shelfwatch-monitor")["data"]
    queues = [given["QUEUE_URL"], given["MONITOR_QUEUE_URL"]]
    assert data == {
        **{name: given[name] for name in ("AWS_DEFAULT_REGION", "RESULTS_BUCKET", "TOPIC_ARN")},
        "DIGEST_TOPIC_ARN": given["DIGEST_TOPIC_ARN"],
        "QUEUE_URL": queues[1],
        "WATCHED_QUEUES": ",".join(queues),
    }
    source = container(dict(pod_templates("knative/overlays/prod"))["Deployment/shelfwatch-source"])
    for owner, template in pod_templates(PATH):  # of the same tag, too
        assert container(template)["image"] == source["image"], owner


def test_a_revision_keeps_its_own_settings() -> None:
    pod = service()["spec"]["template"]["spec"]
    (source,) = container(service()["spec"]["template"])["envFrom"]
    assert source["configMapRef"]["name"] == config_map("shelfwatch-monitor")["metadata"]["name"]
    stores = config_map("shelfwatch-stores")
    assert stores["metadata"]["name"] in {
        volume.get("configMap", {}).get("name") for volume in pod["volumes"]
    }
    assert len(stores["metadata"]["name"]) > len("shelfwatch-stores")
    for kept in (stores, config_map("shelfwatch-monitor")):  # beside the next one
        options = kept["metadata"]["annotations"]
        assert options["argocd.argoproj.io/sync-options"] == "Prune=false"
    register = read_register(stores["data"]["stores.toml"])
    assert tomllib.loads(stores["data"]["stores.toml"])["stores"].keys() == register.stores.keys()


def test_a_pod_whose_database_is_away_answers_so_itself() -> None:
    probes = container(service()["spec"]["template"])
    paths = {
        kind: probes[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("startup", "readiness", "liveness")
    }
    assert paths == {
        "startup": "/health/ready",
        "readiness": "/health/live",
        "liveness": "/health/live",
    }


def test_the_schema_comes_before_the_revision_that_wants_it() -> None:
    job = named(PATH, "Job", "shelfwatch-migrate")
    assert job["metadata"]["annotations"]["argocd.argoproj.io/hook"] == "PreSync"
    # Nothing that the sync itself makes is there by then.
    pod = job["spec"]["template"]["spec"]
    assert "serviceAccountName" not in pod
    assert "envFrom" not in pod["containers"][0]
    assert "volumes" not in pod


def test_a_pod_admits_no_more_than_its_pool_has_connections() -> None:
    assert service()["spec"]["template"]["spec"]["containerConcurrency"] < CONNECTIONS + 1


def test_every_pod_has_a_policy_and_no_rights() -> None:
    selectors = [
        policy["spec"]["podSelector"]["matchLabels"] for policy in objects(PATH, "NetworkPolicy")
    ]
    for owner, template in pod_templates(PATH):
        labels = dict(template["metadata"].get("labels", {}))
        if owner.startswith("Service/"):
            labels["serving.knative.dev/service"] = owner.partition("/")[2]
        assert any(selector.items() <= labels.items() for selector in selectors), owner
        pod = container(template)
        assert template["spec"]["automountServiceAccountToken"] is False, owner
        assert pod["securityContext"]["readOnlyRootFilesystem"], owner
        assert "memory" in pod["resources"]["limits"], owner
        rooms = (template["spec"].get("securityContext", {}), pod["securityContext"])
        assert any(room.get("runAsNonRoot") for room in rooms), owner


def test_nothing_is_named_twice_beside_the_rest() -> None:
    def names(path: str) -> set[tuple[str, str]]:
        return {(found["kind"], found["metadata"]["name"]) for found in render(path)}

    assert not names(PATH) & names("knative/base")


def test_terraform_filters_on_the_types_of_the_code() -> None:
    code = (ROOT / "infra" / "terraform" / "monitor" / "main.tf").read_text()
    (types,) = re.findall(r"^  types = \[(.*)\]$", code, re.MULTILINE)
    assert re.findall(r'"([^"]+)"', types) == [SHELF_AUDITED, IMAGE_REJECTED]
