"""Two commits in one run, in pairs: `python -m bench.against COMMIT [--pairs 400]`

The function of the working tree and that of COMMIT run side by side, and each pair asks both for
the same picture, one after the other, in an order that changes. What else the machine does slows
both alike, so the ratio of a pair is steadier than either time. Both run in this venv.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import urllib3
from cloudevents.core.v1.event import CloudEvent

from bench.contenders import FORM, form, in_session
from bench.pictures import draw_pictures
from bench.results import Part, table
from events.codec import STRUCTURED, to_json
from events.s3_notification import items_from_body
from local.aws import Resources, aws_env, create_resources, emulator_clients
from local.processes import HOST, ROOT, Child, free_port, running_program
from local.stack import answers, running_emulator
from model.options import at_least

READY_SECONDS = 60.0
WARM = 10  # pairs that are not counted
EVENT = "event path"
HERE, THERE = "working tree", "commit"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two functions."""

    url: str
    child: Child
    resources: Resources
    client: urllib3.PoolManager = field(default_factory=urllib3.PoolManager)

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[float, float]:
        """Ask, and return the seconds that passed and those of CPU that the processes spent."""
        spent, started = cpu_seconds(self.child), time.perf_counter()
        answer = self.client.request("POST", self.url + path, body=body, headers=headers)
        passed = time.perf_counter() - started
        if answer.status not in (200, 204):
            msg = f"{self.child.name} answered {answer.status}: {answer.data[:300]!r}"
            raise RuntimeError(msg)
        return passed, cpu_seconds(self.child) - spent


