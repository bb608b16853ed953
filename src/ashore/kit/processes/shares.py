"""Shares of processors and memory for groups of processes, by the best available mechanism.

    cgroup2    groups below our own, where that is delegated (systemd: Delegate=cpu cpuset memory) or a container's own
    cgroup1    groups below our own in the trees of version 1, as root
    affinity   only whole processors, by sched_setaffinity; memory is not bounded
    none       nothing can be kept (no Linux)

Whole processors are exclusive to a group. Fractions are weights on the rest, which apply when processors are
overcommitted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from ashore.kit.folders import make_folder

SharesKind = Literal["cgroup2", "cgroup1", "affinity", "none"]
GROUP: Final = "ashore-models"
ROOT: Final = Path("/")
_SHARES_OF_CORE: Final = 1024
_AGAINST_OTHERS: Final = 2
"""Weight of all models against what else runs on the machine: as that of so many busy processes a processor."""
_WEIGHT_OF_CORE: Final = 100
_CONTROLLERS: Final = ("cpu", "cpuset", "memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The share of one group of processes."""

    cpus: float
    """Processors that it gets where all want them."""
    cores: tuple[int, ...] = ()
    """Processors that it runs on; empty: on any."""
    memory_bytes: int = 0
    """Most memory; 0: that is not bounded."""


class Shares(Protocol):
    """Keeps groups of processes within their shares. Calls may be repeated; missing groups are not an error."""

    @property
    def kind(self) -> SharesKind: ...

    def prepare(self, name: str, share: Share) -> None:
        """Create a group, or change its share.

        Raises:
            OSError: the system forbids it.
        """
        ...

    def enter(self, name: str, pid: int) -> None:
        """Move a process, with its threads, into a group. Its children follow."""
        ...

    def release(self, name: str) -> None:
        """Remove a group whose processes have ended."""
        ...

    def close(self) -> None:
        """Remove all groups."""
        ...


def open_shares(root: Path = ROOT) -> Shares:
    """Return the best available mechanism. Creates the parent group of all others; `root` stands for `/`.

    With version 2 this process moves into its own group below the current one: call it before any child starts.
    """
    if sys.platform != "linux":
        return NoShares()
    for make in (Cgroup2, Cgroup1):
        with suppress(OSError):
            return make(root)
    return Affinity()


class NoShares:
    """Limits nothing."""

    kind: SharesKind = "none"

    def prepare(self, name: str, share: Share) -> None: ...
    def enter(self, name: str, pid: int) -> None: ...
    def release(self, name: str) -> None: ...
    def close(self) -> None: ...


