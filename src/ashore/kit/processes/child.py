"""One child process: how it is started, and how it is ended with all its descendants.

SIGHUP as "read again": blocked for a child until it listens, because until then it would end it.

A child needs a second or more for its imports, on a busy machine several. The kernel keeps one pending blocked signal,
and the mask survives exec. So no signal is lost, and the sender need not know when the child is up.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ashore.kit.processes import launch
from ashore.kit.processes.environment import child_environment
from ashore.kit.processes.logs import open_log
from ashore.kit.processes.priority import let_kernel_kill_sooner
from ashore.kit.processes.pulse import PULSE_VARIABLE


@contextmanager
def hangups_held(held: bool = True) -> Iterator[None]:
    """Start children inside the block with SIGHUP blocked until they take it or wait for it.

    With `held` false: not blocked.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP} if held else set())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_hangups() -> None:
    """Unblock SIGHUP, including a pending one. For a child that has installed its handler; may be called twice."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What to start, and its turn when stopping."""

    name: str
    """`api`, `host smollm2/0`; stands in messages."""
    argv: tuple[str, ...]
    log: Path
    stage: int = 0
    """Stages stop in rising order: 0 takes requests, 1 answers them."""
    essential: bool = False
    """When it is given up, the supervisor ends. A signal that kills it never has it given up."""
    drain_s: float = 30.0
    """Seconds from SIGTERM to SIGKILL."""
    control_flag: str = "--control-fd"
    """Option that tells it the descriptor of the control pipe; empty for programs that know none."""
    env: Mapping[str, str] = field(default_factory=dict)
    rereads: bool = False
    """It takes SIGHUP as "read again" (`take_hangups`): one that comes before it does so waits."""
    why: Path | None = None
    """File that tells why it was killed, for those that talk to it; gone when it is started again."""


def tied(words: Iterable[str]) -> list[str]:
    """Return the command line of a program that ends with this process and leaves no core dump."""
    return [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *words]


def ended(process: subprocess.Popen[bytes], patience_s: float) -> int:
    """End a program, kill it if it takes longer than that, and return its exit code. May be called twice."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(patience_s)
        process.kill()
    return process.wait()


class Process:
    """A running child, leader of its own process group."""

    def __init__(self, popen: subprocess.Popen[bytes], control: int, pulse: int) -> None:
        self._popen = popen
        self._control = control
        self.pulse = pulse
        """Descriptor on which its beats arrive (`kit/processes/pulse.py`); open until `poll` has told the end."""

    @classmethod
    def start(cls, spec: ChildSpec) -> Process:
        """Start it. Must be called from the main thread, because the parent-death signal follows that thread.

        Raises:
            OSError: no process can be made. A program that cannot be run ends at once, and its log says why.
        """
        log = open_log(spec.log)
        try:
            return cls._start(spec, log)
        finally:
            os.close(log)

    @classmethod
    def _start(cls, spec: ChildSpec, log: int) -> Process:
        read_end, write_end = os.pipe()
        pulse, beats = os.pipe()
        os.set_blocking(pulse, False)
        argv = tied(spec.argv)
        if spec.control_flag:
            argv += [spec.control_flag, str(read_end)]
        try:
            with hangups_held(spec.rereads):
                popen = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=child_environment(extra={**spec.env, PULSE_VARIABLE: str(beats)}),
                    pass_fds=(read_end, beats),
                    process_group=0,
                )
        except BaseException:
            os.close(write_end)
            os.close(pulse)
            raise
        finally:
            os.close(read_end)
            os.close(beats)
        let_kernel_kill_sooner(popen.pid)
        return cls(popen, write_end, pulse)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def poll(self) -> int | None:
        """Return the exit code once it has ended (negative: a signal), else None. Kills its remaining descendants."""
        code = self._popen.poll()
        if code is not None and self._control >= 0:
            self.kill_group()
            os.close(self._control)
            os.close(self.pulse)
            self._control = self.pulse = -1
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the child only. No-op if it has ended."""
        self._popen.send_signal(number)

    def kill_group(self) -> None:
        """Kill the child and everything it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
