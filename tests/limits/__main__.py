"""Send what would end a pod and report: `python -m tests.limits [--row WORDS] [--report FILE]`"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.limits.rows import AT_ONCE, MAX_PEAK, ROWS, Report, run
from tests.limits.stage import running_limited

HEAD = (
    "| kind | request | at a time | answers | peak MiB | s | slowest probe s | |\n"
    "|---|---|--:|---|--:|--:|--:|---|"
)
LONGEST_PROBE = 1.0  # seconds


def main() -> int:
    """Run the rows, each alone and several at a time; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.limits", description=__doc__)
    parser.add_argument("--row", default="", help="only rows with these words in them")
    parser.add_argument("--report", type=Path, help="where to write the table")
    arguments = parser.parse_args()
    rows = [row for row in ROWS if arguments.row in f"{row.kind}: {row.name}"]
    if not rows:
        parser.error(f"--row must be words of a row's name, got {arguments.row!r}")
    lines, reports = [HEAD], []
    print(HEAD, flush=True)
    with running_limited(Path(tempfile.mkdtemp(prefix="limits-"))) as function:
        for row in rows:
            for clients in (1, AT_ONCE):
                report = run(function, row, clients)
                problems = list(report.problems)
                if report.slowest_probe > LONGEST_PROBE:
                    problems.append("probes waited")
                reports.append((report, problems))
                lines.append(_line(f"{row.kind} | {row.name}", clients, report, problems))
                print(lines[-1], flush=True)
        where = "in a cgroup of 1 280 MiB" if function.cgroup else "without a cgroup"
    peak = max(report.peak for report, _ in reports)
    slowest = max(report.slowest_probe for report, _ in reports)
    failed = sum(bool(problems) for _, problems in reports)
    lines.append(
        f"\n{len(reports)} runs {where}: at most {peak} of {MAX_PEAK} MiB, "
        f"slowest probe {slowest:.2f} s, {failed} with problems"
    )
    print(lines[-1])
    if arguments.report:
        arguments.report.parent.mkdir(exist_ok=True)
        arguments.report.write_text("\n".join(lines) + "\n")
    return int(any(problems for _, problems in reports))


def _line(name: str, clients: int, report: Report, problems: list[str]) -> str:
    statuses = ", ".join(
        f"{report.statuses.count(status)} of {status}" for status in sorted(set(report.statuses))
    )
    return (
        f"| {name} | {clients} | {statuses} | {report.peak} | {report.seconds:.1f} "
        f"| {report.slowest_probe:.2f} | {'; '.join(problems)} |"
    )


if __name__ == "__main__":
    sys.exit(main())
