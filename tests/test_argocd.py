"""Argo CD: its health checks under Lua, and the Applications that must not undo a rollout."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from itertools import chain
from pathlib import Path

import pytest
import yaml
from lupa.lua51 import LuaRuntime  # the version that Argo CD's interpreter speaks

from knative.rollout.objects import BECAUSE, REJECTED
from tests.manifests.admission import seconds
from tests.manifests.render import (
    ROOT,
    Object,
    detector,
    example,
    have_kubectl,
    named,
    objects,
    render,
)

rendered = pytest.mark.skipif(not have_kubectl(), reason="there is no kubectl to render them")

CLUSTERS = ["argocd/dev", "argocd/prod", "argocd/keda", "argocd/monitor"]
VALUES = yaml.safe_load((ROOT / "argocd" / "values.yaml").read_text())
HEALTH = "resource.customizations.health."
KSVC, REVISION = "serving.knative.dev_Service", "serving.knative.dev_Revision"
# What Argo CD leaves of Lua: base and table.
SANDBOX = """
getmetatable("").__index = nil
for _, name in ipairs({"string", "math", "io", "os", "debug", "coroutine", "package", "require"}) do
  _G[name] = nil
end
"""


def health(kind: str, found: Object) -> tuple[str, str]:
    """Run a health check as Argo CD does; returns status and message."""
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    lua.execute(SANDBOX)
    lua.globals().obj = lua.table_from(found, recursive=True)
    answer = lua.execute(VALUES["configs"]["cm"][HEALTH + kind])
    assert answer.status in ("Healthy", "Progressing", "Degraded", "Suspended")
    return answer.status, answer.message


def service(observed: int, ready: str = "True", **conditions: str) -> Object:
    kinds = {"ConfigurationsReady": ready, "RoutesReady": ready, "Ready": ready, **conditions}
    return {
        "metadata": {"generation": 3},
        "status": {
            "observedGeneration": observed,
            "latestReadyRevisionName": "shelf-detector-00002",
            "conditions": [
                {"type": kind, "status": status, "message": f"{kind} is {status}"}
                for kind, status in kinds.items()
            ],
        },
    }


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        ({"metadata": {"generation": 1}}, "Progressing", "Waiting"),
        ({"metadata": {"generation": 1}, "status": {}}, "Progressing", "Waiting"),
        (service(2, "False"), "Progressing", "Waiting"),  # of the commit before
        (service(2, "True"), "Progressing", "Waiting"),
        (service(3, "Unknown"), "Progressing", "Waiting"),
        (service(3, RoutesReady="Unknown", Ready="Unknown"), "Progressing", "Waiting"),
        (service(3, Ready="Unknown"), "Progressing", "Waiting"),
        (service(3, "True"), "Healthy", "shelf-detector-00002"),
        (service(3, "False"), "Degraded", "Ready is False"),
        (service(3, ConfigurationsReady="False"), "Degraded", "ConfigurationsReady is False"),
        (service(3, "Unknown", RoutesReady="False"), "Degraded", "RoutesReady is False"),
        (service(3, Other="False"), "Healthy", ""),  # none that a ksvc has to have
    ],
    ids=[
        *("new", "no-conditions", "stale-false", "stale-true", "unknown", "half-unknown"),
        "two-of-three",
        *("all-true", "all-false", "one-false", "false-and-unknown", "another-condition"),
    ],
)
def test_a_service_is_judged_by_the_status_of_its_own_generation(
    found: Object, status: str, words: str
) -> None:
    told, message = health(KSVC, found)
    assert (told, words in message) == (status, True)


def test_a_condition_without_a_message_is_told_by_its_reason() -> None:
    found = service(3, "False")
    for condition in found["status"]["conditions"]:
        del condition["message"]
        condition["reason"] = "RevisionFailed"
    assert health(KSVC, found) == ("Degraded", "Ready: RevisionFailed")


def test_a_service_whose_latest_revision_was_rejected_is_healthy_and_says_so() -> None:
    """The commit that mends it must not be judged by the one that was rejected."""
    found = service(3)
    found["metadata"]["annotations"] = {REJECTED: "shelf-detector-00003", BECAUSE: "F1 0.41"}
    found["status"]["latestCreatedRevisionName"] = "shelf-detector-00003"
    assert health(KSVC, found) == ("Healthy", "F1 0.41")
    found["status"]["latestCreatedRevisionName"] = "shelf-detector-00004"
    assert health(KSVC, found) == ("Healthy", "shelf-detector-00002")


@pytest.mark.parametrize(
    ("status", "told"), [("True", "Healthy"), ("False", "Degraded"), ("Unknown", "Progressing")]
)
def test_a_revision_is_what_its_condition_says(status: str, told: str) -> None:
    conditions = [{"type": "Active", "status": "False"}, {"type": "Ready", "status": status}]
    found = {"metadata": {}, "status": {"conditions": conditions}}
    assert health(REVISION, found)[0] == told
    assert health(REVISION, {"metadata": {}})[0] == "Progressing"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({}, "Progressing"),
        # One object of it is there, and Argo CD calls it healthy.
        ({"health": {"status": "Healthy"}}, "Progressing"),
        ({"health": {"status": "Healthy"}, "operationState": {"phase": "Running"}}, "Progressing"),
        ({"operationState": {"phase": "Failed", "message": "no CRD"}}, "Degraded"),
        ({"operationState": {"phase": "Error"}}, "Degraded"),
        ({"history": [{"id": 0}], "health": {"status": "Healthy"}}, "Healthy"),
        ({"history": [{"id": 0}], "health": {"status": "Degraded", "message": "x"}}, "Degraded"),
        ({"history": [{"id": 0}]}, "Progressing"),
        # A candidate was rejected: what stands serves.
        (
            {
                "history": [{"id": 0}],
                "health": {"status": "Healthy"},
                "operationState": {"phase": "Failed"},
            },
            "Healthy",
        ),
    ],
)
def test_a_wave_waits_until_the_applications_of_the_one_before_were_synced(
    status: Object, told: str
) -> None:
    found = {"metadata": {"name": "knative"}}
    assert health("argoproj.io_Application", found)[0] == "Progressing"
    assert health("argoproj.io_Application", {**found, "status": status})[0] == told


def test_the_root_does_not_wait_for_itself() -> None:
    """It is its own child: its sync would wait for its health, and that for its sync."""
    syncing = {"operationState": {"phase": "Running"}, "health": {"status": "Missing"}}
    found = {"metadata": {"name": "root"}, "status": syncing}
    assert health("argoproj.io_Application", found)[0] == "Healthy"


def test_a_sweep_that_failed_is_not_the_applications_fault() -> None:
    status = {"lastScheduleTime": "2026-01-01T01:23:00Z"}
    assert health("batch_CronJob", {"metadata": {}, "status": status})[0] == "Healthy"


def test_every_health_check_compiles() -> None:
    checks = [name for name in VALUES["configs"]["cm"] if name.startswith(HEALTH)]
    assert len(checks) == 5
    for name in checks:
        LuaRuntime().compile(VALUES["configs"]["cm"][name])


@cache
def applications(path: str) -> dict[str, Object]:
    return {found["metadata"]["name"]: found["spec"] for found in objects(path, "Application")}


@rendered
@pytest.mark.parametrize("path", CLUSTERS)
def test_argo_cd_leaves_the_traffic_to_the_conductor(path: str) -> None:
    spec = applications(path)["shelfwatch"]
    [ignored] = spec["ignoreDifferences"]
    assert (ignored["group"], ignored["kind"]) == ("serving.knative.dev", "Service")
    # What is ignored is applied with its live value, and Knative's annotations are Knative's.
    assert ignored["jsonPointers"] == ["/spec/traffic"]
    options = spec["syncPolicy"]["syncOptions"]
    assert {"RespectIgnoreDifferences=true", "ServerSideApply=true"} <= set(options)
    assert not any("Replace=true" in option for option in options)
    found = named(path, "Application", "shelfwatch")
    assert found["metadata"]["annotations"]["argocd.argoproj.io/compare-options"] == (
        "ServerSideDiff=true"
    )


@rendered
@pytest.mark.parametrize("path", CLUSTERS)
def test_every_application_says_how_often_it_is_tried_again(path: str) -> None:
    for name, spec in applications(path).items():
        assert spec["syncPolicy"]["retry"]["refresh"] is True, name
        assert spec["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}, name
    # Each try of this one runs the conductor.
    assert applications(path)["shelfwatch"]["syncPolicy"]["retry"]["limit"] <= 3


@rendered
@pytest.mark.parametrize("path", CLUSTERS)
def test_differences_are_ignored_in_the_traffic_alone(path: str) -> None:
    ignoring = {name for name, spec in applications(path).items() if "ignoreDifferences" in spec}
    assert ignoring == {"shelfwatch"}
    compared = yaml.safe_load(VALUES["configs"]["cm"]["resource.compareoptions"])
    assert compared == {"ignoreAggregatedRoles": True}  # which Kubernetes itself fills


@rendered
@pytest.mark.parametrize("path", CLUSTERS)
def test_kubernetes_has_nothing_to_say_about_finalizers(path: str) -> None:
    for found in objects(path, "Application"):
        for finalizer in found["metadata"].get("finalizers", []):
            assert re.fullmatch(r"[a-z-]+(\.[a-z]+)+/\w+", finalizer), found["metadata"]["name"]


@rendered
@pytest.mark.parametrize("path", CLUSTERS)
def test_an_operation_ends_after_all_that_it_waits_for_had_its_time(path: str) -> None:
    spec = applications(path)["shelfwatch"]
    overlay, retry = spec["source"]["path"], spec["syncPolicy"]["retry"]
    limits = {
        job["metadata"]["annotations"]["argocd.argoproj.io/hook"]: job["spec"]
        for job in objects(overlay, "Job")
    }
    annotations = detector(overlay)["spec"]["template"]["metadata"]["annotations"]
    waited = seconds(annotations["serving.knative.dev/progress-deadline"])
    waited += sum(limits[hook]["activeDeadlineSeconds"] for hook in ("PostSync", "SyncFail"))
    # An image that does not come fails each try.
    waited += limits["PreSync"]["activeDeadlineSeconds"] * (1 + retry["limit"])
    waited += retry["limit"] * seconds(retry["backoff"]["maxDuration"])
    assert int(VALUES["configs"]["params"]["controller.sync.timeout.seconds"]) >= waited


@rendered
@pytest.mark.parametrize("path", CLUSTERS)
def test_the_root_leads_to_itself_and_every_path_exists(path: str) -> None:
    assert applications(path)["root"]["source"]["path"] == path
    for name, spec in applications(path).items():
        for source in spec.get("sources", [spec.get("source")]):
            if "path" in source and source["path"] != "observability":
                assert (ROOT / source["path"] / "kustomization.yaml").exists(), name
            helm = source.get("helm", {})
            files = [parameter["path"] for parameter in helm.get("fileParameters", [])]
            for file in [*files, *helm.get("valueFiles", [])]:
                assert (ROOT / file.removeprefix("$git/")).exists(), name


@rendered
@pytest.mark.parametrize("path", CLUSTERS)
def test_projects_allow_what_their_applications_bring(path: str) -> None:
    for name, spec in applications(path).items():
        project = named(path, "AppProject", spec["project"])["spec"]
        for source in spec.get("sources", [spec.get("source")]):
            assert source["repoURL"] in project["sourceRepos"], name
        namespaces = {destination["namespace"] for destination in project["destinations"]}
        assert namespaces & {"*", spec["destination"]["namespace"]}, name
    allowed = named(path, "AppProject", "shelfwatch")["spec"]["clusterResourceWhitelist"]
    whole = render(applications(path)["shelfwatch"]["source"]["path"])
    cluster_wide = {found["kind"] for found in whole if "namespace" not in found["metadata"]}
    assert cluster_wide == {kind["kind"] for kind in allowed} & cluster_wide
    assert {found["metadata"].get("namespace", "shelfwatch") for found in whole} == {"shelfwatch"}


@rendered
@pytest.mark.parametrize("path", CLUSTERS)
def test_charts_are_pinned(path: str) -> None:
    for name, spec in applications(path).items():
        for source in spec.get("sources", [spec.get("source")]):
            if "chart" in source:
                assert re.fullmatch(r"v?\d+\.\d+\.\d+", source["targetRevision"]), name


@rendered
@pytest.mark.parametrize("path", CLUSTERS)
def test_what_others_stand_on_comes_first(path: str) -> None:
    waves = {
        found["metadata"]["name"]: int(
            found["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", 0)
        )
        for found in chain(objects(path, "AppProject"), objects(path, "Application"))
    }
    assert waves["platform"] < waves["argo-cd"] < waves["knative-operator"] < waves["knative"]
    assert max(waves.values()) == waves["shelfwatch"] > waves["knative"]
    for first in {"cert-manager", "monitoring", "keda"} & waves.keys():
        assert waves[first] < waves["knative"]


@rendered
def test_the_bootstrap_is_projects_and_root() -> None:
    labelled = {
        (found["kind"], found["metadata"]["name"])
        for found in render("argocd/prod")
        if found["metadata"].get("labels", {}).get("shelfwatch.io/bootstrap")
    }
    assert labelled == {
        ("AppProject", "platform"),
        ("AppProject", "shelfwatch"),
        ("Application", "root"),
    }


@rendered
def test_a_new_release_is_written_where_the_overlay_reads_it() -> None:
    [updater] = objects("argocd/prod", "ImageUpdater")
    settings = updater["spec"]["commonUpdateSettings"]
    assert (settings["updateStrategy"], settings["forceUpdate"]) == ("semver", True)
    releases = re.compile(settings["allowTags"].removeprefix("regexp:"))
    assert [
        tag for tag in ("1.2.3", "1.2.3-rc1", "latest", "v1.2.3", "dev") if releases.match(tag)
    ] == ["1.2.3"]
    kind, _, directory = updater["spec"]["writeBackConfig"]["gitConfig"][
        "writeBackTarget"
    ].partition(":")
    assert (kind, directory) == ("kustomization", "/knative/overlays/prod")
    [reference] = updater["spec"]["applicationRefs"]
    [image] = reference["images"]
    assert reference["namePattern"] in applications("argocd/prod")
    overlay = yaml.safe_load((ROOT / directory.strip("/") / "kustomization.yaml").read_text())
    [written] = [image for image in overlay["images"] if image["name"] == "shelf-detector"]
    assert written["name"] == image["manifestTargets"]["kustomize"]["name"]
    assert releases.match(written["newTag"])
    images = {
        found["spec"]["template"]["spec"]["containers"][0]["image"]
        for found in objects(directory.strip("/"), "Service", "serving")
    }
    assert images == {f"{image['imageName']}:{written['newTag']}"}


@rendered
def test_the_registry_is_asked_with_a_fresh_password() -> None:
    values = applications("argocd/prod")["image-updater"]["source"]["helm"]["valuesObject"]
    [registry] = values["config"]["registries"]
    [updater] = objects("argocd/prod", "ImageUpdater")
    image = updater["spec"]["applicationRefs"][0]["images"][0]["imageName"]
    assert image.startswith(registry["prefix"] + "/")
    assert registry["api_url"] == f"https://{registry['prefix']}"
    script = registry["credentials"].removeprefix("ext:/scripts/")
    assert script in values["authScripts"]["scripts"]
    assert int(registry["credsexpire"].removesuffix("h")) < 12


def helm_values(name: str) -> Object:
    values: Object = applications("argocd/prod")[name]["source"]["helm"]["valuesObject"]
    return values


@rendered
def test_log_lines_go_from_alloy_to_loki_and_grafana_asks_there() -> None:
    namespace = applications("argocd/prod")["loki"]["destination"]["namespace"]
    loki = f"http://loki.{namespace}:3100"  # the release's name, and the chart's port
    alloy = yaml.safe_load((ROOT / "observability" / "alloy" / "values.yaml").read_text())
    given = {each["name"]: each["value"] for each in alloy["alloy"]["extraEnv"]}
    assert given["LOKI_URL"] == f"{loki}/loki/api/v1/push"
    [source] = helm_values("monitoring")["grafana"]["additionalDataSources"]
    assert (source["type"], source["url"]) == ("loki", loki)
    # Alloy reads the logs of that namespace, where it has its rights.
    assert alloy["rbac"]["namespaces"] == [given["NAMESPACE"]]
    assert {verb for rule in alloy["rbac"]["rules"] for verb in rule["verbs"]} == {
        *("get", "list", "watch")
    }
    assert (
        given["NAMESPACE"] == applications("argocd/prod")["shelfwatch"]["destination"]["namespace"]
    )


@rendered
def test_only_those_beside_loki_reach_it() -> None:
    spec = applications("argocd/prod")["loki"]
    values = helm_values("loki")
    assert values["gateway"] == {"enabled": False}  # so nobody is asked who he is
    [policy] = values["extraObjects"]
    assert policy["metadata"]["namespace"] == spec["destination"]["namespace"]
    assert policy["spec"] == {
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "loki"}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {}}]}],
    }


@rendered
def test_loki_keeps_lines_for_a_month_in_the_bucket_that_its_role_is_for() -> None:
    values = helm_values("loki")
    settings = dict(line.split("=", 1) for line in example().splitlines() if "=" in line)
    storage = values["loki"]["storage"]
    assert storage["type"] == "s3"
    assert storage["bucketNames"]["chunks"] == settings["LOGS_BUCKET"]
    assert storage["s3"]["region"] == settings["AWS_DEFAULT_REGION"]
    assert [each["object_store"] for each in values["loki"]["schemaConfig"]["configs"]] == ["s3"]
    assert values["loki"]["limits_config"]["retention_period"] == f"{31 * 24}h"
    # Without it, nothing is removed.
    assert values["loki"]["compactor"]["retention_enabled"] is True
    # There is no volume that could follow it to another node.
    assert values["singleBinary"]["persistence"] == {"enabled": False}
    variables = (ROOT / "infra/terraform/shelfwatch/variables.tf").read_text()
    bound = re.search(
        r'"loki" \{.*?namespace = "(\S+)", service_account = "(\S+)"', variables, re.S
    )
    assert bound
    namespace = applications("argocd/prod")["loki"]["destination"]["namespace"]
    assert bound.groups() == (namespace, values["serviceAccount"]["name"])


@rendered
def test_somebody_is_told_of_alerts_and_of_silence(tmp_path: Path) -> None:
    given = dict(line.split("=", 1) for line in example().splitlines() if "=" in line)
    values = helm_values("monitoring")["alertmanager"]
    told = {each["name"]: each.get("sns_configs", []) for each in values["config"]["receivers"]}
    route = values["config"]["route"]
    [beat] = [each for each in route["routes"] if each["matchers"] == ['alertname = "Watchdog"']]
    people, silence = told[route["receiver"]], told[beat["receiver"]]
    assert [each["topic_arn"] for each in people] == [given["NOTICE_TOPIC_ARN"]]
    assert [each["topic_arn"] for each in silence] == [given["HEARTBEAT_TOPIC_ARN"]]
    assert seconds(beat["repeat_interval"]) < 900  # of which the alarm counts three
    for configured in [*people, *silence]:
        assert configured["sigv4"] == {"region": given["AWS_DEFAULT_REGION"]}
    variables = (ROOT / "infra/terraform/shelfwatch/variables.tf").read_text()
    namespace = applications("argocd/prod")["monitoring"]["destination"]["namespace"]
    bound = f'namespace = "{namespace}", service_account = "{values["serviceAccount"]["name"]}"'
    assert bound in variables.partition('variable "alertmanager"')[2].partition("\n}")[0]
    if shutil.which("amtool"):
        (tmp_path / "alertmanager.yaml").write_text(yaml.safe_dump(values["config"]))
        command = ["amtool", "check-config", str(tmp_path / "alertmanager.yaml")]
        subprocess.run(command, check=True, capture_output=True)


@rendered
def test_the_password_of_grafana_is_made_once() -> None:
    admin = helm_values("monitoring")["grafana"]["admin"]
    made = (ROOT / "infra/bootstrap.sh").read_text()
    assert f"create secret generic {admin['existingSecret']} " in made
    for key in (admin["userKey"], admin["passwordKey"]):
        assert re.search(rf"--from-(literal|file)={key}=", made)


@rendered
def test_a_new_release_passes_the_checks_that_main_requires() -> None:
    [updater] = objects("argocd/prod", "ImageUpdater")
    git = updater["spec"]["writeBackConfig"]["gitConfig"]
    assert (git["branch"], git["pullRequest"]) == ("main", {"github": {}})


def test_argo_cd_is_the_same_before_and_after_it_keeps_itself() -> None:
    chart = (ROOT / "argocd" / "platform" / "argo-cd.yaml").read_text()
    version = re.search(r"targetRevision: (\d+\.\d+\.\d+)", chart)
    page = (ROOT / "docs" / "knative.md").read_text()
    assert version
    assert f"--version {version[1]}" in page


@rendered
def test_images_are_asked_for_their_signature_before_they_start() -> None:
    spec = applications("argocd/prod")["policy-controller"]
    webhook = spec["source"]["helm"]["valuesObject"]["webhook"]
    assert webhook["configData"] == {"no-match-policy": "deny"}
    assert webhook["replicaCount"] == 2  # no pod starts without one
    variables = (ROOT / "infra/terraform/shelfwatch/variables.tf").read_text()
    [role] = re.findall(r'variable "policy_controller" \{(.*?)^\}', variables, re.M | re.S)
    assert f'namespace = "{spec["destination"]["namespace"]}"' in role
    assert f'service_account = "{webhook["serviceAccount"]["name"]}"' in role
    waves = {
        found["metadata"]["name"]: int(
            found["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]
        )
        for found in objects("argocd/prod", "Application")
        if found["metadata"]["name"] in ("policy-controller", "signature", "shelfwatch")
    }
    assert waves["policy-controller"] < waves["signature"] < waves["shelfwatch"]


GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.com")


@pytest.mark.parametrize(
    ("merged", "deployed", "offered"),
    [
        ("0.1.0", "0.1.0", None),  # nothing new
        ("0.2.0", "0.2.0", "0.2.0"),
        ("0.3.0", "0.2.0", "0.2.0"),  # main names the next candidate already
    ],
)
def test_what_was_promoted_is_offered_to_the_rest(
    merged: str, deployed: str, offered: str | None, tmp_path: Path
) -> None:
    work, bare, told = tmp_path / "work", tmp_path / "origin", tmp_path / "told"
    overlay = work / "knative/overlays/prod/kustomization.yaml"
    overlay.parent.mkdir(parents=True)
    (work / ".github").mkdir()
    shutil.copy(ROOT / ".github/promoted.sh", work / ".github")
    text = (ROOT / "knative/overlays/prod/kustomization.yaml").read_text()
    gh = tmp_path / "bin" / "gh"
    gh.parent.mkdir()
    gh.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{told}\n')
    gh.chmod(0o755)

    def git(*arguments: str) -> str:
        command = [*GIT, *arguments]
        done = subprocess.run(command, cwd=work, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    git("init", "-q", "-b", "main")
    git("remote", "add", "origin", str(bare))
    for version in (deployed, merged):
        overlay.write_text(
            re.sub(r"(?m)(: shelf-detector .*\n +newTag: ).*", rf"\g<1>{version}", text)
        )
        git("add", "-A")
        git("commit", "-q", "--allow-empty", "-m", version)
    environment = {"PATH": f"{gh.parent}:/usr/bin:/bin", "COMMIT": git("rev-parse", "HEAD~1")}
    for _ in range(2):  # told twice, offered once
        git("switch", "-q", "main")
        script = [str(work / ".github/promoted.sh")]
        subprocess.run(script, check=True, env=environment, capture_output=True)
    heads = git("ls-remote", "--heads", "origin")
    if offered is None:
        assert (heads, told.exists()) == ("", False)
        return
    assert heads.endswith(f"refs/heads/promoted-{offered}")
    assert told.read_text().splitlines().count("create") == 1
    git("switch", "-q", f"promoted-{offered}")
    images = {
        each["name"]: each["newTag"] for each in yaml.safe_load(overlay.read_text())["images"]
    }
    assert images == {"shelf-detector": merged, "shelfwatch": offered}
    changed = git("diff", "--numstat", "main", f"promoted-{offered}")
    assert changed.split() == ["1", "1", "knative/overlays/prod/kustomization.yaml"]


def test_people_are_told_of_a_failed_sync() -> None:
    notifications = VALUES["notifications"]
    sent = {
        trigger
        for subscription in notifications["subscriptions"]
        for trigger in subscription["triggers"]
    }
    assert sent == {"on-sync-failed", "on-health-degraded", "on-promoted"}
    for name in sent:
        [rule] = yaml.safe_load(notifications["triggers"][f"trigger.{name}"])
        assert {f"template.{template}" for template in rule["send"]} <= notifications[
            "templates"
        ].keys()
