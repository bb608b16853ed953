"""What pods of the server and of engines have in common. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ashore.kit.yaml import Tree, Why
from ashore.machine.deployment.forms.description import UID, Description
from ashore.machine.deployment.forms.leaves import object_name
from ashore.machine.deployment.forms.places import VolumePlace

Object = dict[str, Any]
SERVER: Final = "server"
ENGINE_LABEL: Final = "ashore/engine"
"""On every pod of every engine."""
LOCKED: Final[Mapping[str, Tree]] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def labels(deployed: Description, component: str = "") -> dict[str, str]:
    """Return the labels that select pods: of one component, or of all that belong to this server."""
    own = {"app.kubernetes.io/name": "ashore", "app.kubernetes.io/instance": deployed.name}
    return {**own, "app.kubernetes.io/component": component} if component else own


def metadata(deployed: Description, name: str, component: str = SERVER) -> dict[str, Tree]:
    """Return name, namespace and labels of an object."""
    return {
        "name": name,
        "namespace": deployed.places.kubernetes.namespace,
        "labels": {**labels(deployed, component), "app.kubernetes.io/managed-by": "ashore-deploy-render"},
    }


def quantity(num_bytes: int) -> str:
    """Return bytes as Kubernetes writes them."""
    for unit, size in (("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if num_bytes % size == 0:
            return f"{num_bytes // size}{unit}"
    return str(num_bytes)


def pod_security(deployed: Description) -> dict[str, Tree]:
    """Return what every pod has: no root, no token, the runtime's filter of system calls."""
    secret = deployed.places.image.pull_secret
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **({"imagePullSecrets": [{"name": secret}]} if secret else {}),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "runAsGroup": UID,
            "fsGroup": UID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def resources(cpus: int, memory_bytes: int, *, gpus: int = 0, gpu_resource: str = "") -> dict[str, Tree]:
    """Return requests equal to the limits, so that the reserved resources are exclusive."""
    own: dict[str, Tree] = {"cpu": str(cpus), "memory": quantity(memory_bytes)}
    if gpus:
        own[gpu_resource] = str(gpus)
    return {"requests": own, "limits": dict(own)}


def volume_source(volume: VolumePlace, pull: str) -> dict[str, Tree]:
    """Return an existing folder as a volume."""
    name = volume_name(volume)
    if volume.image:
        return {"name": name, "image": {"reference": volume.image, "pullPolicy": pull}}
    return {"name": name, "persistentVolumeClaim": {"claimName": volume.claim, "readOnly": volume.read_only}}


def volume_name(volume: VolumePlace) -> str:
    return f"at-{object_name(volume.path)}"[:63].rstrip("-")


def secret_volume(deployed: Description) -> dict[str, Tree]:
    """Return the Secret as files: owned by root, readable only by the group of the pod."""
    return {
        "name": "secrets",
        "secret": {
            "secretName": deployed.places.secrets.name or deployed.name,
            "defaultMode": 0o440,
            "items": [{"key": deployed.secret_key(one), "path": one.name} for one in deployed.secrets],
        },
    }


def placement(deployed: Description, selector: Mapping[str, str], *, gpus: int) -> dict[str, Tree]:
    """Return node selection, and how soon a pod leaves a dead node."""
    tolerations: list[Tree] = [
        {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
        for what in ("not-ready", "unreachable")
    ]
    if gpus and deployed.places.kubernetes.gpu_taint:
        tolerations.append({"key": deployed.places.gpu_resource, "operator": "Exists", "effect": "NoSchedule"})
    return {
        **({"nodeSelector": dict(selector)} if selector else {}),
        "tolerations": Why("A pod leaves a dead machine after 30 s; the default is 5 minutes.", tolerations),
    }
