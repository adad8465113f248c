"""Why a candidate is taken out of the traffic, and what that means. Nothing here does IO."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Code(IntEnum):
    """Exit codes. The Job ends for good at 2, 42 and 43; after others Kubernetes tries again."""

    DONE = 0  # all traffic goes to the latest revision, or there was nothing to do
    FAILED = 1  # Kubernetes did not answer, or refused; a crash of Python is 1, too
    MISUSED = 2  # a setting or the judge's folder is missing or odd
    REJECTED = 42  # the candidate was judged, removed and marked: it is not tried again
    NOT_JUDGED = 43  # the candidate was removed before it could be judged: a later sync tries again
    SUPERSEDED = 44  # a newer revision has come: the next run begins with it
    INTERRUPTED = 143  # SIGTERM: the next run goes on from here


class Reason(StrEnum):
    """What was against a candidate."""

    INACCURATE = "Inaccurate"
    TOO_SLOW = "TooSlow"
    FAILING = "Failing"  # it answers with errors
    BROKE = "Broke"  # it stopped being ready under traffic
    WORSE_IN_TRAFFIC = "WorseInTraffic"  # says Prometheus
    REJECTED_BEFORE = "RejectedBefore"
    NOT_READY = "NotReady"
    NO_CAPACITY = (
        "NoCapacity"  # fewer pods than its min-scale: the cluster's fault, not the model's
    )
    NOT_ROUTED = "NotRouted"  # Knative did not bring the split about
    STABLE_NOT_READY = "StableNotReady"
    NO_ANSWER = "NoAnswer"  # it, or what lies before it, could not be asked
    FOREIGN_TRAFFIC = "ForeignTraffic"  # somebody's split without a tag `stable`
    LATE = "Late"
    SUPERSEDED = "Superseded"
    ABORTED = "Aborted"


MARKED = frozenset(
    {
        *(Reason.INACCURATE, Reason.TOO_SLOW, Reason.FAILING),
        *(Reason.BROKE, Reason.WORSE_IN_TRAFFIC),
    }
)


@dataclass(frozen=True)
class Verdict:
    """A reason and its figures."""

    reason: Reason
    detail: str

    @property
    def marks(self) -> bool:
        """Tell whether the revision is to blame, so that no retry may try it again."""
        return self.reason in MARKED

    @property
    def code(self) -> Code:
        """Return the exit code of a run that ended so."""
        if self.marks or self.reason is Reason.REJECTED_BEFORE:
            return Code.REJECTED
        codes = {Reason.SUPERSEDED: Code.SUPERSEDED, Reason.ABORTED: Code.DONE}
        return codes.get(self.reason, Code.NOT_JUDGED)

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"
