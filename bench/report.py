"""Put the last run's tables and plots into the pages on performance: `python -m bench.report`

The part's table, and when and where it ran, replace what stands between `<!-- PART -->` and
`<!-- end -->`. Between `<!-- rows of PART -->` and `<!-- end -->` stand rows quoted from the table:
each is replaced by the row with the same first cell. Parts that were not run stay as they are.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

from local.processes import ROOT

PAGE = ROOT / "docs" / "performance.md"
PLOTS = PAGE.with_suffix("")  # its history lies there, too
BLOCK = re.compile(r"<!-- (?P<part>(?!end -->)[a-z-]+) -->\n.*?<!-- end -->", re.DOTALL)
QUOTE = re.compile(r"<!-- rows of (?P<part>[a-z-]+) -->\n.*?<!-- end -->", re.DOTALL)
FIRST_CELL = re.compile(r"^\| (?P<name>\w[^|]*) \|.*$", re.MULTILINE)


def fill(page: str, results: Path) -> str:
    """Replace the blocks and the quoted rows of the parts that have results."""

    def block(found: re.Match[str]) -> str:
        part = found["part"]
        raw, table = results / f"{part}.json", results / f"{part}.md"
        if not (raw.exists() and table.exists()):
            return found[0]
        described = describe(json.loads(raw.read_text()))
        return f"<!-- {part} -->\n{described}\n\n{table.read_text().strip()}\n<!-- end -->"

    def quote(found: re.Match[str]) -> str:
        table = results / f"{found['part']}.md"
        if not table.exists():
            return found[0]
        rows = {row["name"]: row[0] for row in FIRST_CELL.finditer(table.read_text())}
        return FIRST_CELL.sub(lambda row: rows.get(row["name"], row[0]), found[0])

    return QUOTE.sub(quote, BLOCK.sub(block, page))


def describe(raw: dict[str, object]) -> str:
    """Say when, where and in which form a part ran."""
    machine = raw["machine"]
    assert isinstance(machine, dict)
    form = "full" if raw["full"] else "short"
    return (
        f"*{form} form, {machine['time']}, {machine['threads']} threads of {machine['cpu']} "
        f"({machine['isa']}), load {machine['load']} at its start*"
    )


def main() -> None:
    """Fill the pages and copy the plots beside them."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("build/bench"), help="(%(default)s)")
    results = parser.parse_args().results
    if not any(results.glob("*.json")):
        parser.error(f"--results must be a folder that `make bench` has written, got {results}")
    for page in (PAGE, *PLOTS.glob("*.md")):
        page.write_text(fill(page.read_text(), results))
    for plot in results.glob("*.png"):
        shutil.copy(plot, PLOTS)


if __name__ == "__main__":
    main()
