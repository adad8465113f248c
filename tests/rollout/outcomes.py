"""What becomes of a rollout, fault by fault: the table that docs/canary.md shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from knative.rollout.verdict import Code
from tests.rollout.fake_knative import FakeRevision, Json, pinned
from tests.rollout.runs import CANDIDATE, STABLE, THIRD, Ending, Scenario, play

NAMES = {STABLE: "stable", CANDIDATE: "candidate", THIRD: "third", "latest": "latest"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a rollout must end."""

    codes: tuple[Code | None, ...]  # of its runs; None: killed
    ends: str  # who has all the traffic
    most: int  # percent of the traffic that the last revision had
    reason: str = ""  # of the first warning


def candidate(quality: str = "good", **how: Any) -> FakeRevision:
    """Make a candidate."""
    return FakeRevision(CANDIDATE, quality, **how)


def left_behind(revision: str, percent: int) -> list[Json]:
    """Write the traffic that a run left which nobody finished."""
    return [pinned(STABLE, 100 - percent, "stable"), pinned(revision, percent, "candidate")]


DONE = Outcome(codes=(Code.DONE,), ends="candidate", most=100)
BY_EXAM = (Code.REJECTED,)
BY_CLUSTER = (Code.NOT_JUDGED,)

OUTCOMES: dict[str, tuple[Scenario, Outcome]] = {
    "nothing": (Scenario(), DONE),
    "the first revision of all": (Scenario(first=True), DONE),
    "the first revision, and it finds nothing": (
        Scenario(candidate("inaccurate"), first=True),
        Outcome(codes=BY_EXAM, ends="latest", most=0, reason="RolloutInaccurate"),
    ),
    "finds other boxes than there are": (
        Scenario(candidate("inaccurate")),
        Outcome(codes=BY_EXAM, ends="stable", most=0, reason="RolloutInaccurate"),
    ),
    "takes 4.5 times as long": (
        Scenario(candidate("slow")),
        Outcome(codes=BY_EXAM, ends="stable", most=0, reason="RolloutTooSlow"),
    ),
    "answers 500 to one picture": (
        Scenario(candidate("failing")),
        Outcome(codes=BY_EXAM, ends="stable", most=0, reason="RolloutFailing"),
    ),
    "answers nothing": (
        Scenario(candidate("silent")),
        Outcome(codes=BY_EXAM, ends="stable", most=0, reason="RolloutFailing"),
    ),
    "fails only under traffic, from 20 % on": (
        Scenario(candidate("fails at 20 %")),
        Outcome(codes=BY_EXAM, ends="stable", most=20, reason="RolloutFailing"),
    ),
    "fails only under all of the traffic": (
        Scenario(candidate("fails at 100 %")),
        Outcome(codes=BY_EXAM, ends="stable", most=100, reason="RolloutFailing"),
    ),
    "becomes unready at 20 %": (
        Scenario(candidate(fails_after=40)),
        Outcome(codes=BY_EXAM, ends="stable", most=20, reason="RolloutBroke"),
    ),
    "never becomes ready": (
        Scenario(candidate(ready_after=math.inf)),
        Outcome(codes=BY_CLUSTER, ends="stable", most=0, reason="RolloutNotReady"),
    ),
    "its container fails at start": (
        Scenario(candidate(ready_after=math.inf, fails_after=5)),
        Outcome(codes=BY_CLUSTER, ends="stable", most=0, reason="RolloutNotReady"),
    ),
    "one of its two pods finds no node": (
        Scenario(candidate(capacity=1)),
        Outcome(codes=BY_CLUSTER, ends="stable", most=0, reason="RolloutNoCapacity"),
    ),
    "loses a pod at 50 %, for a minute": (
        Scenario(pods_lost=((CANDIDATE, 100, 60),)),
        DONE,
    ),
    "stable unready for a minute": (Scenario(unready=((STABLE, 40, 60),)), DONE),
    "stable unready for an hour": (
        Scenario(unready=((STABLE, 40, 3600),)),
        Outcome(codes=BY_CLUSTER, ends="stable", most=20, reason="RolloutStableNotReady"),
    ),
    "a third revision at 20 %": (
        Scenario(third=FakeRevision(THIRD), third_at=40),
        Outcome(
            codes=(Code.SUPERSEDED, Code.DONE), ends="third", most=100, reason="RolloutSuperseded"
        ),
    ),
    "a third revision at 50 %, a bad one": (
        Scenario(third=FakeRevision(THIRD, "inaccurate"), third_at=110),
        Outcome(
            codes=(Code.SUPERSEDED, Code.REJECTED),
            ends="stable",
            most=0,
            reason="RolloutSuperseded",
        ),
    ),
    "the conductor killed at 20 % and at 50 %": (
        Scenario(kills=(40, 120)),
        Outcome(codes=(None, None, Code.DONE), ends="candidate", most=100),
    ),
    "killed while it removes a bad candidate": (
        Scenario(candidate("inaccurate"), kills=(28.7,)),
        Outcome(codes=(None, Code.REJECTED), ends="stable", most=0, reason="RolloutInaccurate"),
    ),
    "an older candidate was left at 50 %": (
        Scenario(left_behind=left_behind("shelf-detector-00000", 50)),
        DONE,
    ),
    "somebody writes to the service for five minutes": (
        Scenario(touched=tuple(i / 20 for i in range(6000))),
        DONE,
    ),
    "the API away for a minute": (Scenario(api_away=(50, 60)), DONE),
    "every fifth call of the API fails": (Scenario(api_faults=0.2), DONE),
}


def row(name: str, ending: Ending) -> str:
    """Write one line of the table."""
    warnings = [event["reason"] for event in ending.events if event["type"] == "Warning"]
    codes = ", ".join("killed" if code is None else str(int(code)) for code in ending.codes)
    shares = ", ".join(f"{NAMES[who]} {percent} %" for who, percent in ending.shares.items())
    marked = "yes" if ending.marked else ""
    told = (warnings or [""])[0].removeprefix("Rollout")
    return f"| {name} | {ending.largest} % | {told} | {marked} | {codes} | {shares} |"


def table() -> str:
    """Play every scenario and write the table."""
    head = "| what happens | highest share | announced | marked | exit codes | ends in |\n"
    rows = [row(name, play(scenario, seed=1)) for name, (scenario, _) in OUTCOMES.items()]
    return head + "|---|--:|---|---|---|---|\n" + "\n".join(rows)
