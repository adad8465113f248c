"""The quick rows of the fault suite, and mutants that they must catch; `make faults` runs all."""

from collections.abc import Iterator

import pytest

from tests.faults.rows import MUTANTS, QUICK, QUICK_MUTANTS, ROWS, Row, named, run
from tests.faults.stage import Ground, running_ground

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with running_ground(tmp_path_factory.mktemp("faults")) as ground:
        yield ground


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.name)
def test_every_upload_ends_somewhere_though(ground: Ground, row: Row) -> None:
    report = run(ground, row)
    assert not report.problems, report


@pytest.mark.parametrize("mutant", QUICK_MUTANTS)
def test_a_broken_variant_is_caught(ground: Ground, mutant: str) -> None:
    report = run(ground, named(QUICK_MUTANTS[mutant]), mutant)
    assert report.lost, report


def test_every_mutant_has_a_row_and_names_are_told_apart() -> None:
    names = [row.name for row in (*ROWS, *QUICK)]
    assert len(names) == len(set(names))
    assert {*MUTANTS.values(), *QUICK_MUTANTS.values()} <= set(names)
