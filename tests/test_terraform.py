"""What infra/terraform/shelfwatch would make, read from its plan: `make terraform` makes one.

Every policy is asked whether it lets a request through, and the roles are held to the calls that
the code makes.
"""

import ast
import fnmatch
import json
import logging
import os
import subprocess
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from conftest import ROOT

from events.source.config import SourceConfig
from events.source.queue_checks import Queue, check_queue, check_results_bucket
from events.types import PUBLISHED, REFERENCES, RESULTS
from function.config import Config
from function.uploads import Uploads

PLANS = Path(os.environ.get("SHELFWATCH_PLANS", ""))
PARLIAMENT = os.environ.get("SHELFWATCH_PARLIAMENT", "parliament")
pytestmark = pytest.mark.skipif(
    not PLANS.name, reason="`make terraform` runs these on a fresh plan"
)

Json = dict[str, Any]

ACCOUNT, STRANGER = "123456789012", "999999999999"
PHOTOS = f"arn:aws:s3:::shelfwatch-photos-{ACCOUNT}"
OUTBOX = f"arn:aws:s3:::shelfwatch-results-{ACCOUNT}"
LOGS = f"arn:aws:s3:::shelfwatch-logs-{ACCOUNT}"
QUEUE = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:shelfwatch-photos"
DLQ = f"{QUEUE}-dlq"
TOPIC = f"arn:aws:sns:eu-west-1:{ACCOUNT}:shelfwatch-events"
ALARMS = f"arn:aws:sns:eu-west-1:{ACCOUNT}:shelfwatch-alarms"
HEARTBEAT = f"arn:aws:sns:eu-west-1:{ACCOUNT}:shelfwatch-heartbeat"
KEY = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
IMAGES = f"arn:aws:ecr:eu-west-1:{ACCOUNT}:repository/shelfwatch"
GITHUB = "token.actions.githubusercontent.com"

# What a call of boto3 needs.
# https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
ACTIONS_OF = {
    "change_message_visibility": {"sqs:ChangeMessageVisibility"},
    "change_message_visibility_batch": {"sqs:ChangeMessageVisibility"},
    "delete_message_batch": {"sqs:DeleteMessage"},
    "get_bucket_notification_configuration": {"s3:GetBucketNotification"},
    "get_object": {"s3:GetObject", "s3:GetObjectVersion"},
    "get_queue_attributes": {"sqs:GetQueueAttributes"},
    "get_queue_url": {"sqs:GetQueueUrl"},
    "get_topic_attributes": {"sns:GetTopicAttributes"},
    "head_object": {"s3:GetObject"},
    "list_object_versions": {"s3:ListBucketVersions"},
    "list_objects_v2": {"s3:ListBucket"},
    "publish": {"sns:Publish"},
    "put_object": {"s3:PutObject"},
    "receive_message": {"sqs:ReceiveMessage"},
    "send_message": {"sqs:SendMessage"},
    "send_message_batch": {"sqs:SendMessage"},
}

TAKE_NO_RESOURCE = {"ecr:GetAuthorizationToken", "route53:ListHostedZonesByName"}

