"""Looks at the cluster, asks the plan what to do, does it, and looks again."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Protocol

from knative.rollout.clock import Clock
from knative.rollout.cluster import Cluster, Conflict, Refused, Unavailable
from knative.rollout.config import Config
from knative.rollout.notice import Removal, Send
from knative.rollout.objects import Service
from knative.rollout.plan import (
    Action,
    Fail,
    Finish,
    Judge,
    Mark,
    Memory,
    Route,
    Seen,
    Tell,
    next_action,
)
from knative.rollout.trial import Outcome
from knative.rollout.verdict import Code, Reason, Verdict

log = logging.getLogger(__name__)


class Judging(Protocol):
    """Anything that holds trials."""

    def hold(self, service: Service, candidate: str, share: int) -> Outcome:
        """Hold one trial of a candidate at a share of the traffic."""


class Conductor:
    """Conducts one rollout."""

    def __init__(
        self, cluster: Cluster, trial: Judging, send: Send, clock: Clock, config: Config
    ) -> None:
        self.cluster = cluster
        self.trial = trial
        self.send = send
        self.clock = clock
        self.config = config

    def run(self, *, abort: bool = False) -> Code:
        """Walk the latest revision to all of the traffic, or remove it; `abort` only removes."""
        memory = Memory(started=self.clock.now())
        if abort:
            verdict = Verdict(Reason.ABORTED, "the sync failed")
            memory = replace(memory, verdict=verdict, notified=True)
        answered = self.clock.now()
        while not self.clock.stopped:
            try:
                seen = self._look(memory)
                answered = self.clock.now()
                action, memory = next_action(seen, memory, self.config)
                if isinstance(action, Finish):
                    return self._finish(action, memory)
                memory = self._act(action, seen, memory)
            except (Conflict, Unavailable) as err:
                log.warning("kubernetes.try_again", extra={"error": str(err)})
                if self.clock.now() - answered > self.config.wait_seconds:
                    return Code.FAILED
                self.clock.wait(self.config.poll_seconds)
            except Refused as err:
                log.critical("kubernetes.refused", extra={"error": str(err)})
                return Code.FAILED
        log.warning("rollout.interrupted", extra={"revision": memory.candidate})
        return Code.INTERRUPTED

    def _look(self, memory: Memory) -> Seen:
        service = self.cluster.service()
        candidate = memory.candidate or (service.latest_created if service.observed else "")
        return Seen(
            service=service,
            stable=self.cluster.revision(service.stable) if service.stable else None,
            candidate=self.cluster.revision(candidate) if candidate else None,
            now=self.clock.now(),
        )

    def _act(self, action: Action, seen: Seen, memory: Memory) -> Memory:
        match action:
            case Route(traffic):
                self.cluster.route(traffic, seen.service.resource_version)
                split = ", ".join(f"{target.revision} {target.percent} %" for target in traffic)
                log.info("traffic.routed", extra={"split": split})
                self.cluster.tell("RolloutStep", split)
            case Judge(share):
                outcome = self.trial.hold(seen.service, memory.candidate, share)
                if self.clock.stopped:  # an exam that was cut short says nothing
                    return memory
                memory = replace(memory, model=outcome.model or memory.model)
                if outcome.verdict:
                    return _failed(memory, outcome.verdict)
                return replace(memory, passed=memory.passed | {share})
            case Fail(verdict):
                return _failed(memory, verdict)
            case Tell(verdict):
                self._tell(verdict, seen, memory)
                return replace(memory, notified=True)
            case Mark(verdict):
                self.cluster.mark(memory.candidate, self._removal(verdict, seen, memory).message)
                log.info("candidate.marked", extra={"revision": memory.candidate})
                return replace(memory, marked=True)
            case _:
                self.clock.wait(self.config.poll_seconds)
        return memory

    def _tell(self, verdict: Verdict, seen: Seen, memory: Memory) -> None:
        removal = self._removal(verdict, seen, memory)
        self.cluster.tell(f"Rollout{verdict.reason}", removal.message, warning=True)
        self.send(removal.subject, removal.message)

    def _removal(self, verdict: Verdict, seen: Seen, memory: Memory) -> Removal:
        return Removal(
            ksvc=self.config.ksvc,
            candidate=memory.candidate,
            stable=seen.service.stable,
            verdict=verdict,
            share=memory.share,
            model=memory.model,
            hours=math.ceil((self.clock.now() - memory.started) / 3600),
        )

    def _finish(self, finish: Finish, memory: Memory) -> Code:
        facts = {"revision": memory.candidate, "code": int(finish.code)}
        log.info("rollout.finished", extra=facts | {"outcome": finish.code.name.lower()})
        if finish.code is Code.DONE and memory.passed:
            self.cluster.tell("RolloutDone", f"{memory.candidate} has all the traffic")
        return finish.code


def _failed(memory: Memory, verdict: Verdict) -> Memory:
    facts = {"revision": memory.candidate, "verdict": str(verdict)}
    log.warning("candidate.failed", extra=facts)
    return replace(memory, verdict=verdict)
