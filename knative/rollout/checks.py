"""What the conductor needs of its settings, looked at before it begins: `--check`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

import boto3
import urllib3
from kubernetes import config as kubernetes_config
from kubernetes.client import ApiClient, AuthorizationV1Api
from kubernetes.client.exceptions import ApiException

from events.checks import (
    BOTO_CONFIG,
    Check,
    CheckFailed,
    failed_check,
    identity_checks,
    topic_check,
)
from knative.rollout.cluster import GROUP, TIMEOUT, Cluster, Refused, Unavailable
from knative.rollout.config import Config, ConfigError
from knative.rollout.exam import ExamError, read_exam

# What the conductor does to the cluster, as its Role (rbac.yaml) allows it: verb, group, resource.
DEEDS = (
    ("get", GROUP, "services"),
    ("patch", GROUP, "services"),
    ("get", GROUP, "revisions"),
    ("create", "", "events"),
)
PROMETHEUS_SECONDS = 5.0


def rollout_checks(
    env: Mapping[str, str], api_client: Callable[[Mapping[str, str]], ApiClient]
) -> Iterator[Check]:
    """List what a rollout needs; odd settings, or no way to the cluster, are the last."""
    try:
        config = Config.from_env(env)
    except ConfigError as err:
        yield failed_check("settings", str(err))
        return
    steps = ", ".join(f"{step} %" for step in config.steps)
    yield Check("settings", lambda: f"{config.ksvc} in {config.namespace}, by {steps}")
    yield Check("judge", lambda: _judge(config))
    if config.prometheus_url:
        yield Check("prometheus", lambda: _prometheus(config.prometheus_url))
    if config.notice_topic_arn:
        region = config.notice_topic_arn.split(":")[3]
        sts = boto3.client("sts", region_name=region, config=BOTO_CONFIG)
        yield from identity_checks(sts)
        sns = boto3.client("sns", region_name=region, config=BOTO_CONFIG)
        yield topic_check(sns, config.notice_topic_arn)
    try:
        api = api_client(env)
    except kubernetes_config.ConfigException as err:
        yield failed_check("cluster", f"{err}: run it in a pod, or set `KUBECONFIG`")
        return
    yield Check("cluster", lambda: _service(api, config))
    yield Check("role", lambda: _role(api, config))


def _judge(config: Config) -> str:
    try:
        exam = read_exam(config.judge)
    except ExamError as err:
        raise CheckFailed(str(err)) from err
    boxes = sum(len(truth) for truth in exam.truth.values())
    return f"{len(exam.pictures)} pictures with {boxes} products in {config.judge}"


def _prometheus(url: str) -> str:
    try:
        answer = urllib3.request(
            "GET", f"{url}/api/v1/query?query=1", retries=False, timeout=PROMETHEUS_SECONDS
        )
    except urllib3.exceptions.HTTPError as err:
        msg = f"{url} does not answer ({type(err).__name__}): start it, or mend `PROMETHEUS_URL`"
        raise CheckFailed(msg) from err
    try:
        well = answer.status == 200 and json.loads(answer.data)["status"] == "success"
    except (ValueError, KeyError, TypeError):
        well = False
    if not well:
        msg = f"{url} answers {answer.status}, and no query: mend `PROMETHEUS_URL`"
        raise CheckFailed(msg)
    return f"{url} answers"


def _service(api: ApiClient, config: Config) -> str:
    try:
        service = Cluster(api, config.namespace, config.ksvc).service()
    except Unavailable as err:
        msg = f"{err}: look at the API server and the way to it"
        raise CheckFailed(msg) from err
    except Refused as err:
        msg = f"{err}: create it, mend `KSVC` or `NAMESPACE`, or bind the role"
        raise CheckFailed(msg) from err
    return f"{config.ksvc}: stable {service.stable or 'none yet'}, latest {service.latest_created}"


def _role(api: ApiClient, config: Config) -> str:
    """Ask the cluster whether it would let the conductor do what it does; that keeps nothing."""
    missing = []
    for verb, group, resource in DEEDS:
        attributes = {"namespace": config.namespace, "verb": verb, "group": group}
        attributes |= {"resource": resource}
        if resource == "services":
            attributes["name"] = config.ksvc
        review = {"spec": {"resourceAttributes": attributes}}
        try:
            answer = AuthorizationV1Api(api).create_self_subject_access_review(
                review, _request_timeout=TIMEOUT
            )
        except (ApiException, urllib3.exceptions.HTTPError) as err:
            msg = f"the cluster does not tell ({type(err).__name__}): look at the API server"
            raise CheckFailed(msg) from err
        if not answer.status.allowed:
            missing.append(f"{verb} {resource}")
    if missing:
        msg = f"may not {', '.join(missing)}: apply knative/rollout/rbac.yaml"
        raise CheckFailed(msg)
    return ", ".join(f"{verb} {resource}" for verb, _, resource in DEEDS)
