"""What replay and sweep share: ages on the command line, a window of time, an end on request."""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn

from botocore.config import Config as BotoConfig

from events.sqs import is_fifo

# Exit codes, the same for both.
DONE = 0
FAILED = 1  # something was not sent, or AWS did not answer: run it again
MISUSED = 2  # an argument or a setting is missing or odd, as argparse says it
POSTPONED = 3  # the queue is too full to be added to
INTERRUPTED = 130  # SIGINT or SIGTERM: what was begun is finished, the rest is left

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
PROGRESS_SECONDS: Final = 5.0  # between two lines of progress


@dataclass(frozen=True)
class Window:
    """A stretch of time by ages: not older than `since`, and at least `older_than` old."""

    since: timedelta | None = None
    older_than: timedelta = timedelta(0)

    def holds(self, time: datetime, now: datetime | None = None) -> bool:
        """Tell whether a time lies inside."""
        age = (now or datetime.now(UTC)) - time
        return age >= self.older_than and (self.since is None or age <= self.since)


ALWAYS = Window()


def age(text: str) -> timedelta:
    """Read an age such as 90s, 15m, 3h or 2d. Raises `argparse.ArgumentTypeError`."""
    if not (match := re.fullmatch(r"(\d{1,6})([smhd])", text)):
        msg = f"it must be an age such as 90s, 15m, 3h or 2d, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    number, unit = match.groups()
    return timedelta(**{UNITS[unit]: int(number)})


def add_window(parser: argparse.ArgumentParser, what: str, older_than: str) -> None:
    """Add the two options of a window to a command."""
    parser.add_argument("--since", type=age, help=f"only {what} within this time, such as 3h")
    parser.add_argument(
        "--older-than",
        type=age,
        default=older_than,
        help=f"only {what} at least so long ago (%(default)s)",
    )


def window_of(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Window:
    """Read the window; end the command where it holds nothing."""
    if options.since is not None and options.since <= options.older_than:
        parser.error("`--since` must be more than --older-than: nothing lies between")
    return Window(options.since, options.older_than)


def count(text: str) -> int:
    """Read a whole number from 1. Raises `argparse.ArgumentTypeError`."""
    if not re.fullmatch(r"[1-9]\d{0,8}", text):
        msg = f"it must be a whole number from 1, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def standard_queue(text: str) -> str:
    """Read the address of a queue. Raises `argparse.ArgumentTypeError` for a FIFO queue."""
    if is_fifo(text):
        msg = f"it must be a standard queue, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return text


def run_to_exit(main: Callable[[], int]) -> NoReturn:
    """Run a command and exit with its code, whatever stdout can show and however long it is read.

    Photos have names in every script, and a terminal or a pipe need not take them; `| head` has
    seen enough.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = INTERRUPTED
    sys.exit(code)


def stop_on_signals() -> threading.Event:
    """Return an event that SIGINT and SIGTERM set, so that what was begun can be finished."""
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    return stop


def boto_config(connections: int = 1) -> BotoConfig:
    """Configure a client for a command: patient, as nobody waits for its answer."""
    return BotoConfig(
        connect_timeout=5,
        read_timeout=30,
        retries={"mode": "standard", "total_max_attempts": 5},
        max_pool_connections=connections,
    )
