"""`python -m tests.e2e.signature`: an image that nobody has signed does not start.

On kind, with IMAGE in its docker: a registry beside the nodes, policy-controller as Argo CD brings
it, the policies of knative/signature. A signature itself needs the identity of the release
workflow, so an image that is admitted is not part of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from tests.e2e.walk.cluster import Failed, kubectl, until
from tests.manifests.render import named, render

IMAGE = os.environ.get("IMAGE", "dev.local/shelfwatch:dev")
REGISTRY = "registry.local:5000"  # of names that end in .local, images come without TLS
SIGNED = "signed"  # a namespace


def run(*command: str, given: str = "") -> None:
    """Run a command. Raises `CalledProcessError`."""
    subprocess.run(command, input=given, text=True, check=True)


def push() -> None:
    """Start a registry on the nodes' network, and push the image, unsigned."""
    run("docker", "rm", "--force", "shelfwatch-registry")
    network = ("--network", "kind", "--network-alias", REGISTRY.partition(":")[0])
    port = ("--publish", "127.0.0.1:5001:5000")
    run("docker", "run", "--detach", "--name", "shelfwatch-registry", *network, *port, "registry:2")
    run("docker", "tag", IMAGE, "127.0.0.1:5001/shelfwatch:dev")
    time.sleep(2)
    run("docker", "push", "127.0.0.1:5001/shelfwatch:dev")


def install() -> None:
    """Bring policy-controller with the values of argocd/prod, and the policies."""
    source = named("argocd/prod", "Application", "policy-controller")["spec"]["source"]
    chart = ("helm", "upgrade", "--install", source["helm"]["releaseName"], source["chart"])
    place = ("--namespace", "cosign-system", "--create-namespace", "--wait", "--timeout", "5m")
    version = ("--repo", source["repoURL"], "--version", source["targetRevision"])
    values = json.dumps(source["helm"]["valuesObject"])
    run(*chart, *version, *place, "--values", "-", given=values)
    until("the policies are taken", applied, 120, pause=5)
    kubectl("create", "namespace", SIGNED)
    kubectl("label", "namespace", SIGNED, "policy.sigstore.dev/include=true")
    time.sleep(10)  # the webhook reads policies a moment later


def applied() -> bool:
    """Apply the policies, for the image where it is here."""
    policies = [each for each in render("knative/signature") if each["kind"] != "ConfigMap"]
    for each in policies:
        if each["metadata"]["name"] == "shelfwatch":
            each["spec"]["images"] = [{"glob": f"{REGISTRY}/shelfwatch@**"}]
    given = json.dumps({"apiVersion": "v1", "kind": "List", "items": policies})
    kubectl("apply", "--server-side", "--filename", "-", given=given)
    return True


def deploy(name: str, image: str) -> str:
    """Try to make a Deployment; returns what kubectl was told, a refusal or warnings."""
    command = ["kubectl", "--namespace", SIGNED, "create", "deployment", name, "--image", image]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def main() -> int:
    """Walk; 1 where something does not hold."""
    image = f"{REGISTRY}/shelfwatch:dev"
    push()
    install()
    mode = '{"spec": {"mode": "%s"}}'
    patch = ("patch", "clusterimagepolicy", "shelfwatch", "--type", "merge", "--patch")
    told = {"enforced": deploy("enforced", image), "unknown": deploy("unknown", "busybox")}
    kubectl(*patch, mode % "warn")
    time.sleep(10)
    told["warned"] = deploy("warned", image)
    wanted = {
        "enforced": ("denied the request", "failed policy: shelfwatch"),
        "unknown": ("denied the request", "no matching policies"),
        "warned": ("Warning", "failed policy: shelfwatch"),
    }
    missed = [
        f"{name}: {told[name]!r} says no {words!r}"
        for name, words in wanted.items()
        if not all(word in told[name] for word in words)
    ]
    if "denied" in told["warned"]:
        missed.append(f"warned: {told['warned']!r}")
    print("\n".join(missed or [f"{name}: {text.strip()}" for name, text in told.items()]))
    kubectl("delete", "namespace", SIGNED, check=False)
    return bool(missed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, subprocess.CalledProcessError) as err:
        sys.exit(str(err))
