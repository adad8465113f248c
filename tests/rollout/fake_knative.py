"""Knative as a rollout sees it: the API with its webhook, the controllers and the data plane.

It holds to serving 1.23: the webhook's rules for traffic lists (`route_validation.go`), optimistic
locking, a generation that each change of the spec raises, a status that lags behind (`OutOfDate`),
a Route that programs nothing while any listed revision is not ready, and pods that run only for
revisions that are listed in spec or status.
"""

from __future__ import annotations

import heapq
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from urllib3 import HTTPResponse

PREFIX = "/apis/serving.knative.dev/v1/namespaces/shelf"
KSVC = "shelf-detector"
GENERATION_LAG = 0.5  # seconds until the controller has seen a new spec
CONFIGURATION_LAG = 1.5  # and until the Configuration has made the revision
ROUTE_LAG = 2.0
POD_LAG = 3.0
# The only ways from share to share; None is not listed.
STEPS = {(None, 0), (0, 20), (20, 50), (50, 100)}

Json = dict[str, Any]


@dataclass
class FakeRevision:
    """A revision, and how it will do."""

    name: str
    quality: str = "good"  # what the tests' examiner makes of it
    ready_after: float = 4.0  # seconds; inf: never
    fails_after: float = float("inf")  # Ready becomes False
    min_scale: int = 2
    capacity: int = 2  # pods that find a node
    ready: bool | None = None
    replicas: int = 0

    def json(self) -> Json:
        status = {True: "True", False: "False", None: "Unknown"}[self.ready]
        reason = {} if self.ready else {"reason": "Deploying", "message": "pods are starting"}
        if self.ready is False:
            reason = {"reason": "ExitCode1", "message": "the container failed"}
        scale = {"autoscaling.knative.dev/min-scale": str(self.min_scale)}
        return {
            "metadata": {"name": self.name, "annotations": scale},
            "status": {
                "actualReplicas": self.replicas,
                "conditions": [{"type": "Ready", "status": status, **reason}],
            },
        }


