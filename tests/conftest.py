"""Real pieces for the tests: the shipped model, the app, and an embedded AWS a session."""

from __future__ import annotations

import io
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import botocore.loaders
import PIL.Image
import pytest
from cloudevents.core.v1.event import CloudEvent
from flask import Flask
from flask.testing import FlaskClient
from schemas import validate_emitted

from events import sns_publisher
from function import audit
from function.app import create_app
from function.config import Config
from function.detector import Detector
from local import subscriber
from local.aws import Resources, create_resources, emulator_clients
from local.processes import HOST, free_port, running
from local.stack import answers, running_emulator
from monitor.database import migrate, open_database
from tests.faults.postgresql import Server, bin_directory, running_postgresql

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "local" / "samples"
EVENTS = Path(__file__).parent / "events"
GOOD_SAMPLE = SAMPLES / "store-17" / "aisle-4" / "full.jpg"


@pytest.fixture(scope="session")
def detector() -> Detector:
    """The shipped model, warm."""
    detector = Detector.load(Config().model_path)
    detector.warm_up()
    return detector


@pytest.fixture
def app(detector: Detector) -> Flask:
    return create_app(Config(events_auth="none"), detector)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="session")
def make_image() -> Callable[..., bytes]:
    """A plain picture as bytes: `make_image("JPEG", (w, h), mode, color, **save_options)`."""

    def make(
        kind: str = "JPEG",
        size: tuple[int, int] = (64, 48),
        mode: str = "RGB",
        color: Any = 128,
        **options: Any,
    ) -> bytes:
        file = io.BytesIO()
        PIL.Image.new(mode, size, color).save(file, kind, **options)
        return file.getvalue()

    return make


@dataclass(frozen=True, kw_only=True)
class Aws:
    """Clients of the emulator and resources that no other test has touched."""

    endpoint_url: str
    # Any: tests send what the types of the SDK forbid, too.
    s3: Any
    sqs: Any
    sns: Any
    resources: Resources


@pytest.fixture(scope="session")
def endpoint_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_emulator(free_port(), tmp_path_factory.mktemp("logs")) as (url, _):
        yield url


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The second emulator: other authors, another code base."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    arguments = ["moto.server", "--host", HOST, "--port", str(port)]
    log = tmp_path_factory.mktemp("logs") / "moto.log"
    with running("moto", arguments, os.environ, log) as child:
        child.wait_until(lambda: answers(f"{url}/moto-api/"), 30)
        yield url


# These modules ask both emulators.
CONTRACT = (
    *("test_contract", "test_outbox", "test_real_messages", "test_replay", "test_sns_publisher"),
    "test_sweep",
)
# What an emulator cannot do, by test. An entry fails once its gap has closed; delete it then.
NO_VERSION_ID = "its notifications have no versionId"
GAPS = {
    ("moto", "test_a_version_that_is_found_has_the_id_of_its_notification"): NO_VERSION_ID,
    ("moto", "test_the_body_is_what_s3_would_have_written"): NO_VERSION_ID,
    ("moto", "test_a_key_may_hold_a_line_break"): "it takes no such key",
    **{
        (emulator, test): reason
        for emulator in ("ministack", "moto")
        for test, reason in {
            "test_raw_delivery_drops_an_event_with_eleven_attributes": "it delivers eleven",
            "test_a_queue_takes_nothing_that_its_policy_does_not_allow": "it reads no policy",
        }.items()
    },
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__ not in CONTRACT or "aws" not in metafunc.fixturenames:
        return
    emulators = []
    for name in ("ministack", "moto"):
        gap = GAPS.get((name, metafunc.function.__name__))
        marks = [pytest.mark.xfail(strict=True, reason=f"{name}: {gap}")] if gap else []
        emulators.append(pytest.param(name, marks=marks))
    metafunc.parametrize("aws", emulators, indirect=True)


# Each session of the SDK parses megabytes of JSON again, and the tests make hundreds of them.
_files = botocore.loaders.JSONFileLoader()
setattr(_files, "load_file", cache(_files.load_file))  # noqa: B010  # a method, mypy says
setattr(botocore.loaders.Loader, "FILE_LOADER_CLASS", staticmethod(lambda: _files))  # noqa: B010

# Clients of an emulator take longer to make than most tests.
clients = cache(emulator_clients)


@pytest.fixture
def aws(request: pytest.FixtureRequest) -> Aws:
    emulator = getattr(request, "param", "ministack")
    endpoint_url = request.getfixturevalue("moto_url" if emulator == "moto" else "endpoint_url")
    s3, sqs, sns = clients(endpoint_url)
    resources = create_resources(s3, sqs, sns, f"shelves-{uuid.uuid4().hex[:12]}")
    # The bucket's rule has announced itself; tests start with an empty queue.
    sqs.purge_queue(QueueUrl=resources.queue_url)
    return Aws(endpoint_url=endpoint_url, s3=s3, sqs=sqs, sns=sns, resources=resources)


def queue_state(aws: Aws, queue_url: str = "") -> tuple[int, int]:
    """Count visible and leased messages, of the images' queue unless another is given."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = aws.sqs.get_queue_attributes(
        QueueUrl=queue_url or aws.resources.queue_url, AttributeNames=names
    )
    visible, leased = (int(answer["Attributes"][name]) for name in names)
    return visible, leased


def queue_depth(aws: Aws, queue_url: str) -> int:
    """Count a queue's messages, leased ones too."""
    return sum(queue_state(aws, queue_url))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A migrated PostgreSQL, where its programs are installed."""
    if bin_directory() is None:
        pytest.skip("PostgreSQL's programs (initdb, pg_ctl) are not installed")
    with running_postgresql() as server:
        engine = open_database(server.url)
        migrate(engine)
        engine.dispose()
        yield server


@pytest.fixture
def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run a command of ours in this process; returns its exit code and all that it printed."""

    def run(module: ModuleType, endpoint_url: str, *arguments: str, **env: str) -> tuple[int, str]:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint_url)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        # Neither the logs nor the signals of the tests are the command's to change.
        monkeypatch.setattr(module, "configure_logging", lambda: None)
        monkeypatch.setattr(module, "stop_on_signals", threading.Event)
        try:
            code = module.main([*arguments], os.environ)
        except SystemExit as end:  # argparse, for an odd argument
            code = end.code
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


@pytest.fixture(autouse=True)
def emitted_events_fit_their_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold every event to its schema where it leaves this process or comes from another."""

    def checked(function: Callable[..., object], event_of: Callable[..., CloudEvent]) -> object:
        def wrapper(*arguments: object) -> object:
            answer = function(*arguments)
            event = event_of(answer, *arguments)
            validate_emitted(event.get_type(), event.get_dataschema(), event.get_data())
            return answer

        return wrapper

    # Made by the function; published by anything in this process; received from a real process.
    for module, name, event_of in (
        (audit, "outgoing_event", lambda event, *_: event),
        (sns_publisher, "attributes_of", lambda _, event: event),
        (subscriber, "from_json", lambda event, _: event),
    ):
        monkeypatch.setattr(module, name, checked(getattr(module, name), event_of))


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what a test forgets to point at the emulator from an account."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
