"""CSV: whatever a key or a label holds, no spreadsheet runs it."""

import pytest

from function.spreadsheet import csv_cell, csv_text


# The same table as that of the page's own (export.test.js), before the quoting.
@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("", ""),
        (None, ""),
        (-0.5, -0.5),
        ("aisle 4.jpg", "aisle 4.jpg"),
        ("coca-cola", "coca-cola"),
        ("=1+1", "'=1+1"),
        ("+49.jpg", "'+49.jpg"),
        ("-cmd|' /C calc'!A0", "'-cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        ("\nx", "'\nx"),
        ("a;=1+1", "a;'=1+1"),
        ("a, =1+1", "a,' =1+1"),
        ("\uff1d1", "'\uff1d1"),
    ],
)
def test_no_cell_is_a_formula_in_any_locale(value: object, cell: object) -> None:
    assert csv_cell(value) == cell


def test_lines_are_written_as_rfc_4180_has_them() -> None:
    assert csv_text([]) == ""
    assert csv_text([["a,b", 'c"d', 1], [None, "=x", ""]]) == '"a,b","c""d",1\r\n,\'=x,\r\n'