def cpu_seconds(child: Child) -> float:
    """Sum what every thread of a child's processes has run, to the microsecond.

    https://docs.kernel.org/scheduler/sched-stats.html, the first number of /proc/<pid>/schedstat.
    """
    nanoseconds = 0
    for process in in_session(child.process.pid):
        for stat in Path(f"/proc/{process}/task").glob("*/schedstat"):
            nanoseconds += int(stat.read_text().split()[0])
    return nanoseconds / 1e9


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median and its 95 % interval by ranks, which assumes no distribution.

    The ranks are n/2 ± 1.96 √n / 2, as the number of values below the median is binomial.
    """
    ordered, count = sorted(values), len(values)
    reach = 1.96 * math.sqrt(count) / 2
    low = max(math.floor(count / 2 - reach), 0)
    high = min(math.ceil(count / 2 + reach), count - 1)
    return statistics.median(ordered), ordered[low], ordered[high]


def in_pairs(
    ask: Callable[[Side, int], tuple[float, float]], here: Side, there: Side, pairs: int
) -> list[tuple[float, float]]:
    """Return the ratios of time and of CPU, here over there, of each pair."""
    ratios = []
    for number in range(WARM + pairs):
        sides = [here, there]
        random.shuffle(sides)
        seen = {side.url: ask(side, number) for side in sides}
        (passed, spent), (their_passed, their_spent) = seen[here.url], seen[there.url]
        if number >= WARM:
            ratios.append((passed / their_passed, spent / their_spent))
    return ratios


def commit(text: str) -> str:
    """Read the name of a commit. Raises `argparse.ArgumentTypeError`."""
    wanted = ["--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}"]
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", *wanted], capture_output=True)
    if done.returncode:
        msg = f"it must be a commit of this repository, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return text


@contextmanager
def checkout(name: str, folder: Path) -> Iterator[Path]:
    """Check a commit out into a worktree for the length of the block."""
    tree = (folder / "against").absolute()
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "remove", "--force", str(tree)], check=False, capture_output=True)
    subprocess.run([*git, "add", "--detach", str(tree), name], check=True, capture_output=True)
    try:
        yield tree
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


@contextmanager
def running_side(name: str, tree: Path, endpoint_url: str, logs: Path) -> Iterator[Side]:
    """Run the function of a tree, with buckets of its own, for the length of the block."""
    prefix = name.replace(" ", "-")
    resources = create_resources(*emulator_clients(endpoint_url), prefix)
    env = {
        **aws_env(endpoint_url),
        "EVENTS_BUCKETS": resources.bucket,
        "RESULTS_BUCKET": resources.results_bucket,
        "TOPIC_ARN": resources.topic_arn,
    }
    with running_tree(name, tree, env, logs / f"against-{prefix}.log") as (url, child):
        yield Side(url=url, child=child, resources=resources)


@contextmanager
def running_tree(
    name: str, tree: Path, env: Mapping[str, str], log: Path
) -> Iterator[tuple[str, Child]]:
    """Run the function of a tree for the length of the block; yields its address, too."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    own = {"EVENTS_AUTH": "none", "HOST": HOST, "PORT": str(port), "PYTHONPATH": str(tree)}
    # Gunicorn puts the folder that it starts in before all other paths.
    command = [sys.executable, "-P", "-m", "gunicorn", "-c", f"{tree}/function/gunicorn.conf.py"]
    with running_program(name, command, {**env, **own}, log, tree) as child:
        child.wait_until(lambda: answers(f"{url}/health/ready"), READY_SECONDS)
        yield url, child


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.against", description=__doc__)
    parser.add_argument("commit", type=commit, help="what the working tree is compared with")
    parser.add_argument("--pairs", type=at_least(1), default=400, help="of each kind (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="(%(default)s)")
    args = parser.parse_args()
    part = Part(name="against", folder=args.output, full=args.pairs >= 400)
    pictures = draw_pictures(args.output / "pictures")
    bodies = {size: [path.read_bytes() for path in pictures[size]] for size in ("640 px", "12 MP")}
    logs = args.output / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    ratios: dict[str, list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        tree = stack.enter_context(checkout(args.commit, args.output))
        endpoint_url, _ = stack.enter_context(running_emulator(free_port(), logs))
        here = stack.enter_context(running_side(HERE, ROOT, endpoint_url, logs))
        there = stack.enter_context(running_side(THERE, tree, endpoint_url, logs))
        for size, files in bodies.items():

            def predict(side: Side, number: int, files: list[bytes] = files) -> tuple[float, float]:
                return side.post("/predict", form(files[number % len(files)]), FORM)

            ratios[size] = in_pairs(predict, here, there, args.pairs)
        s3, _, _ = emulator_clients(endpoint_url)
        photos = bodies["640 px"]

        def audit(side: Side, number: int) -> tuple[float, float]:
            key = f"store-1/cam-1/{number}.jpg"
            bucket = side.resources.bucket
            s3.put_object(Bucket=bucket, Key=key, Body=photos[number % len(photos)])
            return side.post("/", event_of(bucket, key), {"content-type": STRUCTURED})

        ratios[EVENT] = in_pairs(audit, here, there, args.pairs)
    rows = []
    for kind, found in ratios.items():
        time_ratio, cpu_ratio = (
            median_interval(list(values)) for values in zip(*found, strict=True)
        )
        rows.append([kind, len(found), said(time_ratio), said(cpu_ratio)])
    head = ["", "pairs", "time, of the commit's (95 %)", "CPU, of the commit's (95 %)"]
    part.write({"commit": args.commit, "ratios": ratios}, table(head, rows))


def event_of(bucket: str, key: str) -> bytes:
    """Write the event of an upload, as the source sends it."""
    record = {
        "eventName": "ObjectCreated:Put",
        "eventSource": "aws:s3",
        "eventTime": "2026-01-01T00:00:00.000Z",
        "awsRegion": "us-east-1",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key}},
    }
    (event,) = items_from_body(json.dumps({"Records": [record]}))
    assert isinstance(event, CloudEvent)
    return to_json(event)


def said(found: tuple[float, float, float]) -> str:
    """Write a ratio with its interval."""
    return f"{found[0]:.3f} ({found[1]:.3f}-{found[2]:.3f})"


if __name__ == "__main__":
    main()
