"""Units of podman under systemd (quadlet) for one machine: containers, a network, a volume. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ashore.kit.accelerators import DEFAULT, makers
from ashore.machine.deployment.forms.compose import probe_command, refuse_for_one_machine
from ashore.machine.deployment.forms.description import CONFIGURATION, ENGINE_PORT, HOME, MADE, UID, Description, Engine
from ashore.machine.deployment.forms.quiet import QUIET
from ashore.machine.deployment.forms.secrets import Secret
from ashore.machine.deployment.unit import USER_AND_INPUT_ERRORS, unit_command, unit_word

FOLDER = "/etc/containers/systemd"


def quadlet_files(deployed: Description) -> dict[str, str]:
    """Return the units and the ashore.toml that they mount.

    Raises:
        InvalidSpec: one machine cannot run what is asked.
    """
    refuse_for_one_machine(deployed, "quadlet")
    name = deployed.name
    units = {
        f"{name}.network": _unit(("Network", [f"NetworkName={name}"])),
        f"{name}-home.volume": _unit(("Volume", [f"VolumeName={name}-home", f"User={UID}", f"Group={UID}"])),
        f"{name}.container": _server(deployed),
        **{f"{engine.name}.container": _engine(deployed, engine) for engine in deployed.engines},
    }
    return {**units, "ashore.toml": deployed.configuration}


def _unit(*sections: tuple[str, Sequence[str]], head: Sequence[str] = ()) -> str:
    lines = [f"# {MADE} Put this folder's files into {FOLDER}, then: systemctl daemon-reload", *head]
    for section, words in sections:
        lines += ["", f"[{section}]", *words]
    return "\n".join(lines) + "\n"


def _locked(deployed: Description) -> list[str]:
    return [
        f"User={UID}",
        f"Group={UID}",
        "ReadOnly=true",
        "ReadOnlyTmpfs=false",
        "Tmpfs=/tmp",
        "DropCapability=all",
        "NoNewPrivileges=true",
        f"Network={deployed.name}.network",
    ]


def _secret(deployed: Description, one: Secret) -> str:
    return f"Secret={deployed.secret_key(one)},type=mount,target={one.path},uid={UID},gid={UID},mode=0400"


def _service(stop_s: int, start_s: int) -> list[str]:
    return [
        "Restart=on-failure",
        f"RestartPreventExitStatus={' '.join(map(str, USER_AND_INPUT_ERRORS))}",
        f"TimeoutStartSec={start_s}",
        f"TimeoutStopSec={stop_s + 10}",
    ]


def _server(deployed: Description) -> str:
    create = [f"#   podman secret create {deployed.secret_key(one)} FILE   # {one.what}" for one in deployed.secrets]
    wants = [f"Wants={engine.name}.service" for engine in deployed.engines]
    container = [
        f"ContainerName={deployed.name}",
        f"Image={unit_word(deployed.image)}",
        f"Exec={unit_command(deployed.arguments)}",
        *_locked(deployed),
        f"Volume={deployed.name}-home.volume:{HOME}",
        f"Volume={FOLDER}/ashore.toml:{CONFIGURATION}:ro",
        *(_mount(volume.host, volume.path, read_only=volume.read_only) for volume in deployed.volumes),
        *(_secret(deployed, one) for one in deployed.secrets),
        "# On this machine alone; write your address instead of 127.0.0.1 to let others in.",
        *(f"PublishPort=127.0.0.1:{one.port}:{one.port}" for one in deployed.listeners),
        f"HealthCmd={unit_command(probe_command(deployed))}",
        "HealthInterval=30s",
        f"StopTimeout={deployed.stop_s}",
        f"PodmanArgs=--cpus {deployed.cpus} --memory {deployed.memory_bytes >> 20}m",
        *_cards(deployed, deployed.gpus),
    ]
    return _unit(
        ("Unit", ["Description=ashore", *wants]),
        ("Container", container),
        ("Service", _service(deployed.stop_s, deployed.start_s)),
        ("Install", ["WantedBy=multi-user.target"]),
        head=["# Its secrets, once:", *create] if create else [],
    )


def _engine(deployed: Description, engine: Engine) -> str:
    words = ["serve", engine.weights, "--host", "0.0.0.0", "--port", str(ENGINE_PORT), *engine.flags]
    key = f"Secret={deployed.secret_key(engine.key)},type=env,target=VLLM_API_KEY" if engine.key else ""
    container = [
        f"ContainerName={engine.name}",
        f"NetworkAlias={engine.name}",
        f"Image={unit_word(engine.image)}",
        f"Entrypoint={engine.program}",
        f"Exec={unit_command(words)}",
        *_locked(deployed),
        *(f"Environment={name}={value}" for name, value in QUIET.items()),
        *(_mount(volume.host, volume.path, read_only=volume.read_only) for volume in engine.volumes),
        *([key] if key else []),
        f"ShmSize={engine.memory_bytes >> 22}m",
        f"PodmanArgs=--cpus {engine.cpus} --memory {engine.memory_bytes >> 20}m",
        *_cards(deployed, engine.gpus),
    ]
    return _unit(
        ("Unit", [f"Description=vLLM, serving {engine.model}"]),
        ("Container", container),
        ("Service", _service(deployed.stop_s, deployed.start_s)),
        ("Install", ["WantedBy=multi-user.target"]),
    )


def _mount(host: str, path: str, *, read_only: bool) -> str:
    return "Volume=" + unit_word(f"{host}:{path}{':ro' if read_only else ''}")


def _cards(deployed: Description, gpus: int) -> list[str]:
    """Return the accelerators: NVIDIA's by their names in the Container Device Interface, others by their files."""
    if not gpus:
        return []
    maker = deployed.places.image.cards
    if maker == makers()[DEFAULT]:
        return [f"# {deployed.about_cards}", *(f"AddDevice=nvidia.com/gpu={number}" for number in range(gpus))]
    return [
        f"# {deployed.about_cards}",
        *(f"AddDevice={path}" for path in maker.files(gpus)),
        *(_mount(path, path, read_only=True) for path in maker.mounts),
        *(f"GroupAdd={group}" for group in maker.groups),
        *(f"Environment={name}={value}" for name, value in maker.variables(gpus).items()),
    ]
