"""What to do next, from what is seen and what this run remembers. Nothing here does IO.

Most of the state is in the cluster: the tags `stable` and `candidate` and their percentages. What a
run remembers besides may be lost with it; the next one then waits and judges once more at the share
where the candidate stands.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from knative.rollout.config import Config
from knative.rollout.objects import Revision, Service, Targets, only, split
from knative.rollout.verdict import Code, Reason, Verdict


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One look at the cluster, and when (seconds, monotonic)."""

    service: Service
    stable: Revision | None
    candidate: Revision | None
    now: float


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What one run knows besides."""

    started: float
    candidate: str = ""  # the revision that this run is about: the latest at its first look
    passed: frozenset[int] = frozenset()  # shares at which the candidate was judged good
    verdict: Verdict | None = None
    notified: bool = False
    marked: bool = False
    share: int = 0  # the largest that the candidate was seen to have
    model: str = ""  # digest of the candidate's, once it has answered
    phase: str = ""  # what the run waits for
    since: float = 0.0  # since when


@dataclass(frozen=True)
class Wait:
    """Look again a little later; a wait that lasts too long brings a verdict, or ends the run."""

    phase: str
    late: Verdict | Code


@dataclass(frozen=True)
class Hold:
    """Leave the traffic as it is for a while, then judge."""

    share: int


@dataclass(frozen=True)
class Judge:
    """Ask candidate and stable about the same pictures."""

    share: int


@dataclass(frozen=True)
class Route:
    """Replace the traffic list."""

    traffic: Targets


@dataclass(frozen=True)
class Fail:
    """Remember why the candidate goes."""

    verdict: Verdict


@dataclass(frozen=True)
class Tell:
    """Tell people what became of the candidate."""

    verdict: Verdict


@dataclass(frozen=True)
class Mark:
    """Write down that the candidate was rejected, so that no later run tries it again."""

    verdict: Verdict


@dataclass(frozen=True)
class Finish:
    """End the run."""

    code: Code


Action = Wait | Hold | Judge | Route | Fail | Tell | Mark | Finish


def next_action(seen: Seen, memory: Memory, config: Config) -> tuple[Action, Memory]:
    """Choose the next action; the memory that comes with it holds when the wait began."""
    if not memory.candidate and seen.service.observed:
        memory = replace(memory, candidate=seen.service.latest_created)
    share = seen.service.share(memory.candidate) or 0
    memory = replace(memory, share=max(memory.share, share))
    action = _choose(seen, memory, config)
    if not isinstance(action, Wait | Hold):
        return action, replace(memory, phase="")
    phase = action.phase if isinstance(action, Wait) else f"hold at {action.share} %"
    if memory.phase != phase:
        memory = replace(memory, phase=phase, since=seen.now)
    waited = seen.now - memory.since
    if isinstance(action, Hold):
        return (Judge(action.share) if waited >= config.hold_seconds else action), memory
    if waited < config.wait_seconds:
        return action, memory
    late = action.late
    return (Finish(late) if isinstance(late, Code) else Fail(late)), memory


def _choose(seen: Seen, memory: Memory, config: Config) -> Action:
    if memory.verdict:
        return _remove(seen, memory, memory.verdict)
    if not seen.service.observed or not memory.candidate:
        late = Verdict(Reason.NOT_READY, "Knative has not looked at the new spec")
        return Wait("spec observed", late)
    if _superseded(seen, memory):
        return Fail(Verdict(Reason.SUPERSEDED, f"by {seen.service.latest_created}"))
    if memory.candidate == seen.service.stable:
        return _settle(seen)
    if seen.now - memory.started > config.deadline_seconds:
        return Fail(Verdict(Reason.LATE, f"after {config.deadline_seconds:.0f} s"))
    if rejection := seen.service.rejection(memory.candidate):
        return Fail(Verdict(Reason.REJECTED_BEFORE, rejection))
    if seen.service.stable:
        return _walk(seen, memory, config)
    if seen.service.untouched:
        return _bootstrap(seen, memory)
    return Fail(Verdict(Reason.FOREIGN_TRAFFIC, "no target has the tag 'stable'"))


def _superseded(seen: Seen, memory: Memory) -> bool:
    return seen.service.latest_created != memory.candidate


def _settle(seen: Seen) -> Action:
    """Stable is the latest: list it alone."""
    traffic = only(seen.service.stable)
    if set(seen.service.traffic) != set(traffic):
        return Route(traffic)
    return Finish(Code.DONE) if seen.service.in_effect else Wait("route", Code.FAILED)


def _bootstrap(seen: Seen, memory: Memory) -> Action:
    """Pin the first revision; it has all the traffic already, there is no other."""
    if waiting := _unready(seen, 0) or _not_routed(seen) or _too_few(seen):
        return waiting
    if 0 not in memory.passed:
        return Judge(0)
    return Route(only(memory.candidate))


def _walk(seen: Seen, memory: Memory, config: Config) -> Action:
    stable, candidate = seen.service.stable, memory.candidate
    share = seen.service.share(candidate)
    wanted = split(stable, candidate, share or 0)
    if share is not None and set(seen.service.traffic) != set(wanted):
        share = None
    if share is None and {target.revision for target in seen.service.traffic} != {stable}:
        return Route(only(stable))  # what an earlier candidate has left behind
    if waiting := _unready(seen, share or 0) or _stable_unready(seen, share):
        return waiting
    if share is None:
        return Route(wanted)
    if waiting := _not_routed(seen) or _too_few(seen):
        return waiting
    if share not in memory.passed:
        return Hold(share) if share else Judge(share)
    step = next((step for step in config.steps if step > share), None)
    return Route(split(stable, candidate, step) if step else only(candidate))


def _unready(seen: Seen, share: int) -> Action | None:
    candidate = seen.candidate
    message = candidate.message if candidate else "no such revision"
    if share and not (candidate and candidate.ready):
        broke = candidate and candidate.ready is False
        return Fail(
            Verdict(Reason.BROKE if broke else Reason.NOT_READY, f"at {share} %: {message}")
        )
    if not candidate or candidate.ready is False:
        return Fail(Verdict(Reason.NOT_READY, message))
    if candidate.ready is None:
        return Wait("candidate ready", Verdict(Reason.NOT_READY, message or "not in time"))
    return None


def _stable_unready(seen: Seen, share: int | None) -> Action | None:
    """Knative programs no traffic list with an unready revision on it; at 100 % stable may go."""
    if share == 100 or (seen.stable and seen.stable.ready):
        return None
    message = seen.stable.message if seen.stable else "no such revision"
    return Wait("stable ready", Verdict(Reason.STABLE_NOT_READY, message))


def _too_few(seen: Seen) -> Action | None:
    assert seen.candidate
    pods, least = seen.candidate.replicas, seen.candidate.min_scale
    if pods >= least:
        return None
    return Wait("candidate's pods", Verdict(Reason.NO_CAPACITY, f"{pods} of {least} pods run"))


def _not_routed(seen: Seen) -> Action | None:
    if seen.service.in_effect:
        return None
    return Wait("route", Verdict(Reason.NOT_ROUTED, "the split is not in effect"))


def _remove(seen: Seen, memory: Memory, verdict: Verdict) -> Action:
    """Drop the candidate: listed at 0 % it would keep its pods and, unready, block the Route."""
    stable = seen.service.stable
    if stable and set(seen.service.traffic) != set(only(stable)):
        return Route(only(stable))
    if not memory.notified and verdict.reason is not Reason.REJECTED_BEFORE:
        return Tell(verdict)
    if verdict.marks and seen.candidate and not memory.marked:
        return Mark(verdict)
    if stable and not seen.service.in_effect:
        return Wait("route", verdict.code)  # Knative brings it about when it can
    return Finish(verdict.code)
