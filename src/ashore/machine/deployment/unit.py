"""A systemd unit that runs `ashore up` as a service: started at boot, watched and sandboxed.

It is printed with its reasons as comments. It forbids what none of our processes do, tested with the engines, Envoy and
Valkey under it; each exception gives its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.core.errors import InvalidSpec

USER_AND_INPUT_ERRORS: Final = (2, 5)
"""Exit codes after which another start would fail in the same way: wrong input or missing rights."""
STOP_MARGIN_S: Final = 60
"""For what ends after the running answers have: hosts, the edge, the record."""
LOWEST_OPEN_PORT: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the unit says."""

    command: Sequence[str]
    """`ashore up …`, every path absolute."""
    reload_command: Sequence[str]
    home: Path
    user: str
    models: Sequence[str]
    drain_timeout_s: float
    writable: Sequence[Path] = ()
    """Folders beside the home that are written to: nodes of the backup, archives, anchors."""
    readable: Sequence[Path] = ()
    """Files and folders that are read, wherever they lie."""
    lowest_port: int = LOWEST_OPEN_PORT
    """Of those that are listened on."""
    uses_devices: bool = False
    """Whether an engine needs an accelerator."""
    waits_for: Sequence[str] = ()
    """Units of this machine that are started first."""


def render_unit(service: Service) -> str:
    """Return the unit.

    Raises:
        InvalidSpec: a path or a name cannot be written into one.
    """
    return "\n".join(_lines(service)) + "\n"


def _lines(service: Service) -> tuple[str, ...]:
    home, user = str(service.home), service.user
    return (
        "# /etc/systemd/system/ashore.service, made by `ashore deploy render systemd`. To install it:",
        f"#   useradd --system --home-dir {home} --shell /usr/sbin/nologin {user}",
        "#   ashore deploy render systemd … > /etc/systemd/system/ashore.service",
        "#   systemctl daemon-reload && systemctl enable --now ashore",
        "",
        "[Unit]",
        f"Description=ashore, serving {_plain(', '.join(service.models), 'a model')}",
        "Wants=network-online.target",
        f"After={' '.join(('network-online.target', *service.waits_for))}",
        "# A home that cannot start is not retried forever.",
        "StartLimitIntervalSec=600",
        "StartLimitBurst=5",
        "",
        "[Service]",
        "# Started means that every model answers. Downloading and preparing a model has no time limit;",
        "# ashore itself limits the loading (ASHORE_START_TIMEOUT_S).",
        "Type=notify",
        "NotifyAccess=main",
        "TimeoutStartSec=infinity",
        f"User={_plain(user, 'the user')}",
        f"Environment={unit_word(f'ASHORE_HOME={home}')}",
        f"ExecStart={unit_command(service.command)}",
        "# Applies a changed ashore.toml without dropping a stream; a wrong one changes nothing.",
        f"ExecReload={unit_command(service.reload_command)}",
        "Restart=on-failure",
        "RestartSec=2",
        f"RestartPreventExitStatus={' '.join(map(str, USER_AND_INPUT_ERRORS))}",
        "# Only the supervisor gets the signal. It stops the others in order: answers first, the audit log last.",
        "KillMode=mixed",
        f"TimeoutStopSec={int(service.drain_timeout_s) + STOP_MARGIN_S}",
        "# The supervisor restarts an engine that the kernel kills for memory; the rest goes on serving.",
        "OOMPolicy=continue",
        "LimitNOFILE=65536",
        "LimitCORE=0",
        "# Answering has priority over other occasional work of this machine.",
        "Nice=-10",
        "CPUWeight=1000",
        "UMask=0077",
        "",
        "# The only paths it may write.",
        "ProtectSystem=strict",
        *_places(service),
        *_hides(service),
        "",
        "# Capabilities that no process of ashore needs.",
        "NoNewPrivileges=yes",
        *_ports(service.lowest_port),
        *_devices(uses_devices=service.uses_devices),
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "ProtectProc=invisible",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "RemoveIPC=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallErrorNumber=EPERM",
        "# Left open: MemoryDenyWriteExecute (engines write the machine code that they run).",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    )


def _places(service: Service) -> list[str]:
    """Return writable paths. systemd creates a home below /var/lib and assigns it to the user."""
    home = service.home
    lines = []
    if home.parent == Path("/var/lib"):
        lines += [f"StateDirectory={_plain(home.name, 'the home')}", "StateDirectoryMode=0700"]
    else:
        lines.append(f"ReadWritePaths={unit_word(str(home))}")
    return lines + [f"ReadWritePaths={unit_word(str(folder))}" for folder in service.writable]


def _hides(service: Service) -> list[str]:
    """Return how much of people's folders is hidden: all, unless something of ours is there."""
    return [
        *(_unless_ours(service, (Path("/tmp"), Path("/var/tmp"))) or ["PrivateTmp=yes"]),
        *(_unless_ours(service, (Path("/home"), Path("/root")), "ProtectHome=read-only") or ["ProtectHome=yes"]),
    ]


def _unless_ours(service: Service, folders: Sequence[Path], *lines: str) -> list[str]:
    """Return `lines` with their reason if a path of the service is in one of the folders; else nothing."""
    paths = (service.home, *service.writable, *service.readable)
    ours = sorted(str(path) for path in paths if any(path.is_relative_to(folder) for folder in folders))
    return [f"# Not hidden, because {_plain(ours[0], 'a path')} is there: {folders[0]}.", *lines] if ours else []


def _ports(lowest: int) -> list[str]:
    if lowest >= LOWEST_OPEN_PORT:
        return ["CapabilityBoundingSet="]
    return [
        f"# To listen on port {lowest}.",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
    ]


def _devices(*, uses_devices: bool) -> list[str]:
    if uses_devices:
        return ["# Devices are left open: an engine may use an accelerator."]
    return ["PrivateDevices=yes"]


def unit_command(words: Sequence[str]) -> str:
    """Return a command line with `$` escaped, which has a meaning only there."""
    return " ".join(unit_word(word).replace("$", "$$") for word in words)


def unit_word(text: str) -> str:
    """Return a word escaped for systemd: `%`, blanks and quotes."""
    _refuse_control(text, "a word")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if escaped == text and text and not any(c.isspace() or c in "';" for c in text) else f'"{escaped}"'


def _plain(text: str, what: str) -> str:
    _refuse_control(text, what)
    return text.replace("%", "%%")


def _refuse_control(text: str, what: str) -> None:
    if not text.isprintable():
        raise InvalidSpec(
            f"{what} is {text!r}, which a systemd unit cannot contain", hint="use only printable characters"
        )
