"""What moving events costs in CPU: `python -m bench.events [--photos N] [--width PIXELS]`

Two ratios, each from one run on one machine:

- CPU seconds a photo in the function's process, from event to published result on an embedded AWS,
  over those of the bare detector (JPEG bytes to detections) on the same photos and threads.
- Events that the source moves in a CPU second, from a stateful queue in its own process to a null
  sink over HTTP in another, and its memory on the way.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import logging
import multiprocessing
import os
import socket
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import PIL.Image

from events.log import configure_logging
from events.source.config import SourceConfig
from events.source.queue_checks import Queue
from events.source.sink import Sink
from events.source.sqs_source import SqsSource
from function.config import Config
from function.detections import Thresholds
from function.detector import Detector
from function.image import read_image
from function.worker import tune_malloc
from local.aws import aws_env, create_resources
from local.processes import HOST, ROOT, free_port
from local.stack import running_emulator, running_function, running_source
from model.options import at_least

SAMPLES = sorted((ROOT / "local" / "samples").rglob("*.jpg"))
NOTIFICATION = json.loads((ROOT / "tests" / "events" / "s3_put.json").read_text())
TICK = os.sysconf("SC_CLK_TCK")


# --- the source alone ------------------------------------------------------------------------


class InProcessQueue:
    """SQS's part for one source: leases by receipt handle, receive counts, deletes."""

    def __init__(self, messages: int) -> None:
        self._lock = threading.Lock()
        self._waiting = deque(range(messages))
        self._counts = [0] * messages
        self._leased: dict[str, int] = {}
        self.deleted: set[int] = set()

    def receive_message(self, *, MaxNumberOfMessages: int, **_: object) -> dict[str, object]:
        with self._lock:
            count = min(MaxNumberOfMessages, len(self._waiting))
            numbers = [self._waiting.popleft() for _ in range(count)]
            messages = [self._lease(number) for number in numbers]
        if not messages:
            time.sleep(0.05)
        return {"Messages": messages}

    def _lease(self, number: int) -> dict[str, object]:
        self._counts[number] += 1
        handle = f"{number}-{self._counts[number]}"
        self._leased[handle] = number
        NOTIFICATION["Records"][0]["s3"]["object"]["key"] = f"store-1/cam-1/{number}.jpg"
        return {
            "MessageId": str(number),
            "ReceiptHandle": handle,
            "Body": json.dumps(NOTIFICATION),
            "Attributes": {
                "ApproximateReceiveCount": str(self._counts[number]),
                "SentTimestamp": str(int(time.time() * 1000)),
            },
        }

    def delete_message_batch(self, *, Entries: list[dict[str, str]], **_: object) -> object:
        with self._lock:
            self.deleted |= {self._leased.pop(entry["ReceiptHandle"]) for entry in Entries}
        return {"Successful": Entries}

    def change_message_visibility_batch(self, **_: object) -> object:
        return {"Successful": []}

    def change_message_visibility(self, *, ReceiptHandle: str, **_: object) -> None:
        with self._lock:
            self._waiting.append(self._leased.pop(ReceiptHandle))


def serve_nothing(port_out: multiprocessing.Queue[int]) -> None:
    """Answer 204 to every POST, as fast as a process can."""

    def answer(connection: socket.socket) -> None:
        rest = b""
        while data := connection.recv(65536):
            rest += data
            while (end := rest.find(b"\r\n\r\n")) >= 0:
                head = rest[:end].lower()
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                if len(rest) < end + 4 + length:
                    break
                rest = rest[end + 4 + length :]
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with socket.create_server((HOST, 0)) as server:
        port_out.put(server.getsockname()[1])
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=answer, args=(connection,), daemon=True).start()


@contextmanager
def null_sink() -> Iterator[str]:
    """Run the null sink in a process of its own; yields its address."""
    port: multiprocessing.Queue[int] = multiprocessing.Queue()
    process = multiprocessing.Process(target=serve_nothing, args=(port,), daemon=True)
    process.start()
    try:
        yield f"http://{HOST}:{port.get(timeout=10)}"
    finally:
        process.terminate()
        process.join()


def source_alone(url: str, events: int) -> tuple[float, int, int]:
    """Move events; returns them a CPU second, and the memory at a tenth and at the end (bytes)."""
    queue, stop = InProcessQueue(events), threading.Event()
    config = SourceConfig(queue_url="queue", sink=url, token="s3cret")
    source = SqsSource(config, queue, Sink.from_config(config), Queue("dlq", 8))  # type: ignore[arg-type]  # a queue in this process
    thread = threading.Thread(target=source.run, args=(stop,))
    started = time.process_time()
    thread.start()
    early = 0
    while len(queue.deleted) < events:
        time.sleep(0.05)
        if not early and len(queue.deleted) > events / 10:
            early = resident(os.getpid())
    spent = time.process_time() - started
    stop.set()
    thread.join()
    return events / spent, early, resident(os.getpid())


