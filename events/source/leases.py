"""Leases on SQS messages: kept while the work lasts, given back when it failed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from events.sqs import change_visibility, tens

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

# Three beats fit into a lease, so that two may fail.
BEATS_PER_LEASE = 3


class Leases:
    """The messages this process holds; a thread extends them until they are let go."""

    def __init__(
        self,
        sqs: SQSClient,
        queue_url: str,
        visibility_timeout: int,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._visibility_timeout = visibility_timeout  # seconds
        self._on_lost = on_lost
        self._held: set[str] = set()  # receipt handles
        self._lock = threading.Lock()
        self._extending = threading.Lock()  # while a call of the beat is under way
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="leases", daemon=True)

    def __enter__(self) -> Leases:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def beating(self) -> bool:
        """Whether held leases are extended."""
        return self._thread.is_alive()

    def hold(self, receipt_handle: str) -> None:
        """Extend this message's lease until it is let go."""
        with self._lock:
            self._held.add(receipt_handle)

    def let_go(self, receipt_handle: str) -> None:
        """Stop extending; the queue keeps or loses the message as the caller decides."""
        with self._lock:
            self._held.discard(receipt_handle)

    def release(self, receipt_handle: str, delay: int) -> None:
        """Give a message back, to be received again after `delay` seconds."""
        # First out of the set, and not while a beat's call is under way: SQS might do that one
        # last, and extend what was just shortened.
        with self._extending:
            self.let_go(receipt_handle)
        try:
            self._sqs.change_message_visibility(
                QueueUrl=self._queue_url, ReceiptHandle=receipt_handle, VisibilityTimeout=delay
            )
        except (ClientError, BotoCoreError) as err:
            # The lease runs out by itself; only the wait is longer.
            log.warning("lease.release_failed", extra={"error": str(err)})

    def release_all(self) -> None:
        """Give everything back at once: the process is about to end."""
        for receipt_handle in self._snapshot():
            self.release(receipt_handle, 0)

    def _snapshot(self) -> list[str]:
        with self._lock:
            return sorted(self._held)

    def _beat(self) -> None:
        while not self._stopped.wait(self._visibility_timeout / BEATS_PER_LEASE):
            held = self._snapshot()
            for batch in tens(range(len(held))):  # each alone: one that fails costs ten, not all
                try:
                    self._extend_held([held[index] for index in batch])
                except Exception:  # the thread must live, or every lease runs out
                    log.exception("lease.extend_failed")

    def _extend_held(self, receipt_handles: list[str]) -> None:
        """Extend those that were not let go since they were listed."""
        with self._extending:
            with self._lock:
                still_held = [handle for handle in receipt_handles if handle in self._held]
            if still_held:
                self._extend(still_held)

    def _extend(self, receipt_handles: list[str]) -> None:
        try:
            failed = change_visibility(
                self._sqs, self._queue_url, receipt_handles, self._visibility_timeout
            )
        except (ClientError, BotoCoreError) as err:
            log.warning("lease.extend_failed", extra={"error": str(err)})
            return
        for entry in failed:
            self._failed(receipt_handles[entry.index], entry.code, entry.final)

    def _failed(self, receipt_handle: str, code: str, final: bool) -> None:
        """Forget a lease that cannot be extended any more; one let go since then is no loss."""
        with self._lock:
            lost = final and receipt_handle in self._held
            if lost:
                self._held.discard(receipt_handle)
        if lost:
            self._on_lost()
            log.warning("lease.lost", extra={"code": code})
