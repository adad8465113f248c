"""Break the path on purpose and report: `python -m tests.faults [--row WORDS] [--report FILE]`"""

from __future__ import annotations

import argparse
import multiprocessing.util
import os
import platform
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from events.repair.commands import count
from tests.faults.rows import MUTANTS, ROWS, Report, named, run
from tests.faults.stage import Ground, running_ground

LONGEST = "backlog of 10 000, detector of 1 ms"
HEAD = (
    "| fault | uploads | events | rejected | dead letters | **lost** | duplicates (most of one) "
    "| fired | s | |\n|---|--:|--:|--:|---|--:|--:|--:|--:|---|"
)


def main() -> int:
    """Run the rows and the mutants; return the exit code."""
    arguments = _parse()
    # Whatever is forgotten must not find an account.
    os.environ.update(AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_EC2_METADATA_DISABLED="true")
    jobs = jobs_named(arguments.row)
    lines, failed = [HEAD], False
    print(HEAD, flush=True)
    logs = Path(tempfile.mkdtemp(prefix="faults-"))
    started = time.monotonic()
    with ProcessPoolExecutor(arguments.jobs, initializer=_enter, initargs=(logs,)) as pool:
        # The long one first, so that it does not run alone in the end; printed in the rows' order.
        running = {job: pool.submit(_run, job) for job in sorted(jobs, key=lambda job: job.order)}
        for job in jobs:
            report = running[job].result()
            failed |= bool(report.problems) != bool(job.mutant)
            lines.append(_line(job, report))
            print(lines[-1], flush=True)
    took = time.monotonic() - started
    print(f"\n{_machine()}; {arguments.jobs} rows at a time, {took:.0f} s; logs in {logs}")
    if arguments.report:
        arguments.report.parent.mkdir(exist_ok=True)
        arguments.report.write_text("\n".join(lines) + "\n")
    return int(failed)


@dataclass(frozen=True)
class Job:
    """A row, or a row that must turn red for a mutant."""

    row: str
    mutant: str = ""

    @property
    def title(self) -> str:
        """Name it in the table."""
        return f"mutant {self.mutant}: {self.row}" if self.mutant else self.row

    @property
    def order(self) -> bool:
        """Sort the longest row before the others."""
        return self.row != LONGEST


def jobs_named(words: str) -> list[Job]:
    """List the rows and the mutants with these words in their titles."""
    jobs = [Job(row.name) for row in ROWS] + [Job(row, mutant) for mutant, row in MUTANTS.items()]
    return [job for job in jobs if words in job.title]


_ground: Ground


def _enter(logs: Path) -> None:
    """Start an emulator and a proxy of its own in this process of the pool."""
    global _ground
    stack = ExitStack()
    folder = logs / str(os.getpid())
    folder.mkdir()
    _ground = stack.enter_context(running_ground(folder))
    # The pool's processes end without their interpreter's own exit handlers.
    multiprocessing.util.Finalize(None, stack.close, exitpriority=0)


def _run(job: Job) -> Report:
    return run(_ground, named(job.row), job.mutant)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--row", default="", help="only those with these words in the name")
    parser.add_argument("--jobs", type=count, default=2, help="rows at a time (2)")
    parser.add_argument("--report", type=Path, help="write the table there, too")
    arguments = parser.parse_args()
    if not jobs_named(arguments.row):
        parser.error(f"--row must be words of a row's name, got {arguments.row!r}")
    return arguments


def _line(job: Job, report: Report) -> str:
    problems = "; ".join(report.problems)
    verdict = problems or "ok"
    if job.mutant:
        verdict = f"caught: {problems}" if problems else "NOT CAUGHT"
    letters = ", ".join(f"{count} {reason}" for reason, count in report.dead_letters.items())
    return (
        f"| {job.title} | {report.uploads} | {report.events} | {report.rejected} | {letters} "
        f"| {report.lost} | {report.duplicates} ({report.most_of_one}) | {report.fired} "
        f"| {report.seconds:.0f} | {verdict} |"
    )


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
