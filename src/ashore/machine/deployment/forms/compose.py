"""A compose file for one machine: the server, and the engines that vLLM runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ashore.core.errors import InvalidSpec
from ashore.kit.accelerators import DEFAULT, Maker, makers
from ashore.kit.yaml import Tree, Why, write_yaml
from ashore.machine.deployment.forms.description import CONFIGURATION, ENGINE_PORT, HOME, MADE, UID, Description, Engine
from ashore.machine.deployment.forms.places import VolumePlace
from ashore.machine.deployment.forms.quiet import QUIET
from ashore.machine.deployment.forms.secrets import Secret


def refuse_for_one_machine(deployed: Description, form: str) -> None:
    """Check that a form for one machine can express the deployment.

    Raises:
        InvalidSpec: it cannot; the message says what.
    """
    if deployed.places.server.replicas > 1:
        raise InvalidSpec(
            f"{form} runs one server on one machine, and places.toml [server] replicas is "
            f"{deployed.places.server.replicas}",
            hint="set replicas = 1, or render k8s",
        )
    for engine in deployed.engines:
        if engine.nodes > 1:
            raise InvalidSpec(
                f"{form} runs on one machine, and the model {engine.alias} spans {engine.nodes} nodes",
                hint="render k8s, which has LeaderWorkerSet",
            )
        if engine.replicas > 1:
            raise InvalidSpec(
                f"{form} gives a model one engine, and {engine.alias} has replicas = {engine.replicas}",
                hint="set replicas = 1 under its [[model]], or render k8s",
            )
    for volume in (*deployed.volumes, *(one for engine in deployed.engines for one in engine.volumes)):
        if not volume.host:
            raise InvalidSpec(
                f"{form} mounts folders of the machine, and places.toml [[volume]] {volume.path} has none",
                hint=f'give [[volume]] path = "{volume.path}" a host folder',
            )


def compose_files(deployed: Description) -> dict[str, str]:
    """Return the compose file and the ashore.toml that it mounts.

    Raises:
        InvalidSpec: one machine cannot run the deployment.
    """
    refuse_for_one_machine(deployed, "compose")
    services: dict[str, Tree] = {deployed.name: _server(deployed)}
    services |= {engine.name: _engine(deployed, engine) for engine in deployed.engines}
    document: dict[str, Tree] = {
        "name": deployed.name,
        "services": services,
        "networks": {"ashore": {"driver": "bridge"}},
        "volumes": {"home": {}},
    }
    if deployed.secrets:
        document["secrets"] = Why(
            f"One file for each, owned by user {UID}, mode 0400.",
            {one.name: {"file": f"./secrets/{deployed.secret_key(one)}"} for one in deployed.secrets},
        )
    head = f"{MADE} Start: docker compose up -d, or podman-compose up -d."
    if deployed.about_cards:
        head += f"\n{deployed.about_cards}"
    return {"compose.yaml": write_yaml(document, head=head), "ashore.toml": deployed.configuration}


def _locked(deployed: Description, *, stop_s: int) -> dict[str, Tree]:
    return {
        "user": f"{UID}:{UID}",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "on-failure",
        "stop_grace_period": f"{stop_s}s",
        "networks": ["ashore"],
    }


def _mount(volume: VolumePlace) -> str:
    return f"{volume.host}:{volume.path}{':ro' if volume.read_only else ''}"


def _limits(cpus: int, memory_bytes: int, maker: Maker, gpus: int) -> dict[str, Tree]:
    limits: dict[str, Tree] = {"limits": {"cpus": str(cpus), "memory": f"{memory_bytes >> 20}m"}}
    if gpus and maker == makers()[DEFAULT]:  # compose knows its toolkit
        limits["reservations"] = {"devices": [{"driver": "nvidia", "count": gpus, "capabilities": ["gpu"]}]}
    return {"deploy": {"resources": limits}}


def _cards(maker: Maker, gpus: int, *, mounts: list[str], environment: Mapping[str, str]) -> dict[str, Tree]:
    """Return volumes, environment and, for accelerators other than NVIDIA's, their device files."""
    if not gpus or maker == makers()[DEFAULT]:
        return {"volumes": [*mounts], **({"environment": dict(environment)} if environment else {})}
    return {
        "volumes": [*mounts, *(f"{path}:{path}:ro" for path in maker.mounts)],
        "environment": {**environment, **maker.variables(gpus)},
        "devices": [f"{path}:{path}" for path in maker.files(gpus)],
        **({"group_add": list(maker.groups)} if maker.groups else {}),
    }


