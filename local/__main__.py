"""Run ShelfWatch on this machine: `make run`, or `python -m local`.

Starts an embedded AWS, the function and the source, puts the sample shelves into the bucket and
prints a line for each event as a subscriber of the topic receives it. NO_COLOR is obeyed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import time
import webbrowser
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from function.container import SUFFIXES
from function.folders import pictures_below
from local.console import BOLD, DIM, Console, Steps
from local.day import photos
from local.processes import ROOT, StackError, check_port_is_free, read_port
from local.stack import Stack, running_board, running_stack
from local.subscriber import receive_events

SAMPLES = Path(__file__).parent / "samples"
LOGS = ROOT / "build" / "local"
ONCE_SECONDS = 30.0  # for all samples' events, once the stack runs
TERMINATED = 128 + signal.SIGTERM


def main() -> int:
    """Run the stack; return the exit code."""
    arguments = _parse()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda *_: sys.exit(TERMINATED))
    # A shell's background job is started with SIGINT ignored; to us it always means stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    console, steps = Console(), Steps()
    try:
        samples = find_samples(arguments.samples)
        beside = arguments.port + 1  # or the next, where that is the AWS
        board_port = arguments.board_port or beside + (beside == arguments.aws_port)
        check_ports_differ(arguments.port, arguments.aws_port, board_port)
        check_port_is_free(board_port, "BOARD_PORT", "--board-port")
        LOGS.mkdir(parents=True, exist_ok=True)
        with running_stack(arguments.port, arguments.aws_port, LOGS, steps.begin) as stack:
            if arguments.once:
                steps.done()
                put(stack, {key: path.read_bytes() for key, path in samples.items()})
                return print_until_all_came(stack, set(samples))
            steps.begin("the monitor")
            with running_board(stack, board_port, LOGS) as watched:
                steps.done()
                put(watched, {key: path.read_bytes() for key, path in samples.items()})
                put(watched, dict(photos(datetime.now(UTC))))
                _announce(watched, console)
                if arguments.open:
                    webbrowser.open(watched.page)
                _print_forever(watched, console, arguments.json)
    except StackError as err:
        steps.done()
        console.end()
        print(err, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        console.end()
        print("Stopped.", file=sys.stderr)
    return 0


def _parse(env: Mapping[str, str] = os.environ) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", help="end after the samples' events")
    parser.add_argument("--json", action="store_true", help="print events whole, a line each")
    parser.add_argument(
        "--port",
        type=read_port,
        default=env.get("PORT") or "8080",
        help="of the page (PORT, %(default)s)",
    )
    parser.add_argument(
        "--aws-port",
        type=read_port,
        default=env.get("AWS_PORT") or "4566",
        help="of the embedded AWS (AWS_PORT, %(default)s)",
    )
    parser.add_argument(
        "--board-port",
        type=read_port,
        default=env.get("BOARD_PORT") or None,
        help="of the board (BOARD_PORT, the page's and 1)",
    )
    parser.add_argument(
        "--open",
        action="store_true",
        default=env.get("OPEN") == "1",
        help="open the page in a browser (OPEN=1)",
    )
    parser.add_argument(
        "--samples", type=Path, default=SAMPLES, help="a folder of images to upload"
    )
    return parser.parse_args()


def check_ports_differ(*ports: int) -> None:
    """Raise `StackError` where page, AWS and board would meet."""
    if len(set(ports)) < len(ports):
        got = ", ".join(map(str, ports))
        msg = f"`PORT`, `AWS_PORT` and `BOARD_PORT` must differ, got {got}"
        raise StackError(msg)


def find_samples(folder: Path) -> dict[str, Path]:
    """Find the images below a folder, by the keys they get. Raises `StackError` for none."""
    try:
        paths = pictures_below(folder)
    except OSError as err:
        raise StackError(str(err)) from err
    if not paths:
        msg = f"{folder} holds no images ({', '.join(SUFFIXES)})"
        raise StackError(msg)
    return {path.relative_to(folder).as_posix(): path for path in paths}


def put(stack: Stack, found: Mapping[str, bytes]) -> None:
    """Put photos into the bucket, by their keys."""
    for key, body in found.items():
        stack.s3.put_object(Bucket=stack.resources.bucket, Key=key, Body=body)


def print_until_all_came(stack: Stack, waiting: set[str]) -> int:
    """Print one JSON line an event; fail where an upload brought none."""
    deadline = time.monotonic() + ONCE_SECONDS
    while waiting and time.monotonic() < deadline:
        stack.check()
        for event in receive_events(stack.sqs, stack.s3, stack.resources.subscriber_url):
            print(json.dumps(event), flush=True)
            waiting.discard(str(event.get("subject")))
    for key in sorted(waiting):
        print(f"No event came for {key} within {ONCE_SECONDS:.0f} s", file=sys.stderr)
    return 1 if waiting else 0


def _announce(stack: Stack, console: Console) -> None:
    upload = f"{stack.endpoint_url}/{stack.resources.bucket}/store-1/cam-1/photo.jpg"
    logs = LOGS.relative_to(ROOT)
    console.line("ShelfWatch is running. Put a photo of your own into the bucket:\n")
    console.line(f"    curl -T photo.jpg {shlex.quote(upload)}\n")
    console.line(f"Stock over time, with a day at one shelf: {stack.board}/stores/store-17\n")
    console.line(
        console.paint(f"Logs: {logs}. A subscriber to start from: make subscriber.\n", DIM)
    )
    console.stay(f"The page: {console.paint(stack.page, BOLD)}   Ctrl-C stops everything.")


def _print_forever(stack: Stack, console: Console, whole: bool) -> None:
    while True:
        stack.check()
        for event in receive_events(stack.sqs, stack.s3, stack.resources.subscriber_url):
            if whole:
                console.line(json.dumps(event))
            else:
                console.event(event)


if __name__ == "__main__":
    sys.exit(main())
