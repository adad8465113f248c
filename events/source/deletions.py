"""Messages that are done: deleted in batches, their leases held until then."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from events.source.leases import Leases
from events.sqs import MAX_ENTRIES, delete_all

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.2  # a batch goes when it is full or this old
TRIES = 3
PAUSE_SECONDS = 0.5  # between two tries


class Deletions:
    """A thread that deletes what it is given; leaving the block deletes the rest."""

    def __init__(self, sqs: SQSClient, queue_url: str, leases: Leases) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._leases = leases
        self._done: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="deletions", daemon=True)

    def __enter__(self) -> Deletions:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.put(None)
        self._thread.join()

    @property
    def running(self) -> bool:
        """Whether the thread still deletes."""
        return self._thread.is_alive()

    def add(self, receipt_handle: str) -> None:
        """Delete this message soon; its lease is let go then."""
        self._done.put(receipt_handle)

    def _run(self) -> None:
        more = True
        while more:
            batch, more = self._gather()
            try:
                self._delete(batch)
            except Exception:  # the thread must live, or everything comes twice
                log.exception("message.delete_failed")
            for receipt_handle in batch:
                self._leases.let_go(receipt_handle)

    def _gather(self) -> tuple[list[str], bool]:
        """Collect a batch; False with the last one."""
        first = self._done.get()
        if first is None:
            return [], False
        batch = [first]
        deadline = time.monotonic() + GATHER_SECONDS
        while len(batch) < MAX_ENTRIES:
            try:
                item = self._done.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if item is None:
                return batch, False
            batch.append(item)
        return batch, True

    def _delete(self, batch: list[str]) -> None:
        """Delete, and try again what failed; what stays comes again, and is known by its id."""
        for attempt in range(TRIES):
            if not batch:
                return
            if attempt:
                time.sleep(PAUSE_SECONDS)
            batch = self._try(batch)
        if batch:
            log.warning("message.delete_failed", extra={"messages": len(batch)})

    def _try(self, batch: list[str]) -> list[str]:
        """Delete once; return the failures to retry."""
        try:
            failed = delete_all(self._sqs, self._queue_url, batch)
        except (ClientError, BotoCoreError) as err:
            log.warning("message.delete_failed", extra={"error": str(err)})
            return batch
        # A handle that is no good any more is not tried again: another source has received the
        # message since.
        return [batch[entry.index] for entry in failed if not entry.final]
