"""Who waits for the processor, in which order, and who is told to come again."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from function import admission
from function.admission import AT_WORK, MAX_WAITING, Admission
from function.audit import audit_image
from function.detections import Thresholds
from function.detector import Detector
from function.errors import ImageCorrupt, Overloaded
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


def test_who_is_refused_is_not_decoded_and_what_fails_gives_its_turn_back(
    detector: Detector, make_image: Callable[..., bytes]
) -> None:
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
