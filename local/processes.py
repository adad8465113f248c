"""Child processes that never outlive their parent."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
MAX_PORT = 65535
PR_SET_PDEATHSIG = 1  # linux/prctl.h
STOP_SECONDS = 10.0
LOG_TAIL = 2000  # characters of a log that say why a process ended


class StackError(Exception):
    """Something of the stack did not start or ended by itself; the message is for the console."""


def read_port(text: str) -> int:
    """Read a port that a program can be found at. Raises `ArgumentTypeError`."""
    if text.isascii() and text.isdecimal() and 0 < int(text) <= MAX_PORT:
        return int(text)
    msg = f"must be a port from 1 to {MAX_PORT}, got {text!r}"
    raise argparse.ArgumentTypeError(msg)


def check_port_is_free(port: int, setting: str, option: str) -> None:
    """Raise `StackError` where another program listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as err:
            msg = (
                f"Port {port} is taken ({err.strerror}): choose another, "
                f"{setting}={port + 1} make run or {option} {port + 1}"
            )
            raise StackError(msg) from err


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Child:
    """A running child process and where it logs."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise `StackError` with the end of the log where the process has ended by itself."""
        code = self.process.poll()
        if code is not None:
            msg = f"{self.name} ended with exit code {code}:\n{self.log.read_text()[-LOG_TAIL:]}"
            raise StackError(msg)

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for the process to serve. Raises `StackError` when it ends or takes too long."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                msg = f"{self.name} was not ready within {seconds:.0f} s, see {self.log}"
                raise StackError(msg)
            time.sleep(0.05)

    def kill(self) -> None:
        """End the process and its own children without warning, as a lost node would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """Stop the process and wait for it."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"{self.name} did not stop in {STOP_SECONDS:.0f} s: killed", file=sys.stderr)
            self.kill()


@contextmanager
def running(name: str, arguments: list[str], env: Mapping[str, str], log: Path) -> Iterator[Child]:
    """Run `python -m …` as a child for the length of the block, as `running_program` does."""
    with running_program(name, [sys.executable, "-m", *arguments], env, log) as child:
        yield child


@contextmanager
def running_program(
    name: str, command: list[str], env: Mapping[str, str], log: Path, folder: Path = ROOT
) -> Iterator[Child]:
    """Run a program in a folder as a child for the length of the block, then end it.

    The kernel ends it too when this process is killed (Linux only). Both its outputs go to `log`.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C comes to us alone, so that we choose the order
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
    child = Child(name, process, log)
    try:
        yield child
    finally:
        child.end()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
