"""Files, processors and memory that run out, and more clients than a server can take."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

from ashore.control.doctor.probes import processes
from ashore.control.doctor.probes.machine import rows_of
from ashore.control.drills import watcher
from ashore.control.drills.faults.base import ROOT, Fault
from ashore.control.drills.load import Load
from ashore.control.drills.model import Check
from ashore.core.errors import EnvironmentFault


class FewFiles(Fault):
    """An API worker may open only a few more files."""

    def fire(self) -> None:
        self.pid = self.scene.one("api")
        soft, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        self.scene.undoing.process("files-limit", self.pid, value=[soft, hard])
        used = len(os.listdir(f"/proc/{self.pid}/fd"))
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (used + 2, hard))
        self.more = Load(self.scene.asked, 24)
        self.more.start(time.monotonic())
        self.was = ""

    def felt(self) -> str:
        if not self.was:
            soft, used = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)[0], len(os.listdir(f"/proc/{self.pid}/fd"))
            self.was = f"{used} of {soft} files are open" if used >= soft - 1 else ""
        return self.was

    def mend(self) -> None:
        self.more.stop()


class StolenProcessor(Fault):
    """Two busy programs for each processor."""

    def fire(self) -> None:
        self.burners = []
        for _ in range(2 * (os.cpu_count() or 1)):
            words = [sys.executable, "-I", "-S", "-c", "while True: pass"]
            self.burners.append(self.scene.undoing.start("end", words))

    def felt(self) -> str:
        busy = [one for one in self.burners if one.poll() is None]
        everyone = processes.every_process(ROOT)
        used_s = sum(everyone[one.pid].cpu_s for one in busy if one.pid in everyone)
        return f"{len(busy)} programs have used {used_s:.1f} s of processor time" if used_s > 0.3 else ""

    def mend(self) -> None:
        for one in self.burners:
            one.wait()


class ShortMemory(Fault):
    """Another program takes memory in the control group of the server, and the kernel prefers to kill the host."""

    spare_bytes = 16 << 20

    def fire(self) -> None:
        self.group = self.scene.group
        if self.group is None:
            raise EnvironmentFault("the twin has no control group for memory", hint="run it as root")
        old = (self.group / "memory.limit_in_bytes").exists()
        used = self.group / ("memory.usage_in_bytes" if old else "memory.current")
        limit = self.group / ("memory.limit_in_bytes" if old else "memory.max")
        self.events = self.group / ("memory.oom_control" if old else "memory.events")
        self.before = rows_of(self.events).get("oom_kill", 0)
        self.scene.undoing.before("write", path=str(limit), value="-1" if old else "max")
        limit.write_text(str(int(used.read_text()) + self.spare_bytes))
        self.pid = self.scene.one("host")
        self.start = watcher.start_of(self.pid)
        score = f"/proc/{self.pid}/oom_score_adj"
        self.scene.undoing.before("write", path=score, value=Path(score).read_text().strip())
        Path(score).write_text("1000")
        program = (
            "import sys, time\n"
            "open(sys.argv[1], 'w').write('0')\n"
            f"held = bytearray({3 * self.spare_bytes})\n"
            "time.sleep(600)\n"
        )
        words = [sys.executable, "-I", "-S", "-c", program, str(self.group / "cgroup.procs")]
        self.hungry = self.scene.undoing.start("end", words)

    def felt(self) -> str:
        killed = rows_of(self.events).get("oom_kill", 0) - self.before
        gone = watcher.start_of(self.pid) != self.start
        return f"the kernel killed {killed} processes, the host too" if killed and gone else ""

    def mend(self) -> None:
        self.hungry.wait()

    def checks(self) -> tuple[Check, ...]:
        alive = bool(watcher.start_of(self.scene.supervisor))
        return (Check(name="the supervisor", held=alive, seen="alive" if alive else "gone", bound="alive"),)


class Flood(Fault):
    """Far more clients than the server can take at once."""

    def fire(self) -> None:
        self.more = Load(self.scene.asked, 40)
        self.more.start(time.monotonic())

    def felt(self) -> str:
        refused = sum(one.status in (429, 503) for one in self.more.outcomes())
        return f"{refused} requests of the flood were refused" if refused else ""

    def mend(self) -> None:
        self.flood = self.more.stop()

    def checks(self) -> tuple[Check, ...]:
        odd = [one for one in self.flood if not one.ok and one.status not in (429, 503)]
        return (
            Check(
                name="the flood", held=not odd, seen=f"{len(self.flood)} requests, {len(odd)} ended in another way",
                bound="each is answered, or refused with 429 or 503",
            ),
        )  # fmt: skip
