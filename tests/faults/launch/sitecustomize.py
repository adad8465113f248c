"""Loaded by Python itself in the processes under test: breaks the product on purpose.

`FAULTS` names what to do, comma-separated. A patch is applied when its module has been imported, so
that nothing of this is in the product.
"""

import importlib.abc
import importlib.machinery
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

# Any, here and below: a fault changes what types would protect.
Fault = Callable[[Any], None]
PATCHES: dict[str, list[tuple[str, Fault]]] = {}


def patch(name: str, module: str) -> Callable[[Fault], Fault]:
    """Register what to do to a module under a name."""

    def register(function: Fault) -> Fault:
        PATCHES.setdefault(module, []).append((name, function))
        return function

    return register


# --- time, photos and the detector -----------------------------------------------------------


@patch("hasty", "events.source.delivery")
def back_off_in_seconds(delivery: Any) -> None:
    """Minutes of back-off become seconds; its form stays."""
    delivery.BACKOFF_BASE, delivery.BACKOFF_CAP, delivery.HOLD_CAP = 0.5, 4.0, 2.0


@patch("hasty", "events.source.breaker")
def probe_in_seconds(breaker: Any) -> None:
    breaker.LONGEST_PAUSE = 5.0


@patch("killer", "function.audit")
def photo_that_kills(audit: Any) -> None:
    """A photo that ends in KILL takes the worker with it, as a fault in a decoder would."""
    read = audit.read_header

    def read_header(data: bytes, *rest: Any) -> Any:
        if data.endswith(b"KILL"):
            os.kill(os.getpid(), signal.SIGKILL)
        return read(data, *rest)

    audit.read_header = read_header


@patch("slow", "function.detector")
def slow_inference(detector: Any) -> None:
    """Longer than a lease."""
    run = detector.Detector._run

    def slow(self: Any, session: Any, tensor: Any) -> Any:
        time.sleep(4.5)
        return run(self, session, tensor)

    detector.Detector._run = slow


@patch("stand-in", "function.detector")
def detector_of_a_millisecond(detector: Any) -> None:
    """For the large backlog alone: what is measured there is the path."""
    import numpy as np

    def run(self: Any, session: Any, tensor: Any) -> Any:
        time.sleep(0.001)
        return np.zeros((1, 4 + len(self.model.names), 8), np.float32)  # nothing of any class

    detector.Detector._run = run


# --- mutants: each must be caught ------------------------------------------------------------


@patch("delete-before-send", "events.source.delivery")
def delete_before_send(delivery: Any) -> None:
    deliver = delivery.Delivery.deliver

    def delete_first(self: Any, message: Any, stop: Any) -> None:
        self.deletions._sqs.delete_message(
            QueueUrl=self.deletions._queue_url, ReceiptHandle=message["ReceiptHandle"]
        )
        deliver(self, message, stop)

    delivery.Delivery.deliver = delete_first


@patch("mark-before-publish", "function.audit")
def mark_before_publish(audit: Any) -> None:
    publish = audit.Auditor._publish

    def mark_first(self: Any, event: Any, names: set[str]) -> None:
        for name in names:
            self._mark_published(name)
        publish(self, event, names)

    audit.Auditor._publish = mark_first


@patch("no-heartbeat", "events.source.leases")
def no_heartbeat(leases: Any) -> None:
    leases.Leases._beat = lambda self: self._stopped.wait()


@patch("no-breaker", "events.source.breaker")
def no_breaker(breaker: Any) -> None:
    breaker.Breaker.away = lambda self, *_: None


@patch("no-if-none-match", "events.outbox")
def no_if_none_match(outbox: Any) -> None:
    def put(self: Any, audit_id: str, audit: Any) -> Any:
        body = outbox.json.dumps(audit.data).encode()
        key = f"{outbox.RESULTS}{audit_id}.json"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, Metadata=audit.attributes)
        return audit

    outbox.Outbox.put = put


@patch("delete-before-copy", "events.source.delivery")
def delete_before_copy(delivery: Any) -> None:
    give_up = delivery.Delivery._give_up

    def delete_first(self: Any, message: Any, letters: Any) -> None:
        self.deletions._sqs.delete_message(
            QueueUrl=self.deletions._queue_url, ReceiptHandle=message["ReceiptHandle"]
        )
        give_up(self, message, letters)

    delivery.Delivery._give_up = delete_first


@patch("credentials-as-any-failure", "function.s3")
def credentials_as_any_failure(s3: Any) -> None:
    s3.CREDENTIALS = frozenset()


@patch("one-record-for-all", "events.s3_notification")
def one_record_for_all(s3_notification: Any) -> None:
    """What is wrong with one record is taken for the whole message's."""
    item = s3_notification._item

    def raising(*arguments: Any) -> Any:
        found = item(*arguments)
        if isinstance(found, s3_notification.InvalidEvent):
            raise found
        return found

    s3_notification._item = raising


# --- the hook --------------------------------------------------------------------------------


class Patcher(importlib.abc.MetaPathFinder):
    """Applies patches after a module's own code has run."""

    def __init__(self, wanted: set[str]) -> None:
        self.wanted = wanted

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        chosen = [function for name, function in PATCHES.get(fullname, []) if name in self.wanted]
        spec = importlib.machinery.PathFinder.find_spec(fullname, path) if chosen else None
        if spec is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_and_patch(module: ModuleType) -> None:
            execute(module)
            for function in chosen:
                function(module)
                print(f"faults: {fullname} {function.__name__}", file=sys.stderr, flush=True)

        loader.exec_module = exec_and_patch
        return spec


if wanted := set(os.environ.get("FAULTS", "").split(",")) - {""}:
    unknown = wanted - {name for patches in PATCHES.values() for name, _ in patches}
    if unknown:
        raise SystemExit(f"FAULTS names {unknown}, which is not here")
    sys.meta_path.insert(0, Patcher(wanted))
