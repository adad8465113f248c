"""Run ShelfWatch on this machine: `python -m local [--once]`

Starts an embedded AWS, the function and the source, puts the sample shelves into the bucket and
prints each event as a subscriber of the topic receives it.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from events.codec import Json
from local.day import photos
from local.processes import ROOT, StackError, check_port_is_free
from local.stack import Stack, running_board, running_stack
from local.subscriber import receive_events

SAMPLES = Path(__file__).parent / "samples"
LOGS = ROOT / "build" / "local"
IMAGES = ("*.jpg", "*.jpeg", "*.png", "*.webp")
ONCE_SECONDS = 30.0  # for all samples' events; with start and stop the whole ends within 50
TERMINATED = 128 + signal.SIGTERM


def main() -> int:
    """Run the stack; return the exit code."""
    arguments = _parse()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda *_: sys.exit(TERMINATED))
    # A shell's background job is started with SIGINT ignored; to us it always means stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        samples = find_samples(arguments.samples)
        check_port_is_free(arguments.board_port, "--board-port")
        LOGS.mkdir(parents=True, exist_ok=True)
        print("Starting the embedded AWS, the function and the source …", file=sys.stderr)
        with running_stack(arguments.port, arguments.aws_port, LOGS) as stack:
            for key, path in samples.items():
                body = path.read_bytes()
                stack.s3.put_object(Bucket=stack.resources.bucket, Key=key, Body=body)
            if arguments.once:
                return print_until_all_came(stack, set(samples))
            with running_board(stack, arguments.board_port, LOGS) as watched:
                for key, photo in photos(datetime.now(UTC)):
                    stack.s3.put_object(Bucket=stack.resources.bucket, Key=key, Body=photo)
                _announce(watched)
                _print_forever(watched)
    except StackError as err:
        print(err, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the samples' events")
    parser.add_argument("--port", type=int, default=8080, help="of the page (%(default)s)")
    parser.add_argument("--board-port", type=int, default=8081, help="(%(default)s)")
    parser.add_argument(
        "--aws-port", type=int, default=4566, help="of the embedded AWS (%(default)s)"
    )
    parser.add_argument(
        "--samples", type=Path, default=SAMPLES, help="a folder of images to upload"
    )
    return parser.parse_args()


def find_samples(folder: Path) -> dict[str, Path]:
    """Find the images below a folder, by the keys they get. Raises `StackError` for none."""
    paths = sorted(path for pattern in IMAGES for path in folder.rglob(pattern))
    if not paths:
        msg = f"{folder} holds no images"
        raise StackError(msg)
    return {path.relative_to(folder).as_posix(): path for path in paths}


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


def _announce(stack: Stack) -> None:
    upload = f"{stack.endpoint_url}/{stack.resources.bucket}/store-1/cam-1/photo.jpg"
    print(
        f"ShelfWatch is running. The page: {stack.page}\n"
        f"Stock over time, with a day at one shelf: {stack.board}/stores/store-17\n"
        f"Put a photo of your own into the bucket, under any key of the form store/camera/name:\n\n"
        f"    curl -T photo.jpg {shlex.quote(upload)}\n\n"
        f"Logs are in {LOGS.relative_to(ROOT)}. Ctrl-C stops everything. Events:\n",
        flush=True,
    )


def _print_forever(stack: Stack) -> None:
    while True:
        stack.check()
        for event in receive_events(stack.sqs, stack.s3, stack.resources.subscriber_url):
            print(readable(event), flush=True)


def readable(event: Json) -> str:
    """Write an event a line a field, and of each list in its data the first item only."""
    data = event.get("data")
    lines = [f"  {_field(name, value)}" for name, value in event.items() if name != "data"]
    if isinstance(data, dict):
        inner = ",\n".join(f"    {_field(name, _first(value))}" for name, value in data.items())
        lines.append(f'  "data": {{\n{inner}\n  }}')
    return "{\n" + ",\n".join(lines) + "\n}"


def _field(name: str, value: object) -> str:
    return f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"


def _first(value: object) -> object:
    if isinstance(value, list) and len(value) > 1:
        return [value[0], f"… {len(value) - 1} more"]
    return value


if __name__ == "__main__":
    sys.exit(main())