def resident(process_id: int) -> int:
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# --- the function and the bare detector ------------------------------------------------------


def pictures(width: int) -> list[bytes]:
    """Read the samples that are pictures; with a width, at that size, as a camera would."""
    paths = [path for path in SAMPLES if "corrupt" not in path.name]
    if not width:
        return [path.read_bytes() for path in paths]
    files = []
    for path in paths:
        with PIL.Image.open(path) as image:
            file = io.BytesIO()
            image.resize((width, width * image.height // image.width)).save(file, "JPEG")
            files.append(file.getvalue())
    return files


def bare_detector(photos: int, width: int) -> float:
    """CPU seconds a photo from JPEG bytes to detections, nothing around it."""
    tune_malloc()  # as the function's process does
    detector = Detector.load(Config().model_path)
    detector.warm_up()
    files = pictures(width)
    for data in files:  # memory is taken on the first
        detector.detect(read_image(data, detector.model.input_size), Thresholds())
    started = time.process_time()
    for data in itertools.islice(itertools.cycle(files), photos):
        detector.detect(read_image(data, detector.model.input_size), Thresholds())
    return (time.process_time() - started) / photos


def in_another_process(target: Callable[..., float], *arguments: object) -> float:
    """Run a measurement in a fresh process, so that none warms another."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result: float = pool.apply(target, arguments)
        return result


def cpu_seconds(group: int) -> float:
    """Sum user and system time of the processes in a group, and of their ended children."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            total += sum(map(int, fields[11:15]))
    return total / TICK


def through_the_path(photos: int, width: int) -> float:
    """CPU seconds a photo in the function's processes, from event to published result."""
    files = pictures(width)
    logs = Path(tempfile.mkdtemp(prefix="bench-"))
    with running_emulator(free_port(), logs) as (endpoint_url, _):
        session = boto3.Session("test", "test", region_name="us-east-1")
        s3 = session.client("s3", endpoint_url=endpoint_url)
        sqs = session.client("sqs", endpoint_url=endpoint_url)
        made = create_resources(s3, sqs, session.client("sns", endpoint_url=endpoint_url))

        def depth() -> int:
            answer = sqs.get_queue_attributes(
                QueueUrl=made.queue_url,
                AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                ],
            )
            return sum(map(int, answer["Attributes"].values()))

        def upload(count: int, prefix: str) -> None:
            for number, data in enumerate(itertools.islice(itertools.cycle(files), count)):
                s3.put_object(Bucket=made.bucket, Key=f"{prefix}/cam-1/{number}.jpg", Body=data)

        env = {
            **aws_env(endpoint_url),
            "EVENTS_TOKEN": "s3cret",
            "EVENTS_BUCKETS": made.bucket,
            "RESULTS_BUCKET": made.results_bucket,
            "TOPIC_ARN": made.topic_arn,
        }
        with running_function(free_port(), env, logs) as (url, function):
            upload(len(files), "warm")
            with running_source(url, made.queue_url, env, logs):
                while depth():
                    time.sleep(0.05)
            upload(photos, "store-1")
            before = cpu_seconds(function.process.pid)
            with running_source(url, made.queue_url, env, logs):
                while depth():
                    time.sleep(0.05)
            return (cpu_seconds(function.process.pid) - before) / photos


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.events", description=__doc__)
    parser.add_argument("--photos", type=at_least(1), default=100, help="a round (%(default)s)")
    parser.add_argument(
        "--width", type=at_least(0), default=0, help="of a photo; 0: as the samples are"
    )
    parser.add_argument("--rounds", type=at_least(1), default=3, help="(%(default)s)")
    parser.add_argument("--events", type=at_least(10), default=10_000, help="(%(default)s)")
    arguments = parser.parse_args()
    # Written as in a deployment, and thrown away.
    configure_logging()
    nowhere = Path(os.devnull).open("w")  # noqa: SIM115  # for the life of the process
    logging.getLogger().handlers[0].setStream(nowhere)  # type: ignore[attr-defined]  # a StreamHandler
    ratios = []
    for number in range(arguments.rounds):
        bare = in_another_process(bare_detector, arguments.photos, arguments.width)
        path = through_the_path(arguments.photos, arguments.width)
        ratios.append(path / bare)
        print(
            f"round {number + 1}: bare detector {bare * 1000:.1f} ms CPU a photo, "
            f"function {path * 1000:.1f} ms: {path / bare:.2f} x",
            flush=True,
        )
    print(f"function over bare detector, median: {statistics.median(ratios):.2f} x")
    with null_sink() as url:
        rate, early, last = source_alone(url, arguments.events)
    print(
        f"source alone: {rate:.0f} events a CPU second; "
        f"memory {early / 2**20:.1f} MiB after a tenth, {last / 2**20:.1f} MiB at the end"
    )


if __name__ == "__main__":
    main()
