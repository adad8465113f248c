"""Tells people that a candidate was removed, and what to do about what it has audited."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import boto3
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError

from knative.rollout.verdict import Verdict

log = logging.getLogger(__name__)

SUBJECT: Final = 100  # characters; https://docs.aws.amazon.com/sns/latest/api/API_Publish.html

Send = Callable[[str, str], None]


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What there is to tell."""

    ksvc: str
    candidate: str
    stable: str
    verdict: Verdict
    share: int  # the largest that the candidate had in this run, percent
    model: str  # digest, empty where the candidate never answered
    hours: int  # since this run began, rounded up

    @property
    def subject(self) -> str:
        """Say it in one line."""
        return f"{self.ksvc}: {self.candidate} removed, {self.verdict.reason}"[:SUBJECT]

    @property
    def message(self) -> str:
        """Say what happened, what serves now, and what to run."""
        now = f"{self.stable} has all the traffic" if self.stable else "there is no other revision"
        lines = [f"{self.candidate} was removed: {self.verdict}.", f"Now {now}."]
        if self.verdict.marks:
            lines.append("It is not tried again; a new image is.")
        lines.append(f"It had at most {self.share} % of the traffic in this run.")
        if self.model and self.share:
            # Not by the model: where a setting is to blame, stable has the same one.
            sweep = f"python -m events.repair.sweep --again --revision {self.candidate}"
            lines.append(f"Audit anew what it audited: {sweep} --since {self.hours + 1}h --send")
        return "\n".join(lines)


def sns_sender(topic_arn: str) -> Send:
    """Make the function that sends notices to an SNS topic; without a topic it sends none."""
    if not topic_arn:
        return lambda subject, message: None
    sns = boto3.client(
        "sns",
        region_name=topic_arn.split(":")[3],
        config=BotoConfig(
            connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}
        ),
    )

    def send(subject: str, message: str) -> None:
        try:
            sns.publish(TopicArn=topic_arn, Subject=subject, Message=message)
        except (BotoCoreError, ClientError) as err:  # the candidate is gone all the same
            log.error("notice.lost", extra={"subject": subject, "error": type(err).__name__})

    return send
