"""A real PostgreSQL for the tests, started on 127.0.0.1 by an unprivileged user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.processes import HOST, free_port

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
        self._run("initdb", "--locale=C.UTF-8", f"--pgdata={self._data}", *options)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = f"-c listen_addresses={HOST} -c port={self._port} -c fsync=off"
        settings += f" -c unix_socket_directories={self._data} -c max_connections=50"
        options = ["--wait", f"--timeout={START_SECONDS}", f"--log={self._log}"]
        self._run("pg_ctl", "start", f"--pgdata={self._data}", *options, f"--options={settings}")

    def stop(self, mode: str = "immediate") -> None:
        """End it at once, as a node that is lost would."""
        self._run("pg_ctl", "stop", f"--pgdata={self._data}", f"--mode={mode}", "--wait")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        # Not a pipe: the server keeps it open as long as it lives.
        done = subprocess.run(
            command,
            user=self._user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            cwd="/",
            text=True,
        )
        assert done.returncode == 0, f"{program} failed: {done.stderr}"


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
