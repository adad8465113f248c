"""The example of a subscriber: each event once, whatever is delivered twice."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Aws, queue_depth
from test_sns_publisher import DATA, audited

from events.codec import Json
from events.outbox import Outbox
from events.sns_publisher import publish
from local.aws import aws_env, create_resources, emulator_clients
from local.processes import running
from local.subscriber import EXAMPLE_QUEUE, Seen, main, once, receive_events


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


def test_the_program_prints_each_event_once_with_its_data(aws: Aws, tmp_path: Path) -> None:
    outbox = Outbox(aws.s3, aws.resources.results_bucket)
    large = {**DATA, "detections": DATA["detections"] * 700}
    outbox.put("large", large)
    for name, data, uri in (("small", DATA, ""), ("large", large, outbox.uri("large"))) * 2:
        publish(audited(**{**data, "id": name}), aws.sns, aws.resources.topic_arn, uri)
    url = aws.resources.subscriber_url
    arguments = ["local.subscriber", "--queue-url", url, "--seen", str(tmp_path / "seen.sqlite")]
    log = tmp_path / "log"
    with running("The subscriber", arguments, aws_env(aws.endpoint_url), log) as child:
        child.wait_until(lambda: queue_depth(aws, url) == 0, 20)
        child.process.send_signal(signal.SIGINT)
        assert child.process.wait(30) == 0
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(one["id"] for one in events) == ["large", "small"]
    assert {one["id"]: len(one["data"]["detections"]) for one in events} == {
        "small": 1,
        "large": 700,
    }


def test_without_a_queue_it_takes_the_examples_of_make_run(
    endpoint_url: str, tmp_path: Path
) -> None:
    """A queue of its own: what the demo prints is not taken from it."""
    resources = create_resources(*emulator_clients(endpoint_url))
    s3, sqs, sns = emulator_clients(endpoint_url)
    assert resources.example_url.endswith(f"/{EXAMPLE_QUEUE}")
    publish(audited(id="shared"), sns, resources.topic_arn)
    aws = Aws(endpoint_url, s3, sqs, sns, resources)
    arguments = ["local.subscriber", "--endpoint-url", endpoint_url, "--wait", "1"]
    seen = ["--seen", str(tmp_path / "seen.sqlite")]
    log = tmp_path / "log"
    with running("The subscriber", [*arguments, *seen], os.environ, log) as child:
        child.wait_until(lambda: queue_depth(aws, resources.example_url) == 0, 20)
        child.process.send_signal(signal.SIGINT)
        assert child.process.wait(30) == 0
    assert [json.loads(line)["id"] for line in log.read_text().splitlines()] == ["shared"]
    assert queue_depth(aws, resources.subscriber_url) == 1


def test_without_make_run_it_says_what_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--endpoint-url", "http://127.0.0.1:9", "--seen", ":memory:"])
    assert "start `make run` first" in capsys.readouterr().err
