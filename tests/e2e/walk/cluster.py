"""A cluster by kubectl, and the few objects of it that the walk looks at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

Object = dict[str, Any]

NAMESPACE = "shelfwatch"
IMAGE, LOCAL_IMAGE = (
    "dev.local/shelfwatch:dev",
    "dev.local/shelfwatch-local:dev",
)  # in the manifests
URL = os.environ.get("GATEWAY", f"http://shelf-detector.{NAMESPACE}.svc.cluster.local")


class Failed(Exception):
    """A line of the walk does not hold; the message says what was seen."""


def kubectl(
    *arguments: str, given: str | bytes = "", check: bool = True, limit: float = 900
) -> str:
    """Run kubectl in the namespace. Raises `Failed` with what it said."""
    command = ["kubectl", "--namespace", NAMESPACE, *arguments]
    body = given.encode() if isinstance(given, str) else given
    done = subprocess.run(command, input=body, capture_output=True, check=False, timeout=limit)
    if check and done.returncode:
        msg = f"kubectl {' '.join(arguments)}: {done.stderr.decode().strip()[-500:]}"
        raise Failed(msg)
    return done.stdout.decode()


def get(*what: str) -> Object:
    """Read an object, or a list of them."""
    found: Object = json.loads(kubectl("get", *what, "--output", "json"))
    return found


def until(what: str, holds: Callable[[], Any], seconds: float, pause: float = 1.0) -> Any:
    """Wait until something holds and return it. Raises `Failed` where it does not come about."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            seen = holds()
        except (Failed, subprocess.TimeoutExpired) as err:
            seen, what_else = None, f": {err}"
        else:
            what_else = ""
        if seen:
            return seen
        if time.monotonic() > deadline:
            msg = f"not within {seconds:.0f} s: {what}{what_else}"
            raise Failed(msg)
        time.sleep(pause)


def render(folder: str) -> list[str]:
    """Render a folder with the images that the cluster has; a document each."""
    done = subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, check=True, text=True
    )
    given = {
        IMAGE: os.environ.get("IMAGE", IMAGE),
        LOCAL_IMAGE: os.environ.get("LOCAL_IMAGE", LOCAL_IMAGE),
    }
    text = done.stdout
    for name, image in given.items():
        text = text.replace(f"image: {name}\n", f"image: {image}\n")
    return text.split("\n---\n")


def apply(documents: list[str], *options: str) -> None:
    """Apply documents as Argo CD does, by the server."""
    kubectl("apply", "--server-side", *options, "--filename", "-", given="\n---\n".join(documents))


def visit(command: str, *options: str, body: bytes = b"", limit: float = 900) -> Object:
    """Let the visitor do something, and return what it saw."""
    stdin = ("--stdin",) if body else ()
    pod = ("exec", *stdin, "deployment/visitor", "--", "python", "/visitor/visitor.py")
    told: Object = json.loads(
        kubectl(*pod, command, URL, *options, *stdin, given=body, limit=limit)
    )
    return told


def service() -> Object:
    """Read the Knative Service."""
    return get("ksvc", "shelf-detector")


def traffic() -> dict[str, int]:
    """Tell who has how much of the traffic."""
    found = service()["status"].get("traffic", [])
    return {each["revisionName"]: each["percent"] for each in found if each.get("percent")}


def newest() -> str:
    """Name the revision that was made last, once Knative has seen the spec."""
    found = service()
    status = found.get("status", {})
    stale = any(
        each["type"] == "ConfigurationsReady" and each.get("reason") == "OutOfDate"
        for each in status.get("conditions", [])
    )
    if stale or status.get("observedGeneration") != found["metadata"]["generation"]:
        return ""
    return str(status.get("latestCreatedRevisionName", ""))


def pods(selector: str, *options: str) -> list[Object]:
    """List pods that are not on their way out."""
    found = get("pods", "--selector", selector, *options)["items"]
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def of_revision(name: str) -> list[Object]:
    """List all pods of a revision, also those on their way out."""
    found: list[Object] = get("pods", "--selector", f"serving.knative.dev/revision={name}")["items"]
    return found


def say(text: str) -> None:
    """Say what goes on, beside the table."""
    print(f"  {text}", file=sys.stderr, flush=True)
