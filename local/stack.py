"""The path as processes: emulator, function, source, in the order they need each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3

from local.aws import (
    Resources,
    aws_env,
    create_monitor_queue,
    create_resources,
    emulator_clients,
)
from local.processes import HOST, Child, check_port_is_free, running

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

STORES = Path(__file__).parent / "stores.toml"
UPLOADS_TOKEN = "local"  # everything is on loopback
START_SECONDS = 60.0  # of each process, with a large model on a slow machine
# Short polls, so that Ctrl-C is answered soon; in an account a long poll is cheaper.
RECEIVE_WAIT_SECONDS = "1"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The running path."""

    page: str
    endpoint_url: str
    resources: Resources
    s3: S3Client
    sqs: SQSClient
    children: tuple[Child, ...]
    board: str = ""  # empty: the monitor does not run

    def check(self) -> None:
        """Raise `StackError` where a process has ended by itself."""
        for child in self.children:
            child.check()


@contextmanager
def running_emulator(port: int, logs: Path) -> Iterator[tuple[str, Child]]:
    """Run the embedded AWS on loopback for the length of the block; yields its endpoint."""
    endpoint_url = f"http://{HOST}:{port}"
    settings = {
        "BIND_HOST": HOST,
        "MINISTACK_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "SERVICES": "s3,sqs,sns,sts",
        "LOG_LEVEL": "ERROR",
    }
    env = {**os.environ, **settings}
    with running("The embedded AWS", ["ministack"], env, logs / "aws.log") as child:
        child.wait_until(lambda: answers(f"{endpoint_url}/_ministack/health"), START_SECONDS)
        yield endpoint_url, child


@contextmanager
def running_function(port: int, env: Mapping[str, str], logs: Path) -> Iterator[tuple[str, Child]]:
    """Run the function under gunicorn for the length of the block; yields its address."""
    with _running_server("function", port, env, logs) as (url, child):
        child.wait_until(lambda: answers(f"{url}/health/ready"), START_SECONDS)
        yield url, child


@contextmanager
def running_monitor(port: int, env: Mapping[str, str], logs: Path) -> Iterator[tuple[str, Child]]:
    """Run the monitor under gunicorn for the length of the block; yields its address."""
    with _running_server("monitor", port, env, logs) as (url, child):
        child.wait_until(lambda: answers(f"{url}/health/ready"), START_SECONDS)
        yield url, child


@contextmanager
def _running_server(
    room: str, port: int, env: Mapping[str, str], logs: Path
) -> Iterator[tuple[str, Child]]:
    settings = {"HOST": HOST, "PORT": str(port)}
    command = ["gunicorn", "-c", f"{room}/gunicorn.conf.py"]
    with running(f"The {room}", command, {**env, **settings}, logs / f"{room}.log") as child:
        yield f"http://{HOST}:{port}", child


@contextmanager
def running_source(
    sink: str, queue_url: str, env: Mapping[str, str], logs: Path, name: str = "source"
) -> Iterator[Child]:
    """Run a source for the length of the block."""
    settings = {
        "K_SINK": sink,
        "QUEUE_URL": queue_url,
        "RECEIVE_WAIT_SECONDS": RECEIVE_WAIT_SECONDS,
    }
    log = logs / f"{name}.log"
    with running("The source", ["events.source"], {**env, **settings}, log) as child:
        yield child


@contextmanager
def running_stack(
    port: int, aws_port: int, logs: Path, begin: Callable[[str], None] = lambda _: None
) -> Iterator[Stack]:
    """Run the whole path for the length of the block; `begin` hears what starts next.

    Raises `StackError`.
    """
    check_port_is_free(port, "PORT", "--port")
    check_port_is_free(aws_port, "AWS_PORT", "--aws-port")
    begin("the embedded AWS")
    with running_emulator(aws_port, logs) as (endpoint_url, emulator):
        env = aws_env(endpoint_url)
        s3, sqs, sns = emulator_clients(endpoint_url)
        resources = create_resources(s3, sqs, sns)
        begin("the function")
        function_env = {
            **env,
            "EVENTS_AUTH": "none",  # everything is on loopback
            "EVENTS_BUCKETS": resources.bucket,
            "RESULTS_BUCKET": resources.results_bucket,
            "TOPIC_ARN": resources.topic_arn,
            "UPLOADS_BUCKET": resources.bucket,
            "UPLOADS_TOKEN": UPLOADS_TOKEN,
        }
        with (
            running_function(port, function_env, logs) as (page, function),
            running_source(page, resources.queue_url, env, logs) as source,
        ):
            yield Stack(
                page=page,
                endpoint_url=endpoint_url,
                resources=resources,
                s3=s3,
                sqs=sqs,
                children=(emulator, function, source),
            )


@contextmanager
def running_board(stack: Stack, port: int, logs: Path) -> Iterator[Stack]:
    """Run the monitor and its source beside a stack. Raises `StackError`."""
    env = aws_env(stack.endpoint_url)
    _, sqs, sns = emulator_clients(stack.endpoint_url)
    resources = stack.resources
    queue_url = create_monitor_queue(sqs, sns, resources.topic_arn, resources.bucket)
    database = logs / "monitor.sqlite"
    for path in logs.glob(f"{database.name}*"):
        path.unlink()  # the bucket begins empty, too
    monitor_env = {
        **env,
        "EVENTS_AUTH": "none",  # everything is on loopback
        "DATABASE_URL": f"sqlite:///{database}",
        "RESULTS_BUCKET": resources.results_bucket,
        "TOPIC_ARN": resources.topic_arn,
        "STORES": str(STORES),
    }
    source_env = {**env, "QUEUE_HOLDS": "events"}
    with (
        running_monitor(port, monitor_env, logs) as (board, monitor),
        running_source(board, queue_url, source_env, logs, "monitor-source") as source,
    ):
        yield replace(stack, board=board, children=(*stack.children, monitor, source))


def answers(url: str) -> bool:
    """Tell whether a GET gets a 200."""
    try:
        return urllib3.request("GET", url, retries=False, timeout=2).status == 200
    except urllib3.exceptions.HTTPError:
        return False
