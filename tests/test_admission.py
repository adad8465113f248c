"""Who waits for the processor, in which order, and who is told to come again."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from copy import copy
from dataclasses import replace

import pytest

from function import admission
from function.admission import AT_WORK, MAX_WAITING, Admission, Processors
from function.audit import audit_image
from function.detections import Thresholds
from function.detector import Detector
from function.errors import ImageCorrupt, Overloaded
from function.memory_budget import MemoryBudget
from function.metrics import Metrics

SECONDS = 10.0  # long enough for any machine


class Crowd:
    """Images that keep their turns until they are let go, and the order in which they got them."""

    def __init__(self, queue: Admission) -> None:
        self.queue = queue
        self.go_on = threading.Semaphore(0)
        self.served: list[int] = []
        self.refused: list[Overloaded] = []
        self.threads: list[threading.Thread] = []

    def add(self) -> None:
        """Let one more come, and see it at work, waiting or refused."""
        before = self.seen()
        self.threads.append(threading.Thread(target=self._work, args=(len(self.threads),)))
        self.threads[-1].start()
        until(lambda: self.seen() > before)

    def seen(self) -> int:
        return len(self.served) + len(self.queue._waiting) + len(self.refused)

    def _work(self, number: int) -> None:
        try:
            with self.queue.turn():
                self.served.append(number)
                self.go_on.acquire(timeout=SECONDS)
        except Overloaded as err:
            self.refused.append(err)

    def end(self) -> None:
        for _ in self.threads:
            self.go_on.release()
        for thread in self.threads:
            thread.join(SECONDS)


def until(come: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not come():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize(
    ("images", "at_work", "waiting", "refused"),
    [
        pytest.param(0, 0, 0, 0, id="nobody"),
        pytest.param(AT_WORK, AT_WORK, 0, 0, id="all-at-work"),
        pytest.param(8, AT_WORK, 8 - AT_WORK, 0, id="what-knative-admits"),
        pytest.param(AT_WORK + MAX_WAITING, AT_WORK, MAX_WAITING, 0, id="full"),
        pytest.param(AT_WORK + MAX_WAITING + 2, AT_WORK, MAX_WAITING, 2, id="too-many"),
    ],
)
def test_who_comes_first_is_served_first_and_who_is_too_many_not_at_all(
    images: int, at_work: int, waiting: int, refused: int
) -> None:
    crowd = Crowd(Admission())
    for _ in range(images):
        crowd.add()
    seen = len(crowd.served), len(crowd.queue._waiting), len(crowd.refused)
    for _ in range(waiting):
        before = len(crowd.served)
        crowd.go_on.release()
        until(lambda before=before: len(crowd.served) > before)  # type: ignore[misc]  # mypy infers no lambda with a default
    crowd.end()
    assert seen == (at_work, waiting, refused)
    assert crowd.served == list(range(images - refused))


@pytest.mark.parametrize(
    ("pace", "waiting", "retry_after"),
    [
        pytest.param(0.07, MAX_WAITING - 1, None, id="small-model"),
        pytest.param(2.4, 1, None, id="just-in-time"),
        pytest.param(2.6, 1, 1, id="too-late"),
        pytest.param(3.0, 3, 7, id="much-too-late"),
    ],
)
def test_who_would_wait_too_long_is_told_so_at_once(
    pace: float, waiting: int, retry_after: int | None
) -> None:
    """`pace` seconds an image: who comes behind `waiting` others waits for one more than they."""
    crowd = Crowd(Admission())
    for _ in range(AT_WORK + waiting):
        crowd.add()
    crowd.queue._pace = pace
    crowd.add()
    crowd.end()
    assert [err.retry_after for err in crowd.refused] == (
        [] if retry_after is None else [retry_after]
    )


def test_the_pace_is_that_of_images_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three at work that end together after 30 ms took 10 each, on the average."""
    clock = iter([0.0, 0.0, 0.0, 0.03, 0.03, 0.03, 1.0, 1.0, 1.0, 1.03, 1.03, 1.03])
    monkeypatch.setattr("function.admission.time.monotonic", lambda: next(clock))
    monkeypatch.setattr(admission, "WEIGHT", 0.0)
    queue, paces = Admission(), []
    for weight in (1 / 2, 1 / 3):
        with ExitStack() as turns:
            for _ in range(AT_WORK):
                turns.enter_context(queue.turn())
            monkeypatch.setattr(admission, "WEIGHT", weight)
        paces.append(queue._pace)
    assert paces == pytest.approx([0.0075, (0.0075 * 2 / 3 + 0.01) * 4 / 9])


def test_a_wait_that_gets_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "WAIT_SECONDS", 0.02)
    queue = Admission()
    with ExitStack() as turns:
        for _ in range(AT_WORK):
            turns.enter_context(queue.turn())
        with pytest.raises(Overloaded, match="waited"), queue.turn():
            pass
    with queue.turn():
        assert not queue._waiting


def test_who_waits_for_memory_stands_in_line_too() -> None:
    memory, queue = MemoryBudget(capacity=AT_WORK + 1, purpose="to be tried in"), Admission()
    gone = threading.Event()

    def work() -> None:
        with queue.turn(memory.hold(1)):
            gone.wait(SECONDS)

    threads = [threading.Thread(target=work) for _ in range(AT_WORK + MAX_WAITING)]
    for thread in threads:
        thread.start()
    until(lambda: (queue._working, queue._coming + len(queue._waiting)) == (AT_WORK, MAX_WAITING))
    with pytest.raises(Overloaded, match=r"behind 16$"), queue.turn(memory.hold(1)):
        pass
    gone.set()
    for thread in threads:
        thread.join(SECONDS)
    with queue.turn(memory.hold(AT_WORK + 1)):
        assert (queue._working, queue._coming, len(queue._waiting)) == (1, 0, 0)


