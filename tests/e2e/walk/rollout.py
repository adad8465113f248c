"""Candidates, good and bad ones, and the conductor that walks them as a Job."""

from __future__ import annotations

import json
import random
import time
from copy import deepcopy
from dataclasses import dataclass
from itertools import count

import yaml

from tests.e2e.walk.cluster import (
    Failed,
    Object,
    apply,
    get,
    kubectl,
    newest,
    of_revision,
    render,
    traffic,
    until,
)

# What makes a revision a bad one: variables of its container.
GOOD: dict[str, str] = {}
ERRORS = {"PREDICT_TOKEN": "nobody-has-it"}
WORSE = {"SHELFWATCH_CONFIDENCE": "0.99"}
NEVER_READY = {"SHELFWATCH_MODEL": "/nowhere.onnx"}
# Below the 300 s of the base, so that one that never gets ready is given up sooner.
DEADLINE = "serving.knative.dev/progress-deadline"
GONE_SECONDS = 120  # after which no pod of a rejected revision may be left
_serial = count(int(time.time()))


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What became of a candidate."""

    candidate: str
    complete: bool
    traffic: dict[str, int]
    seconds: float
    gone_seconds: float | None = None  # until no pod of a rejected one was left


def plain() -> Object:
    """Take the template that candidates are made of: the live one may be a bad candidate's."""
    found = [yaml.safe_load(each) for each in render("tests/e2e/path") if "kind: Service\n" in each]
    [of_knative] = [each for each in found if each["apiVersion"].startswith("serving.knative.dev/")]
    template: Object = of_knative["spec"]["template"]
    return template


def offer(template: Object, variables: dict[str, str], **annotations: str) -> str:
    """Make a candidate of a template; returns its revision's name."""
    before = newest()
    wanted = deepcopy(template)
    marks = wanted.setdefault("metadata", {}).setdefault("annotations", {})
    marks |= {"e2e": str(next(_serial)), **annotations}
    [container] = wanted["spec"]["containers"]
    kept = [each for each in container.get("env", []) if each["name"] not in variables]
    container["env"] = kept + [{"name": k, "value": v} for k, v in variables.items()]
    patch = json.dumps([{"op": "replace", "path": "/spec/template", "value": wanted}])
    kubectl("patch", "ksvc", "shelf-detector", "--type", "json", "--patch", patch)
    return str(until("a new revision", lambda: newest() if newest() != before else "", 60))


def conduct(*, abort: bool = False, hold: int = 5, prometheus: str = "") -> None:
    """Start the conductor as Argo CD would, in a hurry."""
    name = "shelf-rollout-abort" if abort else "shelf-rollout"
    kubectl("delete", "job", name, "--ignore-not-found", "--wait")
    documents = render("tests/e2e/rollout")
    given = [each for each in documents if "kind: Job" not in each or f"\n  name: {name}\n" in each]
    settings = f'HOLD_SECONDS: "{hold}"'
    if prometheus:
        settings += f"\n  PROMETHEUS_URL: {prometheus}"
    given = [each.replace('HOLD_SECONDS: "5"', settings) for each in given]
    apply(given, "--force-conflicts")


def ended(job: str = "shelf-rollout") -> str:
    """Tell how a Job ended: Complete, Failed, or not yet."""
    conditions = get("job", job).get("status", {}).get("conditions", [])
    kinds = {each["type"] for each in conditions if each["status"] == "True"}
    return next((kind for kind in ("Complete", "Failed") if kind in kinds), "")


def walked(
    candidate: str, *, kills: int = 0, hold: int = 5, prometheus: str = "", leave: bool = False
) -> Ending:
    """Let the conductor work, killed at random moments.

    Waits until a rejected one has no pods; `leave` does not.
    """
    started = time.monotonic()
    stable = max(traffic(), key=lambda name: traffic()[name])
    conduct(hold=hold, prometheus=prometheus)
    for _ in range(kills):
        time.sleep(random.uniform(2, 25))
        if ended():
            break
        kill_conductor()
    state = until("the conductor's end", ended, 900, pause=2)
    seconds = time.monotonic() - started
    gone = None
    if state == "Failed":
        until("stable alone", lambda: traffic() == {stable: 100}, 60)
        gone = 0.0 if leave else until_gone(candidate)
    return Ending(
        candidate=candidate,
        complete=state == "Complete",
        traffic=traffic(),
        seconds=seconds,
        gone_seconds=gone,
    )


def until_gone(candidate: str) -> float:
    """Wait until a revision has no pods; returns the seconds. Raises `Failed` where they stay."""
    left = time.monotonic()
    until(f"{candidate} has no pod", lambda: not of_revision(candidate), GONE_SECONDS)
    return time.monotonic() - left


def stop() -> None:
    """Take the conductor away for good, as a sync that is ended does."""
    kill_conductor()
    kubectl("delete", "job", "shelf-rollout", "--ignore-not-found", "--wait")


def kill_conductor() -> None:
    """End the conductor's pod at once: SIGKILL, as a lost node does."""
    running = get("pods", "--selector", "app.kubernetes.io/name=shelf-rollout")["items"]
    for pod in running:
        if pod["status"].get("phase") in ("Pending", "Running"):
            name = pod["metadata"]["name"]
            kubectl("delete", "pod", name, "--grace-period", "0", "--force", check=False)


def expect(ending: Ending, *, good: bool, stable: str) -> str:
    """Hold an ending to what it must be; returns what to print. Raises `Failed`."""
    wanted = {ending.candidate: 100} if good else {stable: 100}
    if ending.complete is not good or ending.traffic != wanted:
        how = "complete" if ending.complete else "failed"
        msg = f"{ending.candidate}: {how}, traffic {ending.traffic}, not {wanted}"
        raise Failed(msg)
    if good:
        return f"{ending.candidate} has 100 %"
    gone = f", last pod gone after {ending.gone_seconds:.0f} s" if ending.gone_seconds else ""
    return f"{stable} has 100 %{gone}"
