"""A real PostgreSQL for the tests, started on 127.0.0.1 by an unprivileged user."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from local.processes import HOST, PR_SET_PDEATHSIG, free_port

DIRECTORIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
START_SECONDS = 30


def bin_directory() -> Path | None:
    """Find PostgreSQL's programs."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    return next((path for path in DIRECTORIES if (path / "initdb").exists()), None)


class Server:
    """A cluster of one database, which can be stopped and started again."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._data = folder / "data"
        self._log = folder / "postgresql.log"
        self._port = free_port()
        self.url = f"postgresql://monitor@{HOST}:{self._port}/postgres"
        # It refuses to run as root, and a user of its own must reach its folder.
        self._user = "nobody" if os.geteuid() == 0 else None
        self._data.mkdir()
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(folder, account.pw_uid, account.pw_gid)
            os.chown(self._data, account.pw_uid, account.pw_gid)
        options = ["--username=monitor", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        command = [str(programs / "initdb"), "--locale=C.UTF-8", f"--pgdata={self._data}"]
        done = subprocess.run(
            [*command, *options], user=self._user, capture_output=True, cwd="/", text=True
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start it, and wait until it answers; it ends with this process, however that ends."""
        settings = {
            "listen_addresses": HOST,
            "port": str(self._port),
            "unix_socket_directories": str(self._data),
            "max_connections": "50",
            "fsync": "off",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self._data), *options],
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once, as a node that is lost would."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(START_SECONDS)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


@contextmanager
def running_postgresql() -> Iterator[Server]:
    """Run a server for the length of the block; its folder goes with it."""
    programs = bin_directory()
    assert programs is not None
    # Not below pytest's own folder, which no other user may enter.
    folder = Path("/tmp") / f"shelfwatch-postgresql-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir(mode=0o700)
    try:
        server = Server(programs, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
