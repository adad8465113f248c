"""Who comes to the service from within the cluster; every command prints one JSON object."""

from __future__ import annotations

import argparse
import http.client
import json
import queue
import select
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Answer = dict[str, Any]  # as free as JSON is

AWS = "http://aws:4566"
BUCKET = "shelves"
SUBSCRIBER = f"{AWS}/000000000000/shelves-subscriber"
PICTURE = Path("/judge/gaps.jpg")
TRIES = 6  # of a request that is told to come again


def post(url: str, body: bytes, content_type: str = "image/jpeg", timeout: float = 60) -> Answer:
    """Ask about a picture, again where a full pod says when; status 0: the connection broke."""
    started = time.monotonic()
    answer, wait = post_once(url, body, content_type, timeout)
    tries = 1
    while answer["status"] == 503 and wait and tries < TRIES:
        time.sleep(wait)
        answer, wait = post_once(url, body, content_type, timeout)
        tries += 1
    return answer | {"seconds": round(time.monotonic() - started, 2), "tries": tries}


def post_once(url: str, body: bytes, content_type: str, timeout: float) -> tuple[Answer, float]:
    """Ask once; returns the answer and when to come again."""
    wait = 0.0
    request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": content_type})
    told: Answer = {}
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            status, told = response.status, json.load(response)
    except urllib.error.HTTPError as err:
        status, told = err.code, {"detail": err.read().decode(errors="replace")[:200]}
        wait = float(err.headers.get("Retry-After") or 0)
    except OSError as err:
        status, told = 0, {"detail": f"{type(err).__name__}: {err}"}
    if status == 200:
        found = {"count": told["count"], "revision": told["model"]["revision"]}
        return {"status": status, **found}, wait
    return {"status": status, "detail": told.get("detail", "")}, wait


def slow(url: str, body: bytes, options: argparse.Namespace) -> Answer:
    """Send bodies in pieces over some seconds, all at once, and ask as anybody does beside them."""
    told: queue.Queue[Answer] = queue.Queue()
    whole = body.ljust(options.bytes, b"\0")
    sending = [
        threading.Thread(target=lambda: told.put(in_pieces(url, whole, options.seconds)))
        for _ in range(options.count)
    ]
    for thread in sending:
        thread.start()
    time.sleep(1)  # each has its place before somebody else comes
    quick = post(url, body)
    for thread in sending:
        thread.join()
    return {"slow": [told.get() for _ in sending], "quick": quick}


def in_pieces(url: str, body: bytes, seconds: float) -> Answer:
    """Send one body as a phone on a bad line does, until it is sent or the answer is there."""
    started = time.monotonic()
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.netloc, timeout=60)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Type", "image/jpeg")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    pieces = 40
    step = len(body) // pieces + 1
    try:
        for start in range(0, len(body), step):
            connection.send(body[start : start + step])
            if select.select([connection.sock], [], [], seconds / pieces)[0]:
                break
        response = connection.getresponse()
        status, told = response.status, response.read()
    except OSError as err:
        status, told = 0, f"{type(err).__name__}: {err}".encode()
    took = round(time.monotonic() - started, 2)
    return {"status": status, "seconds": took, "detail": "" if status == 200 else told.decode()}


def upload(key: str, body: bytes) -> None:
    """Put a photo into the bucket, again where the emulator is busy."""
    for attempt in range(5):
        try:
            request = urllib.request.Request(f"{AWS}/{BUCKET}/{key}", body, method="PUT")
            urllib.request.urlopen(request, timeout=30).close()
        except OSError:
            if attempt == 4:
                raise
            time.sleep(1)
        else:
            return


