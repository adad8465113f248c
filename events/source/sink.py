"""Where events go, over HTTP, and what its answers mean for the message behind an event."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

import urllib3
from cloudevents.core.v1.event import CloudEvent
from urllib3.exceptions import ConnectTimeoutError, HTTPError, InvalidHeader, NewConnectionError

from events.codec import STRUCTURED, new_event, to_json
from events.source.config import SourceConfig, trust
from events.types import RECEIVE_COUNT

CONNECT_SECONDS = 5.0
# What a proxy answers for a service that it does not know, and the function for a path that it does
# not have: no word about the event.
NOT_FOUND = 404
# Answers that another try may mend: CloudEvents' and Knative's retry policy, besides all 5xx.
# https://github.com/knative/specs/blob/main/specs/eventing/data-plane.md
RETRIED = (NOT_FOUND, 408, 409, 425, 429)
BUSY = (429, 503)
GATEWAY = (502, 503, 504)  # what a proxy answers for a service that is not there
# Of the problems (RFC 9457) that the function itself answers, one says it is not there yet, and one
# that AWS refuses its token or its clock: that is no event's fault, as little as a 401 is.
PROBLEM_PREFIX = "urn:shelfwatch:problem:"
NOT_READY = f"{PROBLEM_PREFIX}not-ready"
CREDENTIALS_REFUSED = f"{PROBLEM_PREFIX}credentials-refused"
# A longer wish of the sink than this is not waited for.
MAX_RETRY_AFTER = 300.0


class Verdict(Enum):
    """What an attempt means for the message."""

    DELIVERED = "delivered"
    WAIT = "wait"  # nothing is wrong with the event: keep it in hand and try again
    RETRY = "retry"  # the event may be at fault, or the sink: give it back
    REFUSED = "refused"  # no retry mends it


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One attempt's result."""

    verdict: Verdict
    status: str  # HTTP 503, ConnectionRefusedError
    problem_detail: str = ""  # the function's own words
    away: bool = False  # nobody was there, or nobody who can work
    busy: bool = False  # the sink asks for less
    retry_after: float = 0.0  # seconds

    @property
    def detail(self) -> str:
        """Describe the attempt's result, for the log and the dead letter."""
        return f"{self.status}: {self.problem_detail}" if self.problem_detail else self.status


@dataclass(frozen=True, kw_only=True)
class Sink:
    """A receiver of events."""

    url: str
    http: urllib3.PoolManager
    token: str = ""
    extensions: Mapping[str, str] = field(default_factory=dict)  # added to every event

    @classmethod
    def from_config(cls, config: SourceConfig) -> Sink:
        """Make the client: no retries of its own, the queue retries."""
        http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=config.sink_timeout),
            retries=False,
            maxsize=config.in_flight,
            ssl_context=trust(config.ca_certs) if config.sink.startswith("https") else None,
        )
        return cls(url=config.sink, http=http, token=config.token, extensions=config.extensions)

    def send(self, event: CloudEvent, receive_count: int) -> Answer:
        """Post one event in structured mode and tell what came of it.

        `receive_count` is how often SQS has handed its message out.
        """
        data = event.get_data()  # none where `dataref` says where it is
        assert data is None or isinstance(data, dict)
        own = {**self.extensions, RECEIVE_COUNT: str(receive_count)}
        event = new_event({**event.get_attributes(), **own}, data)
        headers = {"content-type": STRUCTURED}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        try:
            answer = self.http.request("POST", self.url, body=to_json(event), headers=headers)
        except HTTPError as err:
            return answer_of_error(err)
        return answer_of_status(answer.status, answer.headers, answer.data)


def answer_of_error(err: HTTPError) -> Answer:
    """Judge an attempt without an answer.

    Without a connection the event was not sent, so it is not at fault. With a connection that broke
    afterwards, the event may have killed the function.
    """
    cause = err.__cause__ or err.__context__ or err
    unsent = isinstance(err, NewConnectionError | ConnectTimeoutError) or isinstance(
        cause, ssl.SSLCertVerificationError
    )
    named = cause if isinstance(cause, OSError) else err
    verdict = Verdict.WAIT if unsent else Verdict.RETRY
    return Answer(verdict=verdict, status=type(named).__name__, away=True)


def answer_of_status(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Judge an answer by its status; a problem's type tells the function from a proxy before it."""
    problem, detail = problem_of(headers, body)
    answer = partial(Answer, status=f"HTTP {status}", problem_detail=detail)
    if 200 <= status < 300:
        return answer(verdict=Verdict.DELIVERED)
    if problem == CREDENTIALS_REFUSED or status == 401 or 300 <= status < 400:
        # Our own token is wrong at AWS, or at the sink, as while a Secret is changed; or our
        # address, as where http is sent on to https: the event is not, nor any other.
        return answer(verdict=Verdict.WAIT, away=True)
    away = status == NOT_FOUND or (status in GATEWAY and problem in ("", NOT_READY))
    retry_after = retry_after_seconds(headers.get("retry-after", ""))
    if status in BUSY:
        return answer(verdict=Verdict.WAIT, away=away, busy=True, retry_after=retry_after)
    if 400 <= status < 500 and status not in RETRIED:
        return answer(verdict=Verdict.REFUSED)
    return answer(verdict=Verdict.RETRY, away=away, retry_after=retry_after)


def problem_of(headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    """Read type and detail of an RFC 9457 problem; the detail of the function's problems alone."""
    if not headers.get("content-type", "").startswith("application/problem+json"):
        return "", ""
    try:
        problem = json.loads(body)
    except ValueError:
        return "", ""
    if not isinstance(problem, dict):
        return "", ""
    kind = str(problem.get("type", ""))
    return kind, str(problem.get("detail", "")) if kind.startswith(PROBLEM_PREFIX) else ""


def retry_after_seconds(text: str) -> float:
    """Read Retry-After, seconds or an HTTP date; 0 for none, an odd or a past one."""
    if not text:
        return 0.0
    try:
        return min(MAX_RETRY_AFTER, urllib3.Retry().parse_retry_after(text))
    except InvalidHeader:
        return 0.0
