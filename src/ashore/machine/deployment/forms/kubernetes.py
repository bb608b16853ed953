"""Objects of Kubernetes: the server, its network, its configuration. Engines are in `workloads.py`. Pure.

Each server has a home, a store and an audit chain of its own, so they are a StatefulSet and their volumes stay when
they go. What they share is in the database that `[state] url` names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ashore.core.errors import InvalidSpec
from ashore.kit.yaml import Tree, Why
from ashore.machine.deployment.forms.description import CONFIGURATION, ENGINE_PORT, HOME, Description
from ashore.machine.deployment.forms.peers import Peer
from ashore.machine.deployment.forms.places import IMAGE_VOLUMES
from ashore.machine.deployment.forms.pods import (
    ENGINE_LABEL,
    LOCKED,
    SERVER,
    Object,
    labels,
    metadata,
    placement,
    pod_security,
    quantity,
    resources,
    secret_volume,
    volume_name,
    volume_source,
)
from ashore.machine.deployment.forms.secrets import FOLDER
from ashore.machine.deployment.forms.workloads import engine_objects

TMP_MIB: Final = 512
RAY_DASHBOARD_PORT: Final = 8265


@dataclass(frozen=True, slots=True)
class Group:
    """Objects of one file."""

    file: str
    objects: tuple[Object, ...]


def kubernetes_objects(deployed: Description) -> tuple[Group, ...]:
    """Return every object, in the order in which they are applied.

    Raises:
        InvalidSpec: places.toml requests something that Kubernetes, or that version of it, does not have.
    """
    _refuse(deployed)
    namespace = (_namespace(deployed),) if deployed.places.kubernetes.create_namespace else ()
    configuration = configuration_map(deployed)
    return (
        Group("10-configuration.yaml", (*namespace, configuration, _account(deployed))),
        Group("20-network.yaml", tuple(_policies(deployed))),
        Group("30-server.yaml", (*_services(deployed), _stateful_set(deployed, configuration), _budget(deployed))),
        *(Group(f"40-engine-{one.name}.yaml", engine_objects(deployed, one)) for one in deployed.engines),
    )


def _refuse(deployed: Description) -> None:
    kubernetes = deployed.places.kubernetes
    if deployed.unplaced:
        host, port = deployed.unplaced[0]
        raise InvalidSpec(
            f"ashore.toml names {', '.join(name for name, _ in deployed.unplaced)}, and places.toml does not say where "
            "that is; network policies know addresses and namespaces, and no host names",
            hint=f'add [[peer]] host = "{host}", {"" if port else "port = …, "}and network = "10.0.5.0/24" or '
            'namespace = "…"',
        )
    for volume in (*deployed.volumes, *(one for engine in deployed.engines for one in engine.volumes)):
        if volume.image and kubernetes.minor < IMAGE_VOLUMES:
            raise InvalidSpec(
                f"places.toml [[volume]] {volume.path} is an image, and [kubernetes] version is {kubernetes.version}: "
                f"servers before 1.{IMAGE_VOLUMES} drop such a volume without a word",
                hint=f'use a claim, or set version = "1.{IMAGE_VOLUMES}" if all your servers have it',
            )
        if not (volume.claim or volume.image):
            raise InvalidSpec(
                f"places.toml [[volume]] {volume.path} is a folder of one machine, which Pod Security forbids at "
                "`restricted`",
                hint="add a claim or an image, for Kubernetes",
            )


def configuration_map(deployed: Description) -> Object:
    """Return ashore.toml as an immutable ConfigMap named by its content: a change creates a new one and a rollout."""
    digest = hashlib.sha256(deployed.configuration.encode()).hexdigest()[:10]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(deployed, f"{deployed.name}-{digest}"),
        "immutable": True,
        "data": {"ashore.toml": deployed.configuration},
    }


def _namespace(deployed: Description) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": deployed.places.kubernetes.namespace,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }


def _account(deployed: Description) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(deployed, deployed.name),
        "automountServiceAccountToken": False,
    }


def _services(deployed: Description) -> tuple[Object, Object]:
    front = {
        "https": {"port": 443, "appProtocol": "https"},
        "http": {"port": 80, "appProtocol": "http"},
        "grpc": {"port": 8081, "appProtocol": "kubernetes.io/h2c"},
    }
    ports = [{"name": one.name, "targetPort": one.name, **front[one.name]} for one in deployed.listeners]
    own: Tree = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": labels(deployed, SERVER),
        "ports": [{"name": one.name, "port": one.port, "targetPort": one.name} for one in deployed.listeners],
    }
    return (
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(deployed, deployed.name),
            "spec": {
                "type": deployed.places.kubernetes.service,
                "selector": labels(deployed, SERVER),
                "ports": ports,
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(deployed, f"{deployed.name}-nodes"),
            "spec": Why("Names each server: NAME-0.NAME-nodes, ready or not.", own),
        },
    )


def _probe(deployed: Description, path: str, **timing: int) -> dict[str, Tree]:
    scheme = deployed.url_scheme.upper()
    return {"httpGet": {"path": path, "port": deployed.front.name, "scheme": scheme}, **timing}


def server_pod(deployed: Description, configuration: Object) -> dict[str, Tree]:
    """Return the pod of one server, but for the volume of its home."""
    places = deployed.places
    mounts: list[Tree] = [
        {"name": "home", "mountPath": HOME},
        {"name": "configuration", "mountPath": CONFIGURATION.rpartition("/")[0], "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    volumes: list[Tree] = [
        {"name": "configuration", "configMap": {"name": configuration["metadata"]["name"]}},
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": f"{TMP_MIB}Mi"}},
    ]
    if deployed.secrets:
        mounts.append({"name": "secrets", "mountPath": FOLDER, "readOnly": True})
        volumes.append(secret_volume(deployed))
    for volume in deployed.volumes:
        mounts.append({"name": volume_name(volume), "mountPath": volume.path, "readOnly": volume.read_only})
        volumes.append(volume_source(volume, places.image.pull))
    period_s = 2
    return {
        "serviceAccountName": deployed.name,
        **pod_security(deployed),
        "terminationGracePeriodSeconds": deployed.stop_s,
        **placement(deployed, places.kubernetes.node_selector, gpus=deployed.gpus),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels(deployed, SERVER)},
            }
        ],
        "containers": [
            {
                "name": "ashore",
                "image": deployed.image,
                "imagePullPolicy": places.image.pull,
                "args": list(deployed.arguments),
                "ports": [{"name": one.name, "containerPort": one.port} for one in deployed.listeners],
                "startupProbe": Why(
                    "Ready means that every model answers.",
                    _probe(
                        deployed,
                        "/readyz",
                        periodSeconds=period_s,
                        failureThreshold=max(deployed.start_s // period_s, 1),
                    ),
                ),
                "readinessProbe": _probe(deployed, "/readyz", periodSeconds=2, timeoutSeconds=2, failureThreshold=2),
                "livenessProbe": Why(
                    "The supervisor replaces what hangs; this is for the supervisor.",
                    _probe(deployed, "/healthz", periodSeconds=10, timeoutSeconds=5, failureThreshold=6),
                ),
                "resources": resources(
                    deployed.cpus,
                    deployed.memory_bytes,
                    gpus=deployed.gpus,
                    gpu_resource=places.gpu_resource,
                ),
                "securityContext": dict(LOCKED),
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }


def _stateful_set(deployed: Description, configuration: Object) -> Object:
    kubernetes = deployed.places.kubernetes
    claim: dict[str, Tree] = {
        "accessModes": [kubernetes.access_mode],
        **({"storageClassName": kubernetes.storage_class} if kubernetes.storage_class else {}),
        "resources": {"requests": {"storage": quantity(deployed.home_bytes)}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(deployed, deployed.name),
        "spec": {
            "replicas": deployed.places.server.replicas,
            "serviceName": f"{deployed.name}-nodes",
            "podManagementPolicy": "Parallel",
            "persistentVolumeClaimRetentionPolicy": Why(
                "A home has an audit chain of its own: it is never deleted with its server.",
                {"whenDeleted": "Retain", "whenScaled": "Retain"},
            ),
            "updateStrategy": {"type": "RollingUpdate"},
            "selector": {"matchLabels": labels(deployed, SERVER)},
            "template": {
                "metadata": {"labels": labels(deployed, SERVER)},
                "spec": server_pod(deployed, configuration),
            },
            "volumeClaimTemplates": [
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": "home"},
                    "spec": claim,
                }
            ],
        },
    }


def _budget(deployed: Description) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(deployed, deployed.name),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": labels(deployed, SERVER)},
        },
    }


def _policies(deployed: Description) -> Sequence[Object]:
    def policy(name: str, selector: Mapping[str, str], component: str = SERVER, **rules: Tree) -> Object:
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata(deployed, name, component),
            "spec": {"podSelector": {"matchLabels": dict(selector)}, "policyTypes": ["Ingress", "Egress"], **rules},
        }

    kubernetes = deployed.places.kubernetes
    clients = [_in_namespace(name) for name in kubernetes.clients]
    ports: list[Tree] = [{"protocol": "TCP", "port": one.port} for one in deployed.listeners]
    egress: list[Tree] = [_to_dns(deployed), *(_to_peer(peer) for peer in deployed.peers)]
    if deployed.engines:
        to_engines = {"podSelector": {"matchLabels": {**labels(deployed), ENGINE_LABEL: "true"}}}
        egress.append({"to": [to_engines], "ports": [{"protocol": "TCP", "port": ENGINE_PORT}]})
    found = [
        policy(f"{deployed.name}-deny", labels(deployed)),
        policy(
            f"{deployed.name}-server",
            labels(deployed, SERVER),
            ingress=[{**({"from": clients} if clients else {}), "ports": ports}],
            egress=egress,
        ),
    ]
    if deployed.engines:
        from_server = {"podSelector": {"matchLabels": labels(deployed, SERVER)}}
        for engine in deployed.engines:
            own = {"podSelector": {"matchLabels": labels(deployed, engine.name)}}
            among = engine.nodes > 1 or kubernetes.engines != "plain"
            ranks: list[Tree] = [{"from": [own]}] if among else []
            if kubernetes.engines == "ray":
                operator = _in_namespace(kubernetes.ray_namespace)
                ranks.append({"from": [operator], "ports": [{"protocol": "TCP", "port": RAY_DASHBOARD_PORT}]})
            found.append(
                policy(
                    engine.name,
                    labels(deployed, engine.name),
                    engine.name,
                    ingress=[{"from": [from_server], "ports": [{"protocol": "TCP", "port": ENGINE_PORT}]}, *ranks],
                    egress=[_to_dns(deployed), {"to": [own]}] if among else [],
                )
            )
    return found


def _in_namespace(name: str) -> dict[str, Tree]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _to_dns(deployed: Description) -> dict[str, Tree]:
    return {
        "to": [_in_namespace(deployed.places.kubernetes.dns_namespace)],
        "ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")],
    }


def _to_peer(peer: Peer) -> Tree:
    if peer.network:
        to: dict[str, Tree] = {"ipBlock": {"cidr": peer.network}}
    else:
        to = _in_namespace(peer.namespace)
        if peer.labels:
            to["podSelector"] = {"matchLabels": dict(peer.labels)}
    rule: Tree = {"to": [to], "ports": [{"protocol": "UDP" if peer.udp else "TCP", "port": peer.port}]}
    return Why(f"{peer.host}: {peer.why}", rule)
