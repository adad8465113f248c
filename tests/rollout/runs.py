"""Rollouts on a clock of their own: what may happen to one, and what must come of it.

The conductor, its plan, its judge and the Kubernetes client are the real ones; Knative, the pods
that answer and the time are not.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import urllib3
from kubernetes.client import ApiClient, Configuration

from knative.rollout import judge, objects, plan, trial
from knative.rollout.cluster import Cluster
from knative.rollout.conductor import Conductor
from knative.rollout.config import Config
from knative.rollout.exam import Exam, Examiner
from knative.rollout.judge import Answer, Floors
from knative.rollout.trial import Trial
from knative.rollout.verdict import Code, Verdict
from tests.rollout.fake_knative import ApiError, FakeKnative, FakePool, FakeRevision, Json

CONFIG = Config(
    ksvc="shelf-detector",
    namespace="shelf",
    judge=Path(),
    hold_seconds=30,
    poll_seconds=9,
    wait_seconds=120,
    deadline_seconds=900,
    rounds=2,
)
STABLE, CANDIDATE, THIRD = "shelf-detector-00001", "shelf-detector-00002", "shelf-detector-00003"
CALL_SECONDS = 0.05  # of a call of the API
LONGEST = 30_000.0  # seconds that all runs of one scenario may take
MAX_RUNS = 12  # how often the Job, and syncs after it, are tried
FOR_GOOD = {Code.DONE, Code.REJECTED, Code.NOT_JUDGED}

BOXES = np.array([[0.1, 0.1, 0.2, 0.3], [0.3, 0.1, 0.4, 0.3], [0.5, 0.1, 0.6, 0.3]], np.float32)
EXAM = Exam(
    {"a.jpg": b"", "b.jpg": b""},
    {"a.jpg": BOXES, "b.jpg": BOXES},
    Floors(
        iou=0.5,
        f1=0.9,
        max_f1_loss=0.02,
        p95_ms=5000,
        max_p95_ratio=1.5,
        p95_slack_ms=100,
        max_error_rate=0.02,
    ),
)
SEEN_IN_EXAMS = ("inaccurate", "slow", "failing", "silent")
SEEN_IN_TRAFFIC = ("fails at 20 %", "fails at 50 %", "fails at 100 %")


class Killed(BaseException):
    """The pod of the conductor is gone."""


@dataclass
class Scenario:
    """What will happen; times are seconds from the sync."""

    candidate: FakeRevision = field(default_factory=lambda: FakeRevision(CANDIDATE))
    third: FakeRevision | None = None
    third_at: float = math.inf
    unready: tuple[tuple[str, float, float], ...] = ()  # revision, from, for so long
    pods_lost: tuple[tuple[str, float, float], ...] = ()
    touched: tuple[float, ...] = ()  # somebody writes to the service
    api_faults: float = 0.0  # share of calls that fail, half of them after they were done
    api_away: tuple[float, float] = (math.inf, 0.0)  # from, for so long
    kills: tuple[float, ...] = ()
    route_lag: float = 2.0  # seconds
    first: bool = False  # there is no stable revision yet
    left_behind: list[Json] = field(default_factory=list)  # traffic that an earlier run left

    @property
    def last(self) -> FakeRevision:
        """Return the revision that decides what must come of it."""
        return self.third or self.candidate


@dataclass
class Ending:
    """What came of it."""

    codes: list[Code | None]  # of each run; None: killed
    traffic: list[Json]
    events: list[Json]
    notices: list[str]
    largest: int  # share of users' requests that the last revision has had, percent
    marked: str
    problems: list[str]
    promoted: bool  # the candidate was stable when the third revision came, or became it

    @property
    def shares(self) -> dict[str, int]:
        return {t.get("revisionName", "latest"): t["percent"] for t in self.traffic}


class FakeClock:
    """The fake's time; a kill strikes whatever waits or calls."""

    def __init__(self, knative: FakeKnative, kills: tuple[float, ...] = ()) -> None:
        self.knative = knative
        self.kills = sorted(kills)
        self.stopped = False

    def now(self) -> float:
        return self.knative.time

    def wait(self, seconds: float) -> None:
        assert self.knative.time < LONGEST, "the conductor does not end"
        if self.kills and self.knative.time + seconds >= self.kills[0]:
            self.knative.advance(max(0, self.kills.pop(0) - self.knative.time))
            raise Killed
        self.knative.advance(seconds)


