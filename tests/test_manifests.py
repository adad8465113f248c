"""The manifests: what Knative would refuse, and what holds between their files and the code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from copy import deepcopy
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_docs import Recorder

from events.repair.replay import LEASE_SECONDS, RUN_SECONDS
from events.source.__main__ import STOP_SECONDS
from events.source.config import SourceConfig
from events.types import IMAGE_REJECTED, SHELF_AUDITED
from function.config import Config
from tests.manifests.admission import complaints, flags_used, seconds
from tests.manifests.render import (
    OTHERS,
    OVERLAYS,
    ROOT,
    WHOLE,
    Object,
    detector,
    example,
    filled_in,
    have_kubectl,
    named,
    objects,
    pod_templates,
    render,
)

pytestmark = pytest.mark.skipif(not have_kubectl(), reason="there is no kubectl to render them")

PATHS = [f"knative/overlays/{name}" for name in OVERLAYS]
AWS = [path for path in PATHS if not path.endswith("/dev")]
SPOT_NOTICE = 120  # seconds
SCALE = "autoscaling.knative.dev/"
BOUNDS = ("minAvailable", "maxUnavailable")
# Three m7i-flex.large or c7i-flex.large, of which one may go. Allocatable: Karpenter's
# instance-types.md. Pods of the system ask for 180m and 300 MiB on each node (aws-node, kube-proxy,
# Pod Identity, Alloy), coredns and metrics-server, two each, for 400m and 540 MiB once.
NODES = 3
NODE_CPU = Fraction("1.93") - Fraction("0.18")
NODE_MEMORY = (3114 - 300) * 2**20  # of the smaller one
CLUSTER_CPU, CLUSTER_MEMORY = Fraction("0.4"), Fraction(540 * 2**20)
# Alertmanager's, from its operator: the chart names none.
# https://github.com/prometheus-operator/prometheus-operator pkg/alertmanager/statefulset.go
ALERTMANAGER_MEMORY = 200 * 2**20
QUEUE_PROXY = {"cpu": "25m", "memory": "50Mi"}
UNITS = {"m": Fraction(1, 1000), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "": Fraction(1)}


def quantity(text: str) -> Fraction:
    found = re.fullmatch(r"([\d.]+)(m|Mi|Gi|)", str(text))
    assert found, text
    number, unit = found.groups()
    return Fraction(number) * UNITS[unit]


def container(template: Object) -> Object:
    only: Object
    [only] = template["spec"]["containers"]
    return only


def pod(path: str) -> Object:
    found: Object = detector(path)["spec"]["template"]["spec"]
    return found


def annotation(path: str, name: str) -> str:
    found: str = detector(path)["spec"]["template"]["metadata"]["annotations"][SCALE + name]
    return found


def variables(of: Object) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in of["env"]}


def source(path: str) -> Object:
    return named(path, "Deployment", "shelfwatch-source")


def test_every_directory_renders() -> None:
    found = {
        str(path.parent.relative_to(ROOT))
        for room in ("knative", "argocd")
        for path in (ROOT / room).rglob("kustomization.yaml")
    }
    assert found - {"knative/rollout", "knative/public", "knative/uploads"} == {*WHOLE, *OTHERS}
    assert all(render(path) for path in WHOLE)


ON_ANY_CLUSTER = {"knative/overlays/dev", "knative/serving", "knative/system/eventing"}


@pytest.mark.parametrize("path", [path for path in WHOLE if path not in ON_ANY_CLUSTER])
def test_nothing_is_rendered_before_the_settings_are_filled_in(path: str) -> None:
    """A placeholder that reaches a cluster is worse: Argo CD's own projects would be made of it."""
    command = ["kubectl", "kustomize", str(ROOT / path)]
    told = subprocess.run(command, capture_output=True, check=False, text=True)
    assert told.returncode != 0
    assert re.search(r"fieldPath `data\.[A-Z_]+` is missing .*/settings", told.stderr)


def test_what_wants_no_settings_is_rendered_without() -> None:
    for path in ON_ANY_CLUSTER:
        subprocess.run(["kubectl", "kustomize", str(ROOT / path)], capture_output=True, check=True)


