"""`--check`: each need of a process is told as passed or with what to do, and nothing is begun."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT, Aws, free_port, queue_state

from local.aws import aws_env


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
        {"settings", "credentials", "clock", "queue", "DLQ", "sink"},
    )
    assert told["queue"].endswith(": 1 messages wait")
    assert told["DLQ"].endswith(" after 8 receives")
    assert queue_state(aws) == (1, 0)


def test_what_the_source_lacks_is_named_with_what_to_do(aws: Aws) -> None:
    settings = {"QUEUE_URL": aws.resources.dlq_url, "K_SINK": f"http://127.0.0.1:{free_port()}"}
    code, told = check("events.source", aws.endpoint_url, **settings)
    assert code == 1
    assert told["DLQ"].startswith("FAIL the queue has no RedrivePolicy: give it one")
    assert "start it, or mend `K_SINK`" in told["sink"]
    code, told = check("events.source", aws.endpoint_url, K_SINK="http://x")
    assert (code, list(told)) == (1, ["settings"])
    assert "QUEUE_URL" in told["settings"]


def test_every_process_has_help() -> None:
    for module in ("function", "events.source", "events.repair.sweep", "events.repair.replay"):
        command = [sys.executable, "-m", module, "--help"]
        done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
        assert (done.returncode, done.stdout.startswith("usage: ")) == (0, True), done.stderr
