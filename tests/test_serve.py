"""The function under gunicorn: start, readiness, drain, and files that cannot serve."""

import json
import socket
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import urllib3
from conftest import GOOD_SAMPLE, free_port
from test_detector import ONE_BOX, save_model

from local.aws import aws_env
from local.processes import ROOT, StackError, running
from local.stack import answers, running_function

NOWHERE = aws_env("http://127.0.0.1:9")


def post_sample(url: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request(
        "POST", f"{url}/predict", fields={"file": ("a.jpg", GOOD_SAMPLE.read_bytes())}
    )


def test_it_is_refused_or_not_ready_before_it_is_ready(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/health/ready"
    env = {**NOWHERE, "PORT": str(port)}
    command = ["gunicorn", "-c", "function/gunicorn.conf.py"]
    seen: list[int] = []
    with running("The function", command, env, tmp_path / "log"):
        deadline = time.monotonic() + 60
        while 200 not in seen:
            assert time.monotonic() < deadline
            try:
                seen.append(urllib3.request("GET", url, retries=False, timeout=5).status)
            except urllib3.exceptions.HTTPError:
                seen.append(0)
    assert set(seen) <= {0, 503, 200}
    assert seen[0] != 200
    assert sorted(seen, key=[0, 503, 200].index) == seen


def test_predict_over_http_answers_what_the_app_answers(tmp_path: Path) -> None:
    with running_function(free_port(), NOWHERE, tmp_path) as (url, _):
        response = post_sample(url)
        assert response.status == 200
        result = json.loads(response.data)
        assert result["count"] == len(result["detections"]) > 50
        assert urllib3.request("POST", url, body=b"{}").status == 401  # closed by default
        log = [json.loads(line) for line in (tmp_path / "function.log").read_text().splitlines()]
    loaded = next(line for line in log if line["event"] == "model.loaded")
    assert loaded["precision"] == "int8"
    assert loaded["threads"] >= 1


def test_it_prepares_for_crowds_once_it_is_ready(tmp_path: Path) -> None:
    log = tmp_path / "function.log"
    env = {**NOWHERE, "SHELFWATCH_THREADS": "2"}
    with running_function(free_port(), env, tmp_path) as (url, child):
        assert urllib3.request("GET", f"{url}/health/ready").status == 200
        child.wait_until(lambda: "model.ready_for_crowds" in log.read_text(), 60)
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events.index("model.ready") < events.index("model.ready_for_crowds")


@pytest.mark.parametrize("room", ["function", "monitor"])
def test_what_a_worker_starts_with_is_never_looked_through_again(tmp_path: Path, room: str) -> None:
    """A collection of all of it takes 90 ms, in the middle of a request."""
    port, conf = free_port(), tmp_path / "gunicorn.conf.py"
    (tmp_path / "frozen.py").write_text(
        "import gc\n"
        "def app(environ, start_response):\n"
        '    start_response("200 OK", [])\n'
        "    return [str(gc.get_freeze_count()).encode()]\n"
    )
    conf.write_text(
        (ROOT / room / "gunicorn.conf.py").read_text()
        + f'wsgi_app, pythonpath, bind = "frozen:app", "{tmp_path}", "127.0.0.1:{port}"\n'
    )
    url = f"http://127.0.0.1:{port}"
    with running("The server", ["gunicorn", "-c", str(conf)], NOWHERE, tmp_path / "log") as child:
        child.wait_until(lambda: answers(url), 60)
        assert int(urllib3.request("GET", url).data) > 10_000


def test_a_request_in_progress_is_finished_on_sigterm(tmp_path: Path) -> None:
    photo, port = GOOD_SAMPLE.read_bytes(), free_port()
    head = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nConnection: close\r\n"
        b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(photo)
    )
    with running_function(port, NOWHERE, tmp_path) as (_, child):
        with ExitStack() as peers:
            sockets = [
                peers.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
                for _ in range(3)
            ]
            for peer in sockets:
                peer.sendall(head)
                assert peer.recv(65536).startswith(b"HTTP/1.1 100 ")  # a thread is at work on it
            child.process.terminate()
            for peer in sockets:
                peer.sendall(photo)
            received = [b"".join(iter(partial(peer.recv, 65536), b"")) for peer in sockets]
        assert child.process.wait(60) == 0
    assert [answer[9:12] for answer in received] == [b"200"] * 3


def test_a_model_that_fails_its_warm_up_ends_the_process(tmp_path: Path) -> None:
    model = save_model(tmp_path / "nan.onnx", ONE_BOX * np.nan)
    with (
        pytest.raises(StackError, match="exit code 4"),
        running_function(free_port(), {**NOWHERE, "SHELFWATCH_MODEL": str(model)}, tmp_path),
    ):
        pass
    log = (tmp_path / "function.log").read_text()
    assert log.count('"level": "critical"') == 1
    assert "holds NaN" in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"SHELFWATCH_MODEL": "/nowhere/own.onnx"}, "/nowhere/own.onnx is missing or not an ONNX"),
        ({"SHELFWATCH_MODEL": "README.md"}, "README.md is missing or not an ONNX model"),
        ({"EVENTS_AUTH": "off"}, "`EVENTS_AUTH` must be 'token' or 'none', got 'off'"),
        (
            {"TOPIC_ARN": "arn:x", "EVENTS_BUCKETS": "shelves", "AWS_DEFAULT_REGION": ""},
            "AWS_DEFAULT_REGION",
        ),
    ],
)
def test_what_cannot_serve_ends_at_once_with_one_sentence(
    tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    with (
        pytest.raises(StackError, match="exit code 4") as caught,
        running_function(free_port(), {**NOWHERE, **settings}, tmp_path),
    ):
        pass
    assert words in str(caught.value)
    log = (tmp_path / "function.log").read_text()
    assert log.count('"level": "critical"') == 1
    assert "Traceback" not in log