class FakeExaminer(Examiner):
    """Asks the revisions that the fake's gateways lead to; an exam takes ten seconds."""

    def __init__(self, knative: FakeKnative, clock: FakeClock, rng: random.Random) -> None:
        self.exam = EXAM
        self.knative = knative
        self.clock = clock
        self.rng = rng

    def ask(self, *urls: str) -> list[list[Answer]]:
        answers: list[list[Answer]] = [[] for _ in urls]
        for picture in list(EXAM.pictures) * CONFIG.rounds:
            self.clock.wait(10 / CONFIG.rounds / len(EXAM.pictures))
            for url, given in zip(urls, answers, strict=True):
                given.append(self._answer(url, picture))
        return answers

    def _answer(self, url: str, picture: str, until: float = 0.0) -> Answer:
        routed = self.knative.routed
        tagged = [t for t in routed if t.get("tag") and url == self.knative.url_of(t["tag"])]
        shares = [t["percent"] for t in routed]
        if not routed or (not tagged and url != self.knative.url_of("")):
            return Answer(picture=picture, xyxy=BOXES[:0], milliseconds=0.0, error="HTTP 404")
        target = (tagged or self.rng.choices(routed, shares))[0]
        return answer_of(self.knative, target["revisionName"], picture)


def answer_of(knative: FakeKnative, name: str, picture: str) -> Answer:
    """Answer as a revision of its quality would."""
    revision = knative.revisions[name]
    quality, share = revision.quality, knative.share(name)
    breaks_at = int(quality.split()[2]) if quality in SEEN_IN_TRAFFIC else 101
    if revision.ready is not True or quality == "silent" or share >= breaks_at:
        return Answer(picture=picture, xyxy=BOXES[:0], milliseconds=0.0, error="HTTP 503")
    if quality == "failing" and picture == "b.jpg":
        return Answer(picture=picture, xyxy=BOXES[:0], milliseconds=0.0, error="HTTP 500")
    boxes = BOXES + 0.5 if quality == "inaccurate" else BOXES
    return Answer(
        picture=picture,
        xyxy=boxes,
        milliseconds=900.0 if quality == "slow" else 200.0,
        error="",
        revision=name,
        model=f"sha256:{name}",
    )


class Api:
    """The fake's API with faults: calls that fail, before or after they were done."""

    def __init__(
        self, knative: FakeKnative, clock: FakeClock, scenario: Scenario, rng: random.Random
    ) -> None:
        self.knative = knative
        self.clock = clock
        self.scenario = scenario
        self.rng = rng

    def handle(self, method: str, path: str, body: Json | None, content_type: str) -> Json:
        self.clock.wait(CALL_SECONDS)
        away, seconds = self.scenario.api_away
        if away <= self.knative.time < away + seconds:
            raise urllib3.exceptions.ProtocolError("Connection refused")
        fault = self.rng.random() / (self.scenario.api_faults or 1e-9)
        if fault < 0.5:
            raise ApiError(self.rng.choice((429, 500, 503)), "failed calling webhook: EOF")
        answer = self.knative.handle(method, path, body, content_type)
        if fault < 1:
            raise urllib3.exceptions.ProtocolError("Connection broken: answer lost")
        return answer


def play(
    scenario: Scenario, seed: int = 0, watch: Callable[[FakeKnative], None] = lambda _: None
) -> Ending:
    """Let a scenario happen, and run the conductor until it ends for good."""
    rng = random.Random(seed)
    knative = FakeKnative()
    if not scenario.first:
        knative.settle(STABLE)
    knative.traffic = scenario.left_behind or knative.traffic
    knative.route_lag = scenario.route_lag
    begun = knative.time
    watch(knative)
    knative.apply(replace(scenario.candidate))
    _happen(knative, scenario, begun)
    clock = FakeClock(knative, tuple(begun + kill for kill in scenario.kills))
    world = replace(scenario, api_away=(begun + scenario.api_away[0], scenario.api_away[1]))
    codes: list[Code | None] = []
    notices: list[str] = []
    while len(codes) < MAX_RUNS:
        news = scenario.third is not None and knative.latest_created != THIRD
        try:
            codes.append(_conductor(knative, clock, world, rng, notices).run())
        except Killed:
            codes.append(None)
        knative.advance(10)
        if codes[-1] in FOR_GOOD and not news:
            break
        if codes[-1] in FOR_GOOD:  # the sync of the third revision runs the hook once more
            knative.advance(max(0.0, begun + scenario.third_at - knative.time) + 5)
    largest = max(
        (
            t["percent"]
            for patch in knative.patches
            for t in patch
            if t.get("revisionName") == scenario.last.name
        ),
        default=0,
    )
    return Ending(
        codes,
        knative.traffic,
        knative.events,
        notices,
        largest,
        _marked(knative, scenario.last.name),
        knative.problems,
        [
            t["revisionName"] for patch in knative.patches for t in patch[:1] if len(patch) == 1
        ].count(CANDIDATE)
        > 0,
    )


