"""Tables as spreadsheets read them: CSV (RFC 4180) with no cell that runs as a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

# Where a cell begins, in whatever locale: some part cells by semicolons, and read full-width signs
# as signs (OWASP, CSV injection). As static/export.js has it.
FORMULA = re.compile("(^|[,;\t\r\n])(\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20])")


def csv_text(lines: Iterable[Sequence[object]]) -> str:
    """Write lines as CSV; a text that a spreadsheet would run is disarmed by an apostrophe."""
    file = io.StringIO()
    csv.writer(file).writerows([csv_cell(value) for value in line] for line in lines)
    return file.getvalue()


def csv_cell(value: object) -> object:
    """Disarm a text; None is an empty cell, and all else stays as it is."""
    if not isinstance(value, str):
        return "" if value is None else value
    return FORMULA.sub(r"\1'\2", re.sub("^[\t\r\n]", r"'\g<0>", value))
