"""The processes of a home, found below its supervisor; and who else uses the processors."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.control.doctor.look import Between
from ashore.control.doctor.probes.machine import text_of
from ashore.control.doctor.readings import Process
from ashore.kit.processes import role_of
from ashore.kit.settings import Home

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_VALUES: Final = frozenset(("PYTHONMALLOC", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"))
_NAMES: Final = frozenset(("http_proxy", "https_proxy", "all_proxy", "no_proxy"))
"""Variables of which it is said that they are set: the address of a proxy may hold a password."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One process as it was found."""

    pid: int
    parent: int
    start: int
    """In ticks since the boot: tells it from a later one with the same number."""
    state: str
    cpu_s: float
    name: str
    words: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"process.{self.pid}@{self.start}"


def every_process(root: Path) -> dict[int, Seen]:
    """Return all processes of the machine, by number. One that ends meanwhile is left out."""
    found = {}
    for folder in (root / "proc").iterdir():
        if folder.name.isdigit() and (one := _seen(folder)) is not None:
            found[one.pid] = one
    return found


def _seen(folder: Path) -> Seen | None:
    text = text_of(folder / "stat")
    name, _, rest = text.partition("(")[2].rpartition(")")
    row = rest.split()
    if len(row) < 20:
        return None
    return Seen(
        pid=int(folder.name), parent=int(row[1]), start=int(row[19]), state=row[0],
        cpu_s=(int(row[11]) + int(row[12])) / _TICKS, name=name,
    )  # fmt: skip


def words_of(root: Path, pid: int) -> tuple[str, ...]:
    """Return the command line of a process."""
    with suppress(OSError):
        data = (root / "proc" / str(pid) / "cmdline").read_bytes()
        return tuple(data.decode(errors="replace").rstrip("\0").split("\0"))
    return ()


def processes_below(everyone: Mapping[int, Seen], supervisor: int) -> list[Seen]:
    """Return a supervisor and all processes below it."""
    below: dict[int, list[Seen]] = {}
    for one in everyone.values():
        below.setdefault(one.parent, []).append(one)
    found, todo = [], [everyone[supervisor]] if supervisor in everyone else []
    while todo:
        one = todo.pop()
        found.append(one)
        todo += below.get(one.pid, [])
    return found


def orphans_of(root: Path, everyone: Mapping[int, Seen], home: Home, looked_after: Sequence[Seen]) -> list[Seen]:
    """Return the processes that name the run folder of this home and that its supervisor does not look after."""
    mine = {one.pid for one in looked_after} | {os.getpid()}
    folder = f"{home.run}/"
    found = []
    for one in everyone.values():
        if one.pid not in mine:
            words = words_of(root, one.pid)
            if any(text.startswith(folder) for text in words) and role_of(words)[0] != "other":
                found.append(one)
    return found


def count(root: Path, mine: Sequence[Seen], everyone: Mapping[int, Seen]) -> Iterator[tuple[str, float]]:
    """Yield what is counted for each process: of this home in detail, of others their processor time."""
    own = {one.pid for one in mine}
    for one in everyone.values():
        if one.pid not in own:
            if one.cpu_s > 0.5:
                yield f"stranger.{one.pid}@{one.start}", one.cpu_s
            continue
        yield f"{one.key}.cpu", one.cpu_s
        folder = root / "proc" / str(one.pid)
        for task in _tasks(folder):
            row = text_of(task / "stat").rpartition(")")[2].split()
            if len(row) > 12:
                yield f"{one.key}.thread.{task.name}", (int(row[11]) + int(row[12])) / _TICKS
            waited = text_of(task / "schedstat").split()
            if len(waited) > 1:
                yield f"{one.key}.waited.{task.name}", int(waited[1]) / 1e9


def _tasks(folder: Path) -> list[Path]:
    try:
        return list((folder / "task").iterdir())
    except OSError:
        return []


