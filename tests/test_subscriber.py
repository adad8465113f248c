"""The example of a subscriber: each event once, whatever is delivered twice."""

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import ROOT, Aws, queue_depth
from test_sns_publisher import DATA, audited

from events.codec import Json, data_of, new_event
from events.outbox import Outbox, Stored
from events.sns_publisher import publish
from events.sqs import queue_arn
from events.types import SHELF_AUDITED
from local.aws import aws_env, create_resources, emulator_clients
from local.processes import running, running_program
from local.subscriber import EXAMPLE_QUEUE, Seen, main, once, receive_events

EVENTS_MD = (ROOT / "docs" / "events.md").read_text()


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Seen]:
    with closing(Seen(tmp_path / "seen.sqlite")) as opened:
        yield opened


def event(name: str, source: str = "s") -> Json:
    return {"id": name, "source": source}


@pytest.mark.parametrize(
    ("names", "handled"),
    [
        ([], []),
        (["1"], ["1"]),
        (["1", "2", "1", "1", "2"], ["1", "2"]),
    ],
)
def test_a_duplicate_is_left_out(seen: Seen, names: list[str], handled: list[str]) -> None:
    assert [one["id"] for one in once(map(event, names), seen)] == handled
    assert list(once(map(event, names), seen)) == []


def test_equal_ids_of_two_sources_are_two_events(seen: Seen) -> None:
    both = [event("1", "s"), event("1", "t")]
    assert list(once(both, seen)) == both


def test_what_was_not_handled_to_the_end_comes_again(seen: Seen) -> None:
    events = once([event("1")], seen)
    next(events)
    events.close()  # what an error in the handler does
    assert [one["id"] for one in once([event("1")], seen)] == ["1"]


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    for handled in (["1"], []):
        with closing(Seen(tmp_path / "seen.sqlite")) as seen:
            assert [one["id"] for one in once([event("1")], seen)] == handled


def test_what_is_remembered_is_bounded_in_time(tmp_path: Path) -> None:
    with closing(Seen(tmp_path / "seen.sqlite", seconds=-1)) as seen:
        list(once(map(event, "abc"), seen))
        assert len(seen) == 0


def test_a_message_is_deleted_only_after_its_event_was_handled(aws: Aws, seen: Seen) -> None:
    publish(audited(), aws.sns, aws.resources.topic_arn)
    url = aws.resources.subscriber_url
    events = once(receive_events(aws.sqs, aws.s3, url), seen)
    next(events)
    assert queue_depth(aws, url) == 1
    assert list(events) == []
    assert queue_depth(aws, url) == 0


LARGE = audited(id="large", detections=DATA["detections"] * 700)


def publish_twice(aws: Aws) -> None:
    """Publish a small event and a large one that leaves its data behind, each two times."""
    outbox = Outbox(aws.s3, aws.resources.results_bucket)
    outbox.put("large", Stored(data_of(LARGE)))
    for event, uri in ((audited(id="small"), ""), (LARGE, outbox.uri("large"))) * 2:
        publish(event, aws.sns, aws.resources.topic_arn, uri)


def wrapped_queue(aws: Aws) -> str:
    """Subscribe a queue without raw delivery."""
    url: str = aws.sqs.create_queue(QueueName=f"{aws.resources.bucket}-wrapped")["QueueUrl"]
    aws.sns.subscribe(
        TopicArn=aws.resources.topic_arn, Protocol="sqs", Endpoint=queue_arn(aws.sqs, url)
    )
    return url


def test_an_event_is_read_with_raw_delivery_and_without(aws: Aws) -> None:
    url = wrapped_queue(aws)
    publish(audited(), aws.sns, aws.resources.topic_arn)
    (raw,) = receive_events(aws.sqs, aws.s3, aws.resources.subscriber_url)
    (wrapped,) = receive_events(aws.sqs, aws.s3, url)
    assert raw == wrapped
    assert raw["data"] == DATA