def probe_command(deployed: Description) -> list[str]:
    """Return a command inside the container that asks whether every model answers; its image has no curl."""
    context = "context=ssl._create_unverified_context(), " if deployed.front.tls else ""
    url = f"{deployed.url_scheme}://127.0.0.1:{deployed.front.port}/readyz"
    program = f"import ssl, urllib.request as r; r.urlopen('{url}', {context}timeout=3)"
    return ["/opt/ashore/bin/python", "-I", "-c", program]


def _secret(secret: Secret) -> Tree:
    return {"source": secret.name, "target": secret.path, "uid": str(UID), "gid": str(UID), "mode": 0o400}


def _server(deployed: Description) -> Tree:
    cards = deployed.places.image.cards
    mounts = [f"home:{HOME}", f"./ashore.toml:{CONFIGURATION}:ro", *map(_mount, deployed.volumes)]
    return {
        "image": deployed.image,
        "command": list(deployed.arguments),
        **_locked(deployed, stop_s=deployed.stop_s),
        "tmpfs": ["/tmp"],
        **_cards(cards, deployed.gpus, mounts=mounts, environment={}),
        "ports": Why(
            "On this machine alone; write your address instead of 127.0.0.1 to let others in.",
            [f"127.0.0.1:{one.port}:{one.port}" for one in deployed.listeners],
        ),
        "healthcheck": {
            "test": ["CMD", *probe_command(deployed)],
            "interval": "30s",
            "timeout": "5s",
            "start_period": f"{deployed.start_s}s",
        },
        **({"secrets": [_secret(one) for one in deployed.secrets]} if deployed.secrets else {}),
        **({"depends_on": [one.name for one in deployed.engines]} if deployed.engines else {}),
        **_limits(deployed.cpus, deployed.memory_bytes, cards, deployed.gpus),
    }


def _engine(deployed: Description, engine: Engine) -> Tree:
    cards = deployed.places.image.cards
    words = [engine.weights, "--host", "0.0.0.0", "--port", str(ENGINE_PORT), *engine.flags]
    entry: dict[str, Tree] = {"entrypoint": [engine.program, "serve"], "command": words}
    secrets: dict[str, Tree] = {}
    if engine.key is not None:
        key = engine.key
        entry = with_key_file(engine, key)
        secrets = {"secrets": [_secret(key)]}
    return {
        "image": engine.image,
        **entry,
        **_locked(deployed, stop_s=deployed.stop_s),
        "tmpfs": ["/tmp"],
        "shm_size": f"{engine.memory_bytes >> 22}m",
        **_cards(cards, engine.gpus, mounts=[*map(_mount, engine.volumes)], environment=QUIET),
        **secrets,
        **_limits(engine.cpus, engine.memory_bytes, cards, engine.gpus),
    }


def with_key_file(engine: Engine, key: Secret) -> dict[str, Tree]:
    """Return entry point and arguments that read vLLM's key from a file: vLLM only reads it from the environment."""
    words = ["serve", engine.weights, "--host", "0.0.0.0", "--port", str(ENGINE_PORT), *engine.flags]
    script = f'VLLM_API_KEY="$(cat {key.path})" exec vllm "$@"'
    escaped = script.replace("$", "$$")  # compose reads a single $ as a variable
    return {"entrypoint": ["/bin/sh", "-c", escaped, engine.program], "command": words}
