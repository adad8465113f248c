"""Judges a candidate by what it and the stable revision found on the same pictures. No IO here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from function.boxes import Floats, match_one_to_one, pairwise_iou
from knative.rollout.verdict import Reason, Verdict

MIN_DEATHS = 2  # one may be chance


@dataclass(frozen=True, kw_only=True)
class Floors:
    """What a candidate must reach, and by how much it may be worse than stable."""

    iou: float  # from which overlap on a box counts as found
    f1: float
    max_f1_loss: float
    p95_ms: float
    max_p95_ratio: float
    p95_slack_ms: float  # on top of it: the jitter of a shared node
    max_error_rate: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a revision answered about one picture."""

    picture: str
    xyxy: Floats  # (n, 4) boxes as shares of the picture
    milliseconds: float
    error: str = ""  # why there is no answer
    revision: str = ""  # who answered
    model: str = ""  # digest


@dataclass(frozen=True)
class Answers:
    """All that one exam brought: at the candidate's URL, at stable's and at everybody's."""

    candidate: Sequence[Answer]
    stable: Sequence[Answer] = ()
    everybody: Sequence[Answer] = ()


@dataclass(frozen=True)
class Scores:
    """How well a revision did."""

    f1: float
    p95_ms: float
    error_rate: float


@dataclass(frozen=True, kw_only=True)
class RequestMetrics:
    """What Prometheus knows of the requests that users sent to a revision; None: nothing."""

    error_rate: float | None = None
    p95_ms: float | None = None
    refused_rate: float | None = None  # of the events alone
    deaths: float | None = None  # of its containers, which started anew


def score(answers: Sequence[Answer], truth: Mapping[str, Floats], iou: float) -> Scores:
    """Score answers against the true boxes (n, 4), as shares of the picture."""
    answered = [answer for answer in answers if not answer.error]
    predicted = sum(len(answer.xyxy) for answer in answered)
    true = sum(len(truth[answer.picture]) for answer in answered)
    matches = sum(
        len(match_one_to_one(pairwise_iou(answer.xyxy, truth[answer.picture]), iou))
        for answer in answered
    )
    times = [answer.milliseconds for answer in answered]
    return Scores(
        f1=2 * matches / (predicted + true) if predicted + true else 0.0,
        p95_ms=float(np.percentile(times, 95)) if times else 0.0,
        error_rate=1 - _answered(answers) if answers else 1.0,
    )


def judge(
    answers: Answers,
    revisions: tuple[str, str],
    truth: Mapping[str, Floats],
    floors: Floors,
) -> Verdict | None:
    """Judge the candidate of `revisions` (candidate, stable); None: nothing is against it."""
    candidate = score(answers.candidate, truth, floors.iou)
    stable = score(answers.stable, truth, floors.iou)
    if verdict := _errors(answers, candidate, stable, floors) or _strangers(answers, revisions):
        return verdict
    return _compare(candidate, stable, floors)


def _errors(answers: Answers, candidate: Scores, stable: Scores, floors: Floors) -> Verdict | None:
    """Hold errors against the candidate, where they are its own.

    Where stable fails as well, the cause may lie in front of both. Where only stable and
    everybody's URL fail, the fault is stable's.
    """
    everybody = 1 - _answered(answers.everybody)
    stable_fails = bool(answers.stable) and stable.error_rate > floors.max_error_rate
    errors = max(candidate.error_rate, 0.0 if stable_fails else everybody)
    if errors <= floors.max_error_rate:
        return None
    given = (*answers.candidate, *answers.everybody)
    kinds = ", ".join(sorted({answer.error for answer in given if answer.error}))
    detail = f"{errors:.0%} errors ({kinds}), at most {floors.max_error_rate:.0%}"
    return Verdict(Reason.NO_ANSWER if stable_fails else Reason.FAILING, detail)


def _answered(answers: Sequence[Answer]) -> float:
    return sum(not answer.error for answer in answers) / len(answers) if answers else 1.0


def _strangers(answers: Answers, revisions: tuple[str, str]) -> Verdict | None:
    """Refuse answers of another revision: they say nothing of the candidate."""
    candidate, stable = revisions
    asked = [(answers.candidate, {candidate}), (answers.stable, {stable})]
    asked.append((answers.everybody, {candidate, stable}))
    strangers = {
        answer.revision
        for given, names in asked
        for answer in given
        if not answer.error and answer.revision not in names
    }
    if not strangers:
        return None
    return Verdict(Reason.NO_ANSWER, f"{', '.join(sorted(strangers))!r} answered instead")


def _compare(candidate: Scores, stable: Scores, floors: Floors) -> Verdict | None:
    # A stable revision that did not answer sets no measure: its repair could not pass.
    measure = stable if stable.error_rate < 1 else None
    least = max(floors.f1, measure.f1 - floors.max_f1_loss if measure else 0.0)
    if candidate.f1 < least:
        return Verdict(Reason.INACCURATE, f"F1 {candidate.f1:.3f}, at least {least:.3f}")
    most = min(floors.p95_ms, slowest(measure.p95_ms, floors) if measure else floors.p95_ms)
    if candidate.p95_ms > most:
        detail = f"p95 {candidate.p95_ms:.0f} ms, at most {most:.0f} ms"
        return Verdict(Reason.TOO_SLOW, detail)
    return None


def slowest(stable_p95_ms: float, floors: Floors) -> float:
    """Say how slow a candidate may be beside a stable revision, in milliseconds."""
    return stable_p95_ms * floors.max_p95_ratio + floors.p95_slack_ms


def judge_requests(
    candidate: RequestMetrics, stable: RequestMetrics, floors: Floors
) -> Verdict | None:
    """Compare how the two served users; an unknown figure speaks against neither."""
    errors = candidate.error_rate
    if errors is not None and errors > max(floors.max_error_rate, stable.error_rate or 0.0):
        return Verdict(Reason.WORSE_IN_TRAFFIC, f"{errors:.1%} of its requests failed")
    refused = candidate.refused_rate
    if refused is not None and refused > max(floors.max_error_rate, stable.refused_rate or 0.0):
        return Verdict(Reason.WORSE_IN_TRAFFIC, f"it refused {refused:.1%} of its events (4xx)")
    deaths = candidate.deaths
    if deaths is not None and deaths >= MIN_DEATHS and deaths > (stable.deaths or 0.0):
        return Verdict(Reason.WORSE_IN_TRAFFIC, f"its containers died {deaths:.0f} times")
    p95, other = candidate.p95_ms, stable.p95_ms
    if p95 is not None and other is not None and p95 > slowest(other, floors):
        return Verdict(Reason.WORSE_IN_TRAFFIC, f"p95 {p95:.0f} ms, stable {other:.0f} ms")
    return None
