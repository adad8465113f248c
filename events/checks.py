"""What a process needs, looked at before it begins: `--check` of each process.

Every check only looks: nothing is received, stored, published or posted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol, TextIO, TypedDict

from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError

from events.sqs import parse_redrive, url_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

# AWS refuses signatures that are further off than 15 minutes; S3's stamps order photos by seconds.
MOST_SECONDS_OFF = 60.0
DENIED = ("AccessDenied", "AccessDeniedException", "AuthorizationError", "403")
COLUMNS = 12  # of a name
# A person waits for each line.
BOTO_CONFIG = BotoConfig(
    connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2}
)


class Metadata(TypedDict):
    """What comes with every answer of AWS."""

    HTTPHeaders: dict[str, str]


class Identity(TypedDict):
    """Whose credentials these are."""

    Arn: str
    ResponseMetadata: Metadata


class Sts(Protocol):
    """The call of STS that every caller may make."""

    def get_caller_identity(self) -> Identity:
        """Answer whose credentials the call was signed with."""


class CheckFailed(Exception):
    """What is wrong and what to do, in one line."""


@dataclass(frozen=True)
class Check:
    """One thing to look at: `look` tells what it found, or raises `CheckFailed`."""

    name: str
    look: Callable[[], str]


def failed_check(name: str, words: str) -> Check:
    """Make a check of what is known to be wrong already."""

    def look() -> str:
        raise CheckFailed(words)

    return Check(name, look)


def has_region() -> bool:
    """Tell whether boto3 knows where AWS is, without which no client can be made."""
    # Imported here, as boto3 takes a third of a second and not every check asks AWS.
    import boto3

    return bool(boto3.Session().region_name)


def run_checks(checks: Iterable[Check], out: TextIO) -> bool:
    """Write a line for each check, passed or what to do; tell whether all passed."""
    passed = True
    for check in _until_odd(checks):
        try:
            state, detail = "ok", check.look()
        except CheckFailed as err:
            state, detail, passed = "FAIL", str(err), False
        except ClientError as err:
            state, detail, passed = "FAIL", _of_client_error(err), False
        except BotoCoreError as err:
            state, detail, passed = "FAIL", f"{err}: set it, or look at the network", False
        out.write(f"{state:<5} {check.name:<{COLUMNS}} {detail}\n")
        out.flush()
    return passed


def _until_odd(checks: Iterable[Check]) -> Iterator[Check]:
    """Give the checks up to where boto3 makes no client of an address that is none."""
    try:
        yield from checks
    except ValueError as err:
        yield failed_check("endpoint", f"{err}: mend `AWS_ENDPOINT_URL`")


def _of_client_error(err: ClientError) -> str:
    code = err.response["Error"]["Code"]
    if code in DENIED:
        return f"{err.operation_name} is denied: give it to the role"
    return f"{err.operation_name} answers {code}: create it, or name one that is there"


def identity_checks(sts: Sts) -> Iterator[Check]:
    """Check that there are credentials, and say whose; and that the clock is that of AWS."""
    yield Check("credentials", lambda: sts.get_caller_identity()["Arn"])
    yield _clock_check(sts)


def _clock_check(sts: Sts) -> Check:
    """Check that this machine's time is that of AWS."""

    def look() -> str:
        headers = sts.get_caller_identity()["ResponseMetadata"]["HTTPHeaders"]
        if "date" not in headers:
            return "AWS tells no time"
        off = (datetime.now(UTC) - parsedate_to_datetime(headers["date"])).total_seconds()
        if abs(off) > MOST_SECONDS_OFF:
            msg = f"{off:.0f} s off AWS's: set it, best by NTP"
            raise CheckFailed(msg)
        return f"{abs(off):.0f} s off AWS's"

    return Check("clock", look)


def bucket_check(s3: S3Client, bucket: str, setting: str) -> Check:
    """Check that a bucket is there and may be listed: only so is a missing object a 404."""

    def look() -> str:
        s3.list_objects_v2(Bucket=bucket, MaxKeys=1)
        return f"{bucket} ({setting})"

    return Check("bucket", look)


def topic_check(sns: SNSClient, topic_arn: str) -> Check:
    """Check that the topic is there; a role that may only publish cannot see it."""

    def look() -> str:
        try:
            sns.get_topic_attributes(TopicArn=topic_arn)
        except ClientError as err:
            if err.response["Error"]["Code"] not in DENIED:
                raise
            return f"{topic_arn}: this role may not look at it"
        return topic_arn

    return Check("topic", look)


def queue_check(sqs: SQSClient, queue_url: str) -> Check:
    """Check that the queue is there, and say how much waits on it."""

    def look() -> str:
        answer = sqs.get_queue_attributes(
            QueueUrl=queue_url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return f"{queue_url}: {answer['Attributes']['ApproximateNumberOfMessages']} messages wait"

    return Check("queue", look)


def dead_letters_check(sqs: SQSClient, queue_url: str) -> Check:
    """Check that the queue has a dead-letter queue that is there, and say how much lies on it."""

    def look() -> str:
        answer = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["RedrivePolicy"])
        policy = answer.get("Attributes", {}).get("RedrivePolicy", "")
        arn, receives = parse_redrive(policy)
        if not arn:
            msg = "the queue has no RedrivePolicy: give it one, or lost messages are lost for good"
            raise CheckFailed(msg)
        url_of(sqs, arn)
        return f"{arn} after {receives} receives"

    return Check("DLQ", look)
