"""Episodes are a function of a view's audits: no arrival changes what they are, nor their names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monitor.fold import (
    Audit,
    Box,
    Episode,
    Folded,
    Gap,
    Rules,
    State,
    chosen,
    fold,
    match,
    nudge,
    pack,
    step,
)
from monitor.fold import boxes as unpacked
from monitor.packed import state_from_json, state_to_json

RULES = Rules()
MINUTE = 60_000
# A shelf of two rows of ten facings, 4000 wide and 15 000 high, in 65535ths.
SHELF = [
    (2000 + 6000 * column, 5000 + 30000 * row, 6000 + 6000 * column, 20000 + 30000 * row)
    for row in range(2)
    for column in range(10)
]
# What the camera sees once it was turned: boxes of another size.
ELSEWHERE = [(1000 + 8000 * column, 2000, 8000 + 8000 * column, 62000) for column in range(8)]


def photo(
    minute: float,
    empty: tuple[int, ...] = (),
    *,
    unseen: tuple[int, ...] = (),
    shelf: list[Box] = SHELF,
    shift: tuple[int, int] = (0, 0),
    doubtful: bool = False,
    generation: int = 0,
    name: str = "",
) -> Audit:
    """An audit `minute` minutes after 1970, with some facings empty, some of those not seen so."""
    across, down = shift
    moved = [(a + across, b + down, c + across, d + down) for a, b, c, d in shelf]
    products = np.array([box for i, box in enumerate(moved) if i not in empty], float)
    return Audit(
        photo=name or f"{minute:08.2f}",
        generation=generation,
        captured=round(minute * MINUTE),
        doubtful=doubtful,
        products=pack(products.reshape(-1, 4) / 65535),
        gaps=tuple(Gap(box=moved[i], row=i // 10, facings=1.0) for i in empty if i not in unseen),
    )


def unseen(first: int, end: int) -> list[Audit]:
    """Photos that miss the gap at facing 3, a quarter of an hour apart."""
    return [photo(15 * i, (3,), unseen=(3,)) for i in range(first, end)]


def folded(*audits: Audit, rules: Rules = RULES) -> Folded:
    return fold(State(view="v"), chosen(audits), rules)


def spans(result: Folded) -> list[tuple[float, float | None, str]]:
    """Opened and closed in minutes, and how it ended."""
    return sorted(
        (e.opened / MINUTE, None if e.closed is None else e.closed / MINUTE, e.ended)
        for e in result.episodes.values()
    )


@pytest.mark.parametrize(
    ("audits", "expected"),
    [
        pytest.param([], [], id="no audits"),
        pytest.param([photo(0)], [], id="a full shelf"),
        pytest.param([photo(0), photo(15, (3,))], [], id="one photo is not enough"),
        pytest.param(
            [photo(15, (3,)), photo(30, (3,))], [(15, None, "")], id="two photos open a gap"
        ),
        pytest.param([photo(0, (3,)), photo(0.5, (3,))], [], id="less than a minute apart"),
        pytest.param(
            [photo(0, (3,)), photo(0.5, (3,)), photo(1, (3,))], [(0, None, "")], id="a burst"
        ),
        pytest.param([photo(0, (3,)), photo(15), photo(30, (3,))], [], id="a gap that flickers"),
        pytest.param(
            [*unseen(0, 1), *(photo(15 * i, (3,)) for i in range(1, 4))],
            [],
            id="three photos of what may have been there before",
        ),
        pytest.param(
            [*unseen(0, 1), *(photo(15 * i, (3,)) for i in range(1, 5))],
            [(15, None, "")],
            id="four photos are enough for it",
        ),
        pytest.param(
            [
                *unseen(0, 2),
                *(photo(15 * i) for i in range(2, 4)),
                photo(60, (3,)),
                photo(75, (3,)),
            ],
            [(60, None, "")],
            id="two of what was sold",
        ),
        pytest.param(
            [photo(0), *unseen(1, 2), photo(30, (3,)), photo(45, (3,))],
            [(30, None, "")],
            id="sold, and not seen at first",
        ),
        pytest.param(
            [photo(0), photo(15, (3,)), *unseen(2, 3), photo(45, (3,)), photo(60, (3,))],
            [(45, None, "")],
            id="sold, and not seen between",
        ),
        pytest.param(
            [
                photo(0),
                photo(15, (3, 4, 5), unseen=(3, 4, 5)),
                photo(30, (3,)),
                photo(45, (3,)),
            ],
            [(30, None, "")],
            id="a person stands before what is sold",
        ),
        pytest.param(
            [
                photo(0),
                photo(15, (3,), unseen=(3,), shift=(2400, 0)),
                *(photo(15 * i, (3,), shift=(4800, 0)) for i in range(2, 4)),
            ],
            [(30, None, "")],
            id="sold, and not seen while the camera is nudged",
        ),
        pytest.param(
            [
                photo(0),
                *(photo(15 * i, (3,)) for i in range(1, 3)),
                *unseen(3, 9),
                *(photo(15 * i, (3,)) for i in range(9, 12)),
            ],
            [(15, 45, "filled")],
            id="sold once only, though not seen for long",
        ),
        pytest.param(
            [photo(0, (3,)), photo(15, (3,)), photo(30)],
            [(0, None, "")],
            id="one photo does not close it",
        ),
        pytest.param(
            [photo(0, (3,)), photo(15, (3,)), photo(30), photo(45)],
            [(0, 30, "filled")],
            id="two photos close it, at the first",
        ),
        pytest.param(
            [photo(0, (3,)), photo(15, (3,)), photo(30), photo(45, (3,)), photo(60)],
            [(0, None, "")],
            id="a shopper in front of it",
        ),
        pytest.param(
            [*(photo(15 * i, (3,)) for i in range(2)), *unseen(2, 7)],
            [(0, None, "")],
            id="not seen five times, and nothing stands there",
        ),
        pytest.param(
            [*(photo(15 * i, (3,)) for i in range(2)), *unseen(2, 8)],
            [(0, 30, "filled")],
            id="not seen six times",
        ),
        pytest.param(
            [*(photo(15 * i, (3,)) for i in range(2)), *unseen(2, 4), photo(60), photo(75)],
            [(0, 60, "filled")],
            id="not seen, then filled: at the first photo that shows products there",
        ),
        pytest.param(
            [*(photo(15 * i, (3,)) for i in range(2)), photo(30), *unseen(3, 5), photo(75)],
            [(0, 30, "filled")],
            id="filled, not seen, filled",
        ),
        pytest.param(
            [photo(0, (3,)), photo(15, (3,)), photo(30, doubtful=True), photo(45)],
            [(0, None, "")],
            id="doubtful photos change nothing",
        ),
        pytest.param(
            [photo(0, (3,)), photo(15, (3, 7))], [(0, None, "")], id="another gap is another"
        ),
        pytest.param(
            [photo(0, (3,)), photo(15, (3,), shift=(900, 300)), photo(30, shift=(900, 300))],
            [(0, None, "")],
            id="a nudge is taken back",
        ),
        pytest.param(
            [
                *(photo(15 * i, (3,)) for i in range(2)),
                *(photo(30 + 15 * i, (1,), shelf=ELSEWHERE) for i in range(2)),
            ],
            [(0, 30, "moved"), (30, None, "")],
            id="a moved camera ends its gaps",
        ),
        pytest.param(
            [
                *(photo(15 * i, (3,)) for i in range(2)),
                photo(30, (1,), shelf=ELSEWHERE),
                photo(45, (3,)),
            ],
            [(0, None, "")],
            id="one odd photo moves no camera",
        ),
        *(
            pytest.param(
                [
                    *(photo(15 * i, (3,)) for i in range(2)),
                    *(photo(minute, (1,), shelf=ELSEWHERE) for minute in (30, last)),
                ],
                expected,
                id=f"another picture for {name}",
            )
            for last, expected, name in (
                (30.99, [(0, None, "")], "less than a minute"),
                (31, [(0, 30, "moved"), (30, None, "")], "a minute"),
            )
        ),
        *(
            pytest.param(
                [
                    *(photo(15 * i, (1,), shelf=SHELF[:many]) for i in range(2)),
                    *(photo(30 + 15 * i, (1,), shelf=ELSEWHERE[:many]) for i in range(2)),
                ],
                expected,
                id=f"another picture of {many - 1} products",
            )
            for many, expected in (
                (5, [(0, None, "")]),
                (6, [(0, 30, "moved"), (30, None, "")]),
            )
        ),
        *(
            pytest.param(
                [*(photo(15 * i, (3,)) for i in range(2)), photo(30), photo(last)],
                [(0, closed, ended)],
                id=f"without the gap for {name}",
            )
            for last, closed, ended, name in (
                (30.99, None, "", "less than a minute"),
                (31, 30, "filled", "a minute"),
            )
        ),
        pytest.param(
            [photo(0, (3,)), photo(15, tuple(range(20))), photo(30, tuple(range(20)))],
            [(0, None, ""), *[(15, None, "")] * 19],
            id="an empty shelf is no moved camera",
        ),
    ],
)
def test_when_gaps_open_and_close(audits: list[Audit], expected: list[object]) -> None:
    assert spans(folded(*audits)) == expected


def test_of_several_audits_of_a_photo_the_highest_generation_counts() -> None:
    first = [photo(0, (3,)), photo(15, (3,))]
    again = photo(15, (), generation=1)
    assert spans(folded(*first)) == [(0, None, "")]
    assert spans(folded(*first, again)) == spans(folded(again, *first)) == []


def test_rules_are_settings() -> None:
    audits = [photo(0, (3,)), photo(15, (3,)), photo(30, (3,))]
    assert spans(folded(*audits[:1], rules=Rules(1, 0))) == [(0, None, "")]
    assert spans(folded(*audits[:2], rules=Rules(3, 60))) == []
    assert spans(folded(*audits, rules=Rules(3, 60))) == [(0, None, "")]


@pytest.mark.parametrize(
    ("closed", "opened", "beside"), [(None, 99, True), (10, 9, True), (10, 10, False)]
)
def test_what_stood_at_one_time_stood_beside_each_other(
    closed: int | None, opened: int, beside: bool
) -> None:
    gap = Gap(box=(0, 0, 10, 10), row=0, facings=1.0)
    one = Episode(id="1", opened=0, photo="a", gap=gap, closed=closed)
    two = Episode(id="2", opened=opened, photo="b", gap=gap)
    assert one.stood_beside(two) == two.stood_beside(one) == beside


def test_a_gap_that_grows_is_the_same_and_two_that_grow_together_both_stand() -> None:
    one, two, both = (0, 0, 10, 10), (20, 0, 30, 10), (0, 0, 30, 10)
    assert match([], [one]) == match([one], []) == ({}, set())
    assert match([one], [both]) == ({0: 0}, {0})
    assert match([one, two], [both]) == ({0: 0}, {0, 1})
    assert match([one], [two]) == ({}, set())


def test_a_gap_that_is_refilled_in_its_middle_is_two() -> None:
    (left, top, _, bottom), (_, _, right, _) = SHELF[2], SHELF[5]
    wide = Gap(box=(left, top, right, bottom), row=0, facings=4.0)
    before = [replace(photo(15 * i, (2, 3, 4, 5)), gaps=(wide,)) for i in range(2)]
    after = [photo(15 * i, (2, 5)) for i in range(2, 4)]
    assert spans(folded(*before, *after)) == [(0, None, ""), (30, None, "")]


def test_a_state_remembers_no_more_products_than_an_audit_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("monitor.fold.MAX_BOXES", 30)
    state = State(view="v")
    for index in range(5):  # each shows five things where no other does
        things = [(1000 + 900 * i, 52000 + 900 * index) for i in range(5)]
        there = [*SHELF, *((x, y, x + 300, y + 300) for x, y in things)]
        state, _ = step(state, photo(15 * index, shelf=there), RULES)
    assert len(unpacked(state.products)) == 30
    newest = [y for _, y, _, bottom in unpacked(state.products).tolist() if bottom - y == 300]
    assert newest == [55600] * 5 + [54700] * 5


def test_a_nudge_is_the_median_of_what_overlaps() -> None:
    before = unpacked(photo(0).products)
    shift, share = nudge(before, unpacked(photo(1, shift=(700, -200)).products))
    assert (shift.tolist(), share) == ([700, -200], 1.0)
    assert nudge(before, unpacked(photo(1, shelf=ELSEWHERE).products))[1] < 0.3


def test_a_state_is_kept_as_text_without_loss() -> None:
    audits = [photo(0, (3,)), photo(15, (3, 7)), photo(30, (7,)), photo(45, shelf=ELSEWHERE)]
    state = State(view="v")
    for audit in audits:
        state = fold(state, [audit], RULES).state
        assert state_from_json(state_to_json(state)) == state
    assert state.elsewhere is not None


def test_ids_name_the_view_and_what_opened_the_gap() -> None:
    audits = [photo(0, (3, 7)), photo(15, (3, 7))]
    here = fold(State(view="v"), audits, RULES).episodes
    there = fold(State(view="w"), audits, RULES).episodes
    assert len(here) == len(there) == 2
    assert not here.keys() & there.keys()
