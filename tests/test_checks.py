"""`--check`: each need of a process is told as passed or with what to do, and nothing is begun."""

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from conftest import ROOT, Aws, free_port, queue_state

from local.aws import aws_env
from tests.faults.postgresql import Server
from tests.rollout.fake_knative import KSVC, FakeKnative, answer
from tests.rollout.stage import serving, write_kubeconfig

MONITORS = ("monitor", "monitor.migrate", "monitor.silence", "monitor.digest")


def check(module: str, endpoint_url: str, **settings: str) -> tuple[int, dict[str, str]]:
    """Run a process with --check; give its exit code and its lines by what they are of."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--check"],
        cwd=ROOT,
        env={**aws_env(endpoint_url), **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr, done.stderr
    told: dict[str, str] = {}
    for line in done.stdout.splitlines():
        state, name, words = line.split(maxsplit=2)
        if not told.get(name, "").startswith("FAIL"):  # there are several buckets
            told[name] = f"{state} {words}"
    return done.returncode, told


def function_settings(aws: Aws) -> dict[str, str]:
    return {
        "EVENTS_AUTH": "none",
        "EVENTS_BUCKETS": aws.resources.bucket,
        "RESULTS_BUCKET": aws.resources.results_bucket,
        "TOPIC_ARN": aws.resources.topic_arn,
    }


def test_a_service_that_could_work_passes_every_line(aws: Aws) -> None:
    code, told = check("function", aws.endpoint_url, **function_settings(aws))
    assert code == 0
    assert set(told) == {"settings", "model", "credentials", "clock", "bucket", "topic"}
    assert {line.split()[0] for line in told.values()} == {"ok"}
    assert told["model"].startswith("ok shelf-yolo11n, int8, warm after ")


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"EVENTS_AUTH": "never"}, "settings", "`EVENTS_AUTH` must be 'token' or 'none'"),
        ({"EVENTS_AUTH": "token"}, "settings", "`EVENTS_TOKEN` must be set"),
        ({"SHELFWATCH_MODEL": "README.md"}, "model", "README.md"),
        ({"EVENTS_BUCKETS": "no-such"}, "bucket", "NoSuchBucket: create it, or name one"),
        ({"TOPIC_ARN": "arn:aws:sns:us-east-1:000000000000:no"}, "topic", "create it, or name one"),
    ],
)
@pytest.mark.slow
def test_what_a_service_lacks_is_named_with_what_to_do(
    aws: Aws, changes: dict[str, str], name: str, words: str
) -> None:
    code, told = check("function", aws.endpoint_url, **function_settings(aws) | changes)
    assert code == 1
    assert told[name].startswith("FAIL ")
    assert words in told[name]


def test_the_source_looks_at_its_queue_and_takes_nothing(aws: Aws) -> None:
    aws.sqs.send_message(QueueUrl=aws.resources.queue_url, MessageBody="waits")
    settings = {"QUEUE_URL": aws.resources.queue_url, "K_SINK": aws.endpoint_url}
    code, told = check("events.source", aws.endpoint_url, **settings)
    assert (code, set(told)) == (
        0,
        {"settings", "credentials", "clock", "queue", "DLQ", "rules", "sink"},
    )
    assert told["queue"].endswith(": 1 messages wait")
    assert told["DLQ"].endswith(" after 8 receives")
    assert queue_state(aws) == (1, 0)


def test_what_the_source_lacks_is_named_with_what_to_do(aws: Aws) -> None:
    settings = {"QUEUE_URL": aws.resources.dlq_url, "K_SINK": f"http://127.0.0.1:{free_port()}"}
    code, told = check("events.source", aws.endpoint_url, **settings)
    assert code == 1
    assert told["DLQ"].startswith("FAIL the queue has no RedrivePolicy: give it one")
    assert told["rules"].startswith(
        "FAIL too_few_receives (max_receives 0, needed 5); policy_keeps"
    )
    assert "start it, or mend `K_SINK`" in told["sink"]
    code, told = check("events.source", aws.endpoint_url, K_SINK="http://x")
    assert (code, list(told)) == (1, ["settings"])
    assert "QUEUE_URL" in told["settings"]


def repair_settings(aws: Aws) -> dict[str, str]:
    return {
        "EVENTS_BUCKETS": aws.resources.bucket,
        "RESULTS_BUCKET": aws.resources.results_bucket,
        "QUEUE_URL": aws.resources.queue_url,
    }


@pytest.mark.slow
def test_a_sweep_and_a_replay_look_and_move_nothing(aws: Aws) -> None:
    aws.s3.put_object(Bucket=aws.resources.bucket, Key="a/1.txt", Body=b"no photo")
    aws.sqs.send_message(QueueUrl=aws.resources.dlq_url, MessageBody="dead")
    code, told = check("events.repair.sweep", aws.endpoint_url, **repair_settings(aws))
    assert (code, set(told)) == (
        0,
        {"settings", "credentials", "clock", "bucket", "rule", "queue"},
    )
    code, told = check("events.repair.replay", aws.endpoint_url, **repair_settings(aws))
    assert (code, set(told)) == (0, {"settings", "credentials", "clock", "queue", "DLQ"})
    assert queue_state(aws, aws.resources.dlq_url) == (1, 0)


@pytest.mark.parametrize(
    ("module", "changes", "name", "words"),
    [
        ("events.repair.sweep", {"EVENTS_BUCKETS": ""}, "settings", "EVENTS_BUCKETS must be set"),
        ("events.repair.sweep", {"AUDIT_GENERATION": "x"}, "settings", "`AUDIT_GENERATION` must"),
        ("events.repair.sweep", {"RESULTS_BUCKET": "no-such"}, "bucket", "create it, or name one"),
        ("events.repair.replay", {"QUEUE_URL": ""}, "settings", "QUEUE_URL must be set"),
        ("events.repair.replay", {"QUEUE_URL": "DLQ"}, "DLQ", "no RedrivePolicy: give it one"),
    ],
)
@pytest.mark.slow
def test_what_a_repair_lacks_is_named_with_what_to_do(
    aws: Aws, module: str, changes: dict[str, str], name: str, words: str
) -> None:
    known = {"DLQ": aws.resources.dlq_url}
    settings = repair_settings(aws) | {
        key: known.get(value, value) for key, value in changes.items()
    }
    code, told = check(module, aws.endpoint_url, **settings)
    assert code == 1
    assert told[name].startswith("FAIL ")
    assert words in told[name]


@pytest.fixture
def knative(tmp_path: Path) -> Iterator[tuple[FakeKnative, dict[str, str]]]:
    """A cluster with a service that serves one revision, and a conductor's settings for it."""
    fake = FakeKnative()
    fake.settle("shelf-detector-00001")

    def api(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        content_type = request.headers.get("content-type", "")
        told = answer(fake.handle, request.command, request.path, body, content_type)
        return told.status, "application/json", told.data

    with serving(api) as url:
        yield (
            fake,
            {
                "KUBECONFIG": str(write_kubeconfig(tmp_path, url)),
                "KSVC": KSVC,
                "NAMESPACE": "shelf",
                "JUDGE": str(ROOT / "knative" / "rollout" / "judge"),
            },
        )


@pytest.mark.slow
def test_a_conductor_that_could_work_passes_every_line_and_changes_nothing(
    aws: Aws, knative: tuple[FakeKnative, dict[str, str]]
) -> None:
    fake, settings = knative
    settings["NOTICE_TOPIC_ARN"] = aws.resources.topic_arn
    before = fake.version
    code, told = check("knative.rollout", aws.endpoint_url, **settings)
    assert {name: line for name, line in told.items() if not line.startswith("ok ")} == {}
    named = {"settings", "judge", "credentials", "clock", "topic", "cluster", "role"}
    assert (code, set(told)) == (0, named)
    assert told["cluster"] == f"ok {KSVC}: stable shelf-detector-00001, latest shelf-detector-00001"
    assert (fake.version, fake.events, fake.patches) == (before, [], [])


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"STEPS": "50"}, "settings", "`STEPS` must be rising percentages"),
        ({"JUDGE": "docs"}, "judge", "floors.json"),
        ({"KSVC": "other"}, "cluster", "HTTP 404: create it, mend `KSVC`"),
        ({"KUBECONFIG": "none"}, "cluster", "run it in a pod, or set `KUBECONFIG`"),
        ({"PROMETHEUS_URL": "http://127.0.0.1:9"}, "prometheus", "or mend `PROMETHEUS_URL`"),
        ({}, "role", "may not patch services: apply knative/rollout/rbac.yaml"),
    ],
)
@pytest.mark.slow
def test_what_a_conductor_lacks_is_named_with_what_to_do(
    knative: tuple[FakeKnative, dict[str, str]], changes: dict[str, str], name: str, words: str
) -> None:
    fake, settings = knative
    fake.denied = set() if changes else {"patch"}
    code, told = check("knative.rollout", "http://127.0.0.1:9", **settings | changes)
    assert code == 1
    assert told[name].startswith("FAIL ")
    assert words in told[name]