# All that each kind of pod may do.
MAY = {
    "function": {
        f"{PHOTOS}/*": {"s3:GetObject", "s3:GetObjectVersion"},
        PHOTOS: {"s3:ListBucket"},
        OUTBOX: {"s3:ListBucket"},
        f"{OUTBOX}/{RESULTS}*": {"s3:GetObject", "s3:PutObject"},
        f"{OUTBOX}/{PUBLISHED}*": {"s3:GetObject", "s3:PutObject"},
        f"{OUTBOX}/{REFERENCES}*": {"s3:GetObject"},
        TOPIC: {"sns:Publish", "sns:GetTopicAttributes"},
        KEY: {"kms:Decrypt", "kms:GenerateDataKey"},
        f"{PHOTOS}/store-17/*": {"s3:PutObject"},  # where asked for: `upload_prefixes`
    },
    "source": {
        QUEUE: {
            *("sqs:ReceiveMessage", "sqs:DeleteMessage"),
            *("sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"),
        },
        DLQ: {"sqs:SendMessage", "sqs:GetQueueUrl", "sqs:GetQueueAttributes"},
        OUTBOX: {"s3:GetBucketNotification"},
    },
    "sweep": {
        PHOTOS: {"s3:ListBucketVersions", "s3:GetBucketNotification"},
        OUTBOX: {"s3:ListBucket"},
        f"{OUTBOX}/{RESULTS}*": {"s3:GetObject"},
        QUEUE: {"sqs:SendMessage", "sqs:GetQueueAttributes"},
        KEY: {"kms:Decrypt"},
    },
    "replay": {
        QUEUE: {"sqs:SendMessage", "sqs:GetQueueAttributes"},
        DLQ: {
            *("sqs:ReceiveMessage", "sqs:DeleteMessage"),
            *("sqs:ChangeMessageVisibility", "sqs:GetQueueUrl"),
        },
    },
    "rollout": {ALARMS: {"sns:Publish"}},
    "alertmanager": {ALARMS: {"sns:Publish"}, HEARTBEAT: {"sns:Publish"}},
    "loki": {
        LOGS: {"s3:ListBucket"},
        f"{LOGS}/*": {"s3:GetObject", "s3:PutObject", "s3:DeleteObject"},
        KEY: {"kms:Decrypt", "kms:GenerateDataKey"},
    },
    "keda": {QUEUE: {"sqs:GetQueueAttributes"}},
    "cert-manager": {
        "*": {"route53:ListHostedZonesByName"},
        "arn:aws:route53:::change/*": {"route53:GetChange"},
        "arn:aws:route53:::hostedzone/Z0123456789": {
            *("route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets"),
        },
    },
    "image-updater": {
        "*": {"ecr:GetAuthorizationToken"},
        IMAGES: {"ecr:ListImages", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"},
    },
    "policy-controller": {
        "*": {"ecr:GetAuthorizationToken"},
        IMAGES: {"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"},
    },
}

################################################################################
# The plan, and IAM's way of reading a policy
################################################################################


def plan_of(root: str, run: str) -> Json:
    """Read the plan that a run of a root's own tests made."""
    messages = map(json.loads, (PLANS / f"{root}.jsonl").read_text().splitlines())
    return next(
        message["test_plan"]
        for message in messages
        if message["type"] == "test_plan" and message["@testrun"] == run
    )


@pytest.fixture(scope="module")
def plan() -> Json:
    return plan_of("shelfwatch", "everything")


@pytest.fixture(scope="module")
def made(plan: Json) -> dict[str, Json]:
    return {change["address"]: change["change"]["after"] for change in plan["resource_changes"]}


def many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(document: str) -> list[Json]:
    policy = json.loads(document)
    assert policy["Version"] == "2012-10-17"
    return many(policy["Statement"])


def allows(document: str, action: str, resource: str = "*", **request: str) -> bool:
    """Tell what a policy answers: denied unless allowed, and a denial wins.

    `request` holds the context, `__` for the colon of a key, and the `principal` where the policy
    names some. Knows the operators that the policies here use, and no others.
    """
    context = {key.replace("__", ":"): value for key, value in request.items()}
    context.setdefault("aws:SecureTransport", "true")
    effects = {
        statement["Effect"]
        for statement in statements(document)
        if _names(statement, "Action", action)
        and _names(statement, "Resource", resource)
        and _is_for(statement, context.get("principal", ""))
        and _holds(statement.get("Condition", {}), context)
    }
    return effects == {"Allow"}


def _names(statement: Json, element: str, value: str) -> bool:
    patterns = many(statement.get(element, "*"))
    return any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)


