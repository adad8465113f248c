"""While the sink is away, the source tries one message a pause, each time another."""

import random
import threading

import pytest

from events.source.breaker import FIRST_PAUSE, LONGEST_PAUSE, OPENS_AT, Breaker

STOP = threading.Event()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(random, "uniform", lambda _, high: high)
    return Clock()


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for number in range(OPENS_AT):
        breaker.away(f"message-{number}")
    assert (breaker.state, breaker.pause) == ("open", FIRST_PAUSE)
    return breaker


def test_closed_lets_everyone_through(clock: Clock) -> None:
    breaker = Breaker(clock)
    assert breaker.state == "closed"
    assert breaker.wait(STOP)
    assert not breaker.needs_probe()


def test_one_message_alone_never_opens_it(clock: Clock) -> None:
    breaker = Breaker(clock)
    for _ in range(100):
        breaker.away("killer")
    assert breaker.state == "closed"


def test_an_answer_between_starts_the_count_anew(clock: Clock) -> None:
    breaker = Breaker(clock)
    for number in range(10):
        breaker.away(f"message-{number}")
        breaker.away("killer")
        assert breaker.state == "closed"
        breaker.answered()


def test_several_messages_open_it_until_one_is_answered(clock: Clock) -> None:
    breaker = opened(clock)
    assert not breaker.needs_probe()
    clock.now += FIRST_PAUSE
    assert breaker.needs_probe()
    assert breaker.wait(STOP)
    assert breaker.state == "half-open"
    assert not breaker.needs_probe()  # one at a time
    breaker.answered()
    assert (breaker.state, breaker.pause) == ("closed", 0)


def test_pauses_double_up_to_the_longest(clock: Clock) -> None:
    breaker = opened(clock)
    pauses = []
    for _ in range(9):
        started = clock.now
        while not breaker.needs_probe():
            clock.now += 0.5
        pauses.append(clock.now - started)
        assert breaker.wait(STOP)
        breaker.away("message")
    assert pauses == [min(LONGEST_PAUSE, FIRST_PAUSE * 2**n) for n in range(9)]


def test_retry_after_lengthens_a_pause(clock: Clock) -> None:
    breaker = Breaker(clock)
    for number in range(OPENS_AT):
        breaker.away(f"message-{number}", retry_after=20)
    clock.now += 19
    assert not breaker.needs_probe()
    clock.now += 1
    assert breaker.needs_probe()


def test_failures_sent_before_it_opened_do_not_lengthen_the_pause(clock: Clock) -> None:
    breaker = opened(clock)
    for number in range(10):
        breaker.away(f"late-{number}")
    clock.now += FIRST_PAUSE
    assert breaker.needs_probe()


def test_those_that_wait_probe_in_turn(clock: Clock) -> None:
    """Each failed probe goes to the end of the line; nothing new is received for them."""
    breaker = opened(clock)
    probes: list[str] = []
    done = threading.Event()

    def try_until_answered(name: str) -> None:
        while breaker.wait(done):
            if breaker.state == "closed":
                return
            probes.append(name)
            if len(probes) == 6:
                breaker.answered()
            else:
                breaker.away(name)

    threads = [threading.Thread(target=try_until_answered, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    while breaker.state != "closed":
        assert not breaker.needs_probe()
        if len(breaker._line) == 3:
            clock.now += LONGEST_PAUSE
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert probes[:3] == probes[3:]
    assert sorted(probes[:3]) == ["a", "b", "c"]


def test_the_word_to_stop_ends_the_wait(clock: Clock) -> None:
    breaker = opened(clock)
    stop = threading.Event()
    stop.set()
    assert not breaker.wait(stop)
