"""Priorities: background work runs at idle priority, and a supervisor outlives its children."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
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
    """Return whether this process may restore another one's normal class; else it must not lower it."""
    if sys.platform != "linux":
        return False
    import resource

    return os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_NICE)[0] >= 20  # 20: the nice value 0


def set_idle(pid: int, idle: bool, *, proc: Path = Path("/proc")) -> bool:
    """Run every thread of a process under SCHED_IDLE, or normally again; return whether that was possible.

    May be called twice. No-op if the process is gone or the system has no such class.
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


def yield_thread() -> None:
    """Let the calling thread yield to those that answer and compute; permanently. No-op where it is forbidden."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def become_idle() -> None:
    """Run this thread, and those it creates from now on, at idle CPU and disk priority; permanently.

    Call it before torch is loaded: its threads then sleep while they wait for each other. By default they spin, and a
    thread without CPU time delays all others, which burn what is left: under load a training step took ten to twenty
    times as long. An operator's OMP_WAIT_POLICY is respected.

    No-op if unsupported or forbidden by a container.
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
    """Make the kernel kill a child and its descendants before this process when memory runs out.

    A killed child is started again; after a killed supervisor nothing answers. No-op if the process is gone or the
    system is not Linux.
    """
    with suppress(OSError, ValueError):
        own = int((proc / "self" / "oom_score_adj").read_text())
        (proc / str(pid) / "oom_score_adj").write_text(str(min(_SOONEST, own + _SOONER)))
