"""The walk: ShelfWatch on the cluster that KUBECONFIG names, line by line, a table at the end.

Knative is there already (knative/serving), and so are the images. IMAGE and LOCAL_IMAGE name them,
GATEWAY is the service's URL within the cluster. It makes the namespace shelfwatch, and takes it
away as its last line.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from tests.e2e.walk import rollout
from tests.e2e.walk.cluster import (
    NAMESPACE,
    Failed,
    Object,
    apply,
    get,
    kubectl,
    newest,
    of_revision,
    pods,
    render,
    say,
    service,
    traffic,
    until,
    visit,
)

FUNCTION = "serving.knative.dev/service=shelf-detector"
LOAD = {"requests": 2, "events": 1}  # a second
STOPPED_SECONDS = 70  # Kourier's stream-idle-timeout, and a little


@dataclass
class Walk:
    """What later lines want of those before."""

    template: Object = field(default_factory=dict)
    stable: str = ""


def ready(walk: Walk) -> str:
    """the function becomes ready, every NetworkPolicy on"""
    kubectl("apply", "--filename", "knative/base/namespace.yaml")
    if not get("secret", "--field-selector", "metadata.name=shelfwatch-tokens")["items"]:
        kubectl(
            "create", "secret", "generic", "shelfwatch-tokens", "--from-literal", "EVENTS_TOKEN=e2e"
        )
    documents = [each for each in render("tests/e2e/path") if "kind: Job\n" not in each]
    until("everything is applied", lambda: applied(documents), 120, pause=5)
    started = time.monotonic()
    until("the function is ready", is_ready, 400)
    seconds = time.monotonic() - started
    kubectl("rollout", "status", "deployment/aws", "deployment/visitor", "--timeout", "180s")
    kubectl("exec", "deployment/aws", "--", "python", "-m", "local.aws")
    kubectl("rollout", "status", "deployment/shelfwatch-source", "--timeout", "180s")
    walk.template = rollout.plain()
    policies = len(get("networkpolicies")["items"])
    return f"{seconds:.1f} s, {len(pods(FUNCTION))} pods under {policies} policies"


def applied(documents: list[str]) -> bool:
    """Apply; Knative's webhooks answer a moment later than their pods are ready."""
    apply(documents)
    return True


def is_ready() -> bool:
    """Tell whether the Knative Service is ready."""
    found = service()
    status = found.get("status", {})
    seen = status.get("observedGeneration") == found["metadata"]["generation"]
    conditions = {each["type"]: each["status"] for each in status.get("conditions", [])}
    return seen and conditions.get("Ready") == "True"


def predict(walk: Walk) -> str:
    """POST /predict through Kourier"""
    told = visit("post")
    if told["status"] != 200 or told["count"] < 40:
        raise Failed(str(told))
    return f"{told['count']} products in {told['seconds']} s"


def delivered(walk: Walk) -> str:
    """S3 → SQS → source → Kourier → function → SNS"""
    return told_of(visit("load", "--seconds", "5", "--events", "2", "--patience", "120"))


def told_of(seen: Object) -> str:
    """Hold what a visitor saw under load to: nothing failed, nothing lost, no second id."""
    if seen["failed"] or seen["lost"] or seen["two_ids"]:
        raise Failed(json.dumps({key: seen[key] for key in ("failed", "lost", "two_ids")})[:600])
    if set(seen["types"]) - {"io.shelfwatch.shelf.audited"}:
        raise Failed(str(seen["types"]))
    asked = ""
    if seen["requests"]:
        asked = f"{seen['requests']} requests, p95 {seen['p95']} s, "
        asked += f"{seen['came_again']} came again after a 503; "
    return (
        f"{asked}{seen['uploaded']} of {seen['uploaded']} events, {seen['told_twice']} told twice"
    )


def refused(walk: Walk) -> str:
    """who is not named in a policy does not reach a pod"""
    address = pods(FUNCTION)[0]["status"]["podIP"]
    source = pods("app.kubernetes.io/name=shelfwatch-source")[0]["status"]["podIP"]
    for ip, port in ((address, 8080), (address, 8012), (source, 9090)):
        code = f"import socket; socket.create_connection(('{ip}', {port}), 3)"
        reached = True
        try:
            kubectl("exec", "deployment/visitor", "--", "python", "-c", code)
        except Failed as err:
            reached = "Error" not in str(err) and "timed out" not in str(err)
        if reached:
            msg = f"{ip}:{port} is open to anybody"
            raise Failed(msg)
    return "function 8080 and 8012, source 9090"


def first(walk: Walk) -> str:
    """the conductor pins the first revision"""
    walk.stable = newest()
    return rollout.expect(rollout.walked(walk.stable), good=True, stable="")


def good(walk: Walk) -> str:
    """a good candidate gets all of the traffic"""
    candidate = rollout.offer(walk.template, rollout.GOOD)
    told = rollout.expect(rollout.walked(candidate), good=True, stable=walk.stable)
    walk.stable = candidate
    return told


