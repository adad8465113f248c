"""As many at work as the sink takes: fewer after a refusal, slowly more after successes."""

import threading

import pytest

from events.source.in_flight import ROUNDS, START, InFlight


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_starts_small_and_never_above_the_ceiling() -> None:
    assert InFlight(8).limit == START
    assert InFlight(1).limit == 1


def test_places_are_taken_up_to_the_limit() -> None:
    places = InFlight(8)
    assert places.take(10, 0) == START
    assert places.take(10, 0) == 0
    places.give_back()
    assert places.take(10, 0) == 1
    assert places.taken == START


def test_a_wait_for_a_place_ends_when_one_is_given_back() -> None:
    places = InFlight(1)
    places.take(1, 0)
    threading.Timer(0.05, places.give_back).start()
    assert places.take(1, 10) == 1


@pytest.mark.parametrize("ceiling", [2, 3, 8])
def test_it_grows_to_the_ceiling_while_every_place_is_used(ceiling: int) -> None:
    places = InFlight(ceiling)
    for _ in range(ROUNDS * ceiling * ceiling):
        places.take(10, 0)
        places.grow()
    assert places.limit == ceiling


def test_one_more_comes_after_full_rounds_of_successes() -> None:
    places = InFlight(8)
    places.take(10, 0)
    for _ in range(ROUNDS * START - 5):
        places.grow()
    assert places.limit == START
    for _ in range(10):
        places.grow()
    assert places.limit == START + 1


def test_idle_places_are_no_reason_to_grow() -> None:
    places = InFlight(8)
    places.take(1, 0)
    for _ in range(1000):
        places.grow()
    assert places.limit == START


def test_a_refusal_halves_once_for_all_that_were_on_their_way() -> None:
    clock = Clock()
    places = InFlight(8, clock)
    places._limit = 8.0
    clock.now = 10.0
    for sent_at in (9.0, 9.1, 9.2):
        places.shrink(sent_at)
    assert places.limit == 4
    places.shrink(11.0)
    assert places.limit == 2
    for sent_at in range(12, 30):
        clock.now = sent_at
        places.shrink(sent_at)
    assert places.limit == 1
