"""What Knative's admission webhook refuses, as far as our Service could break it.

The schema of the CRD says nothing of these. Read in knative/serving 1.23: pkg/apis/serving and
pkg/apis/autoscaling.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]
AUTOSCALING = "autoscaling.knative.dev/"
CLASSES = {
    f"kpa.{AUTOSCALING[:-1]}": {"concurrency", "rps"},
    f"hpa.{AUTOSCALING[:-1]}": {"cpu", "memory"},  # it takes any name, and means these
}
RESERVED_PORTS = {8008, 8012, 8013, 8022, 9090, 9091}
RESERVED_VARIABLES = {"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"}
RESERVED_PATHS = {"/", "/dev", "/dev/log"}
PORT_NAMES = {"", "h2c", "http1"}
MAX_TIMEOUT = 600  # config-defaults, max-revision-timeout-seconds
MAX_CONCURRENCY = 1000
# Of a pod's fields those that are taken, and the flag of config-features that they want.
POD_FIELDS = {
    **dict.fromkeys(
        ("serviceAccountName", "containers", "volumes", "imagePullSecrets", "enableServiceLinks")
    ),
    "automountServiceAccountToken": None,
    "containerConcurrency": None,
    "timeoutSeconds": None,
    "responseStartTimeoutSeconds": None,
    "idleTimeoutSeconds": None,
    "affinity": "kubernetes.podspec-affinity",
    "dnsConfig": "kubernetes.podspec-dnsconfig",
    "dnsPolicy": "kubernetes.podspec-dnspolicy",
    "hostAliases": "kubernetes.podspec-hostaliases",
    "hostIPC": "kubernetes.podspec-hostipc",
    "hostNetwork": "kubernetes.podspec-hostnetwork",
    "hostPID": "kubernetes.podspec-hostpid",
    "initContainers": "kubernetes.podspec-init-containers",
    "nodeSelector": "kubernetes.podspec-nodeselector",
    "priorityClassName": "kubernetes.podspec-priorityclassname",
    "runtimeClassName": "kubernetes.podspec-runtimeclassname",
    "schedulerName": "kubernetes.podspec-schedulername",
    "securityContext": "kubernetes.podspec-securitycontext",
    "shareProcessNamespace": "kubernetes.podspec-shareprocessnamespace",
    "tolerations": "kubernetes.podspec-tolerations",
    "topologySpreadConstraints": "kubernetes.podspec-topologyspreadconstraints",
}
CONTAINER_FIELDS = {
    *("name", "args", "command", "env", "workingDir", "envFrom", "image", "imagePullPolicy"),
    *("livenessProbe", "ports", "readinessProbe", "resources", "securityContext", "startupProbe"),
    *("terminationMessagePath", "terminationMessagePolicy", "volumeMounts"),
}
SECURITY_FIELDS = {
    *("capabilities", "readOnlyRootFilesystem", "runAsUser", "runAsGroup", "runAsNonRoot"),
    *("allowPrivilegeEscalation", "seccompProfile"),
}
# Volumes that need no flag, and the flags of those that do and have one.
VOLUMES = {
    **dict.fromkeys(("configMap", "secret", "projected", "emptyDir")),
    "hostPath": "kubernetes.podspec-volumes-hostpath",
    "persistentVolumeClaim": "kubernetes.podspec-persistent-volume-claim",
    "csi": "kubernetes.podspec-volumes-csi",
    "ephemeral": "kubernetes.podspec-volumes-ephemeral",
}
HANDLERS = {"httpGet", "tcpSocket", "exec", "grpc"}


def flags_used(service: Object) -> set[str]:
    """Tell which flags of config-features a Knative Service wants enabled."""
    pod = service["spec"]["template"]["spec"]
    flags = {POD_FIELDS.get(field) for field in pod}
    flags |= {VOLUMES.get(kind) for volume in pod.get("volumes", []) for kind in volume}
    for container in pod["containers"]:
        for variable in container.get("env", []):
            if {"fieldRef", "resourceFieldRef"} & variable.get("valueFrom", {}).keys():
                flags.add("kubernetes.podspec-fieldref")
        if container.get("securityContext", {}).get("capabilities", {}).get("add"):
            flags.add("kubernetes.containerspec-addcapabilities")
    return {flag for flag in flags if flag}


def complaints(service: Object) -> Iterator[str]:
    """Say what the webhook would refuse in a Knative Service, flags aside."""
    annotations = service["metadata"].get("annotations", {})
    if any(name.startswith(AUTOSCALING) for name in annotations):
        yield "autoscaling annotations are not on the template"
    yield from _traffic(service["spec"].get("traffic", []))
    template = service["spec"]["template"]
    yield from _autoscaling(template.get("metadata", {}).get("annotations", {}))
    pod = template["spec"]
    yield from (f"a pod's {field} is not taken" for field in pod.keys() - POD_FIELDS.keys())
    if pod.get("automountServiceAccountToken"):
        yield "automountServiceAccountToken may only be false"
    if not 0 <= pod.get("timeoutSeconds", 300) <= MAX_TIMEOUT:
        yield f"timeoutSeconds is more than {MAX_TIMEOUT}"
    if not 0 <= pod.get("containerConcurrency", 0) <= MAX_CONCURRENCY:
        yield f"containerConcurrency is more than {MAX_CONCURRENCY}"
    for container in pod["containers"]:
        yield from _container(container, {volume["name"] for volume in pod.get("volumes", [])})


def _traffic(targets: list[Object]) -> Iterator[str]:
    if targets and sum(target.get("percent", 0) for target in targets) != 100:
        yield "traffic does not add up to 100"
    for target in targets:
        if bool(target.get("latestRevision")) == bool(target.get("revisionName")):
            yield "a target is neither a revision nor the latest"


def _autoscaling(annotations: dict[str, str]) -> Iterator[str]:
    given = {
        name.removeprefix(AUTOSCALING): value
        for name, value in annotations.items()
        if name.startswith(AUTOSCALING)
    }
    autoscaler = given.get("class", f"kpa.{AUTOSCALING[:-1]}")
    if autoscaler not in CLASSES:
        yield f"there is no class {autoscaler}"
    elif given.get("metric", "concurrency") not in CLASSES[autoscaler] and "metric" in given:
        yield f"{autoscaler} knows no metric {given['metric']}"
    low, high = int(given.get("min-scale", 0)), int(given.get("max-scale", 0))
    if 0 < high < low:
        yield "max-scale is less than min-scale"
    if "activation-scale" in given and not max(2, low) <= int(given["activation-scale"]) <= (
        high or 2**31
    ):
        yield "activation-scale is less than 2 or out of bounds"
    if int(given.get("initial-scale", 1)) < 1:
        yield "initial-scale is 0"
    if not 1 <= float(given.get("target-utilization-percentage", 70)) <= 100:
        yield "target-utilization-percentage is not 1 to 100"
    if float(given.get("target", 1)) < 0.01:
        yield "target is less than 0.01"
    burst = float(given.get("target-burst-capacity", 0))
    if burst < 0 and burst != -1:
        yield "target-burst-capacity is negative"
    for name in ("scale-down-delay", "scale-to-zero-pod-retention-period", "window"):
        if name in given and seconds(given[name]) > 3600:
            yield f"{name} is more than an hour"


def _container(container: Object, volumes: set[str]) -> Iterator[str]:
    yield from (
        f"a container's {name} is not taken" for name in container.keys() - CONTAINER_FIELDS
    )
    if container.get("name") == "queue-proxy":
        yield "queue-proxy is a reserved name"
    ports = container.get("ports", [])
    if len(ports) > 1:
        yield "there is more than one port"
    for port in ports:
        if port.get("name", "") not in PORT_NAMES:
            yield f"a port may not be called {port['name']}"
        if port["containerPort"] in RESERVED_PORTS:
            yield f"port {port['containerPort']} is reserved"
    variables = {variable["name"] for variable in container.get("env", [])}
    yield from (f"{name} is reserved" for name in variables & RESERVED_VARIABLES)
    security = container.get("securityContext", {})
    yield from (f"{field} is not taken" for field in security.keys() - SECURITY_FIELDS)
    mounts = container.get("volumeMounts", [])
    if {mount["name"] for mount in mounts} != volumes:
        yield "volumes and mounts differ"
    for mount in mounts:
        if mount["mountPath"].rstrip("/") in {path.rstrip("/") for path in RESERVED_PATHS}:
            yield f"{mount['mountPath']} is a reserved path"
    for name in ("readinessProbe", "livenessProbe", "startupProbe"):
        if name in container:
            yield from _probe(name, container[name], ports)


def _probe(name: str, probe: Object, ports: list[Object]) -> Iterator[str]:
    handlers = HANDLERS & probe.keys()
    if len(handlers) != 1:
        yield f"{name} has not one handler"
    for handler in handlers & {"httpGet", "tcpSocket"}:
        port = probe[handler].get("port", 0)
        if isinstance(port, str) and port not in {known.get("name") for known in ports}:
            yield f"{name} asks port {port}, which is none"
        if name == "startupProbe" and not port:
            yield "startupProbe has no port, and none is filled in"
    eager = name == "readinessProbe" and not probe.get("periodSeconds", 10)
    if eager and {"failureThreshold", "timeoutSeconds"} & probe.keys():
        yield "readinessProbe has thresholds without a period"


def seconds(text: str) -> float:
    """Read a Go duration such as 300s or 5m."""
    units = {"s": 1, "m": 60, "h": 3600}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([smh])", text))
