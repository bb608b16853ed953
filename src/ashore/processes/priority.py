"""Who comes first: work that nobody waits for gets what the others leave, and a supervisor outlives its children."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

_IOPRIO_SET: Final[Mapping[str, int]] = {"x86_64": 251, "aarch64": 30}
"""Number of ioprio_set(2), which the C library does not wrap."""
_WHO_PROCESS: Final = 1
_LAST_AT_THE_DISK: Final = 2 << 13 | 7
"""Best effort, last of its eight levels. Not the idle class: what waits there may hold a lock of the file system."""

_SOONER: Final = 200
"""Thousandths of the memory that a child seems to have on top of its own when the kernel looks for whom to kill. A
supervisor has less than that."""
_SOONEST: Final = 1000


def may_come_back() -> bool:
    """Return whether this process may give another one its ordinary class back; else it must not take it away."""
    if sys.platform != "linux":
        return False
    import resource

    return os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_NICE)[0] >= 20  # 20: the nice value 0


def set_idle(pid: int, idle: bool, *, proc: Path = Path("/proc")) -> bool:
    """Let every thread of a process run under SCHED_IDLE, or ordinarily again; return whether that was possible.

    May be called twice. A process that is gone, or a system that knows no such class: nothing happens.
    """
    if not may_come_back():
        return False
    policy = os.SCHED_IDLE if idle else os.SCHED_OTHER
    try:
        threads = [int(folder.name) for folder in (proc / str(pid) / "task").iterdir()]
    except OSError:
        return False
    done = False
    for thread in threads:
        with suppress(OSError):  # it ended meanwhile, or a container forbids it
            os.sched_setscheduler(thread, policy, os.sched_param(0))
            done = True
    return done


def become_idle() -> None:
    """Let this thread, and those that it makes from now on, work with what the others leave, of the disk too; for good.

    Call it before torch is loaded: its threads then sleep while they wait for each other. By default they spin, and one
    that is not let run holds up all others, which burn what is left: beside other work a step of training took ten to
    twenty times as long. An operator's OMP_WAIT_POLICY counts.

    Where the system does not have it, or a container forbids it, nothing happens.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if sys.platform != "linux":
        return
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, _WHO_PROCESS, 0, _LAST_AT_THE_DISK)


def let_kernel_kill_sooner(pid: int, *, proc: Path = Path("/proc")) -> None:
    """Let the kernel kill a child, and what that starts, before this process where memory runs out.

    A killed child is started again; after a killed supervisor nothing answers. A process that is gone, or another
    system: nothing happens.
    """
    with suppress(OSError, ValueError):
        own = int((proc / "self" / "oom_score_adj").read_text())
        (proc / str(pid) / "oom_score_adj").write_text(str(min(_SOONEST, own + _SOONER)))
