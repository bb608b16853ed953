"""Whether a process works only with what the others leave: for work that nobody waits for."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path


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
