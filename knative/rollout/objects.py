"""A Knative Service and its revisions, as far as a rollout looks at them. Nothing here does IO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

STABLE = "stable"
CANDIDATE = "candidate"
# The annotations of a service that tell which revision was rejected last, and why. Not of the
# revision itself: Knative copies those into the pods' template, and new pods of it would start.
REJECTED = "shelfwatch.io/rejected"
BECAUSE = "shelfwatch.io/rejected-because"
# https://knative.dev/docs/serving/autoscaling/scale-bounds/
MIN_SCALE = "autoscaling.knative.dev/min-scale"

Json = Mapping[str, object]


@dataclass(frozen=True)
class Target:
    """One line of a traffic list."""

    revision: str  # empty: whatever revision is the latest ready one
    percent: int
    tag: str = ""

    def json(self) -> dict[str, object]:
        """Give the line as Knative takes it; pinned, never `latestRevision: true`."""
        return {
            "revisionName": self.revision,
            "latestRevision": False,
            "percent": self.percent,
            "tag": self.tag,
        }


Targets = tuple[Target, ...]


def only(stable: str) -> Targets:
    """Give everything to one revision and list no other: an unready one would block the Route."""
    return (Target(stable, 100, STABLE),)


def split(stable: str, candidate: str, percent: int) -> Targets:
    """Give the candidate its share, and itself a URL."""
    return Target(stable, 100 - percent, STABLE), Target(candidate, percent, CANDIDATE)


@dataclass(frozen=True, kw_only=True)
class Service:
    """A Knative Service: what is wanted (`traffic`) and what is so (`routed`)."""

    resource_version: str = ""
    observed: bool = False  # the controller has seen the present spec
    latest_created: str = ""
    traffic: Targets = ()
    routed: Targets = ()
    routes_ready: bool = False
    url: str = ""  # within the cluster
    tag_urls: Mapping[str, str] = field(default_factory=dict)
    rejected: str = ""  # the revision that was rejected last
    because: str = ""  # why, as the operator reads it

    @property
    def in_effect(self) -> bool:
        """Tell whether requests go where the spec says."""
        return self.observed and self.routes_ready and set(self.routed) == set(self.traffic)

    @property
    def stable(self) -> str:
        """Name the stable revision: the tagged one, or the only one, pinned by hand; or none."""
        tagged = [target.revision for target in self.traffic if target.tag == STABLE]
        pinned = [target.revision for target in self.traffic]
        return tagged[0] if tagged else pinned[0] if len(pinned) == 1 else ""

    def rejection(self, revision: str) -> str:
        """Tell why a revision was rejected before; empty where it was not."""
        return self.because if revision and self.rejected == revision else ""

    @property
    def untouched(self) -> bool:
        """Tell whether all traffic follows the latest revision, as when a service is new."""
        return all(not target.revision for target in self.traffic)

    def share(self, revision: str) -> int | None:
        """Return the percentage that a revision is to get, None where it is not listed."""
        shares = [target.percent for target in self.traffic if target.revision == revision]
        return sum(shares) if shares else None

    @classmethod
    def from_json(cls, ksvc: Json) -> Service:
        """Read the answer of the API."""
        metadata, spec, status = (_object(ksvc, key) for key in ("metadata", "spec", "status"))
        annotations = _object(metadata, "annotations")
        routed = _list(status, "traffic")
        # Until the Configuration has caught up, the status names the revision before the latest.
        stale = _condition(status, "ConfigurationsReady").get("reason") == "OutOfDate"
        same = status.get("observedGeneration") == metadata.get("generation")
        return cls(
            resource_version=_text(metadata, "resourceVersion"),
            observed=same and not stale,
            latest_created=_text(status, "latestCreatedRevisionName"),
            traffic=tuple(_target(line) for line in _list(spec, "traffic")),
            routed=tuple(_target(line) for line in routed),
            routes_ready=_condition(status, "RoutesReady").get("status") == "True",
            url=_text(_object(status, "address"), "url") or _text(status, "url"),
            tag_urls={_text(line, "tag"): _text(line, "url") for line in routed if line.get("tag")},
            rejected=_text(annotations, REJECTED),
            because=_text(annotations, BECAUSE),
        )


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A revision: whether it serves, and with how many pods."""

    name: str
    ready: bool | None = None  # None: not known yet
    message: str = ""  # why it is not
    replicas: int = 0
    min_scale: int = 0
    created: str = ""  # RFC 3339

    @classmethod
    def from_json(cls, revision: Json) -> Revision:
        """Read the answer of the API."""
        metadata, status = _object(revision, "metadata"), _object(revision, "status")
        annotations = _object(metadata, "annotations")
        ready = _condition(status, "Ready")
        why = (_text(ready, "reason"), _text(ready, "message"))
        return cls(
            name=_text(metadata, "name"),
            ready={"True": True, "False": False}.get(str(ready.get("status"))),
            message=": ".join(part for part in why if part),
            replicas=_number(status, "actualReplicas"),
            min_scale=int(_text(annotations, MIN_SCALE) or 0),
            created=_text(metadata, "creationTimestamp"),
        )


def _target(line: Json) -> Target:
    follows = line.get("latestRevision") is True
    revision = "" if follows else _text(line, "revisionName")
    return Target(revision, _number(line, "percent"), _text(line, "tag"))


def _condition(status: Json, kind: str) -> Json:
    return next((c for c in _list(status, "conditions") if c.get("type") == kind), {})


def _object(parent: Json, key: str) -> Json:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _list(parent: Json, key: str) -> list[Json]:
    value = parent.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(parent: Json, key: str) -> str:
    value = parent.get(key)
    return value if isinstance(value, str) else ""


def _number(parent: Json, key: str) -> int:
    value = parent.get(key)
    return value if isinstance(value, int) else 0