def test_an_event_whose_claim_check_is_gone_is_handled_without_data(
    aws: Aws, seen: Seen, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = Outbox(aws.s3, aws.resources.results_bucket).uri("gone")
    publish(LARGE, aws.sns, aws.resources.topic_arn, uri)
    url = aws.resources.subscriber_url
    (event,) = once(receive_events(aws.sqs, aws.s3, url), seen)
    assert (event["subject"], "data" in event) == ("store-17/cam-2/0815.jpg", False)
    assert f"{uri} is gone" in capsys.readouterr().err
    assert queue_depth(aws, url) == 0


def test_what_is_no_event_stays_on_the_queue_and_holds_up_nothing(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    url = aws.resources.subscriber_url
    for body in ("hello", json.dumps({"Type": "SubscriptionConfirmation"})):
        aws.sqs.send_message(QueueUrl=url, MessageBody=body)
    publish(audited(), aws.sns, aws.resources.topic_arn)
    assert len(list(receive_events(aws.sqs, aws.s3, url))) == 1
    assert queue_depth(aws, url) == 2
    assert capsys.readouterr().err.count("is no event") == 2


def test_the_program_prints_each_event_once_with_its_data(aws: Aws, tmp_path: Path) -> None:
    publish_twice(aws)
    url = aws.resources.subscriber_url
    arguments = ["local.subscriber", "--queue-url", url, "--seen", str(tmp_path / "seen.sqlite")]
    log = tmp_path / "log"
    with running("The subscriber", arguments, aws_env(aws.endpoint_url), log) as child:
        child.wait_until(lambda: queue_depth(aws, url) == 0, 60)
        child.process.send_signal(signal.SIGINT)
        assert child.process.wait(30) == 0
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(one["id"] for one in events) == ["large", "small"]
    assert {one["id"]: len(one["data"]["detections"]) for one in events} == {
        "small": 1,
        "large": 700,
    }


def example(language: str, word: str) -> str:
    """Take an example out of the documentation."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", EVENTS_MD, re.MULTILINE | re.DOTALL)
    (code,) = (block for block in blocks if word in block)
    assert len(list(filter(None, code.splitlines()))) <= 18
    return str(code)


NODE_MODULES = os.environ.get("NODE_MODULES", "")  # a folder that holds @aws-sdk
no_node = pytest.mark.skipif(
    not (NODE_MODULES and shutil.which("node")), reason="NODE_MODULES names no folder of @aws-sdk"
)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(
    ("language", "suffix", "command"),
    [
        ("python", "py", sys.executable),
        pytest.param("js", "mjs", "node", marks=no_node),
    ],
)
def test_the_example_prints_each_event_once(
    aws: Aws, tmp_path: Path, language: str, suffix: str, command: str, raw: bool
) -> None:
    url = aws.resources.subscriber_url if raw else wrapped_queue(aws)
    publish_twice(aws)
    gone = new_event({**LARGE.get_attributes(), "id": "gone"}, data_of(LARGE))
    uri = Outbox(aws.s3, aws.resources.results_bucket).uri("gone")
    publish(gone, aws.sns, aws.resources.topic_arn, uri)
    program, log = tmp_path / f"example.{suffix}", tmp_path / "log"
    program.write_text(example(language, "seen"))
    if NODE_MODULES:
        (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    env = {**aws_env(aws.endpoint_url), "QUEUE_URL": url, "AWS_REGION": "us-east-1"}
    with running_program("The example", [command, str(program)], env, log) as child:
        child.wait_until(lambda: queue_depth(aws, url) == 0, 30)
    lines = [line for line in log.read_text().splitlines() if line.startswith("io.shelfwatch")]
    subject = f"{SHELF_AUDITED} store-17/cam-2/0815.jpg"
    nothing = "None" if language == "python" else "undefined"
    assert sorted(lines) == sorted([f"{subject} 1", f"{subject} 1", f"{subject} {nothing}"])


@pytest.mark.parametrize("raw", [True, False])
def test_the_lambda_writes_under_the_id_and_leaves_what_failed(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, raw: bool
) -> None:
    url = aws.resources.subscriber_url if raw else wrapped_queue(aws)
    publish_twice(aws)
    aws.sqs.send_message(QueueUrl=url, MessageBody="hello")
    messages = []
    while batch := aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        messages += batch
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint_url)
    monkeypatch.setenv("BUCKET", aws.resources.bucket)
    names: dict[str, Callable[..., object]] = {}
    exec(example("python", "batchItemFailures"), names)
    records = [{"messageId": one["MessageId"], "body": one["Body"]} for one in messages]
    (poison,) = (one["MessageId"] for one in messages if one["Body"] == "hello")
    answer = names["handler"]({"Records": records}, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": poison}]}
    written = aws.s3.list_objects_v2(Bucket=aws.resources.bucket)["Contents"]
    assert [one["Key"] for one in written] == ["audits/large.json", "audits/small.json"]


def test_without_a_queue_it_takes_the_examples_of_make_run(
    endpoint_url: str, tmp_path: Path
) -> None:
    """A queue of its own: what the demo prints is not taken from it."""
    resources = create_resources(*emulator_clients(endpoint_url))
    s3, sqs, sns = emulator_clients(endpoint_url)
    assert resources.example_url.endswith(f"/{EXAMPLE_QUEUE}")
    publish(audited(id="shared"), sns, resources.topic_arn)
    aws = Aws(endpoint_url=endpoint_url, s3=s3, sqs=sqs, sns=sns, resources=resources)
    arguments = ["local.subscriber", "--endpoint-url", endpoint_url, "--wait", "1"]
    seen = ["--seen", str(tmp_path / "seen.sqlite")]
    log = tmp_path / "log"
    with running("The subscriber", [*arguments, *seen], os.environ, log) as child:
        child.wait_until(lambda: queue_depth(aws, resources.example_url) == 0, 60)
        child.process.send_signal(signal.SIGINT)
        assert child.process.wait(30) == 0
    assert [json.loads(line)["id"] for line in log.read_text().splitlines()] == ["shared"]
    assert queue_depth(aws, resources.subscriber_url) == 1


def test_without_make_run_it_says_what_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--endpoint-url", "http://127.0.0.1:9", "--seen", ":memory:"])
    assert "start `make run` first" in capsys.readouterr().err


def test_a_memory_that_cannot_be_opened_is_a_sentence(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in aws_env(aws.endpoint_url).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="2"):
        main(["--queue-url", aws.resources.subscriber_url, "--seen", "/nowhere/seen.sqlite"])
    told = capsys.readouterr().err
    assert told.startswith("`--seen` must be a file of SQLite, got /nowhere/seen.sqlite (")
    assert len(told.splitlines()) == 1


def test_another_programs_port_and_a_queue_that_is_not_there_are_sentences(
    endpoint_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("local.subscriber.EXAMPLE_QUEUE", "nobodys")
    for endpoint in (endpoint_url, "nonsense"):
        with pytest.raises(SystemExit, match="2"):
            main(["--endpoint-url", endpoint, "--seen", ":memory:"])
        told = f"{endpoint} has no queue nobodys: is it the AWS of `make run`?\n"
        assert capsys.readouterr().err == told
    for name, value in aws_env(endpoint_url).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="2"):
        main(["--queue-url", f"{endpoint_url}/000000000000/nobodys", "--seen", ":memory:"])
    assert len(capsys.readouterr().err.splitlines()) == 1
