"""Engines on Kubernetes: a Deployment, a LeaderWorkerSet where one model spans nodes, or what KServe or Ray runs. Pure.

ashore schedules nothing here: each object belongs to the controller that places it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, assert_never

from ashore.core.errors import InvalidSpec
from ashore.kit.yaml import Tree, Why
from ashore.machine.deployment.forms.description import ENGINE_PORT, Description, Engine
from ashore.machine.deployment.forms.pods import (
    ENGINE_LABEL,
    LOCKED,
    Object,
    labels,
    metadata,
    placement,
    pod_security,
    quantity,
    resources,
    volume_name,
    volume_source,
)
from ashore.machine.deployment.forms.quiet import QUIET

RANKS_PORT: Final = 29_500
LOAD_S: Final = 1800
"""How long weights may load."""
SCRATCH_GIB: Final = 16


def engine_objects(deployed: Description, engine: Engine) -> tuple[Object, ...]:
    """Return the objects that run one engine, its service included."""
    kind = deployed.places.kubernetes.engines
    match kind:
        case "plain" if engine.nodes > 1:
            return (_service(deployed, engine, leader=True), _leader_worker_set(deployed, engine))
        case "plain":
            return (_service(deployed, engine), _deployment(deployed, engine), _budget(deployed, engine))
        case "kserve":
            return (_service(deployed, engine, kserve=True), _llm_inference_service(deployed, engine))
        case "ray":
            return (_service(deployed, engine, ray=True), _ray_service(deployed, engine))
        case _:
            assert_never(kind)


def _pod_labels(deployed: Description, engine: Engine) -> dict[str, str]:
    return {**labels(deployed, engine.name), ENGINE_LABEL: "true"}


def _service(
    deployed: Description, engine: Engine, *, leader: bool = False, kserve: bool = False, ray: bool = False
) -> Object:
    selector = labels(deployed, engine.name)
    if leader:
        selector["leaderworkerset.sigs.k8s.io/worker-index"] = "0"
    if kserve and engine.nodes > 1:
        selector["llm-d.ai/role"] = "both"
    if ray:
        selector["ray.io/serve"] = "true"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(deployed, engine.name, engine.name),
        "spec": {
            "selector": selector,
            "ports": [{"name": "http", "port": ENGINE_PORT, "targetPort": ENGINE_PORT, "appProtocol": "http"}],
        },
    }


def _environment(deployed: Description, engine: Engine) -> list[Tree]:
    said = dict(QUIET) | deployed.places.image.cards.environment
    found: list[Tree] = [{"name": name, "value": value} for name, value in said.items()]
    if engine.key is not None:
        found.append(
            {
                "name": "VLLM_API_KEY",
                "valueFrom": {
                    "secretKeyRef": {
                        "name": deployed.places.secrets.name or deployed.name,
                        "key": deployed.secret_key(engine.key),
                    }
                },
            }
        )
    return found


def _pod(
    deployed: Description,
    engine: Engine,
    command: Mapping[str, Tree],
    *,
    probed: bool = True,
    replaced: Mapping[str, Tree] = MappingProxyType({}),
) -> dict[str, Tree]:
    probe: dict[str, Tree] = {"httpGet": {"path": "/health", "port": "http"}}
    probes: dict[str, Tree] = {
        "startupProbe": {**probe, "periodSeconds": 5, "failureThreshold": LOAD_S // 5},
        "readinessProbe": {**probe, "periodSeconds": 5, "timeoutSeconds": 3},
        "livenessProbe": {**probe, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
        "ports": [{"name": "http", "containerPort": ENGINE_PORT}],
    }
    mounts: list[Tree] = [
        {"name": "scratch", "mountPath": "/tmp"},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    for one in engine.volumes:
        mounts.append({"name": volume_name(one), "mountPath": one.path, "readOnly": one.read_only})
    return {
        **pod_security(deployed),
        **placement(deployed, engine.node_selector, gpus=engine.gpus),
        "terminationGracePeriodSeconds": deployed.stop_s,
        "containers": [
            {
                "name": "main",
                "image": engine.image,
                "imagePullPolicy": deployed.places.image.pull,
                **command,
                "env": _environment(deployed, engine),
                **(probes if probed else {}),
                "resources": resources(
                    engine.cpus, engine.memory_bytes, gpus=engine.gpus, gpu_resource=deployed.places.gpu_resource
                ),
                "securityContext": dict(LOCKED),
                "volumeMounts": mounts,
                **replaced,
            }
        ],
        "volumes": [
            {"name": "scratch", "emptyDir": {"sizeLimit": f"{SCRATCH_GIB}Gi"}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": quantity(engine.memory_bytes // 4)}},
            *(volume_source(one, deployed.places.image.pull) for one in engine.volumes),
        ],
    }


def _serve(engine: Engine) -> list[str]:
    return ["serve", engine.weights, "--host", "0.0.0.0", "--port", str(ENGINE_PORT), *engine.flags]


def _deployment(deployed: Description, engine: Engine) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(deployed, engine.name, engine.name),
        "spec": {
            "replicas": engine.replicas,
            "strategy": Why(
                "A new engine finds no second GPU free: the old one goes first, one at a time.",
                {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            ),
            "selector": {"matchLabels": labels(deployed, engine.name)},
            "template": {
                "metadata": {"labels": _pod_labels(deployed, engine)},
                "spec": _pod(deployed, engine, {"command": [engine.program], "args": _serve(engine)}),
            },
        },
    }


def _budget(deployed: Description, engine: Engine) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(deployed, engine.name, engine.name),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": labels(deployed, engine.name)},
        },
    }


def _leader_worker_set(deployed: Description, engine: Engine) -> Object:
    """Return one group of vLLM's ranks for each replica. They start and restart together."""

    def command(rank: str, more: str = "") -> dict[str, Tree]:
        words = shlex.join([engine.program, *_serve(engine), "--nnodes", str(engine.nodes)])
        ranks = f'--node-rank {rank} --master-addr "$LWS_LEADER_ADDRESS" --master-port {RANKS_PORT}'
        return {"command": ["/bin/sh", "-c", f"exec {words} {ranks}{more}"]}

    def template(pod: dict[str, Tree]) -> dict[str, Tree]:
        return {"metadata": {"labels": _pod_labels(deployed, engine)}, "spec": pod}

    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": metadata(deployed, engine.name, engine.name),
        "spec": {
            "replicas": engine.replicas,
            "rolloutStrategy": {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": {"maxUnavailable": 1, "maxSurge": 0},
            },
            "leaderWorkerTemplate": {
                "size": engine.nodes,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": template(_pod(deployed, engine, command("0"))),
                "workerTemplate": Why(
                    "vLLM's ranks talk in clear text and can run code: the network policy keeps them among themselves.",
                    template(_pod(deployed, engine, command('"$LWS_WORKER_INDEX"', " --headless"), probed=False)),
                ),
            },
        },
    }


