"""The server under test, and the interface of all faults.

The undo step of a fault is recorded (`undoing.py`) before anything is broken. Processes are found below the home's
supervisor, by start time, never by name only.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.control.doctor.probes import processes
from ashore.control.drills import watcher
from ashore.control.drills.load import Asked
from ashore.control.drills.model import Check, Drill
from ashore.control.drills.network import Network
from ashore.control.drills.undoing import Undoing
from ashore.core.errors import EnvironmentFault, NotReady
from ashore.kit.processes import get_from, role_of
from ashore.kit.processes.lock import read_holder
from ashore.kit.settings import Home

ROOT: Final = Path("/")
ASK_S: Final = 10.0
"""Longest wait for the first page of metrics: a worker loads what writes it, and asks the other processes."""


@dataclass(slots=True, kw_only=True)
class Scene:
    """The server under test."""

    home: Home
    asked: Asked
    undoing: Undoing
    drill: Drill
    restart: Callable[[], None]
    """Starts the twin again, as a service manager would; raises on the server that answers users."""
    ashore: Callable[..., subprocess.CompletedProcess[str]]
    """Runs a command of ashore in this home."""
    folder: Path
    """Of the drill's own files."""
    group: Path | None = None
    """Control group of the twin; None: it has none of its own."""
    neighbours: Network | None = None
    """The network of the twin; None: it has no neighbours."""
    clock: Path | None = None
    """File that says how far the clocks of the twin's processes are off; None: they read the machine's."""
    replicas: int = 0
    """That were ready before."""

    @property
    def network(self) -> Network:
        """The network of the twin.

        Raises:
            EnvironmentFault: it has none.
        """
        if self.neighbours is None:
            raise EnvironmentFault("this server has no network that a drill may break", hint="rehearse it with --twin")
        return self.neighbours

    @property
    def supervisor(self) -> int:
        holder = read_holder(self.home.lock)
        if holder is None or not watcher.start_of(holder.pid):
            raise NotReady(f"no server is running from {self.home.root}", hint="start one with `ashore up`")
        return holder.pid

    def pids(self, role: str) -> list[int]:
        """Return the processes of one kind, the oldest first."""
        found = processes.processes_below(processes.every_process(ROOT), self.supervisor)
        return [
            one.pid
            for one in sorted(found, key=lambda one: (one.start, one.pid))
            if one.state != "Z" and role_of(processes.words_of(ROOT, one.pid))[0] == role
        ]

    def one(self, role: str) -> int:
        """Return the process to break: the oldest of its kind.

        Raises:
            EnvironmentFault: there is none.
        """
        found = self.pids(role)
        if not found:
            raise EnvironmentFault(f"this server has no {role} process", hint="rehearse it on a twin: --twin")
        return found[0]

    def ready(self) -> int:
        """Return the replicas that API workers are connected to, as reported by the first worker."""
        from ashore.control.doctor.samples import Samples
        from ashore.data.path import read_topology

        topology = read_topology(self.home.topology)
        listen = topology.workers[0].http if topology.workers else topology.http
        where: Path | tuple[str, int] = Path(listen.uds) if listen.uds else (listen.host, listen.port)
        token = self.home.internal_token.read_text().strip()
        page = get_from(where, "/metrics", headers={"authorization": f"Bearer {token}"}, timeout_s=ASK_S) or b""
        return int(Samples(page.decode()).total("ashore_replicas_ready", model=self.asked.model) or 0)


class Fault:
    """One fault. The base does nothing; each overrides what it needs."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def fire(self) -> None:
        """Trigger the fault. Its undo step is recorded first."""

    def felt(self) -> str:
        """Return how the fault shows; empty: it does not (yet)."""
        return ""

    def is_over(self) -> bool:
        """Whether the fault ended by itself, so that there is nothing to wait for."""
        return False

    def mend(self) -> None:
        """After the undo, do what a person or a service manager would do."""

    def why_unwell(self) -> str:
        """Return what has not recovered yet, besides requests; empty: everything has."""
        try:
            ready = self.scene.ready()
        except (OSError, ValueError) as fault:
            return str(fault)
        return "" if ready >= self.scene.replicas else f"{ready} of {self.scene.replicas} replicas are ready"

    def checks(self) -> tuple[Check, ...]:
        """Return further conditions that had to hold, after the recovery."""
        return ()
