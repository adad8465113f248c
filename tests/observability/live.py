"""The path as its real processes, with a real Prometheus and Alertmanager over them.

They read the configuration of compose.yaml and the rules of the cluster. Only addresses, the scrape
interval (a second for a quarter of a minute) and how long a fault must last differ.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3
import yaml
from conftest import GOOD_SAMPLE, ROOT, Aws, clients, free_port

from local.aws import aws_env, create_resources
from local.processes import HOST, running_program
from local.stack import answers, running_emulator, running_function, running_source

OBSERVABILITY = ROOT / "observability"
PATIENCE = 40.0  # seconds for anything to come about on a busy machine


@dataclass(frozen=True, kw_only=True)
class Live:
    """What runs, and the messages that the webhook got."""

    aws: Aws
    function: str
    prometheus: str
    told: list[Any]  # Any, here and below: JSON whose form is theirs

    def query(self, expr: str) -> list[Any]:
        """Ask Prometheus for the present value of every series."""
        found: list[Any] = self._api("query", {"query": expr})["result"]
        return found

    def rules(self) -> list[Any]:
        return [rule for group in self._api("rules", {})["groups"] for rule in group["rules"]]

    def _api(self, name: str, fields: dict[str, str]) -> Any:
        url = f"{self.prometheus}/api/v1/{name}"
        answer = urllib3.request("GET", url, fields=fields, timeout=10).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def alert(self, name: str) -> Any:
        """Find an alert among what the webhook was told."""
        for message in list(self.told):
            for alert in message["alerts"]:
                if alert["status"] == "firing" and alert["labels"]["alertname"] == name:
                    return alert
        return None


def wait_for(what: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until something is true, and return it; None where that never was."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > deadline:
            return None
        time.sleep(0.2)
    return found


@contextmanager
def running_live(logs: Path) -> Iterator[Live]:
    """Run everything for the length of the block, with photos coming in all the time."""
    with ExitStack() as running:
        endpoint_url, _ = running.enter_context(running_emulator(free_port(), logs))
        s3, sqs, sns = clients(endpoint_url)
        resources = create_resources(s3, sqs, sns, f"shelves-{uuid.uuid4().hex[:8]}")
        aws = Aws(endpoint_url=endpoint_url, s3=s3, sqs=sqs, sns=sns, resources=resources)
        env = aws_env(endpoint_url)
        settings = {
            "EVENTS_AUTH": "none",
            "EVENTS_BUCKETS": resources.bucket,
            "RESULTS_BUCKET": resources.results_bucket,
            "TOPIC_ARN": resources.topic_arn,
        }
        function, _ = running.enter_context(running_function(free_port(), env | settings, logs))
        ports = {name: free_port() for name in ("source", "prometheus", "alertmanager")}
        metrics = {"METRICS_PORT": str(ports["source"])}
        running.enter_context(running_source(function, resources.queue_url, env | metrics, logs))
        webhook, told = running.enter_context(running_webhook())
        addresses = {
            "function:8080": function.removeprefix("http://"),
            "source:9090": f"{HOST}:{ports['source']}",
            "alertmanager:9093": f"{HOST}:{ports['alertmanager']}",
        }
        running.enter_context(running_alertmanager(ports["alertmanager"], webhook, logs))
        prometheus = running.enter_context(running_prometheus(ports["prometheus"], addresses, logs))
        running.enter_context(sending_photos(aws, function))
        yield Live(aws=aws, function=function, prometheus=prometheus, told=told)


@contextmanager
def running_prometheus(port: int, addresses: dict[str, str], logs: Path) -> Iterator[str]:
    rules = logs / "rules"
    rules.mkdir()
    for path in (OBSERVABILITY / "rules").glob("*.yaml"):
        (rules / path.name).write_text(re.sub(r"\bfor: \w+", "for: 1s", path.read_text()))
    text = (OBSERVABILITY / "compose" / "prometheus.yml").read_text().replace("15s", "1s")
    for name, address in addresses.items():
        assert name in text
        text = text.replace(name, address)
    assert "/etc/prometheus/rules" in text
    config = logs / "prometheus.yml"
    config.write_text(text.replace("/etc/prometheus/rules", str(rules)))
    url = f"http://{HOST}:{port}"
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={logs / 'tsdb'}",
        f"--web.listen-address={HOST}:{port}",
    ]
    with running_program("Prometheus", command, os.environ, logs / "prometheus.log") as child:
        child.wait_until(lambda: answers(f"{url}/-/ready"), PATIENCE)
        yield url


@contextmanager
def running_alertmanager(port: int, webhook: str, logs: Path) -> Iterator[None]:
    config = yaml.safe_load((OBSERVABILITY / "compose" / "alertmanager.yml").read_text())
    (receiver,) = config["receivers"]
    receiver["webhook_configs"] = [{"url": webhook}]
    path = logs / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    command = [
        "prometheus-alertmanager",  # as Debian calls it
        f"--config.file={path}",
        f"--storage.path={logs / 'alertmanager'}",
        f"--web.listen-address={HOST}:{port}",
        "--cluster.listen-address=",
    ]
    url = f"http://{HOST}:{port}/-/ready"
    with running_program("Alertmanager", command, os.environ, logs / "alertmanager.log") as child:
        child.wait_until(lambda: answers(url), PATIENCE)
        yield


@contextmanager
def running_webhook() -> Iterator[tuple[str, list[Any]]]:
    """Listen for Alertmanager's messages, which it posts as JSON."""
    told: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{server.server_port}/", told
        server.shutdown()


@contextmanager
def sending_photos(aws: Aws, function: str) -> Iterator[None]:
    """Upload a photo and ask about another, again and again: a rate needs something to rise."""
    photo, stop = GOOD_SAMPLE.read_bytes(), threading.Event()

    def send() -> None:
        number = 0
        while not stop.wait(0.4):
            number += 1
            body = b"no image" if number == 3 else photo
            key = f"store-1/cam-1/{number}.jpg"
            aws.s3.put_object(Bucket=aws.resources.bucket, Key=key, Body=body)
            headers = {"content-type": "image/jpeg"}
            urllib3.request("POST", f"{function}/predict", body=photo, headers=headers)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