class ApiError(Exception):
    """An answer of the API other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeKnative:
    """One namespace with one Knative Service. `url_of(tag)` names the URLs of the data plane."""

    def __init__(self, url_of: Callable[[str], str] | None = None) -> None:
        self.time = 0.0
        self.revisions: dict[str, FakeRevision] = {}
        self.events: list[Json] = []
        self.denied: set[str] = set()  # verbs that the role lacks
        self.annotations: dict[str, str] = {}
        self.url_of = url_of or (lambda tag: f"http://{tag + '-' if tag else ''}{KSVC}.shelf.svc")
        self.traffic: list[Json] = [{"latestRevision": True, "percent": 100}]
        self.routed: list[Json] = []  # what the gateways are programmed with
        self.generation = self.observed = self.version = 0
        self.latest_created = self.latest_ready = ""
        self.configuration_stale = False
        self.routes_ready: str = "Unknown"
        self.route_due: float | None = None
        self.patches: list[list[Json]] = []  # every traffic list that was taken
        self.shown: dict[str, FakeRevision] = {}  # revisions as a client last saw them
        self.shown_latest = ""
        self.route_lag = ROUTE_LAG
        self.problems: list[str] = []
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    # Time and the controllers

    def at(self, time: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (time, next(self._order), act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.at(self.time + seconds, act)

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while True:
            due = self._agenda[0][0] if self._agenda else float("inf")
            route = self.route_due if self.route_due is not None else float("inf")
            next_time = min(due, route)
            if next_time > end:
                break
            self.time = max(self.time, next_time)
            if due <= route:
                heapq.heappop(self._agenda)[2]()
                self._route_changed()
            else:
                self.route_due = None
                self._program()
        self.time = end

    def apply(self, revision: FakeRevision) -> None:
        """Change the template, as a sync of a new image does."""
        self.revisions[revision.name] = revision
        self.generation += 1
        self.version += 1
        self.after(GENERATION_LAG, lambda: self._observe(stale=True))
        self.after(CONFIGURATION_LAG, lambda: self._configured(revision))

    def settle(self, name: str) -> None:
        """Begin with a stable revision that has all the traffic."""
        self.apply(FakeRevision(name))
        self.traffic = [pinned(name, 100, "stable")]
        self.advance(20)

    def _observe(self, *, stale: bool = False) -> None:
        self.observed = self.generation
        self.configuration_stale = self.configuration_stale or stale

    def _configured(self, revision: FakeRevision) -> None:
        self.observed = self.generation
        self.configuration_stale = False
        self.latest_created = revision.name
        self.after(revision.ready_after, lambda: self.set_ready(revision.name, True))
        self.after(revision.fails_after, lambda: self.set_ready(revision.name, False))
        self.after(POD_LAG, lambda: self._pods(revision, revision.min_scale))  # initial-scale

    def set_ready(self, name: str, ready: bool | None) -> None:
        self.revisions[name].ready = ready
        if ready and name == self.latest_created:
            self.latest_ready = name

    def _pods(self, revision: FakeRevision, wanted: int) -> None:
        revision.replicas = min(wanted, revision.capacity)

    def _targets(self, traffic: list[Json]) -> list[str]:
        return [t.get("revisionName") or self.latest_ready for t in traffic]

    def _route_changed(self) -> None:
        """Reconcile the Route: programmed a little later, or not at all."""
        names = self._targets(self.traffic)
        ready = all(n in self.revisions and self.revisions[n].ready is True for n in names)
        wanted = [{**t, "revisionName": n} for t, n in zip(self.traffic, names, strict=True)]
        if not ready:
            self.routes_ready, self.route_due = "False", None
        elif wanted == self.routed:
            self.routes_ready = "True"
        elif self.route_due is None:
            self.routes_ready, self.route_due = "Unknown", self.time + self.route_lag
        reachable = {*names, *self._targets(self.routed)}
        for revision in self.revisions.values():
            wanted_pods = revision.min_scale if revision.name in reachable else 0
            if min(wanted_pods, revision.capacity) != revision.replicas:
                self.after(POD_LAG, partial(self._pods, revision, wanted_pods))

    def _program(self) -> None:
        names = self._targets(self.traffic)
        if all(n in self.revisions and self.revisions[n].ready is True for n in names):
            self.routed = [
                {**t, "revisionName": n} for t, n in zip(self.traffic, names, strict=True)
            ]
        self._route_changed()

    def share(self, name: str) -> int:
        """Return the percentage of users' requests that a revision really gets."""
        return sum(t.get("percent", 0) for t in self.routed if t["revisionName"] == name)

    # The API

    def handle(self, method: str, path: str, body: Json | None, content_type: str) -> Json:
        """Answer a request. Raises `ApiError`."""
        if method == "POST" and path == "/api/v1/namespaces/shelf/events":
            return self._event(body or {})
        if method == "POST" and path.endswith("/selfsubjectaccessreviews"):
            deed = (body or {})["spec"]["resourceAttributes"]
            return {"spec": {}, "status": {"allowed": deed["verb"] not in self.denied}}
        match = re.fullmatch(f"{PREFIX}/(services|revisions)/([a-z0-9-]+)", path)
        if not match or method not in ("GET", "PATCH"):
            raise ApiError(403, f"{method} {path} is not among what the role allows")
        kind, name = match.groups()
        if (kind == "services" and name != KSVC) or (
            kind == "revisions" and name not in self.revisions
        ):
            raise ApiError(404, f'{kind}.serving.knative.dev "{name}" not found')
        if method == "PATCH":
            if kind == "revisions":
                # Knative would copy what it says into the pods' template, and start them anew.
                raise ApiError(403, "revisions: patch is not among what the role allows")
            if content_type != "application/merge-patch+json":
                raise ApiError(415, f"not a merge patch: {content_type}")
            self._patch_service(body or {})
        return self._ksvc() if kind == "services" else self._show(name)

    def _show(self, name: str) -> Json:
        revision = self.revisions[name]
        self.shown[name] = replace(revision)
        return revision.json()

    def _event(self, event: Json) -> Json:
        for key in ("involvedObject", "metadata", "reason", "message"):
            if not event.get(key):
                raise ApiError(422, f"{key}: Required value")
        if len(event["message"]) > 1024:
            raise ApiError(422, "message: can have at most 1024 bytes")
        self.events.append(event)
        return event

    def _patch_service(self, patch: Json) -> None:
        given = patch.get("metadata", {}).get("resourceVersion")
        if given is not None and given != str(self.version):
            raise ApiError(409, "the object has been modified; apply your changes to the latest")
        if annotations := patch["metadata"].get("annotations", {}):
            self.annotations |= annotations
            self.version += 1
        if "spec" not in patch:  # metadata alone makes no generation
            return
        traffic = patch["spec"]["traffic"]
        if fault := webhook_fault(traffic):
            raise ApiError(400, f'admission webhook "validation.webhook…" denied: {fault}')
        self._check(traffic)
        self.patches.append(traffic)
        self.version += 1
        if traffic != self.traffic:
            self.traffic = traffic
            self.generation += 1
            self.route_due = None
            self.routes_ready = "Unknown"
            self.after(GENERATION_LAG, self._observe)

    def _check(self, traffic: list[Json]) -> None:
        """Note what no conductor may ask for, whatever it has seen."""
        before = {t.get("revisionName", ""): t.get("percent", 0) for t in self.traffic}
        tags = [t.get("tag") for t in traffic]
        stable = [t.get("revisionName", "") for t in self.traffic if t.get("tag") == "stable"]
        alone = traffic[0].get("revisionName", "")
        if len(traffic) == 1 and alone not in stable and before.get(alone, before.get("")) != 100:
            self.problems.append(f"{alone} is alone too early: {traffic}")
        if tags.count("stable") != 1:
            self.problems.append(f"no stable target: {traffic}")
        for target in traffic:
            name = target.get("revisionName", "")
            if not name or target.get("latestRevision"):
                self.problems.append(f"a target that is not pinned: {traffic}")
                continue
            shown = self.shown.get(name)
            raised = name not in before or target["percent"] > before[name]
            if len(traffic) > 1 and not (shown and shown.ready is True):
                self.problems.append(f"{name} listed though it was not ready: {traffic}")
            if len(traffic) > 1 and raised and name != self.shown_latest:
                self.problems.append(f"{name} raised, not {self.shown_latest}: {traffic}")
            if (before.get(name), target["percent"]) not in STEPS and target["tag"] != "stable":
                self.problems.append(f"{name} from {before.get(name)} %: {traffic}")
            more = target["percent"] > before.get(name, 0)
            if len(traffic) > 1 and more and shown and shown.replicas < shown.min_scale:
                self.problems.append(f"{name} raised with {shown.replicas} pods: {traffic}")

    def _ksvc(self) -> Json:
        if self.observed == self.generation and not self.configuration_stale:
            self.shown_latest = self.latest_created
        configured = {"type": "ConfigurationsReady", "status": "True"}
        if self.configuration_stale:
            configured |= {"status": "Unknown", "reason": "OutOfDate"}
        routed = [
            {**t, **({"url": self.url_of(t["tag"])} if t.get("tag") else {})} for t in self.routed
        ]
        return {
            "metadata": {
                "name": KSVC,
                "generation": self.generation,
                "resourceVersion": str(self.version),
                "annotations": self.annotations,
            },
            "spec": {"traffic": self.traffic},
            "status": {
                "observedGeneration": self.observed,
                "latestCreatedRevisionName": self.latest_created,
                "latestReadyRevisionName": self.latest_ready,
                "traffic": routed,
                "address": {"url": self.url_of("")},
                "conditions": [configured, {"type": "RoutesReady", "status": self.routes_ready}],
            },
        }


