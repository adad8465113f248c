"""What is done is deleted in batches, and what a batch left is tried again."""

import time
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from events.source import deletions as module
from events.source.deletions import TRIES, Deletions
from events.sqs import MAX_ENTRIES


class Held:
    """Stands in for the leases: remembers what was let go."""

    def __init__(self) -> None:
        self.let_go_of: list[str] = []

    def let_go(self, receipt_handle: str) -> None:
        self.let_go_of.append(receipt_handle)


class BatchQueue:
    """A queue with state; `fail` says of each message how often its deletion fails, and how."""

    def __init__(self, *messages: str) -> None:
        self.messages = set(messages)
        self.fail: dict[str, list[str]] = {}
        self.batches: list[int] = []
        self.down = 0

    def delete_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, str]]) -> object:
        self.batches.append(len(Entries))
        if self.down:
            self.down -= 1
            raise EndpointConnectionError(endpoint_url=QueueUrl)
        failed = []
        for entry in Entries:
            handle = entry["ReceiptHandle"]
            if codes := self.fail.get(handle):
                code = codes.pop(0)
                sender = code == "ReceiptHandleIsInvalid"
                failed.append({"Id": entry["Id"], "Code": code, "SenderFault": sender})
            else:
                self.messages.discard(handle)
        return {"Successful": [], "Failed": failed}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    # Until the block is left, which ends the last batch: no stall cuts one short.
    monkeypatch.setattr(module, "GATHER_SECONDS", 60.0)


def delete(queue: Any, *handles: str) -> Any:
    held: Any = Held()
    with Deletions(queue, "q", held) as deletions:
        for handle in handles:
            deletions.add(handle)
    assert sorted(held.let_go_of) == sorted(handles)
    return held


@pytest.mark.parametrize("count", [0, 1, MAX_ENTRIES, MAX_ENTRIES + 1, 35])
def test_all_are_deleted_ten_at_a_time(count: int) -> None:
    handles = [f"h{number}" for number in range(count)]
    queue = BatchQueue(*handles)
    delete(queue, *handles)
    assert queue.messages == set()
    assert max(queue.batches, default=0) <= MAX_ENTRIES
    assert len(queue.batches) == -(-count // MAX_ENTRIES)


def test_a_batch_does_not_wait_to_be_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.2)
    queue: Any = BatchQueue("a")
    held: Any = Held()
    with Deletions(queue, "q", held) as deletions:
        deletions.add("a")
        deadline = time.monotonic() + 30
        while queue.messages:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_what_failed_inside_a_200_is_tried_again() -> None:
    queue = BatchQueue("a", "b", "c")
    queue.fail = {"b": ["InternalError"] * (TRIES - 1)}
    delete(queue, "a", "b", "c")
    assert queue.messages == set()
    assert queue.batches == [3] + [1] * (TRIES - 1)


def test_a_handle_that_is_no_good_any_more_is_left() -> None:
    queue = BatchQueue("a", "b")
    queue.fail = {"b": ["ReceiptHandleIsInvalid"] * 9}
    delete(queue, "a", "b")
    assert queue.messages == {"b"}
    assert queue.batches == [2]


def test_what_cannot_be_deleted_is_left_to_come_again() -> None:
    queue = BatchQueue("a", "b")
    queue.down = 99
    delete(queue, "a", "b")
    assert queue.messages == {"a", "b"}


def test_a_queue_that_was_away_for_a_moment_loses_nothing() -> None:
    queue = BatchQueue("a")
    queue.down = TRIES - 1
    delete(queue, "a")
    assert queue.messages == set()
