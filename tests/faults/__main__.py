"""Break the path on purpose and report: `python -m tests.faults [--row WORDS] [--report FILE]`"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.rows import MUTANTS, ROWS, Report, named, run
from tests.faults.stage import running_ground

HEAD = (
    "| fault | uploads | events | rejected | dead letters | **lost** | duplicates (most of one) "
    "| fired | s | |\n|---|--:|--:|--:|---|--:|--:|--:|--:|---|"
)


def main() -> int:
    """Run the rows and the mutants; return the exit code."""
    arguments = _parse()
    # Whatever is forgotten must not find an account.
    os.environ.update(AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_EC2_METADATA_DISABLED="true")
    lines, failed = [HEAD], False
    print(HEAD, flush=True)
    logs = Path(tempfile.mkdtemp(prefix="faults-"))
    started = time.monotonic()
    with running_ground(logs) as ground:
        for row in ROWS:
            if not _chosen(row.name, arguments.row):
                continue
            report = run(ground, row)
            failed |= bool(report.problems)
            lines.append(_line(row.name, report, "; ".join(report.problems) or "ok"))
            print(lines[-1], flush=True)
        for mutant, name in MUTANTS.items():
            if not _chosen(mutant, arguments.row):
                continue
            report = run(ground, named(name), mutant)
            failed |= not report.problems
            verdict = f"caught: {'; '.join(report.problems)}" if report.problems else "NOT CAUGHT"
            lines.append(_line(f"mutant {mutant}: {name}", report, verdict))
            print(lines[-1], flush=True)
    print(f"\n{_machine()}; {time.monotonic() - started:.0f} s; logs in {logs}")
    if arguments.report:
        arguments.report.parent.mkdir(exist_ok=True)
        arguments.report.write_text("\n".join(lines) + "\n")
    return int(failed)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--row", default="", help="only those with these words in the name")
    parser.add_argument("--report", type=Path, help="write the table there, too")
    return parser.parse_args()


def _chosen(name: str, words: str) -> bool:
    return words in name


def _line(name: str, report: Report, verdict: str) -> str:
    letters = ", ".join(f"{count} {reason}" for reason, count in report.dead_letters.items())
    return (
        f"| {name} | {report.uploads} | {report.events} | {report.rejected} | {letters} "
        f"| {report.lost} | {report.duplicates} ({report.most_of_one}) | {report.fired} "
        f"| {report.seconds:.0f} | {verdict} |"
    )


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