def test_who_gets_no_memory_leaves_the_line() -> None:
    memory = MemoryBudget(capacity=1, purpose="to be tried in", wait_seconds=0.02)
    queue = Admission()
    with memory.hold(1), pytest.raises(Overloaded, match="memory"), queue.turn(memory.hold(1)):
        pass
    assert (queue._working, queue._coming) == (0, 0)


def test_who_is_refused_is_not_decoded_and_what_fails_gives_its_turn_back(
    detector: Detector, make_image: Callable[..., bytes]
) -> None:
    detector = replace(detector, admission=Admission())
    photo, cut = make_image(), make_image()[:-9]

    def count(data: bytes) -> int:
        return audit_image(data, detector, Thresholds(), Metrics())["count"]

    crowd = Crowd(detector.admission)
    for _ in range(AT_WORK + MAX_WAITING):
        crowd.add()
    with pytest.raises(Overloaded, match=r"behind 16$"):
        count(cut)  # that it is damaged would show in decoding
    crowd.end()
    for _ in range(AT_WORK + 1):
        with pytest.raises(ImageCorrupt):
            count(cut)
    assert count(photo) == 0


class Inferences:
    """Inferences that run until they are let end; each is "all" or "one" while it runs."""

    def __init__(self, processors: Processors) -> None:
        self.processors = processors
        self.has: dict[int, str] = {}
        self.threads: list[threading.Thread] = []
        self.ends: list[threading.Event] = []

    def add(self) -> None:
        """Let one more come, and see it run or wait."""
        self.ends.append(threading.Event())
        self.threads.append(threading.Thread(target=self._run, args=(len(self.threads),)))
        before = len(self.processors._here)
        self.threads[-1].start()
        until(lambda: len(self.processors._here) > before)
        self.settle()

    def _run(self, number: int) -> None:
        with self.processors.hold(SECONDS) as alone:
            self.has[number] = "all" if alone else "one"
            self.ends[number].wait(SECONDS)
            del self.has[number]

    def end(self, number: int) -> None:
        self.ends[number].set()
        self.threads[number].join(SECONDS)
        self.settle()

    def settle(self) -> None:
        """Wait until all that may have processors have them, and say so."""
        processors = self.processors

        def settled() -> bool:
            with processors._changed:
                begun = [one for one in processors._here if one.began is not None]
                waiting = [copy(one) for one in processors._here if one.began is None]
                left = any(processors._begin(one) for one in waiting)
            return not left and len(begun) == len(self.has)

        until(settled)


@pytest.mark.parametrize(
    ("processors", "steps", "seen"),
    [
        pytest.param(2, "", [], id="nobody"),
        pytest.param(2, "+", ["all"], id="alone"),
        pytest.param(2, "+ -0 +", ["all", "", "all"], id="one-after-another"),
        pytest.param(2, "+ +", ["all", "all"], id="the-second-waits"),
        pytest.param(2, "+ + -0", ["all", "all", "one"], id="and-then-has-one"),
        pytest.param(2, "+ + -0 + +", ["all", "all", "one", "one one", "one one"], id="a-crowd"),
        pytest.param(
            2, "+ + -0 + -1 -2 +", ["all", "all", "one", "one one", "one", "", "all"], id="gone"
        ),
        pytest.param(1, "+ + -0", ["all", "all", "all"], id="of-one-processor"),
        pytest.param(4, "+ + -0", ["all", "all", "all"], id="no-crowd-for-four"),
        pytest.param(4, "+ + + + -0", ["all"] * 4 + ["one one one"], id="a-crowd-for-four"),
    ],
)
def test_an_image_alone_has_all_processors_and_of_several_each_has_one(
    processors: int, steps: str, seen: list[str]
) -> None:
    """`+` is one that comes, `-0` the first one's end; `seen` is who runs after each step."""
    running, told = Inferences(Processors(processors)), []
    for step in steps.split():
        if step == "+":
            running.add()
        else:
            running.end(int(step[1:]))
        told.append(" ".join(running.has.values()))
    for end in running.ends:
        end.set()
    for thread in running.threads:
        thread.join(SECONDS)
    assert told == seen
    assert running.processors.longest() == 0


def test_who_waits_too_long_for_processors_makes_room_again() -> None:
    processors = Processors(2)
    with processors.hold(SECONDS):
        with pytest.raises(Overloaded, match="waited"), processors.hold(0.02):
            pass
        time.sleep(0.01)
        assert 0.01 <= processors.longest() < SECONDS
    with processors.hold(SECONDS) as alone:
        assert alone


def test_who_gives_up_takes_nobody_else_out_of_line() -> None:
    processors, served = Processors(2), []

    def wait() -> None:
        with processors.hold(SECONDS) as alone:
            served.append(alone)

    with processors.hold(SECONDS):
        waiting = threading.Thread(target=wait)
        waiting.start()
        until(lambda: len(processors._here) == 2)
        with pytest.raises(Overloaded), processors.hold(0.02):
            pass
    waiting.join(SECONDS)
    assert (served, processors._here) == ([False], [])
