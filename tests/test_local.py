"""`python -m local` as a person runs it."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import urllib3
from conftest import GOOD_SAMPLE, ROOT, SAMPLES, Aws, free_port
from test_sns_publisher import audited

import local.__main__
import local.aws
from events.sns_publisher import publish
from events.types import (
    GAP_CLOSED,
    GAP_CORRECTED,
    GAP_OPENED,
    IMAGE_REJECTED,
    SHELF_AUDITED,
)
from function.audit import audit_image
from function.detections import Thresholds
from function.detector import Detector
from function.metrics import Metrics
from local.console import Console, event_line
from local.day import DAY, photos
from local.stack import Stack


@contextmanager
def running_local(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    options = ("--port", "--aws-port", "--board-port")
    ports = [free_port() for _ in options]
    command = [sys.executable, "-m", "local"]
    for option, port in zip(options, ports, strict=True):
        command += [option, str(port)]
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


def open_gaps_and_refill_minutes(port: int) -> tuple[object, object]:
    page = urllib3.request("GET", f"http://127.0.0.1:{port}/stores/store-17").json()
    return page["open_gaps"], page["refill_minutes"]


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def assert_nothing_is_left(ports: list[int]) -> None:
    deadline = time.monotonic() + 60
    while any(listening(port) for port in ports):
        assert time.monotonic() < deadline, f"something still listens on one of {ports}"
        time.sleep(0.1)


@pytest.mark.slow  # `.ci/run` has `make once`
@pytest.mark.timeout(240)
def test_once_prints_an_event_for_every_sample() -> None:
    with running_local("--once") as (process, ports):
        output, errors = process.communicate(timeout=110)
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


def assert_the_client_of_the_docs_works(port: int, folder: Path) -> None:
    """Without AWS keys: as docs/http.md has it, but for the port."""
    (client,) = re.findall(
        r"^```python\n(import json, sys.*?)^```",
        (ROOT / "docs" / "http.md").read_text(),
        re.M | re.S,
    )
    program = folder / "client.py"
    program.write_text(client.replace("127.0.0.1:8080", f"127.0.0.1:{port}"))
    command = [sys.executable, str(program), str(GOOD_SAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert re.fullmatch(
        r"s3://shelves/store-17/cam-2/\d{8}T\d{12}Z\.jpg \d{3} products\n", done.stdout
    ), done.stderr


@pytest.mark.slow  # `.ci/run` has `make run`
def test_it_stays_and_takes_what_a_person_puts_into_the_bucket(tmp_path: Path) -> None:
    with running_local("--samples", str(GOOD_SAMPLE.parent)) as (process, ports):
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        command = next(line for line in lines if "curl -T photo.jpg" in line)
        upload = command.split()[-1].replace("photo.jpg", "my%20photo.jpg")
        assert urllib3.request("GET", f"http://127.0.0.1:{ports[0]}/").status == 200
        assert urllib3.request("PUT", upload, body=GOOD_SAMPLE.read_bytes()).status == 200
        own = next(line for line in lines if line.startswith("store-1/cam-1 "))
        assert re.match(r"store-1/cam-1 +\d{3} products +\d+ gaps +\d+%  my photo", own)
        assert own.endswith("  my photo.jpg\n")
        assert len(own) <= 81
        # The day at one shelf: a gap opens, is refilled, and another is left open.
        deadline = time.monotonic() + 60
        while (found := open_gaps_and_refill_minutes(ports[2])) != (1, 60.0):
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        assert_the_client_of_the_docs_works(ports[0], tmp_path)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(20) == 0
    assert_nothing_is_left(ports)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.slow
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
        for option, setting in (
            ("--port", "PORT"),
            ("--aws-port", "AWS_PORT"),
            ("--board-port", "BOARD_PORT"),
        ):
            with running_local(option, str(port)) as (process, ports):
                _, errors = process.communicate(timeout=20)
                assert process.returncode == 2
            assert f"Port {port} is taken" in errors
            assert f"{setting}={port + 1} make run or {option} {port + 1}\n" in errors
            assert len(errors.splitlines()) == 1
            assert_nothing_is_left(ports)


@pytest.mark.parametrize(
    ("port", "aws_port", "board_port", "words"),
    [
        ("70000", "4566", "8081", "argument --port: must be a port from 1 to 65535, got '70000'"),
        ("8080", "0", "8081", "argument --aws-port: must be a port from 1 to 65535, got '0'"),
        ("8080", "4566", "x", "argument --board-port: must be a port from 1 to 65535, got 'x'"),
        ("9", "9", "8", "`PORT`, `AWS_PORT` and `BOARD_PORT` must differ, got 9, 9, 8"),
        ("4567", "4567", "", "`PORT`, `AWS_PORT` and `BOARD_PORT` must differ, got 4567, 4567, "),
    ],
)
def test_odd_ports_are_said_before_anything_starts(
    port: str,
    aws_port: str,
    board_port: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The board's port follows the page's: PORT=8081 alone would meet it otherwise."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    settings = {"PORT": port, "AWS_PORT": aws_port, "BOARD_PORT": board_port}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["local"])
    try:
        code = local.__main__.main()
    except SystemExit as end:  # argparse
        code = int(end.code or 0)
    assert code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "notes.txt"])
def test_a_folder_without_images_is_said(tmp_path: Path, name: str) -> None:
    if name:
        (tmp_path / name).write_text("none")
    with running_local("--once", "--samples", str(tmp_path)) as (process, ports):
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 2
    assert f"{tmp_path} holds no images" in errors
    assert_nothing_is_left(ports)


def test_samples_are_found_whatever_the_case_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "of.jpg").mkdir()
    names = ("IMG_1.JPG", "of.jpg/a b.Png", "c.webp", "d.jpeg", "notes.txt")
    for name in names:
        (tmp_path / name).touch()
    assert set(local.__main__.find_samples(tmp_path)) == set(names[:-1])


def test_an_upload_that_brought_no_event_is_said(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local.__main__, "ONCE_SECONDS", 4.0)
    publish(audited(subject="came.jpg"), aws.sns, aws.resources.topic_arn)
    stack = Stack(
        page="",
        endpoint_url=aws.endpoint_url,
        resources=aws.resources,
        s3=aws.s3,
        sqs=aws.sqs,
        children=(),
    )
    assert local.__main__.print_until_all_came(stack, {"came.jpg", "lost.jpg"}) == 1
    output, errors = capsys.readouterr()
    assert json.loads(output)["subject"] == "came.jpg"
    assert errors == "No event came for lost.jpg within 4 s\n"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the function's process in /proc")
@pytest.mark.slow
def test_a_process_that_ends_by_itself_ends_the_rest_with_its_log() -> None:
    with running_local("--json") as (process, ports):
        assert process.stdout is not None
        assert process.stderr is not None
        lines = iter(process.stdout.readline, "")
        event = json.loads(next(line for line in lines if line.startswith("{")))
        assert event["type"] in (SHELF_AUDITED, IMAGE_REJECTED)  # whole, as asked for
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (function,) = [
            int(child)
            for child in children
            if "function/gunicorn" in Path(f"/proc/{child}/cmdline").read_text()
        ]
        os.killpg(function, signal.SIGKILL)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 2
    assert "The function ended with exit code -9" in errors
    assert '"logger": "function' in errors  # the end of its log
    assert_nothing_is_left(ports)


AUDITED: dict[str, object] = {
    "store": "store-17",
    "camera": "cam-1",
    "subject": "store-17/cam-1/aisle 5.jpg",
    "data": {"count": 84, "gaps": [1] * 9, "fill_rate": 0.84},
}
REASON = {"title": "Corrupt image", "status": 422}


@pytest.mark.parametrize(
    ("event", "line"),
    [
        ({}, "-                 ? products    ? gaps      -"),
        (AUDITED, "store-17/cam-1    84 products   9 gaps    84%  aisle 5.jpg"),
        (
            AUDITED | {"subject": f"store-17/cam-1/{'x' * 99}.jpg"},
            "store-17/cam-1    84 products   9 gaps    84%  …xxxxxxxxxxxxxxxxxxxxxxxxxxxx.jpg",
        ),
        (
            {"subject": "\x1b[2J.jpg", "data": {}},
            "-                 ? products    ? gaps      -  \ufffd[2J.jpg",
        ),
        (
            {"subject": "", "data": {"gap": {"facings": "\x1b[2J"}, "state": "\r"}},
            "-                 a gap of \ufffd[2J facings is \ufffd",
        ),
        (
            AUDITED | {"data": {"reason": REASON}},
            "store-17/cam-1    rejected: Corrupt image  aisle 5.jpg",
        ),
        (
            {"subject": "photo.jpg", "data": {"count": 0, "gaps": [], "fill_rate": None}},
            "-                 0 products    0 gaps      -  photo.jpg",
        ),
    ],
)
def test_an_event_is_one_line_of_80_columns(event: dict[str, object], line: str) -> None:
    assert event_line(event, 80) == line
    assert len(line) <= 80


def test_a_name_that_the_terminal_cannot_show_ends_nothing() -> None:
    shown = io.BytesIO()
    console = Console(io.TextIOWrapper(shown, "ascii"), {})
    console.event({**AUDITED, "subject": "store-17/aisle-5/日本.jpg"})
    assert b"\\u65e5\\u672c.jpg\n" in shown.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_page_stays_in_sight_below_the_events_of_a_terminal() -> None:
    file = Terminal()
    console = Console(file, {"NO_COLOR": "1"})
    console.stay("The page: http://x")
    console.event(AUDITED)
    console.end()
    assert file.getvalue().split("\r\033[K") == [
        "The page: http://x",
        f"{event_line(AUDITED, 80)}\nThe page: http://x",
        "",
    ]
    assert "\033[3" not in file.getvalue()
    coloured = Terminal()
    Console(coloured, {}).event(AUDITED)
    assert coloured.getvalue().startswith("\033[33m")  # gaps are to be seen
    piped = io.StringIO()
    console = Console(piped, {})
    console.stay("The page: http://x")
    console.event(AUDITED)
    assert piped.getvalue() == f"The page: http://x\n{event_line(AUDITED, 80)}\n"


INSTALL = ROOT / "local" / "install.sh"


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ("exit 1", "python is not 3.11 or newer: make PYTHON=python3.12"),
        ('case "$1" in -c) exit 1;; *) echo Python 3.8.1;; esac', "Python 3.8.1 is not 3.11"),
        ('case "$1" in -c) exit 0;; *) exit 1;; esac', "apt-get install python3-venv"),
        (None, "is not there: install Python 3.11 or newer"),
        (
            'case "$1" in -c) ;; *) mkdir -p .venv/bin; cp /bin/false .venv/bin/pip;; esac',
            "The download failed: check the network",
        ),
    ],
    ids=["broken", "old", "no-venv", "no-python", "no-network"],
)
def test_an_install_that_cannot_be_says_the_way_out_in_one_sentence(
    tmp_path: Path, python: str | None, words: str
) -> None:
    fake = tmp_path / "python"
    if python:
        fake.write_text(f"#!/bin/sh\n{python}\n")
        fake.chmod(0o755)
    done = subprocess.run(
        [INSTALL, fake, "requirements-local.txt", "what running needs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


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


def test_the_detector_sees_the_day_that_the_board_shows(detector: Detector) -> None:
    for gone, (_, body) in zip(DAY, photos(datetime.now(UTC)), strict=True):
        result = audit_image(body, detector, Thresholds(), Metrics())
        missing = sum(gap["facings"] for gap in result["gaps"])
        assert missing == pytest.approx(gone, abs=0.5)


@pytest.mark.parametrize(
    ("kind", "data", "line"),
    [
        (
            GAP_OPENED,
            {"gap": {"facings": 2.3}, "state": "open"},
            "store-17/aisle-9  a gap of 2.3 facings is open",
        ),
        (
            GAP_CLOSED,
            {"gap": {"facings": 2.3}, "state": "closed", "minutes": 60.0},
            "store-17/aisle-9  a gap of 2.3 facings is closed after 60 min",
        ),
        (
            GAP_CORRECTED,
            {"gap": {"facings": 2.3}, "state": "open"},
            "store-17/aisle-9  corrected: a gap of 2.3 facings is open",
        ),
    ],
)
def test_a_gap_has_a_line_of_its_own(kind: str, data: dict[str, object], line: str) -> None:
    place = {"subject": "store-17/aisle-9", "store": "store-17", "view": "aisle-9"}
    event: dict[str, object] = {"type": kind, **place, "data": data}
    assert event_line(event, 80) == line
