"""Which engine hosts run in which share of the machine. Called from the supervisor's thread."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from ashore.data.engines import Promise
from ashore.kit.processes.shares import Share, Shares, divide

REST: Final = "rest"
"""Group of the models without a reserved share."""

log = logging.getLogger("ashore.deployment")


class SharesTold(msgspec.Struct, frozen=True, kw_only=True):
    """State of the shares of models, for operators."""

    kind: str = "none"
    """cgroup2, cgroup1, affinity, or none."""
    items: list[str] = []
    """A line for each model."""


class Sharing:
    """Keeps the hosts of models within their shares. Opens nothing until a share is configured."""

    def __init__(self, make: Callable[[], Shares]) -> None:
        """Create it. `make` opens the group backend; called once, on first use."""
        self._make = make
        self._shares: Shares | None = None
        self._promises: tuple[Promise, ...] = ()
        self._given: dict[str, Share] = {}
        self._groups: dict[str, str] = {}
        """By alias."""
        self._entered: dict[int, str] = {}
        self._fault = ""

    def take(self, promises: Collection[Promise]) -> None:
        """Apply a plan: groups change at once, hosts stay in theirs."""
        self._promises = tuple(promises)
        if not self._promises and self._shares is None:
            return
        if self._shares is None:
            self._shares = self._make()
        self._groups = {one.alias: f"{number}-{_slug(one.alias)}" for number, one in enumerate(self._promises)}
        asked = {self._groups[one.alias]: Share(cpus=one.cpus, memory_bytes=one.memory_bytes) for one in self._promises}
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
        self._given = divide(asked, cores, rest=REST)
        self._fault = ""
        for name, share in self._given.items():
            try:
                self._shares.prepare(name, share)
            except OSError as fault:
                self._fault = f"{name}: {fault.strerror or fault}"
                log.error("a share cannot be kept: %s", self._fault)
        for pid, name in list(self._entered.items()):
            if name not in self._given:
                del self._entered[pid]  # its alias is in another group now; the next look moves it

    def enter(self, alias: str, pid: int | None) -> None:
        """Move a host into the share of its model. May be called again."""
        if self._shares is None or pid is None:
            return
        name = self._groups.get(alias, REST)
        if self._entered.get(pid) == name:
            return
        try:
            self._shares.enter(name, pid)
        except OSError as fault:
            if not self._fault:
                self._fault = f"{alias}: {fault.strerror or fault}"
                log.error("the host %d of %s cannot enter its share: %s", pid, alias, fault)
            return
        self._entered[pid] = name

    def left(self, living: Collection[int]) -> None:
        """Forget processes that have ended."""
        self._entered = {pid: name for pid, name in self._entered.items() if pid in living}

    def told(self) -> SharesTold:
        """Return the state of the shares."""
        if self._shares is None:
            return SharesTold()
        lines = []
        unkept = "" if self._shares.kind.startswith("cgroup") else " (NOT KEPT: needs control groups)"
        for one in self._promises:
            share = self._given[self._groups[one.alias]]
            parts = [f"{one.cpus:g} processors" if one.cpus else "no processors"]
            whole = one.cpus == int(one.cpus) and one.cpus > 0
            if whole and share.cores:
                parts.append(f"its own: {','.join(map(str, share.cores))}")
            elif one.cpus:
                parts.append("by weight" + unkept)
            if one.memory_bytes:
                parts.append(f"at most {one.memory_bytes} bytes{unkept}")
            lines.append(f"{one.alias}: {', '.join(parts)}")
        return SharesTold(kind=self._shares.kind, items=[*lines, *([f"FAILED: {self._fault}"] if self._fault else [])])

    def close(self) -> None:
        """Remove all groups; the hosts have ended."""
        if self._shares is not None:
            self._shares.close()


def _slug(alias: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", alias)[:40]
