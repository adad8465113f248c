"""The AWS side of the path: buckets, queues, topic, and the rules between them.

`python -m local.aws` creates it in the emulator that AWS_ENDPOINT_URL names.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import boto3
import botocore.session
from botocore.config import Config as BotoConfig

from events.sqs import queue_arn
from events.types import IMAGE_REJECTED, SHELF_AUDITED

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

EMULATOR_KEY = "test"  # the one that it knows: it holds presigned addresses to it
MAX_RECEIVE_COUNT = 8  # a release costs one, and Spot releases often
VISIBILITY_TIMEOUT = 120  # seconds; the sink answers within 55
QUEUE_RETENTION = 4 * 86400  # seconds
# A message keeps its first enqueue time in the dead-letter queue, so that one must last longer.
DLQ_RETENTION = 14 * 86400


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the function, the source and a subscriber need to know."""

    bucket: str
    results_bucket: str
    queue_url: str
    dlq_url: str
    topic_arn: str
    subscriber_url: str  # a queue that gets every event of the topic; `make run` prints from it
    example_url: str  # another, for a subscriber of your own


def aws_env(endpoint_url: str, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Copy the environment for a process that may reach the emulator and no real account."""
    kept = {name: value for name, value in env.items() if not name.startswith("AWS_")}
    return {
        **kept,
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": EMULATOR_KEY,
        "AWS_SECRET_ACCESS_KEY": EMULATOR_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


def emulator_clients(endpoint_url: str) -> tuple[S3Client, SQSClient, SNSClient]:
    """Make clients that reach the emulator and no real account, whatever the environment says."""
    nowhere = (None, None, os.devnull, None)  # ignores the user's profile and files
    core = botocore.session.Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": nowhere,
            "credentials_file": nowhere,
        }
    )
    core.set_credentials(EMULATOR_KEY, EMULATOR_KEY)
    session = boto3.Session(botocore_session=core, region_name="us-east-1")
    config = BotoConfig(proxies={}, use_fips_endpoint=False, use_dualstack_endpoint=False)
    return (
        session.client("s3", endpoint_url=endpoint_url, config=config),
        session.client("sqs", endpoint_url=endpoint_url, config=config),
        session.client("sns", endpoint_url=endpoint_url, config=config),
    )


def create_resources(
    s3: S3Client, sqs: SQSClient, sns: SNSClient, prefix: str = "shelves"
) -> Resources:
    """Create everything between a photo and a subscriber, as Terraform does in an account."""
    results_bucket = f"{prefix}-results"
    for name in (prefix, results_bucket):
        s3.create_bucket(Bucket=name)
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    dlq_url = _queue(sqs, f"{prefix}-dlq", MessageRetentionPeriod=str(DLQ_RETENTION))
    queue_url = _queue_with_dead_letters(sqs, prefix, dlq_url)
    _let_in(sqs, queue_url, "s3.amazonaws.com", f"arn:aws:s3:::{prefix}")
    s3.put_bucket_notification_configuration(
        Bucket=prefix,
        NotificationConfiguration={
            "QueueConfigurations": [
                {"QueueArn": queue_arn(sqs, queue_url), "Events": ["s3:ObjectCreated:*"]}
            ]
        },
    )
    topic_arn = sns.create_topic(Name=f"{prefix}-events")["TopicArn"]
    subscriber_url = subscribe(sqs, sns, topic_arn, f"{prefix}-subscriber")
    example_url = subscribe(sqs, sns, topic_arn, f"{prefix}-example")
    return Resources(
        bucket=prefix,
        results_bucket=results_bucket,
        queue_url=queue_url,
        dlq_url=dlq_url,
        topic_arn=topic_arn,
        subscriber_url=subscriber_url,
        example_url=example_url,
    )


def create_monitor_queue(sqs: SQSClient, sns: SNSClient, topic_arn: str, prefix: str) -> str:
    """Create the monitor's queue, which gets what the function publishes; return its url.

    What the monitor itself publishes does not come back.
    """
    dlq_url = _queue(sqs, f"{prefix}-monitor-dlq", MessageRetentionPeriod=str(DLQ_RETENTION))
    queue_url = _queue_with_dead_letters(sqs, f"{prefix}-monitor", dlq_url)
    _subscribe(sqs, sns, topic_arn, queue_url, [SHELF_AUDITED, IMAGE_REJECTED])
    return queue_url


def subscribe(sqs: SQSClient, sns: SNSClient, topic_arn: str, name: str) -> str:
    """Create a queue that gets the topic's events as they are; return its url."""
    queue_url = _queue(sqs, name)
    _subscribe(sqs, sns, topic_arn, queue_url)
    return queue_url


def _subscribe(
    sqs: SQSClient, sns: SNSClient, topic_arn: str, queue_url: str, types: Sequence[str] = ()
) -> None:
    """Have a queue get the topic's events as they are, all or those of some types."""
    _let_in(sqs, queue_url, "sns.amazonaws.com", topic_arn)
    attributes = {"RawMessageDelivery": "true"}
    if types:
        attributes["FilterPolicy"] = json.dumps({"type": list(types)})
    sns.subscribe(
        TopicArn=topic_arn,
        Protocol="sqs",
        Endpoint=queue_arn(sqs, queue_url),
        Attributes=attributes,
    )


def _queue_with_dead_letters(sqs: SQSClient, name: str, dlq_url: str) -> str:
    return _queue(
        sqs,
        name,
        VisibilityTimeout=str(VISIBILITY_TIMEOUT),
        MessageRetentionPeriod=str(QUEUE_RETENTION),
        RedrivePolicy=json.dumps(
            {"deadLetterTargetArn": queue_arn(sqs, dlq_url), "maxReceiveCount": MAX_RECEIVE_COUNT}
        ),
    )


def _queue(sqs: SQSClient, name: str, **attributes: str) -> str:
    return sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type]  # names are literals of the stubs


def _let_in(sqs: SQSClient, queue_url: str, service: str, source_arn: str) -> None:
    """Allow one AWS service, on behalf of one bucket or topic, to send to a queue."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn(sqs, queue_url),
        "Condition": {"ArnEquals": {"aws:SourceArn": source_arn}},
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    sqs.set_queue_attributes(QueueUrl=queue_url, Attributes={"Policy": json.dumps(policy)})


def main(arguments: list[str] | None = None) -> int:
    """Create the resources in an emulator, as often as one likes, and print their names."""
    parser = argparse.ArgumentParser(prog="python -m local.aws", description=main.__doc__)
    parser.add_argument("--prefix", default="shelves", help="of every name (%(default)s)")
    options = parser.parse_args(arguments)
    endpoint_url = os.environ.get("AWS_ENDPOINT_URL", "")
    if not endpoint_url:
        parser.error("AWS_ENDPOINT_URL is not set; an account is Terraform's work")
    resources = create_resources(*emulator_clients(endpoint_url), options.prefix)
    print(json.dumps(asdict(resources)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
