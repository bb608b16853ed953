"""One child process: how it is started, and how it is ended together with everything it started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from ashore.processes.environment import child_environment
from ashore.processes.logs import open_log

_PR_SET_PDEATHSIG: Final = 1
"""prctl(2), Linux."""
_LIBC: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What is started, and in which turn it is stopped."""

    name: str
    """`api`, `host smollm2/0`; stands in messages."""
    argv: tuple[str, ...]
    log: Path
    stage: int = 0
    """Stages stop in rising order: 0 takes requests, 1 answers them."""
    essential: bool = False
    """When it is given up, the supervisor ends."""
    drain_s: float = 30.0
    """Seconds from SIGTERM to SIGKILL."""
    control_flag: str = "--control-fd"
    """Option that tells it the descriptor of the control pipe; empty for programs that know none."""
    env: Mapping[str, str] = field(default_factory=dict)


class Process:
    """A running child, leader of a process group of its own."""

    def __init__(self, popen: subprocess.Popen[bytes], control: int) -> None:
        self._popen = popen
        self._control = control

    @classmethod
    def start(cls, spec: ChildSpec) -> Process:
        """Start it. Must be called from the main thread, whose end is what the parent-death signal means.

        Raises:
            OSError: the program cannot be run.
        """
        read_end, write_end = os.pipe()
        log = open_log(spec.log)
        argv = [*spec.argv, spec.control_flag, str(read_end)] if spec.control_flag else list(spec.argv)
        try:
            popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(extra=spec.env),
                pass_fds=(read_end,),
                process_group=0,
                preexec_fn=partial(_before_exec, os.getpid()),
            )
        except BaseException:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)
            os.close(log)
        return cls(popen, write_end)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def poll(self) -> int | None:
        """Return the exit code once it has ended (negative: a signal), else None. What it left behind is killed."""
        code = self._popen.poll()
        if code is not None and self._control >= 0:
            self.kill_group()
            os.close(self._control)
            self._control = -1
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the child alone. An ended child gets none."""
        self._popen.send_signal(number)

    def kill_group(self) -> None:
        """Kill the child and everything it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)


def _before_exec(supervisor: int) -> None:
    """Run in the child between fork and exec: die with the supervisor, and never write memory to a core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:  # it ended before the line above
        os._exit(1)