def _marked(knative: FakeKnative, revision: str) -> str:
    marked = knative.annotations.get(objects.REJECTED) == revision
    return knative.annotations[objects.BECAUSE] if marked else ""


def _conductor(
    knative: FakeKnative,
    clock: FakeClock,
    scenario: Scenario,
    rng: random.Random,
    notices: list[str],
) -> Conductor:
    configuration = Configuration()
    configuration.host = "http://kubernetes"
    api = ApiClient(configuration)
    api.rest_client.pool_manager = FakePool(Api(knative, clock, scenario, rng).handle)
    cluster = Cluster(api, CONFIG.namespace, CONFIG.ksvc)
    judging = Trial(FakeExaminer(knative, clock, rng), CONFIG)
    return Conductor(cluster, judging, lambda _, text: notices.append(text), clock, CONFIG)


def _happen(knative: FakeKnative, scenario: Scenario, begun: float) -> None:
    for name, start, seconds in scenario.unready:
        knative.at(begun + start, partial(_flip, knative, name, None))
        knative.at(begun + start + seconds, partial(_flip, knative, name, True))
    for name, start, seconds in scenario.pods_lost:
        knative.at(begun + start, partial(_lose_pods, knative, name, 1))
        knative.at(begun + start + seconds, partial(_lose_pods, knative, name, 2))
    for time in scenario.touched:
        knative.at(begun + time, lambda: setattr(knative, "version", knative.version + 1))
    if scenario.third:
        third = replace(scenario.third)
        knative.at(begun + scenario.third_at, lambda: knative.apply(third))


def _flip(knative: FakeKnative, name: str, ready: bool | None) -> None:
    if name in knative.revisions and knative.revisions[name].ready is not False:
        knative.set_ready(name, ready)


def _lose_pods(knative: FakeKnative, name: str, capacity: int) -> None:
    if name in knative.revisions:
        revision = knative.revisions[name]
        revision.capacity = capacity
        revision.replicas = min(revision.replicas, capacity)


# What must hold


def faults_of(scenario: Scenario, ending: Ending) -> list[str]:
    """List what a run should not have ended with."""
    last = scenario.last
    won_before = scenario.third is not None and ending.promoted
    loser = CANDIDATE if won_before else "latest" if scenario.first else STABLE
    faults = list(ending.problems)
    winner = loser if ending.codes[-1] in (Code.REJECTED, Code.NOT_JUDGED) else last.name
    if ending.shares != {winner: 100}:
        faults.append(f"exit codes {ending.codes}, but {ending.shares}")
    if ending.codes[-1] is Code.FAILED and not math.isinf(last.fails_after):
        return faults if ending.shares == {last.name: 100} else [*faults, "no end"]
    if ending.codes[-1] not in FOR_GOOD:
        faults.append(f"no end: {ending.codes}")
    must = expected(scenario)
    if must is not None and ending.codes[-1] is not must:
        faults.append(f"{ending.codes[-1]!r}, not {must!r}")
    alone = scenario.first and not won_before  # there is no stable revision to compare with
    # Nor where stable did not answer.
    alone = alone or (last.quality == "slow" and bool(scenario.unready))
    if last.quality in SEEN_IN_EXAMS and ending.largest and not alone:
        faults.append(f"{last.quality}, and yet had {ending.largest} %")
    if (ending.codes[-1] is Code.REJECTED) != bool(ending.marked):
        faults.append(f"exit codes {ending.codes}, marked {ending.marked!r}")
    return faults


def expected(scenario: Scenario) -> Code | None:
    """Say how a scenario must end, where that does not depend on the timing."""
    last = scenario.last
    if any(seconds > CONFIG.wait_seconds for _, _, seconds in scenario.unready):
        return None
    if any(name == last.name for name, *_ in (*scenario.unready, *scenario.pods_lost)):
        return None
    if math.isinf(last.ready_after) or last.capacity < last.min_scale:
        return Code.NOT_JUDGED
    broke = not (math.isinf(scenario.candidate.fails_after) and math.isinf(last.fails_after))
    if broke:  # the revision that decides, or the one that would be its stable
        return None  # before it has traffic, in the middle, or when all is over
    if scenario.first and last.quality in ("slow", *SEEN_IN_TRAFFIC):
        return None
    if last.quality in (*SEEN_IN_EXAMS, *SEEN_IN_TRAFFIC):
        return None if scenario.unready else Code.REJECTED  # stable failing, too, blames nobody
    return Code.DONE


