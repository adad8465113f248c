"""One trial of a candidate at the share of the traffic where it stands."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

import urllib3

from knative.rollout.config import Config
from knative.rollout.exam import Examiner
from knative.rollout.judge import Answer, Answers, judge, judge_requests, score
from knative.rollout.objects import CANDIDATE, STABLE, Service
from knative.rollout.prometheus import request_metrics
from knative.rollout.verdict import Reason, Verdict

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What is against the candidate, if anything, and the digest of its model."""

    verdict: Verdict | None
    model: str = ""
    compared: bool = False  # stable answered, too


class Trial:
    """Exams by pictures, then what Prometheus knows of the users' requests."""

    def __init__(self, examiner: Examiner, config: Config) -> None:
        self.examiner = examiner
        self.config = config

    def hold(self, service: Service, candidate: str, share: int) -> Outcome:
        """Hold an exam, once more if the candidate was slow, and look at its users' requests."""
        outcome = self._exam(service, candidate, share)
        # A node that was busy for a moment makes one exam slow, not two.
        if outcome.verdict and outcome.verdict.reason is Reason.TOO_SLOW:
            again = self._exam(service, candidate, share)
            outcome = again if again.verdict or again.compared else outcome
        if outcome.verdict or not (share and self.config.prometheus_url):
            return outcome
        return Outcome(self._requests(service, candidate), outcome.model)

    def _exam(self, service: Service, candidate: str, share: int) -> Outcome:
        stable = service.stable
        urls = [service.tag_urls.get(CANDIDATE, "") if stable else service.url]
        # Stable answers at the URL of its tag. Everybody's URL says something once both serve it.
        if stable:
            urls.append(service.tag_urls.get(STABLE, ""))
        if share:
            urls.append(service.url)
        if not all(urls):
            return Outcome(Verdict(Reason.NO_ANSWER, "Knative names no URL for a tag"))
        answers = Answers(*self.examiner.ask(*urls))
        exam = self.examiner.exam
        verdict = judge(answers, (candidate, stable), exam.truth, exam.floors)
        self._log(answers, candidate, share, verdict)
        model = next((answer.model for answer in answers.candidate if answer.model), "")
        return Outcome(verdict, model, any(not answer.error for answer in answers.stable))

    def _log(self, answers: Answers, candidate: str, share: int, verdict: Verdict | None) -> None:
        facts: dict[str, object] = {"revision": candidate, "share": share}
        for name, given in vars(answers).items():
            if given:
                facts[name] = self._figures(given)
        log.info("exam.held", extra=facts | {"verdict": str(verdict or "good")})

    def _figures(self, answers: list[Answer]) -> dict[str, object]:
        exam = self.examiner.exam
        scores = score(answers, exam.truth, exam.floors.iou)
        return {
            "f1": round(scores.f1, 3),
            "p95_ms": round(scores.p95_ms),
            "errors": round(scores.error_rate, 3),
        }

    def _requests(self, service: Service, candidate: str) -> Verdict | None:
        http = urllib3.PoolManager()
        url, namespace = self.config.prometheus_url, self.config.namespace
        ask = partial(request_metrics, http, url, namespace, seconds=self.config.hold_seconds)
        new, old = ask(candidate), ask(service.stable)
        verdict = judge_requests(new, old, self.examiner.exam.floors)
        facts = {"candidate": vars(new), "stable": vars(old)}
        log.info("traffic.looked_at", extra=facts | {"verdict": str(verdict or "good")})
        return verdict
