"""`python -m local` as a person runs it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3
from conftest import GOOD_SAMPLE, ROOT, SAMPLES, Aws, free_port
from test_sns_publisher import audited

import local.__main__
import local.aws
from events.sns_publisher import publish
from events.types import IMAGE_REJECTED, SHELF_AUDITED
from local.__main__ import readable
from local.stack import Stack


@contextmanager
def running_local(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    ports = [free_port(), free_port()]
    command = [sys.executable, "-m", "local", "--port", str(ports[0]), "--aws-port", str(ports[1])]
    with subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process, ports
        finally:
            process.terminate()


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def assert_nothing_is_left(ports: list[int]) -> None:
    deadline = time.monotonic() + 15
    while any(listening(port) for port in ports):
        assert time.monotonic() < deadline, f"something still listens on one of {ports}"
        time.sleep(0.1)


def test_once_prints_an_event_for_every_sample() -> None:
    with running_local("--once") as (process, ports):
        output, errors = process.communicate(timeout=50)
        assert process.returncode == 0, errors
    events = {event["subject"]: event for event in map(json.loads, output.splitlines())}
    keys = {path.relative_to(SAMPLES).as_posix() for path in SAMPLES.rglob("*.jpg")}
    assert set(events) == keys
    assert len(keys) >= 5
    for key, event in events.items():
        if "corrupt" in key:
            assert event["type"] == IMAGE_REJECTED
        else:
            assert event["type"] == SHELF_AUDITED
            assert event["data"]["count"] > 0
    assert_nothing_is_left(ports)


def test_it_stays_and_takes_what_a_person_puts_into_the_bucket() -> None:
    with running_local("--samples", str(GOOD_SAMPLE.parent)) as (process, ports):
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        command = next(line for line in lines if "curl -T photo.jpg" in line)
        upload = command.split()[-1].replace("photo.jpg", "my%20photo.jpg")
        assert urllib3.request("GET", f"http://127.0.0.1:{ports[0]}/").status == 200
        assert urllib3.request("PUT", upload, body=GOOD_SAMPLE.read_bytes()).status == 200
        assert any('"subject": "store-1/cam-1/my photo.jpg"' in line for line in lines)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(20) == 0
    assert_nothing_is_left(ports)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_killed_it_leaves_nothing_running(signum: signal.Signals) -> None:
    with running_local() as (process, ports):
        assert process.stdout is not None
        assert any("ShelfWatch is running" in line for line in iter(process.stdout.readline, ""))
        assert all(listening(port) for port in ports)
        os.kill(process.pid, signum)
        assert process.wait(30) in (-signum, 128 + signum)
    assert_nothing_is_left(ports)


def test_a_taken_port_is_said_and_nothing_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for option in ("--port", "--aws-port"):
            with running_local(option, str(port)) as (process, ports):
                _, errors = process.communicate(timeout=20)
                assert process.returncode == 2
            assert f"Port {port} is taken" in errors
            assert option in errors
            assert "Traceback" not in errors
            assert_nothing_is_left(ports)


@pytest.mark.parametrize("name", ["", "notes.txt"])
def test_a_folder_without_images_is_said(tmp_path: Path, name: str) -> None:
    if name:
        (tmp_path / name).write_text("none")
    with running_local("--once", "--samples", str(tmp_path)) as (process, ports):
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 2
    assert f"{tmp_path} holds no images" in errors
    assert_nothing_is_left(ports)


def test_an_upload_that_brought_no_event_is_said(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local.__main__, "ONCE_SECONDS", 1.5)
    publish(audited(subject="came.jpg"), aws.sns, aws.resources.topic_arn)  # type: ignore[arg-type]
    stack = Stack(
        page="",
        endpoint_url=aws.endpoint_url,
        resources=aws.resources,
        s3=aws.s3,
        sqs=aws.sqs,
        children=(),
    )  # type: ignore[arg-type]
    assert local.__main__.print_until_all_came(stack, {"came.jpg", "lost.jpg"}) == 1
    output, errors = capsys.readouterr()
    assert json.loads(output)["subject"] == "came.jpg"
    assert errors == "No event came for lost.jpg within 2 s\n"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the function's process in /proc")
def test_a_process_that_ends_by_itself_ends_the_rest_with_its_log() -> None:
    with running_local() as (process, ports):
        assert process.stdout is not None
        assert process.stderr is not None
        assert any("ShelfWatch is running" in line for line in iter(process.stdout.readline, ""))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (function,) = [
            int(child)
            for child in children
            if "gunicorn" in Path(f"/proc/{child}/cmdline").read_text()
        ]
        os.killpg(function, signal.SIGKILL)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 2
    assert "The function ended with exit code -9" in errors
    assert "model.ready" in errors
    assert_nothing_is_left(ports)


def test_an_event_is_shortened_to_readable_json() -> None:
    event = {"id": "1", "data": {"count": 3, "detections": [{"a": 1}, {"a": 2}, {"a": 3}]}}
    assert json.loads(readable(event)) == {
        "id": "1",
        "data": {"count": 3, "detections": [{"a": 1}, "… 2 more"]},
    }
    assert json.loads(readable({"id": "1"})) == {"id": "1"}


def test_what_nobody_could_handle_ends_in_the_dead_letter_queue(aws: Aws) -> None:
    aws.sqs.send_message(QueueUrl=aws.resources.queue_url, MessageBody="hello")
    for _ in range(9):  # the redrive takes it at the receive after maxReceiveCount
        answer = aws.sqs.receive_message(QueueUrl=aws.resources.queue_url, VisibilityTimeout=0)
    assert not answer.get("Messages")
    (dead,) = aws.sqs.receive_message(QueueUrl=aws.resources.dlq_url)["Messages"]
    assert dead["Body"] == "hello"


def test_queues_let_in_nobody_but_the_bucket_and_the_topic(aws: Aws) -> None:
    found = aws.resources
    for queue_url, service, source in (
        (found.queue_url, "s3.amazonaws.com", f"arn:aws:s3:::{found.bucket}"),
        (found.subscriber_url, "sns.amazonaws.com", found.topic_arn),
    ):
        answer = aws.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["Policy"])
        (statement,) = json.loads(answer["Attributes"]["Policy"])["Statement"]
        assert statement["Principal"] == {"Service": service}
        assert statement["Action"] == "sqs:SendMessage"
        assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": source}}


def test_the_resources_of_an_emulator_are_created_as_often_as_one_likes(
    endpoint_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit):
        local.aws.main([])  # an account
    assert "AWS_ENDPOINT_URL is not set" in capsys.readouterr().err
    for name, value in local.aws.aws_env(endpoint_url, {}).items():
        monkeypatch.setenv(name, value)
    assert [local.aws.main(["--prefix", "twice"]) for _ in range(2)] == [0, 0]
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == second
    assert first["bucket"] == "twice"
