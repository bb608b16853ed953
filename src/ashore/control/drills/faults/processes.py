"""Processes that are killed or stopped."""

from __future__ import annotations

import os
import signal
import time

from ashore.control.doctor.probes import processes
from ashore.control.drills import watcher
from ashore.control.drills.faults.base import ROOT, Fault, Scene
from ashore.control.drills.model import Check


class ProcessFault(Fault):
    """Trouble of the oldest process of a kind."""

    def __init__(self, scene: Scene, role: str = "host") -> None:
        super().__init__(scene)
        self.role = role


class Killed(ProcessFault):
    """A process is killed."""

    def fire(self) -> None:
        self.pid = self.scene.one(self.role)
        self.start = watcher.start_of(self.pid)
        os.kill(self.pid, signal.SIGKILL)

    def felt(self) -> str:
        return f"process {self.pid} is gone" if watcher.start_of(self.pid) != self.start else ""

    def why_unwell(self) -> str:
        if not [pid for pid in self.scene.pids(self.role) if pid != self.pid]:
            return f"no new {self.role} process yet"
        return super().why_unwell()


class KilledWorker(Killed):
    def fire(self) -> None:
        self.number = len(self.scene.pids(self.role))
        super().fire()

    def why_unwell(self) -> str:
        now = len(self.scene.pids(self.role))
        return super().why_unwell() if now >= self.number else f"{now} of {self.number} workers run"


class Hung(ProcessFault):
    """A process is stopped, as a debugger or the kernel might do; it is continued unless it was killed."""

    def fire(self) -> None:
        self.pid = self.scene.one(self.role)
        self.start = watcher.start_of(self.pid)
        self.scene.undoing.process("continue", self.pid)
        os.kill(self.pid, signal.SIGSTOP)
        self.was_stopped = ""

    def felt(self) -> str:
        if not self.was_stopped:
            one = processes.every_process(ROOT).get(self.pid)
            if one is not None and one.state in ("T", "t"):
                self.was_stopped = f"process {self.pid} is stopped"
        return self.was_stopped


class HungHost(Hung):
    """The supervisor must notice and replace it."""

    def is_over(self) -> bool:
        return watcher.start_of(self.pid) != self.start

    def why_unwell(self) -> str:
        if watcher.start_of(self.pid) == self.start:
            return f"the hung host (process {self.pid}) was not replaced"
        return super().why_unwell()


class KilledSupervisor(Killed):
    """No process of the server may remain; then it is restarted, as a service manager would do."""

    def fire(self) -> None:
        self.pid = self.scene.supervisor
        self.start = watcher.start_of(self.pid)
        everyone = processes.every_process(ROOT)
        self.below = [(one.pid, str(one.start)) for one in processes.processes_below(everyone, self.pid)]
        os.kill(self.pid, signal.SIGKILL)
        end_s = time.monotonic() + 10
        while self._left() and time.monotonic() < end_s:
            time.sleep(0.02)
        self.orphans = self._left()

    def _left(self) -> list[int]:
        return [pid for pid, start in self.below if pid != self.pid and watcher.start_of(pid) == start]

    def mend(self) -> None:
        self.scene.restart()

    def why_unwell(self) -> str:
        return Fault.why_unwell(self)

    def checks(self) -> tuple[Check, ...]:
        seen = f"{len(self.orphans)} of {len(self.below) - 1} children were left"
        return (Check(name="orphans", held=not self.orphans, seen=seen, bound="none is left after 10 s"),)