def _llm_inference_service(deployed: Description, engine: Engine) -> Object:
    parallel = {
        theirs: engine.options[ours]
        for theirs, ours in (
            ("tensor", "tensor_parallel_size"),
            ("pipeline", "pipeline_parallel_size"),
            ("data", "data_parallel_size"),
        )
        if isinstance(engine.options.get(ours), int)
    }
    (volume,) = engine.volumes
    if not volume.claim:
        raise InvalidSpec(
            f"KServe reads the weights of {engine.alias} from a claim, and [[volume]] {volume.path} is an image",
            hint='give [[volume]] claim, or set [kubernetes] engines = "plain"',
        )
    inside = engine.weights.removeprefix(volume.path).strip("/")
    command: dict[str, Tree] = {"command": [engine.program], "args": [*_serve(engine)]}
    pod = _pod(deployed, engine, command)
    worker = _pod(deployed, engine, command, probed=False)
    return {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": metadata(deployed, engine.name, engine.name),
        "spec": {
            "model": {"uri": f"pvc://{volume.claim}/{inside}".rstrip("/"), "name": engine.model},
            "storageInitializer": Why("The volume is mounted; nothing is copied.", {"enabled": False}),
            "replicas": engine.replicas,
            "labels": _pod_labels(deployed, engine),
            **({"parallelism": parallel} if parallel else {}),
            "template": pod,
            **({"worker": worker} if engine.nodes > 1 else {}),
        },
    }


def _ray_service(deployed: Description, engine: Engine) -> Object:
    kubernetes = deployed.places.kubernetes
    own = ("lookup", "start_timeout_s", "task")
    keywords: dict[str, Tree] = {name: value for name, value in engine.options.items() if name not in own}
    if "--speculative-config" in engine.flags:
        keywords["speculative_config"] = json.loads(engine.flags[engine.flags.index("--speculative-config") + 1])
    if engine.context_tokens:
        keywords["max_model_len"] = engine.context_tokens
    keywords["distributed_executor_backend"] = "ray" if engine.nodes > 1 else "mp"
    application = {
        "applications": [
            {
                "name": engine.name,
                "route_prefix": "/",
                "import_path": "ray.serve.llm:build_openai_app",
                "args": {
                    "llm_configs": [
                        {
                            "model_loading_config": {"model_id": engine.model, "model_source": engine.weights},
                            "deployment_config": {"num_replicas": engine.replicas, "max_ongoing_requests": 256},
                            "engine_kwargs": keywords,
                        }
                    ]
                },
            }
        ]
    }
    token: Tree = {
        "name": "RAY_AUTH_TOKEN",
        "valueFrom": {"secretKeyRef": {"name": f"{engine.name}-ray", "key": "token"}},
    }
    environment: list[Tree] = [
        *_environment(deployed, engine),
        {"name": "RAY_AUTH_MODE", "value": "token"},
        {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
        token,
    ]

    def pod(name: str, *, gpus: int, cpus: int, memory_bytes: int) -> dict[str, Tree]:
        replaced: dict[str, Tree] = {
            "name": name,
            "env": environment,
            "resources": resources(cpus, memory_bytes, gpus=gpus, gpu_resource=deployed.places.gpu_resource),
        }
        found = _pod(deployed, engine, {}, probed=False, replaced=replaced)
        return {"metadata": {"labels": _pod_labels(deployed, engine)}, "spec": found}

    tolerant = {"gcsFaultToleranceOptions": {"redisAddress": deployed.redis}} if deployed.redis else {}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": metadata(deployed, engine.name, engine.name),
        "spec": {
            "serveConfigV2": json.dumps(application, indent=2) + "\n",
            "rayClusterConfig": {
                "rayVersion": kubernetes.ray_version,
                **tolerant,
                "headGroupSpec": {
                    "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0"},
                    "template": pod("ray-head", gpus=0, cpus=2, memory_bytes=8 << 30),
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "engines",
                        "replicas": engine.replicas * engine.nodes,
                        "minReplicas": engine.replicas * engine.nodes,
                        "maxReplicas": engine.replicas * engine.nodes,
                        "rayStartParams": {"num-gpus": str(engine.gpus)},
                        "template": pod(
                            "ray-worker", gpus=engine.gpus, cpus=engine.cpus, memory_bytes=engine.memory_bytes
                        ),
                    }
                ],
            },
        },
    }
