"""The quick rows of the limits, eight at a time: memory and survival, no times."""

from collections.abc import Iterator

import pytest

from tests.limits.rows import AT_ONCE, ROWS, Row, run
from tests.limits.stage import Function, running_limited

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    with running_limited(tmp_path_factory.mktemp("limits")) as function:
        yield function


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.quick], ids=lambda row: f"{row.kind}: {row.name}"
)
def test_no_request_ends_the_worker(function: Function, row: Row) -> None:
    assert not run(function, row, AT_ONCE).problems


def test_rows_are_told_apart_and_of_many_kinds() -> None:
    assert len({(row.kind, row.name) for row in ROWS}) == len(ROWS) >= 40
    assert len({row.kind for row in ROWS}) >= 12