def _is_for(statement: Json, principal: str) -> bool:
    if "Principal" not in statement or statement["Principal"] == "*":
        return True
    return principal in [name for names in statement["Principal"].values() for name in many(names)]


def _holds(condition: Json, context: dict[str, str]) -> bool:
    assert condition.keys() <= {"StringEquals", "ArnEquals", "Bool"}
    return all(
        context.get(key) in many(values)
        for keys in condition.values()
        for key, values in keys.items()
    )


def granted(document: str) -> dict[str, set[str]]:
    by_resource: dict[str, set[str]] = {}
    for statement in statements(document):
        assert statement["Effect"] == "Allow"
        for resource in many(statement["Resource"]):
            by_resource.setdefault(resource, set()).update(many(statement["Action"]))
    return by_resource


################################################################################
# Pods
################################################################################


def operations(paths: Iterable[Path]) -> Iterator[str]:
    """Find the operations of S3, SQS and SNS that code calls."""
    session = botocore.session.get_session()
    known = {
        xform_name(name)
        for service in ("s3", "sqs", "sns")
        for name in session.get_service_model(service).operation_names
    }
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            name = node.func.attr
            if name == "get_paginator" and isinstance(node.args[0], ast.Constant):
                name = str(node.args[0].value)
            if name in known:
                yield name


@pytest.mark.parametrize("role", MAY)
def test_each_role_allows_what_its_code_calls_and_nothing_else(
    made: dict[str, Json], role: str
) -> None:
    policy = made[f'module.pod_role["{role}"].aws_iam_role_policy.this']["policy"]
    assert granted(policy) == MAY[role]


def test_the_function_puts_no_photo_where_nobody_asked_for_uploads() -> None:
    least = {c["address"]: c["change"] for c in plan_of("shelfwatch", "least")["resource_changes"]}
    policy = least['module.pod_role["function"].aws_iam_role_policy.this']["after"]["policy"]
    puts = {resource for resource, may in granted(policy).items() if "s3:PutObject" in may}
    assert puts == {f"{OUTBOX}/{RESULTS}*", f"{OUTBOX}/{PUBLISHED}*"}


def test_a_place_is_offered_under_keys_that_the_role_allows(made: dict[str, Json]) -> None:
    policy = made['module.pod_role["function"].aws_iam_role_policy.this']["policy"]
    uploads = Uploads(s3=Signer(), bucket="photos", outbox=None)  # type: ignore[arg-type]  # it signs, and asks for no result
    wish = {"store": "store-17", "view": "cam-2", "type": "image/jpeg", "bytes": 10}
    offer = uploads.offer(json.dumps(wish).encode(), datetime.now(UTC))
    key = offer["uri"].removeprefix("s3://photos/")
    assert allows(policy, "s3:PutObject", f"{PHOTOS}/{key}")
    assert not allows(policy, "s3:PutObject", f"{PHOTOS}/{key.replace('17', '18')}")
    assert not allows(policy, "s3:DeleteObject", f"{PHOTOS}/{key}")


class Signer:
    """Signs whatever it is given."""

    def generate_presigned_url(self, *_: object, **__: object) -> str:
        return "https://"


def test_no_pod_has_a_role_that_is_not_in_the_table(made: dict[str, Json]) -> None:
    roles = {address.split('"')[1] for address in made if address.startswith("module.pod_role[")}
    assert roles == MAY.keys()


def test_the_table_and_the_code_name_the_same_calls() -> None:
    called = set(operations([*ROOT.glob("events/**/*.py"), *ROOT.glob("function/*.py")]))
    assert called == ACTIONS_OF.keys()
    needed = {action for actions in ACTIONS_OF.values() for action in actions}
    ours = ("function", "source", "sweep", "replay")
    may = {action for role in ours for actions in MAY[role].values() for action in actions}
    assert {action for action in may if not action.startswith("kms:")} == needed