def monitor_settings(aws: Aws, tmp_path: Path) -> dict[str, str]:
    return {
        "EVENTS_AUTH": "none",
        "DATABASE_URL": f"sqlite:///{tmp_path}/monitor.sqlite",
        "STORES": "local/stores.toml",
        "RESULTS_BUCKET": aws.resources.results_bucket,
        "TOPIC_ARN": aws.resources.topic_arn,
        "DIGEST_TOPIC_ARN": aws.resources.topic_arn,
        "WATCHED_QUEUES": aws.resources.queue_url,
    }


@pytest.mark.parametrize("module", MONITORS)
@pytest.mark.slow
def test_the_monitor_looks_at_what_it_needs_and_makes_no_database(
    aws: Aws, tmp_path: Path, module: str
) -> None:
    code, told = check(module, aws.endpoint_url, **monitor_settings(aws, tmp_path))
    named = {"settings", "database", "credentials", "clock", "bucket", "topic", "queue"}
    assert (code, set(told)) == (0, named)
    assert {line.split()[0] for line in told.values()} == {"ok"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"KEEP_DAYS": "0"}, "settings", "`KEEP_DAYS` must be a whole number"),
        ({"EVENTS_AUTH": "token"}, "settings", "`EVENTS_TOKEN` must be set"),
        ({"STORES": "none.toml"}, "settings", "STORES: It must be a file that can be read"),
        ({"DATABASE_URL": "mysql://x/y"}, "database", "`DATABASE_URL` must name sqlite"),
        ({"DATABASE_URL": "sqlite:////no/such/folder/x"}, "database", "create its folder"),
        (
            {"DATABASE_URL": "postgresql://x:s3cret@127.0.0.1:9/x"},
            *("database", "127.0.0.1 does not answer: start it, or mend `DATABASE_URL`"),
        ),
        ({"RESULTS_BUCKET": "no-such"}, "bucket", "create it, or name one"),
        ({"DIGEST_TOPIC_ARN": "arn:aws:sns:us-east-1:000000000000:no"}, "topic", "create it"),
    ],
)
@pytest.mark.slow
def test_what_the_monitor_lacks_is_named_with_what_to_do(
    aws: Aws, tmp_path: Path, changes: dict[str, str], name: str, words: str
) -> None:
    code, told = check("monitor", aws.endpoint_url, **monitor_settings(aws, tmp_path) | changes)
    assert code == 1
    assert told[name].startswith("FAIL ")
    assert words in told[name]
    assert "s3cret" not in str(told)