def pinned(revision: str, percent: int, tag: str) -> Json:
    """Write one line of a traffic list as the webhook stores it."""
    return {"revisionName": revision, "latestRevision": False, "percent": percent, "tag": tag}


def webhook_fault(traffic: list[Json]) -> str:
    """Check a traffic list as Knative's webhook does; empty: nothing is wrong with it."""
    seen: set[str] = set()
    for i, target in enumerate(traffic):
        pinned_to = target.get("revisionName", "")
        latest = target.get("latestRevision")
        if latest is not None and bool(pinned_to) == latest:
            return f'may not set revisionName "{pinned_to}" when latestRevision is {latest}'
        if target.get("configurationName") or target.get("url"):
            return f"must not set the field(s): spec.traffic[{i}]"
        if not 0 <= target.get("percent", 0) <= 100:
            return f"expected 0 <= {target['percent']} <= 100: spec.traffic[{i}].percent"
        tag = target.get("tag", "")
        if tag and not re.fullmatch("[a-z]([-a-z0-9]{0,61}[a-z0-9])?", tag):
            return f"not a DNS 1035 label: spec.traffic[{i}].tag"
        if tag and tag in seen:
            return f'Multiple definitions for "{tag}"'
        seen.add(tag)
    total = sum(target.get("percent", 0) for target in traffic)
    return "" if total == 100 else f"Traffic targets sum to {total}, want 100: spec.traffic"


class FakePool:
    """Stands in for urllib3's pool below the real Kubernetes client: no sockets, same requests."""

    def __init__(self, handle: Callable[[str, str, Json | None, str], Json]) -> None:
        self.handle = handle

    def request(self, method: str, url: str, **given: Any) -> HTTPResponse:
        body = given.get("body")
        content_type = given["headers"].get("Content-Type", "")
        path = re.sub(r"^\w+://[^/]+", "", url)
        return answer(self.handle, method, path, body, content_type)


def answer(
    handle: Callable[[str, str, Json | None, str], Json],
    method: str,
    path: str,
    body: str | bytes | None,
    content_type: str,
) -> HTTPResponse:
    """Answer a request as the API server writes it."""
    try:
        told = handle(method, path, json.loads(body) if body else None, content_type)
    except ApiError as err:
        status = {"kind": "Status", "status": "Failure", "code": err.status, "message": str(err)}
        return HTTPResponse(json.dumps(status).encode(), status=err.status, reason=str(err))
    return HTTPResponse(json.dumps(told).encode(), status=200, reason="OK")