@pytest.mark.parametrize(
    ("cluster", "namespace", "account", "enters"),
    [
        ("shelfwatch", "shelfwatch", "shelfwatch-source", True),
        ("shelfwatch", "shelfwatch", "shelfwatch-function", False),
        ("shelfwatch", "default", "shelfwatch-source", False),
        ("staging", "shelfwatch", "shelfwatch-source", False),
    ],
)
def test_a_role_is_for_the_pods_of_one_service_account(
    made: dict[str, Json], cluster: str, namespace: str, account: str, enters: bool
) -> None:
    role = made['module.pod_role["source"].aws_iam_role.this']
    tags = {
        "aws__RequestTag/eks-cluster-name": cluster,
        "aws__RequestTag/kubernetes-namespace": namespace,
        "aws__RequestTag/kubernetes-service-account": account,
    }
    for action in ("sts:AssumeRole", "sts:TagSession"):
        trusted = allows(
            role["assume_role_policy"], action, principal="pods.eks.amazonaws.com", **tags
        )
        assert trusted is enters


def test_an_association_names_the_pods_that_the_role_trusts(made: dict[str, Json]) -> None:
    for role in MAY:
        address = f'module.pod_role["{role}"]'
        association = made[f"{address}.aws_eks_pod_identity_association.this"]
        trust = statements(made[f"{address}.aws_iam_role.this"]["assume_role_policy"])[0]
        tags = trust["Condition"]["StringEquals"]
        assert tags == {
            "aws:RequestTag/eks-cluster-name": association["cluster_name"],
            "aws:RequestTag/kubernetes-namespace": association["namespace"],
            "aws:RequestTag/kubernetes-service-account": association["service_account"],
        }


################################################################################
# Queue, topics, buckets
################################################################################


@pytest.mark.parametrize(
    ("action", "principal", "source", "account", "tls", "allowed"),
    [
        ("sqs:SendMessage", "s3.amazonaws.com", PHOTOS, ACCOUNT, "true", True),
        ("sqs:SendMessage", "s3.amazonaws.com", PHOTOS, STRANGER, "true", False),
        ("sqs:SendMessage", "s3.amazonaws.com", "arn:aws:s3:::other", ACCOUNT, "true", False),
        ("sqs:SendMessage", "s3.amazonaws.com", PHOTOS, ACCOUNT, "false", False),
        ("sqs:SendMessage", "sns.amazonaws.com", PHOTOS, ACCOUNT, "true", False),
        ("sqs:ReceiveMessage", "s3.amazonaws.com", PHOTOS, ACCOUNT, "true", False),
    ],
)
def test_the_queue_takes_messages_from_our_bucket_alone(
    made: dict[str, Json],
    action: str,
    principal: str,
    source: str,
    account: str,
    tls: str,
    allowed: bool,
) -> None:
    context = {
        "principal": principal,
        "aws__SourceArn": source,
        "aws__SourceAccount": account,
        "aws__SecureTransport": tls,
    }
    policy = made["module.queue.aws_sqs_queue_policy.this"]["policy"]
    assert allows(policy, action, QUEUE, **context) is allowed
    dead_letters = made["module.queue.aws_sqs_queue_policy.dead_letters"]["policy"]
    assert not allows(dead_letters, action, DLQ, **context)


def test_the_queue_announces_every_object_and_nothing_else(made: dict[str, Json]) -> None:
    rules = [made[address] for address in made if "aws_s3_bucket_notification" in address]
    assert [rule["bucket"] for rule in rules] == [PHOTOS.rpartition(":")[2]]
    (queue,) = rules[0]["queue"]
    assert (queue["queue_arn"], queue["events"]) == (QUEUE, ["s3:ObjectCreated:*"])
    assert not queue.get("filter_prefix")
    assert not queue.get("filter_suffix")