class Affinity:
    """Whole processors by sched_setaffinity, for every thread; needs no privilege."""

    kind: SharesKind = "affinity"

    def __init__(self, *, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._shares: dict[str, Share] = {}
        self._members: dict[str, set[int]] = {}

    def prepare(self, name: str, share: Share) -> None:
        changed, self._shares[name] = self._shares.get(name) != share, share
        for pid in self._members.get(name, ()) if changed else ():
            self.enter(name, pid)

    def enter(self, name: str, pid: int) -> None:
        self._members.setdefault(name, set()).add(pid)
        cores = self._shares[name].cores or tuple(os.sched_getaffinity(0))
        with suppress(OSError):
            for thread in (self._proc / str(pid) / "task").iterdir():
                with suppress(OSError):  # it ended meanwhile
                    os.sched_setaffinity(int(thread.name), cores)

    def release(self, name: str) -> None:
        self._members.pop(name, None)

    def close(self) -> None:
        self._members.clear()


class _Groups:
    """Groups below folders of our own, one in each tree."""

    def __init__(self, *bases: Path) -> None:
        self._bases, self._names = bases, set[str]()

    def enter(self, name: str, pid: int) -> None:
        for base in self._bases:
            with suppress(ProcessLookupError):
                _write(base / name / "cgroup.procs", pid)

    def release(self, name: str) -> None:
        for base in self._bases:
            with suppress(OSError):  # a process in it is still ending; `close` tries again
                (base / name).rmdir()

    def close(self) -> None:
        for name in self._names:
            self.release(name)
        for base in self._bases:
            with suppress(OSError):
                base.rmdir()


class Cgroup1(_Groups):
    """Groups of version 1, in a tree for each controller."""

    kind: SharesKind = "cgroup1"

    def __init__(self, root: Path) -> None:
        """Create the group of all models in every tree.

        Raises:
            OSError: there is no such tree for processors, or it cannot be written.
        """
        own = _own_groups(root)
        self._base = {name: own[name] / f"{GROUP}-{os.getpid()}" for name in _CONTROLLERS if name in own}
        if "cpu" not in self._base:
            raise OSError("no tree of version 1 for processors")
        super().__init__(*self._base.values())
        for name, base in self._base.items():
            make_folder(base)
            if name == "cpuset":
                _inherit_cpuset(base)
        cores = os.cpu_count() or 1
        _write(self._base["cpu"] / "cpu.shares", _SHARES_OF_CORE * cores * _AGAINST_OTHERS)

    def prepare(self, name: str, share: Share) -> None:
        self._names.add(name)
        for controller, base in self._base.items():
            group = base / name
            make_folder(group)
            match controller:
                case "cpu":
                    _write(group / "cpu.shares", max(2, round(share.cpus * _SHARES_OF_CORE)))
                case "cpuset":
                    _inherit_cpuset(group)
                    every = _read(base / "cpuset.cpus").strip()
                    _write(group / "cpuset.cpus", ",".join(map(str, share.cores)) or every)
                case "memory":
                    _write(group / "memory.limit_in_bytes", share.memory_bytes or -1)


class Cgroup2(_Groups):
    """Groups of version 2, below our own."""

    kind: SharesKind = "cgroup2"

    def __init__(self, root: Path) -> None:
        """Move into a leaf, delegate controllers, and create the group of all models.

        Raises:
            OSError: our group is not delegated to us.
        """
        own = _own_groups(root).get("")
        if own is None or "cpu" not in _read(own / "cgroup.controllers").split():
            raise OSError("no tree of version 2 with the controller of processors")
        have = [name for name in _CONTROLLERS if name in _read(own / "cgroup.controllers").split()]
        self._own, self._leaf = own, own / "ashore-supervisor"
        make_folder(self._leaf)
        for pid in _read(own / "cgroup.procs").split():
            with suppress(ProcessLookupError):
                _write(self._leaf / "cgroup.procs", pid)
        down = " ".join(f"+{name}" for name in have)
        _write(own / "cgroup.subtree_control", down)
        self._base = own / GROUP
        make_folder(self._base)
        _write(self._base / "cgroup.subtree_control", down)
        cores = os.cpu_count() or 1
        _write(self._base / "cpu.weight", min(10_000, _WEIGHT_OF_CORE * cores * _AGAINST_OTHERS))
        self._have = have
        super().__init__(self._base)

    def prepare(self, name: str, share: Share) -> None:
        self._names.add(name)
        group = self._base / name
        make_folder(group)
        _write(group / "cpu.weight", min(10_000, max(1, round(share.cpus * _WEIGHT_OF_CORE))))
        if "cpuset" in self._have:
            _write(group / "cpuset.cpus", ",".join(map(str, share.cores)) or "\n")
        if "memory" in self._have:
            _write(group / "memory.max", share.memory_bytes or "max")


def divide(asked: Mapping[str, Share], cores: Collection[int], *, rest: str) -> dict[str, Share]:
    """Return the share of each group with its processors, and that of `rest`: all others.

    Whole processors are assigned first, each to one group. The others share the rest by weight; if nothing is left,
    they share all processors.

    Args:
        asked: By group; `cpus` a whole number means a set of its own.
        cores: Processors of this process.
        rest: Name of the group without reserved shares.
    """
    free = sorted(cores)
    found: dict[str, Share] = {}
    for name, share in asked.items():
        whole = int(share.cpus)
        if whole == share.cpus and 0 < whole <= len(free):
            mine, free = tuple(free[:whole]), free[whole:]
            found[name] = Share(cpus=share.cpus, cores=mine, memory_bytes=share.memory_bytes)
    common = tuple(free) if free and found else ()
    for name, share in asked.items():
        if name not in found:
            found[name] = Share(cpus=share.cpus, cores=common, memory_bytes=share.memory_bytes)
    left = max(0.01, len(cores) - sum(share.cpus for share in asked.values()))
    found[rest] = Share(cpus=left, cores=common)
    return found


def _own_groups(root: Path) -> dict[str, Path]:
    """Return the folder of this process's group by controller; version 2 under the empty name."""
    found: dict[str, Path] = {}
    trees = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        words = line.split(":", 2)
        if len(words) != 3:
            continue
        below = words[2].lstrip("/")
        if not words[1]:
            tree = trees if (trees / "cgroup.controllers").exists() else trees / "unified"
            found[""] = _deepest(tree, below)
            continue
        for name in words[1].split(","):
            named = next((trees / one for one in (words[1], name) if (trees / one).is_dir()), None)
            if named is not None:
                found[name] = _deepest(named, below)
    return found


def _deepest(tree: Path, below: str) -> Path:
    """Return the group at a path; in a container, whose tree begins at its own group, the root of the tree."""
    return tree / below if below and (tree / below).is_dir() else tree


def _inherit_cpuset(group: Path) -> None:
    """Copy the parent's cpuset to a version 1 group: without one, nothing may run in it."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not _read(group / name).strip():
            _write(group / name, _read(group.parent / name).strip())


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, value: object) -> None:
    path.write_text(str(value))