class Subscriber(threading.Thread):
    """Receives events until all that were uploaded have come."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ids: Counter[str] = Counter()
        self.ids_of: dict[str, set[str]] = {}
        self.revisions: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self.ended = threading.Event()

    def run(self) -> None:
        """Receive and delete."""
        import boto3

        sqs = boto3.client("sqs")
        while not self.ended.is_set():
            answer = sqs.receive_message(
                QueueUrl=SUBSCRIBER, MaxNumberOfMessages=10, WaitTimeSeconds=2
            )
            for message in answer.get("Messages", []):
                event = json.loads(message["Body"])
                sqs.delete_message(QueueUrl=SUBSCRIBER, ReceiptHandle=message["ReceiptHandle"])
                self.ids[event["id"]] += 1
                self.types[event["type"]] += 1
                self.ids_of.setdefault(event["subject"], set()).add(event["id"])
                model = event.get("data", {}).get("model", {})
                self.revisions[model.get("revision", "")] += 1


def events(keys: list[str], body: bytes, pause: float, uploaded: list[str]) -> None:
    """Upload photos at a rate; names those that the bucket has taken."""
    due = time.monotonic()
    for key in keys:
        try:
            upload(key, body)
        except OSError as err:
            print(f"{key}: {err}", file=sys.stderr)
        else:
            uploaded.append(key)
        due += pause
        time.sleep(max(0.0, due - time.monotonic()))


def load(url: str, body: bytes, options: argparse.Namespace) -> Answer:
    """Ask and upload at fixed rates for some seconds; wait for the events; say what was lost."""
    subscriber = Subscriber()
    subscriber.start()
    stamp = f"{time.time():.0f}"
    keys = [f"store-1/cam-1/{stamp}-{i}.jpg" for i in range(int(options.seconds * options.events))]
    answers: queue.Queue[Answer] = queue.Queue()
    started = time.monotonic()

    def ask() -> None:
        at = round(time.monotonic() - started, 1)
        answers.put(post(url, body) | {"at": at})

    pause = 1 / options.events if options.events else 0
    uploaded: list[str] = []
    photos = threading.Thread(target=events, args=(keys, body, pause, uploaded))
    photos.start()
    asking = []
    for i in range(int(options.seconds * options.requests)):
        time.sleep(max(0.0, started + i / options.requests - time.monotonic()))
        asking.append(threading.Thread(target=ask))
        asking[-1].start()
    for thread in [*asking, photos]:
        thread.join()
    deadline = time.monotonic() + options.patience
    while set(uploaded) - set(subscriber.ids_of) and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(5)  # what comes twice comes a little later
    subscriber.ended.set()
    told = [answers.get() for _ in asking]
    times = sorted(answer["seconds"] for answer in told if answer["status"] == 200)
    ours = {key: ids for key, ids in subscriber.ids_of.items() if key in set(keys)}
    return {
        "requests": len(told),
        "failed": [answer for answer in told if answer["status"] != 200],
        "came_again": sum(answer["tries"] > 1 for answer in told),
        "p95": times[int(len(times) * 0.95)] if times else None,
        "uploaded": len(uploaded),
        "lost": sorted(set(uploaded) - set(ours)),
        "two_ids": sum(len(ids) > 1 for ids in ours.values()),
        "told_twice": sum(subscriber.ids[i] > 1 for ids in ours.values() for i in ids),
        "types": subscriber.types,
        "revisions": subscriber.revisions,
    }


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["post", "slow", "load"])
    parser.add_argument("url")
    parser.add_argument("--stdin", action="store_true", help="the picture comes there")
    parser.add_argument("--type", default="image/jpeg")
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--count", type=int, default=1, help="slow bodies at once")
    parser.add_argument("--bytes", type=int, default=0, help="of a slow body, filled up")
    parser.add_argument("--requests", type=float, default=0, help="a second")
    parser.add_argument("--events", type=float, default=0, help="a second")
    # A lost message comes back after 120 s, and a busy machine has a backlog.
    parser.add_argument("--patience", type=float, default=900, help="seconds for the last event")
    options = parser.parse_args()
    body = sys.stdin.buffer.read() if options.stdin else PICTURE.read_bytes()
    if options.command == "post":
        told = post(options.url, body, options.type)
    elif options.command == "slow":
        told = slow(options.url, body, options)
    else:
        told = load(options.url, body, options)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