class PlannedQueues:
    """Answers what the source asks SQS and S3 at its start, as if the plan had been applied."""

    def __init__(self, made: dict[str, Json]) -> None:
        self._made = made

    def get_queue_attributes(self, QueueUrl: str, AttributeNames: list[str]) -> Json:
        name = "dead_letters" if QueueUrl.endswith("-dlq") else "this"
        queue = self._made[f"module.queue.aws_sqs_queue.{name}"]
        return {
            "Attributes": {
                "MaximumMessageSize": str(queue["max_message_size"]),
                "MessageRetentionPeriod": str(queue["message_retention_seconds"]),
                "Policy": self._made[f"module.queue.aws_sqs_queue_policy.{name}"]["policy"],
                "QueueArn": QUEUE if name == "this" else DLQ,
                "RedrivePolicy": queue["redrive_policy"] if name == "this" else "",
            }
        }

    def get_queue_url(self, QueueName: str, QueueOwnerAWSAccountId: str) -> Json:
        assert QueueOwnerAWSAccountId == ACCOUNT
        return {"QueueUrl": f"https://sqs/{QueueName}"}

    def get_bucket_notification_configuration(self, Bucket: str) -> Json:
        rules = [self._made[address] for address in self._made if "_notification." in address]
        queues = [queue for rule in rules if rule["bucket"] == Bucket for queue in rule["queue"]]
        return {"QueueConfigurations": [{"QueueArn": queue["queue_arn"]} for queue in queues]}