def stranger_of(everyone: Mapping[int, Seen], between: Between) -> tuple[str, int, float, float]:
    """Return name, process and processors of the busiest program that is not of this home, and the processors that all
    of them use."""
    best, total = ("", 0, 0.0), 0.0
    for one in everyone.values():
        cores = between.per_s(f"stranger.{one.pid}@{one.start}")
        if one.pid == os.getpid():
            continue
        total += cores
        if cores > best[2]:
            best = (one.name, one.pid, cores)
    return *best, total


def read_processes(
    root: Path, mine: Sequence[Seen], orphans: Sequence[Seen], between: Between, names: Mapping[str, str], code_s: float
) -> tuple[Process, ...]:
    """Return the processes of the home.

    Args:
        root: Stands for `/`.
        mine: That the supervisor looks after, itself too.
        orphans: That nobody does.
        between: What was counted.
        names: Of hosts, by their socket.
        code_s: When the code on the disk was put there, seconds since 1970.
    """
    uptime_s = float(text_of(root / "proc/uptime").partition(" ")[0] or 0)
    found = []
    left = {one.pid for one in orphans}
    for one in (*mine, *orphans):
        words = words_of(root, one.pid)
        role, more = role_of(words)
        if role == "host":
            more = next((names[word] for word in words if word in names), "")
        folder = root / "proc" / str(one.pid)
        status = dict(line.split(":\t", 1) for line in text_of(folder / "status").splitlines() if ":\t" in line)
        if not status:
            continue
        limits = _file_limits(one.pid, folder)
        age_s = max(0.0, uptime_s - one.start / _TICKS)
        waits = [between.per_s(n) for n in between.after.numbers if n.startswith(f"{one.key}.waited.")]
        threads = [n for n in between.after.numbers if n.startswith(f"{one.key}.thread.")]
        found.append(
            Process(
                name=f"{role} {more}".strip() if role != "other" else one.name,
                role=role,
                pid=one.pid,
                orphan=one.pid in left,
                state=one.state,
                cores=_num_cores(status.get("Cpus_allowed_list", "")),
                cpu_cores=between.per_s(f"{one.key}.cpu"),
                busiest_thread_share=max((between.per_s(name) for name in threads), default=0.0),
                age_s=age_s,
                files=_num_files(folder),
                files_soft=limits[0],
                files_hard=limits[1],
                waits_share=min(1.0, max(waits, default=0.0)),
                idle_class=_is_idle(one.pid),
                tracer=_program(root, status.get("TracerPid", "0").strip()),
                variables=_variables(folder),
                eager="--enforce-eager" in words,
                stale=role in ("supervisor", "host", "api", "jobs") and 0 < between.after.at_s - age_s < code_s,
            )
        )
    return tuple(found)


def _file_limits(pid: int, folder: Path) -> tuple[int, int]:
    try:
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    except (OSError, ValueError):
        for line in text_of(folder / "limits").splitlines():
            if line.startswith("Max open files"):
                words = line.split()
                return int(words[3]), int(words[4])
        return 0, 0
    return soft, hard


def _num_files(folder: Path) -> int:
    try:
        return len(os.listdir(folder / "fd"))
    except OSError:
        return 0


def _num_cores(text: str) -> int:
    number = 0
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        if low.isdigit():
            number += int(high or low) - int(low) + 1
    return number or 1


def _is_idle(pid: int) -> bool:
    try:
        return hasattr(os, "SCHED_IDLE") and os.sched_getscheduler(pid) == os.SCHED_IDLE
    except OSError:
        return False


def _program(root: Path, pid: str) -> str:
    name = text_of(root / "proc" / pid / "comm") if pid != "0" else ""
    return f"{name} (process {pid})" if name else ""


def _variables(folder: Path) -> dict[str, str]:
    try:
        pairs = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    found = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if value and (name in _VALUES or name.lower() in _NAMES):
            found[name] = value if name in _VALUES else "set"
    return found
