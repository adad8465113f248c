"""Audits as people and spreadsheets read them: a line a photo, a gap, a product. Pure; no IO."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from function.result import GapJson, Result

HEADINGS = ("products", "rows", "gaps", "facings", "filled")
# As the page has it.
CSV_HEADER = (
    *("picture", "kind", "row", "number", "label"),
    *("confidence", "facings", "left", "top", "right", "bottom"),
)


def table_head(width: int) -> str:
    """Write the line above the photos of a table, for a terminal of `width` columns."""
    return _line("photo", HEADINGS, width)


def table_line(name: str, result: Result, width: int) -> str:
    """Write a photo as a line of a table; a long name keeps its end."""
    rate = result["fill_rate"]
    numbers = (
        result["count"],
        len(result["rows"]),
        len(result["gaps"]),
        sum(map(whole_facings, result["gaps"])),
        "-" if rate is None else f"{rate:.0%}",
    )
    return _line(name, [str(number) for number in numbers], width)


def table_notes(result: Result) -> list[str]:
    """Write what stands below a photo's line: a comparison, and what makes its count doubtful."""
    compared = result.get("compliance")
    notes = []
    if compared:
        missing, extra, moved = (len(compared[kind]) for kind in ("missing", "extra", "moved"))
        rate = compared["rate"]
        share = "no slots" if rate is None else f"{rate:.0%} in place"
        notes.append(f"{share}: {missing} missing, {extra} extra, {moved} moved")
    if result["truncated"] and not any(one["code"] == "truncated" for one in result["warnings"]):
        notes.append(f"only the {result['thresholds']['max_detections']} surest are counted")
    notes += [f"{one['code']}: {one['detail']}" for one in result["warnings"]]
    return [f"    {note}" for note in notes]


def _line(name: str, numbers: Sequence[str], width: int) -> str:
    columns = "".join(
        f"{number:>{len(head) + 2}}" for number, head in zip(numbers, HEADINGS, strict=True)
    )
    room = max(12, width - len(columns))
    name = printable(name)
    shown = name if len(name) <= room else f"…{name[1 - room :]}"
    return f"{shown:<{room}}{columns}"


def printable(name: str) -> str:
    """Give a file's name or a key without what would move a cursor or cannot be encoded."""
    return "".join(one if one.isprintable() else "\ufffd" for one in name)


def csv_lines(name: str, result: Result) -> Iterable[Sequence[object]]:
    """List a photo's gaps as one walks along the shelf, then its products by row from the left."""
    gaps = sorted(result["gaps"], key=lambda gap: (gap["row"], gap["xyxy"][0]))
    for number, gap in enumerate(gaps, 1):
        sure, facings = gap["confidence"], whole_facings(gap)
        yield name, "gap", gap["row"] + 1, number, "", sure, facings, *gap["xyxy"]
    number_in_row = [0] * len(result["rows"])
    for product in sorted(
        result["detections"], key=lambda product: (product["row"], product["xyxy"][0])
    ):
        row = product["row"]
        number_in_row[row] += 1
        label, sure = product["label"], product["confidence"]
        yield name, "product", row + 1, number_in_row[row], label, sure, "", *product["xyxy"]


def whole_facings(gap: GapJson) -> int:
    """Count the products that a gap takes, as a person fills it: at least one."""
    return max(1, int(gap["facings"] + 0.5))