def bad(variables: dict[str, str]) -> Callable[[Walk], str]:
    """Make a line of a bad candidate."""

    def line(walk: Walk) -> str:
        deadline = {rollout.DEADLINE: "60s"} if variables == rollout.NEVER_READY else {}
        candidate = rollout.offer(walk.template, variables, **deadline)
        return rollout.expect(rollout.walked(candidate), good=False, stable=walk.stable)

    return line


def again(walk: Walk) -> str:
    """a rejected one is not tried again, and stays without pods"""
    rejected = service()["metadata"]["annotations"]["shelfwatch.io/rejected"]
    started = time.monotonic()
    rollout.conduct()
    until("the conductor's end", rollout.ended, 120)
    seconds = time.monotonic() - started
    if rollout.ended() != "Failed" or traffic() != {walk.stable: 100}:
        raise Failed(f"{rollout.ended()}, {traffic()}")
    time.sleep(10)
    if of_revision(rejected):
        msg = f"{rejected} has pods again"
        raise Failed(msg)
    return f"{rejected}: refused after {seconds:.0f} s"


@contextmanager
def under_load(seconds: int) -> Iterator[list[Object]]:
    """Let the visitor ask and upload meanwhile; what it saw is in the list afterwards."""
    seen: list[Object] = []
    options = [f"--{name}={value}" for name, value in {"seconds": seconds, **LOAD}.items()]
    errors: list[Exception] = []

    def run() -> None:
        try:
            seen.append(visit("load", *options, limit=seconds + 1400))
        except Exception as err:
            errors.append(err)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(10)
    try:
        yield seen
    finally:
        thread.join()
    if errors:
        raise errors[0]


def delete(selector: str, namespace: str = NAMESPACE, *options: str) -> str:
    """Delete the first pod of a selector."""
    name: str = get("pods", "--namespace", namespace, "--selector", selector)["items"][0][
        "metadata"
    ]["name"]
    kubectl("delete", "pod", name, "--namespace", namespace, "--wait=false", *options)
    return name


def killed(selector: str, namespace: str = NAMESPACE) -> Callable[[Walk], str]:
    """Make a line in which a pod is deleted under load."""

    def line(walk: Walk) -> str:
        with under_load(90) as seen:
            delete(selector, namespace)
            time.sleep(45)
        return told_of(seen[0])

    return line


def drained(walk: Walk) -> str:
    """a node is drained under load"""
    with under_load(120) as seen:
        drain()
    return told_of(seen[0])


def drain() -> None:
    """Drain a node that neither the emulator nor the visitor is on, and let pods come back."""
    [home] = {each["spec"]["nodeName"] for each in pods("app.kubernetes.io/name in (aws, visitor)")}
    others = [
        each["metadata"]["name"]
        for each in get("nodes")["items"]
        if each["metadata"]["name"] != home and not each["spec"].get("taints")
    ]
    if not others:
        msg = "there is one node, and the emulator is on it"
        raise Failed(msg)
    name = others[0]
    try:
        options = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout", "150s")
        kubectl("drain", name, *options)
        left = get("pods", "--field-selector", f"spec.nodeName={name}")["items"]
        say(f"{name} is drained, {len(left)} pods left")
    finally:
        kubectl("uncordon", name)


def taken_over(walk: Walk, ending: rollout.Ending, seen: Object) -> str:
    """Hold a replacement under load to what it must be, and take its candidate for stable."""
    # First what was lost, if anything: that a busy cluster takes no candidate is the lesser fault.
    told = told_of(seen)
    became = rollout.expect(ending, good=True, stable=walk.stable)
    walk.stable = ending.candidate
    return f"{became}; {told}"


def endured(walk: Walk) -> str:
    """ten minutes of load: pod deleted, gateway killed, node drained, revision replaced"""
    with under_load(600) as seen:
        delete(FUNCTION)
        time.sleep(60)
        delete("app=3scale-kourier-gateway", "knative-serving")
        time.sleep(60)
        drain()
        time.sleep(60)
        candidate = rollout.offer(walk.template, rollout.GOOD)
        ending = rollout.walked(candidate)
    return taken_over(walk, ending, seen[0])


def replaced(walk: Walk) -> str:
    """a revision is replaced under load"""
    with under_load(150) as seen:
        candidate = rollout.offer(walk.template, rollout.GOOD)
        ending = rollout.walked(candidate)
    return taken_over(walk, ending, seen[0])


