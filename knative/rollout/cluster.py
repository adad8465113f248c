"""The Kubernetes API, as far as a rollout needs it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Final

import urllib3
from kubernetes.client import ApiClient, CoreV1Api, CustomObjectsApi
from kubernetes.client.exceptions import ApiException

from knative.rollout.objects import BECAUSE, REJECTED, Revision, Service, Targets

log = logging.getLogger(__name__)

GROUP, VERSION = "serving.knative.dev", "v1"
TIMEOUT: Final = (3, 10)  # seconds to connect, to read: an API server that is well is far below
# Worth another try: API server or Knative's webhook away, overloaded or being replaced.
PASSING: Final = frozenset({0, 408, 429, 500, 502, 503, 504})
MESSAGE: Final = 1000  # characters of an Event's message; Kubernetes takes 1024

Patch = dict[str, dict[str, object]]


class Conflict(Exception):
    """Somebody else has changed the service since it was looked at: look again."""


class Unavailable(Exception):
    """The API did not answer: try again."""


class Refused(Exception):
    """The API said no, and would say it again."""


class Cluster:
    """One Knative Service and its revisions."""

    def __init__(self, api: ApiClient, namespace: str, ksvc: str) -> None:
        self.objects = CustomObjectsApi(api)
        self.core = CoreV1Api(api)
        self.namespace = namespace
        self.ksvc = ksvc

    def service(self) -> Service:
        """Read the service. Raises `Unavailable` and `Refused`."""
        return Service.from_json(self._call("get", "services", self.ksvc))

    def revision(self, name: str) -> Revision | None:
        """Read a revision, None where there is no such. Raises `Unavailable` and `Refused`."""
        try:
            return Revision.from_json(self._call("get", "revisions", name))
        except Refused as err:
            if isinstance(err.__cause__, ApiException) and err.__cause__.status == 404:
                return None
            raise

    def route(self, traffic: Targets, resource_version: str) -> None:
        """Replace the traffic list, unless the service has changed since it was looked at.

        Raises `Conflict`, `Unavailable` (it may have been done all the same) and `Refused`.
        """
        patch: Patch = {
            "metadata": {"resourceVersion": resource_version},
            "spec": {"traffic": [target.json() for target in traffic]},
        }
        self._call("patch", "services", self.ksvc, patch)

    def mark(self, revision: str, because: str) -> None:
        """Note on the service which revision was rejected. Raises `Unavailable` and `Refused`."""
        patch: Patch = {"metadata": {"annotations": {REJECTED: revision, BECAUSE: because}}}
        self._call("patch", "services", self.ksvc, patch)

    def tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        """Write a Kubernetes Event on the service; where that fails, only log it."""
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        event = {
            "metadata": {"generateName": f"{self.ksvc}-rollout-", "namespace": self.namespace},
            "involvedObject": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": "Service",
                "name": self.ksvc,
                "namespace": self.namespace,
            },
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message[:MESSAGE],
            "source": {"component": "shelf-rollout"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            self.core.create_namespaced_event(self.namespace, event, _request_timeout=TIMEOUT)
        except (ApiException, urllib3.exceptions.HTTPError) as err:
            log.warning("event.lost", extra={"reason": reason, "error": type(err).__name__})

    def _call(
        self, verb: str, plural: str, name: str, body: Patch | None = None
    ) -> dict[str, object]:
        method = getattr(self.objects, f"{verb}_namespaced_custom_object")
        where = (GROUP, VERSION, self.namespace, plural, name)
        try:
            answer: dict[str, object] = method(
                *where, *([body] if body else []), _request_timeout=TIMEOUT
            )
        except ApiException as err:
            msg = f"{verb} {plural}/{name}: HTTP {err.status}"
            if err.status == 409:
                raise Conflict(msg) from err
            if err.status in PASSING:
                raise Unavailable(msg) from err
            raise Refused(msg) from err
        except urllib3.exceptions.HTTPError as err:
            msg = f"{verb} {plural}/{name}: {type(err).__name__}"
            raise Unavailable(msg) from err
        return answer
