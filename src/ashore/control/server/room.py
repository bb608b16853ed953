"""The operator's views."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from ashore.control.server.calls import CALLS, ServerDesk
from ashore.control.server.events import Feed
from ashore.control.server.stored import Shelf
from ashore.core.errors import NotReady
from ashore.data.server import room as data
from ashore.kit.metrics import Metric, Metrics
from ashore.kit.processes import ask, role_of
from ashore.kit.rooms import Context, Opened
from ashore.kit.settings import Home

METRICS: Final = (
    Metric(
        "ashore_process_memory_bytes", "gauge",
        "Resident memory of a process of this server; that of an engine host holds its model.", ("process",),
    ),
    Metric(
        "ashore_process_cpu_seconds", "counter", "Processor time of a process of this server, since it was first seen.",
        ("process",),
    ),
)  # fmt: skip
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def name_of(words: Sequence[str]) -> str:
    """Return the name of a server process by its command line: `api-0`, `host-1`, `jobs`; empty for others."""
    role, index = role_of(words)
    match role:
        case "api":
            return f"api-{index or 0}"
        case "host":
            return Path(dict(pairwise(words)).get("--socket", "host")).stem
        case "edge" | "cache":
            return Path(words[0]).name.partition("-")[0]
        case "jobs" | "control":
            return role
    return ""


@dataclass(slots=True)
class Processes:
    """Figures of a server's processes since the previous page."""

    metrics: Metrics
    supervisor: int
    proc: Path = Path("/proc")
    _cpu_s: dict[int, float] = field(default_factory=dict)
    _shown: set[str] = field(default_factory=set)

    def measure(self) -> None:
        """Update the figures. Processes that end meanwhile or cannot be read are left out."""
        found: dict[str, float] = {}
        for pid, name in self._named():
            with suppress(OSError, ValueError, IndexError):
                stat = (self.proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
                pages = int((self.proc / str(pid) / "statm").read_text().split()[1])
                cpu_s = (int(stat[11]) + int(stat[12])) / _TICKS_PER_S
                found[name] = found.get(name, 0.0) + pages * _PAGE_BYTES
                self.metrics.add("ashore_process_cpu_seconds", max(0.0, cpu_s - self._cpu_s.get(pid, 0.0)), name)
                self._cpu_s[pid] = cpu_s
        for name, num_bytes in found.items():
            self.metrics.set("ashore_process_memory_bytes", num_bytes, name)
        for name in self._shown - set(found):
            self.metrics.drop("ashore_process_memory_bytes", name)
        self._shown = set(found)

    def _named(self) -> list[tuple[int, str]]:
        children: list[int] = []
        with suppress(OSError, ValueError):
            for task in (self.proc / str(self.supervisor) / "task").iterdir():
                children += map(int, (task / "children").read_text().split())
        self._cpu_s = {pid: cpu_s for pid, cpu_s in self._cpu_s.items() if pid in {self.supervisor, *children}}
        named = [(pid, name_of(self._words(pid))) for pid in children]
        return [(self.supervisor, "supervisor"), *((pid, name) for pid, name in named if name)]

    def _words(self, pid: int) -> list[str]:
        with suppress(OSError):
            return (self.proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        return []


def ask_config(socket: Path) -> Sequence[Mapping[str, Any]]:
    """Ask a home's supervisor for the effective configuration.

    Raises:
        NotReady: nothing listens there, or a different version does.
    """
    for line in ask(socket, {"op": "config"}):
        if line.get("error"):
            raise NotReady(f"the supervisor cannot tell: {line['error']}", hint=str(line.get("hint", "")))
        if "items" in line:
            return msgspec.convert(line["items"], list[dict[str, Any]])
    raise NotReady("the supervisor gave no configuration", hint="restart it, so that it is of the same version")


async def administer_server(context: Context) -> Opened:
    """Open the desk."""
    home, database = context.told("home"), context.database
    root = Home(root=Path(home)) if home else None
    feed = None
    if database is not None and context.watch is not None:
        feed = Feed(database, context.rights)
        feed.watch(context.watch)
    desk = ServerDesk(
        database=database,
        recorder=context.recorder,
        rights=context.rights,
        now_s=context.clock.now_s,
        logs=None if root is None else root.logs,
        shelf=context.find(Shelf),
        config=None if root is None else partial(ask_config, root.control_socket),
        feed=feed,
    )
    processes = Processes(context.metrics, os.getppid())
    return Opened(
        desk=desk,
        measure=partial(asyncio.to_thread, processes.measure),
        gives={} if feed is None else {Feed: feed},
    )


ROOM: Final = replace(
    data.ROOM, calls=CALLS, metrics=(data.INFO, *METRICS), administer=administer_server,
    acts=("deployment:reload", "secret:seal", "secret:unseal", "state:begin-anew"),
)  # fmt: skip