def test_the_source_finds_no_fault_at_its_start(
    made: dict[str, Json], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = SourceConfig(
        queue_url="https://sqs/q", sink="http://sink", results_bucket=OUTBOX.rpartition(":")[2]
    )
    planned: Any = PlannedQueues(made)
    queue = check_queue(config, planned, threading.Event())
    check_results_bucket(config, planned)
    assert [record.message for record in caplog.records] == ["check.done"]
    assert queue == Queue("https://sqs/shelfwatch-photos-dlq", 8)
    photos = made["module.queue.aws_sqs_queue.this"]
    assert photos["visibility_timeout_seconds"] == config.visibility_timeout


def test_only_our_queue_may_give_up_into_the_dead_letter_queue(made: dict[str, Json]) -> None:
    policy = made["module.queue.aws_sqs_queue_redrive_allow_policy.dead_letters"]
    assert json.loads(policy["redrive_allow_policy"]) == {
        "redrivePermission": "byQueue",
        "sourceQueueArns": [QUEUE],
    }


@pytest.mark.parametrize(
    ("topic", "action", "context", "allowed"),
    [
        (
            "events",
            "sns:Subscribe",
            {"principal": "arn:aws:iam::210987654321:root", "sns__Protocol": "sqs"},
            True,
        ),
        (
            "events",
            "sns:Subscribe",
            {"principal": "arn:aws:iam::210987654321:root", "sns__Protocol": "email"},
            False,
        ),
        (
            "events",
            "sns:Subscribe",
            {"principal": f"arn:aws:iam::{STRANGER}:root", "sns__Protocol": "sqs"},
            False,
        ),
        (
            "events",
            "sns:Publish",
            {"principal": "arn:aws:iam::210987654321:root"},
            False,
        ),
        (
            "alarms",
            "sns:Publish",
            {"principal": "cloudwatch.amazonaws.com", "aws__SourceAccount": ACCOUNT},
            True,
        ),
        (
            "alarms",
            "sns:Publish",
            {"principal": "budgets.amazonaws.com", "aws__SourceAccount": ACCOUNT},
            True,
        ),
        (
            "alarms",
            "sns:Publish",
            {"principal": "cloudwatch.amazonaws.com", "aws__SourceAccount": STRANGER},
            False,
        ),
        (
            "alarms",
            "sns:Publish",
            {"principal": "s3.amazonaws.com", "aws__SourceAccount": ACCOUNT},
            False,
        ),
    ],
)
def test_a_topic_is_open_to_those_it_names(
    made: dict[str, Json], topic: str, action: str, context: dict[str, str], allowed: bool
) -> None:
    policy = made[f"aws_sns_topic_policy.{topic}"]["policy"]
    arn = {"events": TOPIC, "alarms": ALARMS}[topic]
    assert allows(policy, action, arn, **context) is allowed


@pytest.mark.parametrize("bucket", ["photos", "results", "logs"])
def test_a_bucket_is_private_versioned_and_under_our_key(
    made: dict[str, Json], bucket: str
) -> None:
    part = {
        address.split(".")[2]: after
        for address, after in made.items()
        if address.startswith(f"module.{bucket}.")
    }
    block = part["aws_s3_bucket_public_access_block"]
    assert [value for value in block.values() if isinstance(value, bool)].count(True) >= 4
    assert False not in [block[name] for name in block if name.startswith(("block", "ignore"))]
    assert block["restrict_public_buckets"]
    assert part["aws_s3_bucket_versioning"]["versioning_configuration"][0]["status"] == "Enabled"
    (rule,) = part["aws_s3_bucket_server_side_encryption_configuration"]["rule"]
    assert rule["bucket_key_enabled"]
    (default,) = rule["apply_server_side_encryption_by_default"]
    assert (default["sse_algorithm"], default["kms_master_key_id"]) == ("aws:kms", KEY)
    ownership = part["aws_s3_bucket_ownership_controls"]["rule"][0]["object_ownership"]
    assert ownership == "BucketOwnerEnforced"
    (statement,) = statements(part["aws_s3_bucket_policy"]["policy"])
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == (
        "Deny",
        "*",
        "s3:*",
    )
    arn = {"photos": PHOTOS, "results": OUTBOX, "logs": LOGS}[bucket]
    assert statement["Resource"] == [arn, f"{arn}/*"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def expiring(made: dict[str, Json], bucket: str) -> dict[str, int]:
    rules = made[f"module.{bucket}.aws_s3_bucket_lifecycle_configuration.this"]["rule"]
    assert {rule["status"] for rule in rules} == {"Enabled"}
    return {
        rule["filter"][0]["prefix"]: rule["expiration"][0]["days"]
        for rule in rules
        if rule["expiration"]
    }


def test_what_people_wrote_stays_and_what_a_replay_wants_is_still_there(
    made: dict[str, Json],
) -> None:
    photos, results = expiring(made, "photos"), expiring(made, "results")
    queues = [made[f"module.queue.aws_sqs_queue.{name}"] for name in ("this", "dead_letters")]
    waiting = sum(queue["message_retention_seconds"] for queue in queues) / 86400
    assert results.keys() == {RESULTS, PUBLISHED}  # and no references
    assert photos.keys() == {""}
    assert min(results.values()) >= photos[""] > waiting


################################################################################
# Workflows
################################################################################

BRANCH = "repo:example/shelfwatch:ref:refs/heads/main"


@pytest.mark.parametrize(
    ("subject", "audience", "trusted"),
    [
        (BRANCH, "sts.amazonaws.com", True),
        (BRANCH, "https://github.com/example", False),
        ("repo:example/shelfwatch:ref:refs/heads/main-2", "sts.amazonaws.com", False),
        ("repo:example/shelfwatch:ref:refs/tags/main", "sts.amazonaws.com", False),
        ("repo:example/shelfwatch:pull_request", "sts.amazonaws.com", False),
        ("repo:example/shelfwatch:environment:main", "sts.amazonaws.com", False),
        ("repo:example/shelfwatch-fork:ref:refs/heads/main", "sts.amazonaws.com", False),
        ("repo:another/shelfwatch:ref:refs/heads/main", "sts.amazonaws.com", False),
    ],
)
def test_only_workflows_of_our_branch_push_images(
    made: dict[str, Json], subject: str, audience: str, trusted: bool
) -> None:
    token = {
        "principal": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{GITHUB}",
        f"{GITHUB}__sub": subject,
        f"{GITHUB}__aud": audience,
    }
    policy = made["aws_iam_role.push"]["assume_role_policy"]
    assert allows(policy, "sts:AssumeRoleWithWebIdentity", **token) is trusted


def test_workflows_push_and_neither_delete_nor_change(made: dict[str, Json]) -> None:
    assert granted(made["aws_iam_role_policy.push"]["policy"]) == {
        "*": {"ecr:GetAuthorizationToken"},
        IMAGES: {
            *("ecr:BatchCheckLayerAvailability", "ecr:InitiateLayerUpload"),
            *("ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage"),
            *("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
        },
    }


def test_a_tag_of_the_registry_is_written_once_and_scanned(made: dict[str, Json]) -> None:
    registry = made["aws_ecr_repository.this"]
    assert registry["image_tag_mutability"] == "IMMUTABLE"
    assert not registry["image_tag_mutability_exclusion_filter"]
    assert registry["image_scanning_configuration"] == [{"scan_on_push": True}]
    rules = json.loads(made["aws_ecr_lifecycle_policy.this"]["policy"])["rules"]
    # What refers to an image, a signature or an SBOM, has no tag.
    assert {rule["selection"]["tagStatus"] for rule in rules} == {"tagged"}


################################################################################
# All policies, alarms, settings
################################################################################


def identity_policies(made: dict[str, Json]) -> dict[str, str]:
    return {
        address: after["policy"]
        for address, after in made.items()
        if ".aws_iam_role_policy." in f".{address}" or ".aws_iam_policy." in f".{address}"
    }


def test_no_policy_of_a_role_has_a_wildcard(made: dict[str, Json]) -> None:
    policies = identity_policies(made)
    assert len(policies) == len(MAY) + 3  # push, camera, subscriber
    for address, document in policies.items():
        for resource, actions in granted(document).items():
            assert not [action for action in actions if "*" in action], address
            assert resource != "*" or actions <= TAKE_NO_RESOURCE, address
            assert "*" not in resource.rstrip("*"), address


def test_iam_knows_every_action_and_resource(made: dict[str, Json], tmp_path: Path) -> None:
    for address, document in identity_policies(made).items():
        (tmp_path / f"{address.replace('/', '-')}.json").write_text(document)
    told = subprocess.run(
        [PARLIAMENT, "--directory", tmp_path, "--include_policy_extension", "json"],
        stdin=subprocess.DEVNULL,  # it would read a policy from there
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stdout) == (0, "")


def test_cameras_and_subscribers_get_no_more_than_they_need(made: dict[str, Json]) -> None:
    assert granted(made["aws_iam_policy.camera"]["policy"]) == {
        f"{PHOTOS}/*": {"s3:PutObject"},
        KEY: {"kms:GenerateDataKey", "kms:Decrypt"},
    }
    assert granted(made["aws_iam_policy.subscriber"]["policy"]) == {
        f"{OUTBOX}/{RESULTS}*": {"s3:GetObject"},
        KEY: {"kms:Decrypt"},
    }


def test_only_the_account_rules_over_the_key(made: dict[str, Json]) -> None:
    (statement,) = statements(made["aws_kms_key.data"]["policy"])
    assert statement["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    assert made["aws_kms_key.data"]["enable_key_rotation"]
    assert made["aws_sns_topic.events"]["kms_master_key_id"] == KEY
    for name in ("this", "dead_letters"):
        assert made[f"module.queue.aws_sqs_queue.{name}"]["sqs_managed_sse_enabled"]


def test_somebody_is_told_when_photos_wait_or_are_given_up(made: dict[str, Json]) -> None:
    alarms = [after for address, after in made.items() if "aws_cloudwatch_metric_alarm" in address]
    watched = set()
    for alarm in alarms:
        assert alarm["alarm_actions"] == alarm["ok_actions"] == [ALARMS]
        silence = alarm["metric_name"] == "NumberOfMessagesPublished"
        # What is silent brings no figure at all.
        assert (alarm["comparison_operator"], alarm["treat_missing_data"]) == (
            ("LessThanThreshold", "breaching")
            if silence
            else ("GreaterThanThreshold", "notBreaching")
        )
        metrics = [query["metric"][0] for query in alarm["metric_query"] or [] if query["metric"]]
        for metric in metrics or [alarm]:
            (dimension,) = metric["dimensions"].values()
            watched.add((dimension, metric["metric_name"], alarm["threshold"]))
    assert watched == {
        ("shelfwatch-photos", "ApproximateNumberOfMessagesVisible", 5000),
        ("shelfwatch-photos", "ApproximateAgeOfOldestMessage", 900),
        ("shelfwatch-photos-dlq", "ApproximateNumberOfMessagesVisible", 0),
        ("shelfwatch-photos-dlq", "ApproximateNumberOfMessagesVisible", 10),
        ("shelfwatch-events", "NumberOfNotificationsFailed", 0),
        ("shelfwatch-heartbeat", "NumberOfMessagesPublished", 1),
    }
    rate = made["module.queue.aws_cloudwatch_metric_alarm.dead_letters_rate[0]"]["metric_query"]
    assert [q["expression"] for q in rate if q["return_data"]] == ["DIFF(count)"]
    budget = made["aws_budgets_budget.month"]["notification"]
    assert {tuple(told["subscriber_sns_topic_arns"]) for told in budget} == {(ALARMS,)}
    assert made["aws_sns_topic_subscription.alarm_email[0]"]["topic_arn"] == ALARMS


def test_the_settings_for_the_pods_are_settings_of_the_code(plan: Json) -> None:
    asked: set[str] = {"AWS_DEFAULT_REGION"}

    class Recorder(dict[str, str]):
        def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # dict's own takes any default
            asked.add(name)
            return super().get(name, default)

    Config.from_env(Recorder())
    SourceConfig.from_env(Recorder(QUEUE_URL="q", K_SINK="http://s"))
    settings = plan["output_changes"]["settings"]["after"]
    for_manifests = {"IMAGE", "REGISTRY", "LOGS_BUCKET", "NOTICE_TOPIC_ARN", "HEARTBEAT_TOPIC_ARN"}
    assert settings.keys() - for_manifests <= asked
    assert settings["IMAGE"].startswith(settings["REGISTRY"] + "/")
    assert settings["NOTICE_TOPIC_ARN"] == ALARMS
    assert settings["TOPIC_ARN"] == TOPIC
    assert settings["EVENTS_BUCKETS"] == PHOTOS.rpartition(":")[2]


################################################################################
# Nodes move
################################################################################


@pytest.mark.parametrize("root", ["entrance", "cluster"])
@pytest.mark.parametrize(
    ("run", "joins", "leaves"),
    [("green_joins", "green", "nobody"), ("blue_leaves", "nobody", "blue")],
)
def test_nodes_move_and_the_load_balancer_stays(
    root: str, run: str, joins: str, leaves: str
) -> None:
    if not (PLANS / f"{root}.jsonl").exists():
        pytest.skip("the cluster's modules come from the registry, and this plan was made without")
    changes = {
        change["address"]: change["change"]["actions"]
        for change in plan_of(root, run)["resource_changes"]
        if change["mode"] == "managed"
    }
    stay = ("aws_lb.this", "aws_lb_listener.tcp", "aws_lb_target_group.nodes", "aws_route53_record")
    for kind in stay[: 4 if root == "entrance" else 3]:
        assert {tuple(changes[a]) for a in changes if kind in a} == {("no-op",)}, kind
    for address, actions in changes.items():
        if actions == ["create"]:
            assert f'["{joins}' in address, address
        elif actions == ["delete"]:
            assert f'["{leaves}' in address, address
        else:
            assert actions == ["no-op"], address
    attached = {address for address in changes if "aws_autoscaling_attachment" in address}
    assert len(attached) == 4  # two groups, two ports