def random_scenario(seed: int) -> Scenario:
    """Draw what happens to a rollout; most have several faults at once."""
    rng = random.Random(seed)

    def revision(name: str) -> FakeRevision:
        kind = rng.choice(("good",) * 6 + SEEN_IN_EXAMS + SEEN_IN_TRAFFIC)
        return FakeRevision(
            name,
            kind,
            ready_after=rng.choice((1, 4, 30, 90, math.inf) if rng.random() < 0.4 else (4,)),
            fails_after=rng.uniform(5, 300) if rng.random() < 0.1 else math.inf,
            capacity=1 if rng.random() < 0.07 else 2,
        )

    def moments(most: int) -> tuple[float, ...]:
        return tuple(rng.uniform(0, 250) for _ in range(rng.randint(0, most)))

    def stretches(names: tuple[str, ...], most: int) -> tuple[tuple[str, float, float], ...]:
        return tuple((rng.choice(names), at, rng.uniform(1, 60)) for at in moments(most))

    names = (STABLE, CANDIDATE)
    third = rng.random() < 0.2
    return Scenario(
        candidate=revision(CANDIDATE),
        third=revision(THIRD) if third else None,
        third_at=rng.uniform(1, 300) if third else math.inf,
        unready=stretches(names, 2) if rng.random() < 0.25 else (),
        pods_lost=stretches(names, 2) if rng.random() < 0.25 else (),
        touched=moments(20) if rng.random() < 0.5 else (),
        api_faults=rng.choice((0.0, 0.0, 0.05, 0.2)),
        api_away=(rng.uniform(0, 200), rng.uniform(1, 200)) if rng.random() < 0.15 else (1e9, 0.0),
        kills=moments(3) if rng.random() < 0.4 else (),
        route_lag=rng.choice((2.0, 2.0, 25.0)),
        first=rng.random() < 0.1,
    )


# Conductors that are broken on purpose


def _listed_at_zero(stable: str) -> objects.Targets:
    return objects.split(stable, CANDIDATE, 0)


def _own_goldens(answers: Any, revisions: Any, truth: object, floors: Any) -> object:
    own = {answer.picture: answer.xyxy for answer in answers.candidate}
    return judge.judge(answers, revisions, own, floors)


def _unpinned(target: objects.Target) -> Json:
    if target.tag == objects.CANDIDATE:
        return {"latestRevision": True, "percent": target.percent, "tag": target.tag}
    return pinned_json(target)


def _stale_status(ksvc: Json) -> objects.Service:
    return replace(from_json(ksvc), observed=True)


pinned_json = objects.Target.json
from_json = objects.Service.from_json

Patch = tuple[object, str, object]
MUTANTS: dict[str, Patch] = {
    "no replica check": (plan, "_too_few", lambda seen: None),
    "no check that stable is ready": (plan, "_stable_unready", lambda seen, share: None),
    "candidate left at 0 %": (plan, "only", _listed_at_zero),
    "unpinned candidate": (objects.Target, "json", _unpinned),
    "goldens taken from the candidate": (trial, "judge", _own_goldens),
    "no judge": (trial, "judge", lambda *_: None),
    "a stale status is believed": (objects.Service, "from_json", staticmethod(_stale_status)),
    "the route is not waited for": (plan, "_not_routed", lambda seen: None),
    "no mark": (Cluster, "mark", lambda self, revision, because: None),
    "a newer revision is overlooked": (plan, "_superseded", lambda seen, memory: False),
    "everything is a rejection": (Verdict, "code", property(lambda self: Code.REJECTED)),
}


@contextmanager
def broken(mutant: str) -> Iterator[None]:
    """Run with a mutant of the conductor."""
    where, name, what = MUTANTS[mutant]
    with mock.patch.object(where, name, what):
        yield


def first_fault(seeds: range, check: Callable[[Scenario, Ending], list[str]] = faults_of) -> str:
    """Play random scenarios until one ends as it must not; empty: none did."""
    for seed in seeds:
        scenario = random_scenario(seed)
        if faults := check(scenario, play(scenario, seed)):
            return f"seed {seed}: {'; '.join(faults)}"
    return ""