@pytest.mark.slow
def test_a_database_that_is_not_migrated_is_named_until_it_is(postgresql: Server) -> None:
    nowhere = "http://127.0.0.1:9"
    empty = postgresql.url.rpartition("/")[0] + "/template1"
    code, told = check("monitor", nowhere, EVENTS_AUTH="none", DATABASE_URL=empty)
    assert code == 1
    assert "run `python -m monitor.migrate`" in told["database"]
    code, told = check("monitor", nowhere, EVENTS_AUTH="none", DATABASE_URL=postgresql.url)
    assert code == 0
    assert told["database"].startswith("ok postgresql, ")


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        ("events.source", {"QUEUE_URL": "http://127.0.0.1:9/1/q", "K_SINK": "http://127.0.0.1:9"}),
        (
            "events.repair.sweep",
            {"EVENTS_BUCKETS": "photos", "RESULTS_BUCKET": "results", "QUEUE_URL": "q"},
        ),
        ("monitor", {"EVENTS_AUTH": "none", "RESULTS_BUCKET": "results"}),
    ],
)
def test_a_missing_region_is_a_line_and_no_traceback(module: str, settings: dict[str, str]) -> None:
    code, told = check(module, "", AWS_DEFAULT_REGION="", **settings)
    assert code == 1
    assert "`AWS_DEFAULT_REGION` must be set" in str(told)


def test_an_endpoint_that_is_no_address_is_a_line_and_no_traceback() -> None:
    queue = {"QUEUE_URL": "http://127.0.0.1:9/1/q", "K_SINK": "http://127.0.0.1:9"}
    code, told = check("events.source", "nonsense", **queue)
    assert code == 1
    assert told["endpoint"] == "FAIL Invalid endpoint: nonsense: mend `AWS_ENDPOINT_URL`"