def test_without_a_domain_nothing_waits_for_a_certificate(tmp_path: Path) -> None:
    shutil.copytree(filled_in(), tmp_path, dirs_exist_ok=True)
    overlay = tmp_path / "knative/overlays/prod/kustomization.yaml"
    written = yaml.safe_load(overlay.read_text())
    assert written.pop("components") == ["../../public"]
    overlay.write_text(yaml.safe_dump(written))
    path = tmp_path / "knative/settings/settings.env"
    path.write_text(re.sub(r"(?m)^(DOMAIN|CERTIFICATE_EMAIL)=.*\n", "", path.read_text()))
    command = ["kubectl", "kustomize", str(overlay.parent)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    public = {"Certificate", "ClusterIssuer", "ClusterDomainClaim", "DomainMapping"}
    assert not public & set(re.findall(r"(?m)^kind: (\w+)$", done.stdout))
    assert public <= {found["kind"] for found in render("knative/overlays/prod")}


def test_the_component_uploads_opens_the_routes_with_a_bucket_and_a_token(tmp_path: Path) -> None:
    shutil.copytree(filled_in(), tmp_path, dirs_exist_ok=True)
    overlay = tmp_path / "knative/overlays/prod/kustomization.yaml"
    written = yaml.safe_load(overlay.read_text())
    written["components"].append("../../uploads")
    overlay.write_text(yaml.safe_dump(written))
    command = ["kubectl", "kustomize", str(overlay.parent)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    [service] = [
        found
        for found in yaml.safe_load_all(done.stdout)
        if found["apiVersion"].startswith("serving") and found["kind"] == "Service"
    ]
    before = pod("knative/overlays/prod")["containers"][0]["env"]
    after = service["spec"]["template"]["spec"]["containers"][0]["env"]
    settings = dict(line.split("=", 1) for line in example().splitlines() if "=" in line)
    token = {"secretKeyRef": {"name": "shelfwatch-tokens", "key": "UPLOADS_TOKEN"}}
    assert [variable for variable in after if variable not in before] == [
        {"name": "UPLOADS_BUCKET", "value": settings["UPLOADS_BUCKET"]},
        {"name": "UPLOADS_TOKEN", "valueFrom": token},
    ]


def test_the_overlays_are_those_we_document() -> None:
    assert OVERLAYS == ["dev", "hpa", "keda", "prod", "scale-to-zero", "sinkbinding"]
    page = (ROOT / "docs" / "knative.md").read_text()
    assert {name for name in OVERLAYS if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("path", PATHS)
def test_knative_takes_the_service(path: str) -> None:
    assert list(complaints(detector(path))) == []


@pytest.mark.parametrize("path", PATHS)
def test_every_feature_that_the_service_uses_is_enabled(path: str) -> None:
    features = named("knative/system", "KnativeServing", "knative-serving")["spec"]["config"][
        "features"
    ]
    assert {flag for flag in flags_used(detector(path)) if features.get(flag) != "enabled"} == set()


def test_no_feature_is_enabled_that_nothing_uses() -> None:
    features = named("knative/system", "KnativeServing", "knative-serving")["spec"]["config"][
        "features"
    ]
    used = {flag for path in PATHS for flag in flags_used(detector(path))}
    assert features.keys() - {"secure-pod-defaults"} == used


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("metadata.annotations", {SCALE + "min-scale": "2"}, "not on the template"),
        ("spec.traffic", [{"latestRevision": True, "percent": 90}], "add up to 100"),
        ("spec.traffic", [{"percent": 100}], "neither a revision nor the latest"),
        ("spec.template.metadata.annotations", {SCALE + "class": "k.autoscaling"}, "no class"),
        ("spec.template.metadata.annotations", {SCALE + "metric": "cpu"}, "no metric cpu"),
        (
            "spec.template.metadata.annotations",
            {SCALE + "min-scale": "3", SCALE + "max-scale": "2"},
            "max-scale is less",
        ),
        ("spec.template.metadata.annotations", {SCALE + "activation-scale": "1"}, "less than 2"),
        ("spec.template.metadata.annotations", {SCALE + "initial-scale": "0"}, "initial-scale"),
        (
            "spec.template.metadata.annotations",
            {SCALE + "target-utilization-percentage": "120"},
            "not 1 to 100",
        ),
        ("spec.template.metadata.annotations", {SCALE + "target-burst-capacity": "-2"}, "negative"),
        ("spec.template.metadata.annotations", {SCALE + "window": "2h"}, "more than an hour"),
        ("spec.template.spec.restartPolicy", "Always", "restartPolicy is not taken"),
        ("spec.template.spec.terminationGracePeriodSeconds", 90, "is not taken"),
        ("spec.template.spec.automountServiceAccountToken", True, "only be false"),
        ("spec.template.spec.timeoutSeconds", 900, "timeoutSeconds"),
        ("spec.template.spec.containerConcurrency", 5000, "containerConcurrency"),
        ("spec.template.spec.volumes", [], "volumes and mounts differ"),
        ("spec.template.spec.containers.0.name", "queue-proxy", "reserved name"),
        ("spec.template.spec.containers.0.lifecycle", {}, "lifecycle is not taken"),
        ("spec.template.spec.containers.0.ports.0.name", "grpc", "called grpc"),
        ("spec.template.spec.containers.0.ports.0.containerPort", 9090, "9090 is reserved"),
        ("spec.template.spec.containers.0.env.0.name", "PORT", "PORT is reserved"),
        ("spec.template.spec.containers.0.securityContext.privileged", True, "privileged is not"),
        ("spec.template.spec.containers.0.volumeMounts.0.mountPath", "/dev/", "reserved path"),
        ("spec.template.spec.containers.0.startupProbe.httpGet", {"path": "/"}, "has no port"),
        ("spec.template.spec.containers.0.livenessProbe", {}, "not one handler"),
        ("spec.template.spec.containers.0.livenessProbe.httpGet.port", "web", "which is none"),
        ("spec.template.spec.containers.0.readinessProbe.periodSeconds", 0, "without a period"),
    ],
)
def test_what_knative_refuses_would_be_found(where: str, value: Any, words: str) -> None:
    service = detector("knative/overlays/prod")
    parent: Any = service
    *way, last = where.split(".")
    for step in way:
        parent = parent[int(step) if step.isdecimal() else step]
    parent[last] = {**parent.get(last, {}), **value} if last == "annotations" else value
    assert any(words in complaint for complaint in complaints(service))


@pytest.mark.parametrize(
    ("field", "value", "flag"),
    [
        ("nodeSelector", {"spot": "true"}, "kubernetes.podspec-nodeselector"),
        ("securityContext", {"fsGroup": 1}, "kubernetes.podspec-securitycontext"),
        ("volumes", [{"name": "tmp", "hostPath": {}}], "kubernetes.podspec-volumes-hostpath"),
    ],
)
def test_a_field_behind_a_flag_is_known(field: str, value: object, flag: str) -> None:
    service = deepcopy(detector("knative/overlays/prod"))
    service["spec"]["template"]["spec"][field] = value
    assert flag in flags_used(service)


@pytest.mark.parametrize("path", WHOLE)
def test_git_holds_no_traffic_and_no_secret(path: str) -> None:
    for found in render(path):
        assert found["kind"] != "Secret"
        if found["apiVersion"].startswith("serving.knative.dev"):
            assert "traffic" not in found["spec"]


@pytest.mark.parametrize("path", PATHS)
def test_nobody_posts_events_without_the_token(path: str) -> None:
    for _, template in pod_templates(path):
        given = {variable["name"]: variable for variable in container(template).get("env", [])}
        assert "EVENTS_AUTH" not in given
        if "EVENTS_TOKEN" in given:
            reference = given["EVENTS_TOKEN"]["valueFrom"]["secretKeyRef"]
            assert reference == {"name": "shelfwatch-tokens", "key": "EVENTS_TOKEN"}
    assert "EVENTS_TOKEN" in variables(container(detector(path)["spec"]["template"]))
    assert "EVENTS_TOKEN" in variables(container(source(path)["spec"]["template"]))


@pytest.mark.parametrize("path", PATHS)
def test_timeouts_end_from_the_inside_out(path: str) -> None:
    given = variables(container(source(path)["spec"]["template"]))
    grace = source(path)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    timeout = pod(path)["timeoutSeconds"]
    assert int(given["SINK_TIMEOUT"]) < timeout < int(given["VISIBILITY_TIMEOUT"])
    # queue-proxy waits for a pause of 30 s before it lets go.
    assert timeout + 30 < SPOT_NOTICE
    assert STOP_SECONDS < grace < SPOT_NOTICE


@pytest.mark.parametrize("path", PATHS)
def test_a_revision_may_take_longer_to_start_than_its_probe(path: str) -> None:
    annotations = detector(path)["spec"]["template"]["metadata"]["annotations"]
    probe = pod(path)["containers"][0]["startupProbe"]
    deadline = seconds(annotations["serving.knative.dev/progress-deadline"])
    assert probe["periodSeconds"] * probe["failureThreshold"] < deadline


@pytest.mark.parametrize("path", PATHS)
def test_every_variable_is_a_setting(path: str) -> None:
    function, events = Recorder({}), Recorder({"QUEUE_URL": "q", "K_SINK": "http://s"})
    Config.from_env(function)
    SourceConfig.from_env(events)
    sweep = {"QUEUE_URL", "EVENTS_BUCKETS", "RESULTS_BUCKET", "AUDIT_GENERATION"}
    sweep.add("REFERENCES_BUCKET")
    code = (ROOT / "events" / "repair" / "sweep.py").read_text()
    assert all(f'"{name}"' in code for name in sweep)
    known = {
        "function": function.asked | {"HOST"},
        "source": events.asked,
        "sweep": sweep,
        "replay": {"QUEUE_URL"},
    }
    for _, template in pod_templates(path):
        command = container(template).get("args", [""])[0]
        if command in known:
            given = {variable["name"] for variable in container(template)["env"]}
            assert given - known[command] - {"AWS_DEFAULT_REGION"} == set()


def test_the_conductor_is_told_what_it_can_be_told() -> None:
    path = "knative/overlays/prod"
    config = pytest.importorskip("knative.rollout.config").Config
    asked = Recorder({"KSVC": "k", "NAMESPACE": "n", "JUDGE": "j"})
    config.from_env(asked)
    given = set(named(path, "ConfigMap", "shelf-rollout")["data"])
    for owner, template in pod_templates(path):
        if owner.startswith("Job/shelf-rollout"):
            given |= variables(container(template)).keys()
    assert given - asked.asked - {"AWS_DEFAULT_REGION"} == set()


@pytest.mark.parametrize("path", PATHS)
def test_the_conductor_runs_after_a_sync_and_knows_its_service(path: str) -> None:
    hooks = {}
    for job in objects(path, "Job"):
        annotations = job["metadata"]["annotations"]
        assert annotations["argocd.argoproj.io/hook-delete-policy"] == "BeforeHookCreation"
        only = container(job["spec"]["template"])
        if annotations["argocd.argoproj.io/hook"] == "PreSync":
            continue
        hooks[annotations["argocd.argoproj.io/hook"]] = only["args"]
        service = detector(path)["metadata"]["name"]
        assert variables(only)["KSVC"] == service
        account = job["spec"]["template"]["spec"]["serviceAccountName"]
        [binding] = objects(path, "RoleBinding")
        assert [subject["name"] for subject in binding["subjects"]] == [account]
        rules = named(path, "Role", binding["roleRef"]["name"])["rules"]
        assert (rules[0]["resources"], rules[0]["resourceNames"]) == (["services"], [service])
    assert hooks == {"PostSync": ["rollout"], "SyncFail": ["rollout", "--abort"]}


@pytest.mark.parametrize("path", PATHS)
def test_a_sync_waits_for_the_image_before_it_changes_anything(path: str) -> None:
    job = named(path, "Job", "shelf-detector-pull")
    assert job["metadata"]["annotations"]["argocd.argoproj.io/hook"] == "PreSync"
    pulls = container(job["spec"]["template"])
    assert pulls["image"] == container(detector(path)["spec"]["template"])["image"]
    assert pulls["command"] == ["true"]
    # Before the first sync there is no account but the namespace's own.
    assert "serviceAccountName" not in job["spec"]["template"]["spec"]


@pytest.mark.parametrize("path", AWS)
def test_what_is_not_judged_runs_from_an_image_that_was(path: str, tmp_path: Path) -> None:
    """A candidate that is broken or missing must not take the source or its own judge along."""
    shutil.copytree(filled_in(), tmp_path, dirs_exist_ok=True)
    overlay = tmp_path / "knative/overlays/prod/kustomization.yaml"
    written = yaml.safe_load(overlay.read_text())
    [candidate] = [image for image in written["images"] if image["name"] == "shelf-detector"]
    candidate["newTag"] = "0.2.0"
    overlay.write_text(yaml.safe_dump(written))
    command = ["kubectl", "kustomize", str(tmp_path / path)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    found = re.findall(r"image: \S+:(\S+)", done.stdout)
    assert sorted(found) == ["0.1.0"] * 5 + ["0.2.0"] * 2  # the function, and its pull


@pytest.mark.parametrize("path", AWS)
def test_every_setting_reaches_its_place(path: str) -> None:
    settings = dict(line.split("=", 1) for line in example().splitlines() if "=" in line)
    for owner, template in pod_templates(path):
        only = container(template)
        assert only["image"] == f"{settings['IMAGE']}:0.1.0", owner
        given = variables(only) if "env" in only else {}
        for name in given.keys() & settings.keys():
            assert given[name] == settings[name], owner
    assert settings["REGISTRY"] == settings["IMAGE"].partition("/")[0]
    [mapping] = objects(path, "DomainMapping")
    assert mapping["metadata"]["name"] == settings["DOMAIN"]
    assert (
        named("knative/system", "KnativeServing", "knative-serving")["spec"]["config"][
            "deployment"
        ]["registries-skipping-tag-resolving"].split(",")[-1]
        == settings["REGISTRY"]
    )
    left = r"\b(DOMAIN|IMAGE|REGISTRY|CERTIFICATE_EMAIL|QUEUE_URL|GIT_REPOSITORY)$"
    for found in render(path):
        assert not re.search(left, str(found["metadata"]["name"]))


@pytest.mark.parametrize("path", PATHS)
def test_every_pod_is_confined(path: str) -> None:
    owners = set()
    for owner, template in pod_templates(path):
        owners.add(owner)
        only, of_pod = container(template), template["spec"].get("securityContext", {})
        security = {**of_pod, **only["securityContext"]}
        assert security["runAsNonRoot"] is True, owner
        assert security["runAsUser"] >= 10000, owner
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, owner
        assert security["readOnlyRootFilesystem"] is True, owner
        assert security["allowPrivilegeEscalation"] is False, owner
        assert security["capabilities"] == {"drop": ["ALL"]}, owner
        assert template["spec"]["enableServiceLinks"] is False, owner
        assert {"cpu", "memory"} <= only["resources"]["requests"].keys(), owner
        assert only["resources"]["limits"].keys() == {"memory"}, owner
    assert {"Service/shelf-detector", "Deployment/shelfwatch-source"} < owners


@pytest.mark.parametrize("path", PATHS)
def test_only_the_conductor_talks_to_kubernetes(path: str) -> None:
    accounts = {found["metadata"]["name"]: found for found in objects(path, "ServiceAccount")}
    for owner, template in pod_templates(path):
        spec = template["spec"]
        if owner != "Job/shelf-detector-pull":
            account = accounts[spec["serviceAccountName"]]
            assert account["automountServiceAccountToken"] is False
        conducts = container(template).get("args", [""])[0] == "rollout"
        assert spec["automountServiceAccountToken"] is conducts, owner


@pytest.mark.parametrize("path", PATHS)
def test_the_images_commands_are_asked_for(path: str) -> None:
    commands = {
        owner: container(template)["args"][0]
        for owner, template in pod_templates(path)
        if "args" in container(template)
    }
    assert commands["Service/shelf-detector"] == "function"
    assert set(commands.values()) <= {"function", "source", "sweep", "replay", "rollout"}
    images = {container(template)["image"] for _, template in pod_templates(path)}
    assert len(images) == 1
    assert not images.pop().endswith(":latest")


@pytest.mark.parametrize("path", PATHS)
def test_a_node_can_always_be_drained(path: str) -> None:
    """Also while a candidate does not start: of its pods and stable's two of four are there."""
    found = objects(path, "PodDisruptionBudget")
    budgets = {each["metadata"]["name"]: each["spec"] for each in found}
    bounds = {name: {b: spec[b] for b in BOUNDS if b in spec} for name, spec in budgets.items()}
    alone = int(annotation(path, "min-scale")) < 2
    bound = "maxUnavailable" if alone else "minAvailable"
    assert bounds == {"shelf-detector": {bound: 1}, "shelfwatch-source": {"maxUnavailable": 1}}
    serving = named("knative/system", "KnativeServing", "knative-serving")["spec"]
    assert {budget["maxUnavailable"] for budget in serving["podDisruptionBudgets"]} == {1}
    assert serving["high-availability"]["replicas"] == 2
    assert serving["config"]["deployment"]["pod-is-always-schedulable"] == "true"


@pytest.mark.parametrize("path", PATHS)
def test_a_candidate_starts_where_there_is_room(path: str) -> None:
    """Revisions are not told apart, so that stable's nodes are the last that are taken."""
    spreads = pod(path)["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spreads] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    for each in spreads:
        assert each["labelSelector"] == {
            "matchLabels": {"serving.knative.dev/service": "shelf-detector"}
        }
        assert each["whenUnsatisfiable"] == "ScheduleAnyway"  # two nodes hold two revisions


def test_a_body_that_stops_halfway_is_given_up_after_a_request_would_have_ended() -> None:
    config = named("knative/system", "KnativeServing", "knative-serving")["spec"]["config"]
    idle = seconds(config["kourier"]["stream-idle-timeout"])
    assert idle > pod("knative/overlays/prod")["timeoutSeconds"]


def test_the_gateways_two_pods_stand_apart() -> None:
    """Knative's own parts say so themselves; Kourier's gateway does not."""
    serving = named("knative/serving", "KnativeServing", "knative-serving")["spec"]
    [gateway] = [each for each in serving["workloads"] if each["name"] == "3scale-kourier-gateway"]
    assert "replicas" not in gateway  # so that high-availability holds
    [spread] = gateway["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["labelSelector"]["matchLabels"] == {"app": "3scale-kourier-gateway"}


@pytest.mark.parametrize("path", PATHS)
def test_every_selector_finds_a_pod(path: str) -> None:
    knatives = {"serving.knative.dev/service": "shelf-detector"}
    pods = [
        {**template.get("metadata", {}).get("labels", {}), **knatives}
        if owner.startswith("Service/")
        else template["metadata"]["labels"]
        for owner, template in pod_templates(path)
    ]
    selectors = [found["spec"]["selector"] for found in objects(path, "PodDisruptionBudget")]
    selectors += [found["spec"]["podSelector"] for found in objects(path, "NetworkPolicy")]
    for selector in selectors:
        wanted = selector.get("matchLabels", {}).items()
        assert any(wanted <= labels.items() for labels in pods), selector


@pytest.mark.parametrize("path", PATHS)
def test_whom_a_pod_may_reach_is_said_of_all_but_the_conductor(path: str) -> None:
    selectors = [
        found["spec"]["podSelector"]["matchLabels"].items()
        for found in objects(path, "NetworkPolicy")
        if "Egress" in found["spec"]["policyTypes"]
    ]
    for owner, template in pod_templates(path):
        labels = template.get("metadata", {}).get("labels", {})
        if owner.startswith("Service/"):
            labels = {"serving.knative.dev/service": "shelf-detector"}
        bound = any(selector <= labels.items() for selector in selectors)
        assert bound is not owner.startswith("Job/shelf-rollout"), owner


@pytest.mark.parametrize(
    ("path", "name"),
    [("knative/base", "shelfwatch-source"), ("knative/monitor", "shelfwatch-monitor-source")],
)
def test_a_source_reaches_the_gateway_where_the_operator_puts_it(path: str, name: str) -> None:
    """It moves Kourier's objects into the namespace of KnativeServing."""
    serving = named("knative/system", "KnativeServing", "knative-serving")["metadata"]["namespace"]
    policy = named(path, "NetworkPolicy", name)["spec"]
    [gateway] = [rule for rule in policy["egress"] if rule["ports"][0]["port"] == 8081]
    [peer] = gateway["to"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": serving}
    assert peer["podSelector"]["matchLabels"] == {"app": "3scale-kourier-gateway"}


def test_nothing_looks_for_the_gateway_where_it_is_not() -> None:
    pages = [*(ROOT / "knative").rglob("*.yaml"), *(ROOT / "docs").rglob("*.md")]
    assert len(pages) > 50
    assert [page for page in pages if "kourier-system" in page.read_text()] == []


def test_only_queue_proxy_and_prometheus_reach_the_function() -> None:
    policy = named("knative/base", "NetworkPolicy", "shelf-detector")["spec"]
    port = pod("knative/base")["containers"][0]["ports"][0]["containerPort"]
    for rule in policy["ingress"]:
        peers = {
            peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
            for peer in rule["from"]
        }
        if port in {allowed["port"] for allowed in rule["ports"]}:
            assert peers == {"monitoring"}
    assert named("knative/base", "NetworkPolicy", "nobody-in")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress"],
    }


def requests(path: str) -> tuple[Fraction, Fraction]:
    """Add up what the pods ask for at their fewest, while two revisions stand side by side."""
    cpu, memory = Fraction(0), Fraction(0)
    for owner, template in pod_templates(path):
        if owner == "Job/shelf-detector-pull":  # over before a second revision stands
            continue
        asked = [container(template)["resources"]["requests"]]
        count = 1
        if owner == "Service/shelf-detector":
            count = 2 * int(annotation(path, "min-scale"))
            asked.append(QUEUE_PROXY)
        elif owner == "Deployment/shelfwatch-source":
            count = source(path)["spec"].get("replicas", 1)
        cpu += count * sum(quantity(each["cpu"]) for each in asked)
        memory += count * sum(quantity(each["memory"]) for each in asked)
    return cpu, memory


def system_requests(path: str, kind: str) -> tuple[Fraction, Fraction]:
    cpu, memory = Fraction(0), Fraction(0)
    for found in objects(path, kind):
        for workload in found["spec"]["workloads"]:
            count = workload.get("replicas", found["spec"]["high-availability"]["replicas"])
            for each in workload.get("resources", []):
                cpu += count * quantity(each["requests"]["cpu"])
                memory += count * quantity(each["requests"]["memory"])
    return cpu, memory


def charts_requests(node: object, count: int = 1) -> tuple[Fraction, Fraction]:
    """Add up what the values of charts ask for, wherever they do."""
    cpu, memory = Fraction(0), Fraction(0)
    if isinstance(node, dict):
        count = node.get("replicaCount", count)
        if asked := node.get("requests"):
            return count * quantity(asked["cpu"]), count * quantity(asked["memory"])
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for each in below:
        more = charts_requests(each, count)
        cpu, memory = cpu + more[0], memory + more[1]
    return cpu, memory


def platform_requests(*paths: str) -> tuple[Fraction, Fraction]:
    """Add up what argocd/ adds beside ours and Alloy, which each node has."""
    files = [file for path in paths for file in sorted(ROOT.glob(path))]
    assert files
    return charts_requests([list(yaml.safe_load_all(file.read_text())) for file in files])


def platform() -> tuple[Fraction, Fraction]:
    cpu, memory = platform_requests("argocd/values.yaml", "argocd/p*/*.yaml")
    return cpu, memory + ALERTMANAGER_MEMORY


def test_the_table_of_nodes_says_what_the_platform_asks_for() -> None:
    cpu, memory = platform()
    said = f"| {cpu * 1000}m | {memory / 2**20} MiB |"
    rows = (ROOT / "docs" / "deploy.md").read_text().splitlines()
    (row,) = [row for row in rows if row.startswith("| Argo CD, cert-manager")]
    assert said in row
    numbers = re.compile(r"\**(\d+)m\** \| \**(\d+) MiB")
    at = next(index for index, row in enumerate(rows) if "**two nodes, without these**" in row)
    table = [
        [int(number) for number in found.groups()]
        for row in rows[at : at + 8]
        if (found := numbers.search(row))
    ]
    have, *taken, left = table
    assert len(taken) == 6
    assert left == [have[i] - sum(each[i] for each in taken) for i in (0, 1)]
    assert f"with {left[0]}m and {left[1]} MiB" in (ROOT / "docs" / "cost.md").read_text()


@pytest.mark.parametrize("path", AWS)
def test_everything_fits_when_a_node_is_gone_during_a_rollout(path: str) -> None:
    cpu, memory = requests(path)
    parts = [(cpu, memory), system_requests("knative/system", "KnativeServing")]
    parts += [(CLUSTER_CPU, CLUSTER_MEMORY), platform()]
    if path.endswith("sinkbinding"):
        parts.append(system_requests("knative/system/eventing", "KnativeEventing"))
    if path.endswith("keda"):
        parts.append(platform_requests("argocd/keda/keda.yaml"))
    assert sum(part[0] for part in parts) <= (NODES - 1) * NODE_CPU
    assert sum(part[1] for part in parts) <= (NODES - 1) * NODE_MEMORY


def test_the_memory_limit_holds_the_largest_photos() -> None:
    limit = quantity(
        container(detector("knative/base")["spec"]["template"])["resources"]["limits"]["memory"]
    )
    at_rest, webp_of_50_megapixels = 113 * 2**20, 770 * 10**6
    waiting = webp_of_50_megapixels * 14 // 50  # what is left of 64 megapixels
    bodies = pod("knative/base")["containerConcurrency"] * 20 * 2**20
    assert at_rest + webp_of_50_megapixels + waiting + bodies <= limit


def test_two_pods_serve_and_the_function_scales_before_it_sheds() -> None:
    path = "knative/overlays/prod"
    assert annotation(path, "min-scale") == annotation(path, "initial-scale") == "2"
    assert int(annotation(path, "target")) < 3 <= pod(path)["containerConcurrency"]
    assert variables(container(source(path)["spec"]["template"]))["IN_FLIGHT"] == str(
        pod(path)["containerConcurrency"]
    )


def test_hpa_scales_on_cpu_at_70_percent_from_two_to_three() -> None:
    path = "knative/overlays/hpa"
    told = {name: annotation(path, name) for name in ("class", "metric", "target")}
    assert told == {"class": "hpa.autoscaling.knative.dev", "metric": "cpu", "target": "70"}
    assert (annotation(path, "min-scale"), annotation(path, "max-scale")) == ("2", "3")
    asked = quantity(pod(path)["containers"][0]["resources"]["requests"]["cpu"])
    whole = asked + quantity(QUEUE_PROXY["cpu"])
    text = (ROOT / path / "kustomization.yaml").read_text()
    for share in (Fraction(70, 100), Fraction(77, 100), Fraction(7, 15)):  # target, +10 %, 2/3
        assert f"{round(float(whole * share * 1000))}m" in text


def test_keda_owns_the_number_of_sources() -> None:
    path = "knative/overlays/keda"
    assert "replicas" not in source(path)["spec"]
    [scaled] = objects(path, "ScaledObject")
    assert scaled["spec"]["scaleTargetRef"]["name"] == "shelfwatch-source"
    [trigger] = scaled["spec"]["triggers"]
    given = variables(container(source(path)["spec"]["template"]))
    assert trigger["metadata"]["queueURL"] == given["QUEUE_URL"]
    assert trigger["metadata"]["awsRegion"] == given["AWS_DEFAULT_REGION"]
    in_flight = scaled["spec"]["maxReplicaCount"] * int(given["IN_FLIGHT"])
    assert in_flight == int(annotation(path, "max-scale")) * pod(path)["containerConcurrency"]


def test_the_binding_brings_the_sink() -> None:
    path = "knative/overlays/sinkbinding"
    assert "K_SINK" not in variables(container(source(path)["spec"]["template"]))
    [binding] = objects(path, "SinkBinding")
    assert binding["spec"]["subject"]["name"] == source(path)["metadata"]["name"]
    assert binding["spec"]["sink"]["ref"]["name"] == detector(path)["metadata"]["name"]
    types = {
        attribute["value"]
        for found in objects(path, "EventType")
        for attribute in found["spec"]["attributes"]
        if attribute["name"] == "type"
    }
    assert types == {"com.amazonaws.s3.ObjectCreated:Put", SHELF_AUDITED, IMAGE_REJECTED}


@pytest.mark.parametrize("path", [path for path in PATHS if "sinkbinding" not in path])
def test_the_sink_is_the_service(path: str) -> None:
    name, namespace = (detector(path)["metadata"][key] for key in ("name", "namespace"))
    sink = variables(container(source(path)["spec"]["template"]))["K_SINK"]
    assert sink == f"http://{name}.{namespace}.svc.cluster.local"


def test_scale_to_zero_keeps_somebody_at_the_queue() -> None:
    path = "knative/overlays/scale-to-zero"
    assert annotation(path, "min-scale") == "0"
    assert source(path)["spec"]["replicas"] == 1


def test_dev_needs_no_aws() -> None:
    path = "knative/overlays/dev"
    assert source(path)["spec"]["replicas"] == 0
    assert named(path, "CronJob", "shelfwatch-sweep")["spec"]["suspend"] is True
    assert not objects(path, "DomainMapping")


@pytest.mark.parametrize("path", PATHS)
def test_a_replay_is_started_by_hand_and_lists_unless_told_otherwise(path: str) -> None:
    found = named(path, "CronJob", "shelfwatch-replay")["spec"]
    assert found["suspend"] is True
    job = found["jobTemplate"]["spec"]
    assert container(job["template"])["args"] == ["replay"]
    # It gives back what it holds before it is killed, and that is back before the next one.
    assert RUN_SECONDS < job["activeDeadlineSeconds"] < LEASE_SECONDS
    assert job["backoffLimit"] == 0


@pytest.mark.skipif(not shutil.which("jq"), reason="there is no jq")
@pytest.mark.parametrize("command", ["replay", "sweep"])
def test_the_runbooks_command_makes_a_job_with_the_options(command: str, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operate.md").read_text()
    function = re.search(r"^    in_cluster\(\) \{.*?^    \}$", page, re.M | re.S)
    assert function
    template = named("knative/overlays/prod", "CronJob", f"shelfwatch-{command}")["spec"][
        "jobTemplate"
    ]
    (tmp_path / "template.json").write_text(json.dumps(template))
    kubectl = """kubectl() {
      case "$*" in
        "create job "*" --from cronjob/shelfwatch-"*) echo "${@:5:1}" >from; cat template.json ;;
        "create --filename -") cat >created.json ;;
        *) echo "$*" >>followed; [ "$(wc -l <followed)" = 2 ] ;; # at first the container starts
      esac
    }
    sleep() { :; }"""
    options = "--reason 'a b' --send"
    script = f"{kubectl}\n{function[0]}\nin_cluster {command} {options}"
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True)
    assert (tmp_path / "from").read_text().strip() == f"cronjob/shelfwatch-{command}"
    created = json.loads((tmp_path / "created.json").read_text())
    container(template["spec"]["template"])["args"] = [command, "--reason", "a b", "--send"]
    assert created == template
    assert f"job/shelfwatch-{command}-" in (tmp_path / "followed").read_text()


def test_every_role_of_terraform_has_its_service_account() -> None:
    variables = (ROOT / "infra/terraform/shelfwatch/variables.tf").read_text()
    [block] = re.findall(r'variable "service_accounts" \{(.*?)^\}', variables, re.M | re.S)
    bound = set(re.findall(r'optional\(string, "([\w-]+)"\)', block))
    accounts = objects("knative/overlays/prod", "ServiceAccount")
    assert bound == {account["metadata"]["name"] for account in accounts}
    used = {
        template["spec"]["serviceAccountName"]
        for owner, template in pod_templates("knative/overlays/prod")
        if owner != "Job/shelf-detector-pull"
    }
    assert used == bound


def policy(name: str) -> Object:
    spec: Object = named("knative/signature", "ClusterImagePolicy", name)["spec"]
    return spec


def taken_by(name: str, image: str) -> bool:
    """Match as policy-controller does: `**` is anything, `*` anything but a slash."""
    patterns = [
        re.escape(each["glob"]).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
        for each in policy(name)["images"]
    ]
    return any(re.fullmatch(pattern, image) for pattern in patterns)


DIGEST = "@sha256:" + 64 * "0"


@pytest.mark.parametrize("path", AWS)
def test_every_image_in_the_namespace_meets_a_policy(path: str) -> None:
    """One that none speaks of is refused: no-match-policy is deny (tests/test_argocd.py)."""
    [namespace] = objects(path, "Namespace")
    assert namespace["metadata"]["labels"]["policy.sigstore.dev/include"] == "true"
    for _, template in pod_templates(path):
        image = container(template)["image"]
        # policy-controller sets the digest in the tag's place before it asks.
        assert taken_by("shelfwatch", image.rpartition(":")[0] + DIGEST)
        assert not taken_by("queue-proxy", image.rpartition(":")[0] + DIGEST)
    queue = "gcr.io/knative-releases/knative.dev/serving/cmd/queue" + DIGEST
    assert taken_by("queue-proxy", queue)
    assert not taken_by("shelfwatch", queue)
    for other in ("busybox", "000000000000.dkr.ecr.eu-central-1.amazonaws.com/other"):
        assert not taken_by("shelfwatch", other + DIGEST)


def test_only_the_release_workflow_signs() -> None:
    assert policy("shelfwatch")["mode"] == "enforce"
    [authority] = policy("shelfwatch")["authorities"]
    [identity] = authority["keyless"]["identities"]
    assert identity.keys() == {"issuer", "subject"}  # whole names, no patterns
    assert identity["issuer"] == "https://token.actions.githubusercontent.com"
    place = re.fullmatch(
        r"https://github\.com/[\w.-]+/[\w.-]+/(.+)@refs/heads/main", identity["subject"]
    )
    assert place
    workflow = yaml.safe_load((ROOT / place[1]).read_text())
    signing = [
        name for name, job in workflow["jobs"].items() if "id-token" in job.get("permissions", {})
    ]
    assert signing == ["publish"]
    assert "make publish" in str(workflow["jobs"]["publish"]["steps"])
    # Of cosign 3's bundles policy-controller reads attestations.
    assert authority["signatureFormat"] == "bundle"
    [attestation] = authority["attestations"]
    assert attestation["predicateType"] == "https://cyclonedx.org/bom"
    assert "cosign attest --yes --type cyclonedx" in (ROOT / ".github/publish.sh").read_text()


def test_images_of_one_machine_are_not_asked_for_a_signature() -> None:
    """An image that no registry has is refused in every mode."""
    [namespace] = objects("knative/overlays/dev", "Namespace")
    assert "policy.sigstore.dev/include" not in namespace["metadata"]["labels"]


def test_people_come_over_tls_alone() -> None:
    path = "knative/overlays/prod"
    assert detector(path)["metadata"]["labels"]["networking.knative.dev/visibility"] == (
        "cluster-local"
    )
    [mapping], [certificate] = objects(path, "DomainMapping"), objects(path, "Certificate")
    assert mapping["spec"]["tls"]["secretName"] == certificate["spec"]["secretName"]
    assert certificate["spec"]["dnsNames"] == [mapping["metadata"]["name"]]
    assert mapping["metadata"]["annotations"]["networking.knative.dev/http-protocol"] == (
        "Redirected"
    )
    kourier = named("knative/system", "KnativeServing", "knative-serving")["spec"]["ingress"]
    # Those that the load balancer of infra/terraform/cluster leads to.
    assert kourier["kourier"] == {
        "enabled": True,
        "service-type": "NodePort",
        "http-port": 31080,
        "https-port": 31443,
    }
    [claim] = objects(path, "ClusterDomainClaim")
    assert claim["metadata"]["name"] == mapping["metadata"]["name"]
