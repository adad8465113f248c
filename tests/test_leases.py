"""Leases last as long as the work, and no longer."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from conftest import Aws, queue_state

import events.source.leases
from events.source.leases import Leases

PUT = (Path(__file__).parent / "events" / "s3_put.json").read_text()


def leased(aws: Aws, seconds: int) -> str:
    aws.sqs.send_message(QueueUrl=aws.resources.queue_url, MessageBody=PUT)
    (message,) = aws.sqs.receive_message(
        QueueUrl=aws.resources.queue_url, VisibilityTimeout=seconds
    )["Messages"]
    handle: str = message["ReceiptHandle"]
    return handle


def test_what_is_held_is_extended(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events.source.leases, "BEATS_PER_LEASE", 30)  # a beat is a second
    with Leases(aws.sqs, aws.resources.queue_url, 30) as leases:
        leases.hold(leased(aws, 5))
        time.sleep(6)
        assert queue_state(aws) == (0, 1)


def test_a_released_message_is_not_held_any_more(aws: Aws) -> None:
    with Leases(aws.sqs, aws.resources.queue_url, 3) as leases:
        handle = leased(aws, 30)
        leases.hold(handle)
        leases.release(handle, 0)
        assert len(leases) == 0
        time.sleep(1.5)  # a beat is a second
        assert queue_state(aws) == (1, 0)


class SlowQueue:
    """Keeps each beat's call until it is told, and the visibility that came last of each handle."""

    def __init__(self) -> None:
        self.visibility: dict[str, int] = {}
        self.called, self.go_on = threading.Event(), threading.Event()

    def change_message_visibility_batch(self, Entries: list[dict[str, Any]], **_: object) -> Any:
        self.called.set()
        assert self.go_on.wait(30)
        for entry in Entries:
            self.visibility[entry["ReceiptHandle"]] = entry["VisibilityTimeout"]
        return {}

    def change_message_visibility(
        self, ReceiptHandle: str, VisibilityTimeout: int, **_: object
    ) -> None:
        self.visibility[ReceiptHandle] = VisibilityTimeout


def test_a_beat_that_is_under_way_does_not_take_a_release_back() -> None:
    queue = SlowQueue()
    waiting: Any = queue
    handles = [f"handle-{number:02}" for number in range(11)]  # two calls
    with Leases(waiting, "q", 1) as leases:
        for handle in handles:
            leases.hold(handle)
        assert queue.called.wait(30)
        # One of the call that is under way, and one of the next.
        released = (handles[0], handles[-1])
        threads = [threading.Thread(target=leases.release, args=(each, 0)) for each in released]
        for thread in threads:
            thread.start()
        time.sleep(0.2)  # for a release that does not wait to overtake the call
        queue.go_on.set()
        for thread in threads:
            thread.join(30)
        for handle in handles[1:-1]:
            leases.let_go(handle)
    assert [queue.visibility[handle] for handle in released] == [0, 0]
    assert len(leases) == 0


def test_everything_can_be_given_back_at_once(aws: Aws) -> None:
    leases = Leases(aws.sqs, aws.resources.queue_url, 30)
    for _ in range(3):
        leases.hold(leased(aws, 30))
    leases.release_all()
    assert (len(leases), queue_state(aws)) == (0, (3, 0))


class FailingQueue:
    """Answers the heartbeat as told."""

    def __init__(self, *answers: dict[str, object] | Exception) -> None:
        self.answers = list(answers)
        self.beats = 0

    def change_message_visibility_batch(self, **_: object) -> dict[str, object]:
        self.beats += 1
        answer = self.answers.pop(0) if self.answers else {"Successful": []}
        if isinstance(answer, Exception):
            raise answer
        return answer


def failure(code: str, final: bool) -> dict[str, object]:
    return {"Failed": [{"Id": "0", "Code": code, "SenderFault": final}]}


@pytest.mark.parametrize(
    ("answer", "held"),
    [
        (failure("ReceiptHandleIsInvalid", True), 0),
        (failure("InternalError", False), 1),
        (EndpointConnectionError(endpoint_url="http://q"), 1),
        (KeyError("a fault of ours"), 1),
    ],
)
def test_a_failed_beat_loses_only_what_cannot_be_extended(
    answer: dict[str, object] | Exception, held: int
) -> None:
    lost: list[int] = []
    queue: Any = FailingQueue(answer)
    with Leases(queue, "q", 1, lambda: lost.append(1)) as leases:
        leases.hold("handle")
        deadline = time.monotonic() + 30
        # A second beat says that the first one's answer has been dealt with; nothing held, no beat.
        while queue.beats < 1 + held or len(lost) < 1 - held:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert leases.beating
        assert (len(leases), len(lost)) == (held, 1 - held)
