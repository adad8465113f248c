"""What kustomize makes of our manifests, for the tests and for `make manifests`.

`python -m tests.manifests.render DIRECTORY` writes each rendering to a file, and each pod once more
as a Deployment: the checkers of other people look into no Knative Service.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
# Objects are as free as YAML is.
Object = dict[str, Any]
OVERLAYS = sorted(path.name for path in (ROOT / "knative" / "overlays").iterdir())
# Everything that a cluster may be given as it is.
WHOLE = [
    *(f"knative/overlays/{name}" for name in OVERLAYS),
    *("knative/serving", "knative/system", "knative/system/eventing", "knative/signature"),
    *("argocd/dev", "argocd/prod", "argocd/keda", "argocd/monitor"),
    "knative/monitor",
]
OTHERS = ["knative/base", "knative/settings", "argocd/platform"]


SETTINGS = "knative/settings/settings.env"


def example() -> str:
    """Fill in the settings as their examples do."""
    return re.sub(r"(?m)^#([A-Z_]+=)", r"\1", (ROOT / SETTINGS).read_text())


@cache
def filled_in() -> Path:
    """Copy what is rendered, and fill in the settings: as it is, it refuses to be rendered."""
    copy = Path(tempfile.mkdtemp(prefix="shelfwatch-manifests-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    for room in ("knative", "argocd"):
        shutil.copytree(ROOT / room, copy / room)
    (copy / SETTINGS).write_text(example())
    return copy


def have_kubectl() -> bool:
    """Tell whether kubectl is there. Raises `FileNotFoundError` in CI, where it must be."""
    found = shutil.which("kubectl") is not None
    if not found and os.environ.get("CI"):
        raise FileNotFoundError("kubectl")
    return found


@cache
def render(path: str) -> list[Object]:
    """Render a directory, settings filled in. Raises `CalledProcessError`; its stderr says why."""
    command = ["kubectl", "kustomize", str(filled_in() / path)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return [loaded for loaded in yaml.safe_load_all(done.stdout) if loaded]


def objects(path: str, kind: str, group: str = "") -> list[Object]:
    """Render a directory and pick the objects of a kind; a group tells two Services apart."""
    return [
        found
        for found in deepcopy(render(path))
        if found["kind"] == kind and found["apiVersion"].startswith(group)
    ]


def named(path: str, kind: str, name: str) -> Object:
    """Render a directory and pick one object."""
    [found] = [found for found in objects(path, kind) if found["metadata"]["name"] == name]
    return found


def detector(path: str) -> Object:
    """Render a directory and pick the Knative Service."""
    [found] = objects(path, "Service", "serving.knative.dev")
    return found


def pod_templates(path: str) -> Iterator[tuple[str, Object]]:
    """Yield each pod template of a rendering with the kind and name of its owner."""
    for found in deepcopy(render(path)):
        spec = found.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "containers" in spec.get("template", {}).get("spec", {}):
            yield f"{found['kind']}/{found['metadata']['name']}", spec["template"]


KNATIVES_OWN = ("containerConcurrency", "timeoutSeconds")
# What checkov wants of a Deployment's pods and these cannot have.
OF_JOBS = {
    "checkov.io/skip1": "CKV_K8S_8=a pod of a Job ends by itself",
    "checkov.io/skip2": "CKV_K8S_9=nobody asks a pod of a Job anything",
}
SKIPPED = {
    "Service": {
        "checkov.io/skip1": "CKV_K8S_29=Knative takes no context of a pod; the container has it all"
    },
    "CronJob": OF_JOBS,
    "Job": OF_JOBS,
}


def as_deployment(owner: str, template: Object) -> Object:
    """Put a pod template into a Deployment."""
    kind, _, name = owner.partition("/")
    metadata = template.setdefault("metadata", {})
    labels = metadata["labels"] = {"app": name, **metadata.get("labels", {})}
    for foreign in ("restartPolicy", *KNATIVES_OWN):  # no Deployment's pod has them
        template["spec"].pop(foreign, None)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": f"{kind.lower()}-{name}",
            "namespace": "shelfwatch",
            "annotations": SKIPPED.get(kind, {}),
        },
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }


def main(directory: str) -> None:
    """Write every rendering below `directory`."""
    target = Path(directory)
    shutil.rmtree(target, ignore_errors=True)
    (target / "pods").mkdir(parents=True)
    for path in WHOLE:
        name = path.replace("/", "-")
        (target / f"{name}.yaml").write_text(yaml.safe_dump_all(render(path)))
        pods = [as_deployment(*pod) for pod in pod_templates(path)]
        if pods:
            (target / "pods" / f"{name}.yaml").write_text(yaml.safe_dump_all(pods))
    print(f"{len(WHOLE)} renderings in {target}")


if __name__ == "__main__":
    main(sys.argv[1])