def to_zero(walk: Walk) -> str:
    """to zero and back"""
    scale = "autoscaling.knative.dev/"
    annotations = {
        f"{scale}min-scale": "0",
        f"{scale}initial-scale": "1",
        f"{scale}scale-down-delay": "0s",
        f"{scale}window": "30s",
    }
    candidate = rollout.offer(walk.template, rollout.GOOD, **annotations)
    rollout.expect(rollout.walked(candidate), good=True, stable=walk.stable)
    walk.stable = candidate
    started = time.monotonic()
    until("no pod is left", lambda: not of_revision(candidate), 300, pause=2)
    down = time.monotonic() - started
    told = visit("post")
    if told["status"] != 200:
        raise Failed(str(told))
    candidate = rollout.offer(walk.template, rollout.GOOD)
    rollout.expect(rollout.walked(candidate), good=True, stable=walk.stable)
    walk.stable = candidate
    return f"zero after {down:.0f} s, the first answer after {told['seconds']} s"


def slow_bodies(walk: Walk) -> str:
    """bodies that stop halfway give back their place"""
    places = 8 * len(pods(FUNCTION))  # containerConcurrency of each
    told = visit("slow", "--seconds", "6000", "--count", str(places))
    slowest = max(each["seconds"] for each in told["slow"])
    if {each["status"] for each in told["slow"]} != {408} or slowest > STOPPED_SECONDS:
        raise Failed(json.dumps(told)[:600])
    patient = visit("slow", "--seconds", "4")
    if patient["quick"]["status"] != 200 or patient["slow"][0]["status"] != 200:
        raise Failed(str(patient))
    return f"{places} were answered 408 after {slowest} s at most; one of 4 s was answered"


def at_the_limit(walk: Walk) -> str:
    """a photo of 50 megapixels, and no pod is killed for memory"""
    before = restarts()
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (705, 705, 3), np.uint8)
    picture = Image.fromarray(noise).resize((7050, 7050), Image.Resampling.NEAREST)
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=10, method=0)
    told = visit("post", "--type", "image/webp", body=out.getvalue())
    if told["status"] != 200 or restarts() != before:
        raise Failed(f"{told}, restarts {restarts()}, before {before}")
    return f"{len(out.getvalue()) / 2**20:.1f} MiB of WebP in {told['seconds']} s"


def restarts() -> dict[str, int]:
    """Count the restarts of the function's containers."""
    return {
        each["metadata"]["name"]: sum(
            status["restartCount"] for status in each["status"].get("containerStatuses", [])
        )
        for each in pods(FUNCTION)
    }


def deleted(walk: Walk) -> str:
    """deletion ends"""
    kubectl("delete", "ksvc", "--all", "--timeout", "120s")
    kubectl("delete", "namespace", NAMESPACE, "--timeout", "240s", limit=300)
    return "no Service, no namespace"


LINES: dict[str, Callable[[Walk], str]] = {
    "ready": ready,
    "predict": predict,
    "delivered": delivered,
    "refused": refused,
    "first": first,
    "good": good,
    "errors": bad(rollout.ERRORS),
    "again": again,
    "worse": bad(rollout.WORSE),
    "never-ready": bad(rollout.NEVER_READY),
    "pod-lost": killed(FUNCTION),
    "source-lost": killed("app.kubernetes.io/name=shelfwatch-source"),
    "gateway-lost": killed("app=3scale-kourier-gateway", "knative-serving"),
    "activator-lost": killed("app=activator", "knative-serving"),
    "node-drained": drained,
    "replaced": replaced,
    "to-zero": to_zero,
    "slow-bodies": slow_bodies,
    "at-the-limit": at_the_limit,
    "deleted": deleted,
}
# By name alone: it takes as long as half of the others.
APART: dict[str, Callable[[Walk], str]] = {"endured": endured}
NAMES = {
    "errors": "a candidate that answers errors is taken out",
    "worse": "one that misses products",
    "never-ready": "one that never becomes ready",
    "pod-lost": "a pod of the function is deleted under load",
    "source-lost": "a source is deleted under load",
    "gateway-lost": "a pod of the gateway is deleted under load",
    "activator-lost": "an activator is deleted under load",
}


def main() -> int:
    """Walk; 1 where a line does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.walk", description=__doc__)
    parser.add_argument(
        "--only", nargs="*", choices=[*LINES, *APART], help="lines, on what an earlier walk left"
    )
    options = parser.parse_args()
    walk = Walk()
    lines = options.only or list(LINES)
    if "ready" not in lines:
        walk.template, walk.stable = (
            rollout.plain(),
            max(traffic(), key=lambda name: traffic()[name]),
        )
    failed = 0
    print("| | holds | seconds | |\n|---|---|--:|---|", flush=True)
    for name in lines:
        started = time.monotonic()
        try:
            holds, told = "yes", (LINES | APART)[name](walk)
        except (Failed, subprocess.TimeoutExpired, KeyError, IndexError) as err:
            holds, told, failed = "**no**", f"{type(err).__name__}: {err}", failed + 1
        seconds = time.monotonic() - started
        title = NAMES.get(name) or str((LINES | APART)[name].__doc__)
        print(f"| {title} | {holds} | {seconds:.0f} | {told} |".replace("\n", " "), flush=True)
        if failed and name in ("ready", "first"):
            break
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
