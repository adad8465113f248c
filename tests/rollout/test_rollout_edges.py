"""Where the conductor meets the world: settings, the API over HTTP, exams, Prometheus, notices."""

import re
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import urllib3
from conftest import ROOT
from kubernetes.client import ApiClient, Configuration

from events.repair import sweep
from knative.rollout.__main__ import main
from knative.rollout.cluster import Cluster, Conflict, Refused, Unavailable
from knative.rollout.config import Config, ConfigError
from knative.rollout.exam import Examiner
from knative.rollout.judge import Floors, RequestMetrics
from knative.rollout.notice import Removal, sns_sender
from knative.rollout.objects import only, split
from knative.rollout.prometheus import request_metrics
from knative.rollout.verdict import Code, Reason, Verdict
from tests.rollout.fake_knative import KSVC, FakeKnative, FakeRevision, answer
from tests.rollout.runs import CANDIDATE, EXAM, STABLE, FakeClock
from tests.rollout.stage import serving

CANARY_MD = (ROOT / "docs" / "canary.md").read_text()
NOWHERE = "http://127.0.0.1:9"
ENV = {"KSVC": KSVC, "NAMESPACE": "shelf", "JUDGE": "/judge"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KSVC", "", "be set, got ''"),
        ("STEPS", "20,50", "rising percentages"),
        ("STEPS", "50,20,100", "rising percentages"),
        ("STEPS", "20,,100", "rising percentages"),
        ("HOLD_SECONDS", "soon", "be a number of seconds, got 'soon'"),
        ("WAIT_SECONDS", "0", "be above 0 .*, got '0'"),
        ("ROUNDS", "1.5", "be a whole number from 1 to 100, got"),
        ("NOTICE_TOPIC_ARN", "notices", "be the ARN"),
    ],
)
def test_an_odd_setting_is_named(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^`{name}` must .*{said}"):
        Config.from_env({**ENV, name: value})


def test_every_setting_floor_and_exit_code_is_documented() -> None:
    code = (ROOT / "knative" / "rollout" / "config.py").read_text()
    names = set(re.findall(r'\(env, "([A-Z_]+)"|env\.get\("([A-Z_]+)"', code))
    names = {name for pair in names for name in pair if name}
    assert len(names) == 12
    assert {name for name in names if f"`{name}`" not in CANARY_MD} == set()
    assert {name for name in Floors.__dataclass_fields__ if f"`{name}`" not in CANARY_MD} == set()
    assert {code for code in Code if f"| {int(code)} |" not in CANARY_MD} == set()


def test_a_missing_judge_ends_the_command_before_it_asks_anything(tmp_path: Path) -> None:
    assert main([], {**ENV, "JUDGE": str(tmp_path)}) is Code.MISUSED


def cluster_at(url: str) -> Cluster:
    configuration = Configuration()
    configuration.host = url
    configuration.retries = False
    return Cluster(ApiClient(configuration), "shelf", KSVC)


def test_the_api_over_http() -> None:
    knative = FakeKnative()
    knative.settle(STABLE)
    knative.apply(FakeRevision(CANDIDATE))
    knative.advance(10)

    def api(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        content_type = request.headers.get("content-type", "")
        response = answer(knative.handle, request.command, request.path, body, content_type)
        return response.status, "application/json", response.data

    with serving(api) as url:
        cluster = cluster_at(url)
        service = cluster.service()
        assert (service.stable, service.latest_created) == (STABLE, CANDIDATE)
        assert service.in_effect
        cluster.route(split(STABLE, CANDIDATE, 0), service.resource_version)
        with pytest.raises(Conflict):  # somebody else has written since
            cluster.route(only(STABLE), service.resource_version)
        assert not cluster.service().in_effect  # not observed yet
        knative.advance(10)
        service = cluster.service()
        assert service.in_effect
        assert service.tag_urls["candidate"] == knative.url_of("candidate")
        with pytest.raises(Refused):  # the webhook
            cluster.route(split(STABLE, CANDIDATE, 120), service.resource_version)
        assert cluster.revision("gone") is None
        because = f"{CANDIDATE} was removed: Inaccurate: F1 0.\nNow {STABLE} has all the traffic."
        cluster.mark(CANDIDATE, because)
        service = cluster.service()
        # With all that was told: the Job whose log has it is gone when the sync is tried again.
        assert service.rejection(CANDIDATE) == because
        assert (service.rejection(STABLE), service.rejection("")) == ("", "")
        assert service.observed  # a mark is no new generation, and so no new pod
        cluster.tell("RolloutStep", "x" * 5000, warning=True)
        assert [event["type"] for event in knative.events] == ["Warning"]


def test_an_api_that_is_away_is_told_apart_from_one_that_refuses() -> None:
    cluster = cluster_at(NOWHERE)
    with pytest.raises(Unavailable):
        cluster.service()
    cluster.tell("RolloutStep", "lost, and nothing is raised")


RESULT = b"""{"image": {"width": 100, "height": 200}, "detections": [{"xyxy": [10, 20, 30, 40]}],
 "model": {"revision": "r", "digest": "sha256:d"}}"""


def test_an_exam_tries_again_what_passes_and_reads_boxes_as_shares() -> None:
    statuses = [200, 503, 429, 200, 500, 200]
    seen: list[tuple[str, str | None]] = []

    def function(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        seen.append((request.path, request.headers.get("authorization")))
        return (statuses.pop(0) if statuses else 200), "application/json", RESULT

    with serving(function) as url:
        examiner = Examiner(EXAM, 1, "secret", FakeClock(FakeKnative()))
        [answers] = examiner.ask(url)
        assert [given.error for given in answers] == ["", "HTTP 500"]  # 500 is final
        assert answers[0].xyxy.tolist() == [pytest.approx([0.1, 0.1, 0.3, 0.2])]
        assert (answers[0].revision, answers[0].model) == ("r", "sha256:d")
        assert set(seen) == {("/predict", "Bearer secret")}
    [answers] = examiner.ask(NOWHERE)
    assert all(given.error for given in answers)


@pytest.mark.parametrize(("full_seconds", "error"), [(40, ""), (10_000, "HTTP 503")])
def test_an_exam_waits_for_a_pod_that_says_when(full_seconds: int, error: str) -> None:
    knative = FakeKnative()

    def function(*_: object) -> tuple[int, str, bytes]:
        return 503 if knative.time < full_seconds else 200, "application/json", RESULT

    with serving(function, **{"retry-after": "5"}) as url:
        [answers] = Examiner(EXAM, 1, "", FakeClock(knative)).ask(url)
    assert {given.error for given in answers} == {error}
    assert knative.time < 120


@pytest.mark.parametrize("body", [b"", b"[]", b'{"image": 1}', RESULT.replace(b"100", b'"x"')])
def test_an_odd_answer_is_an_error_and_no_crash(body: bytes) -> None:
    with serving(lambda *_: (200, "application/json", body)) as url:
        [answers] = Examiner(EXAM, 1, "", FakeClock(FakeKnative())).ask(url)
    assert all(given.error.startswith("odd answer") for given in answers)


def test_a_clock_that_is_stopped_ends_an_exam() -> None:
    clock = FakeClock(FakeKnative())
    clock.stopped = True
    with serving(lambda *_: (200, "application/json", RESULT)) as url:
        assert Examiner(EXAM, 5, "", clock).ask(url) == [[]]


@pytest.mark.parametrize(
    ("status", "result", "metrics"),
    [
        (
            200,
            '[{"value": [0, "0.25"]}]',
            RequestMetrics(error_rate=0.25, p95_ms=250.0, refused_rate=0.25, deaths=0.25),
        ),
        (200, '[{"value": [0, "NaN"]}]', RequestMetrics()),
        (200, "[]", RequestMetrics()),
        (200, "{", RequestMetrics()),
        (503, "[]", RequestMetrics()),
    ],
)
def test_prometheus_says_a_number_or_nothing(
    status: int, result: str, metrics: RequestMetrics
) -> None:
    body = f'{{"data": {{"result": {result}}}}}'.encode()
    with serving(lambda *_: (status, "application/json", body)) as url:
        assert request_metrics(urllib3.PoolManager(), url, "shelf", "r", seconds=60) == metrics


def test_a_prometheus_that_is_away_says_nothing() -> None:
    metrics = request_metrics(urllib3.PoolManager(), NOWHERE, "shelf", "r", seconds=60)
    assert metrics == RequestMetrics()


REMOVAL = Removal(
    ksvc=KSVC,
    candidate=CANDIDATE,
    stable=STABLE,
    verdict=Verdict(Reason.FAILING, "9 % errors"),
    share=20,
    model=f"sha256:{'0' * 64}",
    hours=1,
)


def test_the_notice_names_a_sweep_that_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    command = next(line for line in REMOVAL.message.splitlines() if "events.repair.sweep" in line)
    arguments = command.split("events.repair.sweep ")[1].split()
    env = {"EVENTS_BUCKETS": "photos", "RESULTS_BUCKET": "results", "QUEUE_URL": "q"}
    options = sweep._parse(arguments, env)
    assert (options.again, options.send, options.revision) == (True, True, CANDIDATE)


def test_a_candidate_without_traffic_asks_for_no_sweep() -> None:
    assert "events.repair.sweep" not in replace(REMOVAL, share=0).message


def test_a_notice_that_cannot_be_sent_stops_nothing() -> None:
    sns_sender("arn:aws:sns:eu-west-1:123456789012:notices")("subject", "message")
    sns_sender("")("subject", "message")
