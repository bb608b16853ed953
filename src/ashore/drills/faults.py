"""Faults, made for real: how each is fired, how it is felt, and when the server is well after it.

A step that undoes it is written down (`undoing.py`) before anything is broken. Processes are found below the supervisor
of the home, with their start, and never by a name alone.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ashore.doctor.probes import processes
from ashore.doctor.probes.files import rows_of
from ashore.drills import watcher
from ashore.drills.load import Asked, Load
from ashore.drills.model import Check, Drill, Outcome
from ashore.drills.undoing import Undoing
from ashore.errors import EnvironmentFault, NotReady
from ashore.processes import get_from, read_holder
from ashore.settings import Home

ROOT: Final = Path("/")
FILL: Final = "drill-fill"


@dataclass(slots=True, kw_only=True)
class Scene:
    """The server on which a drill is run."""

    home: Home
    asked: Asked
    undoing: Undoing
    drill: Drill
    restart: Callable[[], None]
    """Starts the twin again, as a service manager would; raises on the server that answers users."""
    ashore: Callable[..., subprocess.CompletedProcess[str]]
    """Runs a command of ashore in this home."""
    folder: Path
    """Of the drill's own files."""
    group: Path | None = None
    """Control group of the twin; None: it has none of its own."""
    replicas: int = 0
    """That were ready before."""
    others: list[Outcome] = field(default_factory=list)

    @property
    def supervisor(self) -> int:
        holder = read_holder(self.home.lock)
        if holder is None or not watcher.start_of(holder.pid):
            raise NotReady(f"no server is running from {self.home.root}", hint="start one with `ashore up`")
        return holder.pid

    def pids(self, role: str) -> list[int]:
        """Return the processes of one kind, the oldest first."""
        found = processes.processes_below(processes.every_process(ROOT), self.supervisor)
        return [
            one.pid
            for one in sorted(found, key=lambda one: (one.start, one.pid))
            if one.state != "Z" and processes.role_of(processes.words_of(ROOT, one.pid))[0] == role
        ]

    def one(self, role: str) -> int:
        """Return the process to break: the oldest of its kind.

        Raises:
            EnvironmentFault: there is none.
        """
        found = self.pids(role)
        if not found:
            raise EnvironmentFault(f"this server has no {role} process", hint="rehearse it on a twin: --twin")
        return found[0]

    def ready(self) -> int:
        """Return the replicas that API workers are connected to, as the first of them tells."""
        from ashore.doctor.samples import Samples
        from ashore.serving import read_topology

        topology = read_topology(self.home.topology)
        listen = topology.workers[0].http if topology.workers else topology.http
        where: Path | tuple[str, int] = Path(listen.uds) if listen.uds else (listen.host, listen.port)
        token = self.home.internal_token.read_text().strip()
        page = get_from(where, "/metrics", headers={"authorization": f"Bearer {token}"}) or b""
        return int(Samples(page.decode()).total("ashore_replicas_ready", model=self.asked.model) or 0)


class Fault:
    """One fault. The base does nothing; each overrides what it needs."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def fire(self) -> None:
        """Break something. The way back is written down first."""

    def felt(self) -> str:
        """Return how it is seen that the fault is there; empty: it is not (yet)."""
        return ""

    def is_over(self) -> bool:
        """Whether the fault ended by itself, so that nothing is left to wait for."""
        return False

    def mend(self) -> None:
        """Do, after the fault is undone, what a person or a service manager would do."""

    def why_unwell(self) -> str:
        """Return what is not as before yet, beside requests; empty: everything is."""
        try:
            ready = self.scene.ready()
        except (OSError, ValueError) as fault:
            return str(fault)
        return "" if ready >= self.scene.replicas else f"{ready} of {self.scene.replicas} replicas are ready"

    def checks(self) -> tuple[Check, ...]:
        """Return what else had to hold, once the server is well."""
        return ()


class Killed(Fault):
    """A process is killed."""

    role = "host"

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
    role = "api"

    def fire(self) -> None:
        self.number = len(self.scene.pids(self.role))
        super().fire()

    def why_unwell(self) -> str:
        now = len(self.scene.pids(self.role))
        return super().why_unwell() if now >= self.number else f"{now} of {self.number} workers run"


class KilledEdge(Killed):
    role = "edge"


class KilledCache(Killed):
    role = "cache"


class KilledJobs(Killed):
    role = "jobs"


class Hung(Fault):
    """A process is stopped, as a debugger or the kernel may; it is let go where nobody has ended it."""

    role = "host"

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


class HungWorker(Hung):
    role = "api"


class HungCache(Hung):
    role = "cache"


class HungEdge(Hung):
    role = "edge"


class KilledSupervisor(Killed):
    """Nothing may be left of the server; then it is started again, as a service manager would."""

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


class AuditFault(Fault):
    """A fault of the disk: whatever happened, the audit log must be what was written."""

    def checks(self) -> tuple[Check, ...]:
        done = self.scene.ashore("audit", "verify")
        last = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["nothing was said"]
        return (Check(name="audit log", held=done.returncode == 0, seen=last[0], bound="it verifies"),)


class FullDisk(AuditFault):
    """The disk of the home has no room left."""

    def fire(self) -> None:
        path = self.scene.home.root / FILL
        self.scene.undoing.before("delete", path=str(path))
        self.error = ""
        with open(path, "wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"x" * size) == size:
                        pass

    def felt(self) -> str:
        if not self.error:
            try:
                (self.scene.home.root / f"{FILL}-probe").write_bytes(b"x" * 8192)
            except OSError as fault:
                self.error = f"a write is refused: {fault.strerror}"
            with contextlib.suppress(OSError):
                (self.scene.home.root / f"{FILL}-probe").unlink(missing_ok=True)
        return self.error


class ReadOnlyDisk(AuditFault):
    """The kernel makes the file system of the home read-only, as after a fault of the disk."""

    def fire(self) -> None:
        where = str(self.scene.home.root)
        self.scene.undoing.before("writable", path=where)
        done = subprocess.run(["mount", "-o", "remount,ro", where], capture_output=True, text=True, check=False)
        if done.returncode:
            # open files keep a remount from becoming read-only; what the kernel does after a fault does not ask
            done = subprocess.run(
                ["mount", "-o", "remount,ro,bind", where], capture_output=True, text=True, check=False
            )

    def felt(self) -> str:
        try:
            (self.scene.home.root / f"{FILL}-probe").touch()
        except OSError as fault:
            return f"a write is refused: {fault.strerror}"
        return ""


class SlowDisk(AuditFault):
    """Every fsync of the API worker takes a fifth of a second longer."""

    delay_us = 200_000
    trouble = f"delay_enter={delay_us}"

    def fire(self) -> None:
        pid = self.scene.one("api")
        self.said = self.scene.folder / "strace.out"
        words = [
            "strace", "-f", "-qq", "-p", str(pid), "-e", "trace=fsync,fdatasync", "-e",
            f"inject=fsync,fdatasync:{self.trouble}", "-o", str(self.said),
        ]  # fmt: skip
        self.strace = subprocess.Popen(words, stderr=subprocess.DEVNULL, start_new_session=True)
        self.scene.undoing.process("end", self.strace.pid)

    def felt(self) -> str:
        calls = self.said.read_text().count("sync(") if self.said.exists() else 0
        return f"{calls} calls were met" if calls else ""

    def mend(self) -> None:
        self.strace.wait()


class FailingDisk(SlowDisk):
    """Every third fsync of the API worker fails."""

    trouble = "error=EIO:when=2+3"


class FewFiles(Fault):
    """An API worker may open only a few files more."""

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
            one = subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"], start_new_session=True)
            self.scene.undoing.process("end", one.pid)
            self.burners.append(one)

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
        self.hungry = subprocess.Popen(words, start_new_session=True)
        self.scene.undoing.process("end", self.hungry.pid)

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
    """Many clients more than the server takes at once."""

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


class BadRelease(Fault):
    """A model whose engine cannot load is added to ashore.toml and applied."""

    def fire(self) -> None:
        path = self.scene.home.root / "ashore.toml"
        before = path.read_text()
        self.copy = self.scene.folder / "ashore.toml"
        self.copy.write_text(before)
        self.scene.undoing.before("write", path=str(path), value=before)
        path.write_text(before + '\n[[model]]\nname = "fake:echo?fail_load=1"\nalias = "broken"\n')
        self.said = self.scene.ashore("reload")

    def felt(self) -> str:
        words = (self.said.stdout + self.said.stderr).strip()
        seen = "fail_load" in words or "could not" in words or "failed" in words
        return words.splitlines()[-1] if self.said.returncode and words else words.splitlines()[0] if seen else ""

    def mend(self) -> None:
        self.scene.ashore("reload")


class LostNode(Fault):
    """A node of the backup is away. Backups go on, and everything is there to restore."""

    def fire(self) -> None:
        self.node = self.scene.folder / "node-0"
        away = self.node.with_name("node-0.away")
        self.scene.undoing.before("move", path=str(away), to=str(self.node))
        os.rename(self.node, away)
        self.while_away = self.scene.ashore("backup", "run")
        self.listed = self.scene.ashore("backup", "list")

    def felt(self) -> str:
        return "" if self.node.exists() else f"{self.node.name} is not there"

    def mend(self) -> None:
        self.after = self.scene.ashore("backup", "scrub")

    def checks(self) -> tuple[Check, ...]:
        return (
            Check(
                name="backups to restore", held=self.listed.returncode == 0, seen=_last_line(self.listed),
                bound="listed without the node",
            ),
            Check(
                name="scrub after it came back", held=self.after.returncode == 0, seen=_last_line(self.after),
                bound="ends well",
            ),
        )  # fmt: skip


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return ((done.stdout + done.stderr).strip().splitlines() or ["nothing was said"])[-1]


class FlippedBit(Fault):
    """A byte of a backup's shard is another one. A scrub must find it and write the right bytes."""

    def fire(self) -> None:
        shards = sorted(
            (one for one in (self.scene.folder / "node-1").rglob("*") if one.is_file() and one.stat().st_size > 512),
            key=lambda one: -one.stat().st_size,
        )
        if not shards:
            raise EnvironmentFault("the backup of the twin has no shard", hint="report this")
        self.shard = shards[0]
        self.before = self.shard.read_bytes()
        at = len(self.before) // 2
        self.scene.undoing.before("bytes", path=str(self.shard), at=at, value=self.before[at : at + 1].hex())
        with open(self.shard, "r+b") as file:
            file.seek(at)
            file.write(bytes([self.before[at] ^ 0xFF]))
        self.scrub = self.scene.ashore("backup", "scrub")
        self.mended = self.shard.is_file() and self.shard.read_bytes() == self.before

    def felt(self) -> str:
        words = (self.scrub.stdout + self.scrub.stderr).strip()
        return next(
            (line.strip() for line in words.splitlines() if "damaged" in line or "repaired" in line), words[:120]
        )

    def checks(self) -> tuple[Check, ...]:
        return (
            Check(
                name="the shard",
                held=self.mended,
                seen="right" if self.mended else "wrong",
                bound="as before, byte for byte",
            ),
        )


class LostState(Fault):
    """Somebody holds the write lock of the state for seconds. Requests go on."""

    def fire(self) -> None:
        program = (
            "import sqlite3, sys, time\n"
            "c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
            "c.execute('BEGIN EXCLUSIVE')\nprint('locked', flush=True)\ntime.sleep(600)\n"
        )
        words = [sys.executable, "-I", "-S", "-c", program, str(self.scene.home.state_db)]
        self.holder = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
        self.scene.undoing.process("end", self.holder.pid)
        assert self.holder.stdout is not None
        self.said = self.holder.stdout.readline().decode().strip()

    def felt(self) -> str:
        return "the state is locked" if self.said == "locked" else ""

    def mend(self) -> None:
        self.holder.wait()
        assert self.holder.stdout is not None
        self.holder.stdout.close()


class ExpiredCertificate(Fault):
    """The edge's certificate has ended. A start makes a new one, and clients that trust the authority go on."""

    def fire(self) -> None:
        from ashore.drills.certificate import expire

        self.file = expire(self.scene.home.edge, self.scene.undoing)
        self.before = self.file.read_bytes()
        from ashore.doctor.probes.beside import ends_in

        self.left_s = ends_in(self.file, time.time()) or 0.0

    def felt(self) -> str:
        return f"it ended {-self.left_s / 86_400:.1f} days ago" if self.left_s < 0 else ""

    def mend(self) -> None:
        os.kill(self.scene.supervisor, signal.SIGTERM)
        self.scene.restart()

    def checks(self) -> tuple[Check, ...]:
        from ashore.doctor.probes.beside import ends_in

        left_s = ends_in(self.file, time.time()) or 0.0
        seen = f"it ends in {left_s / 86_400:.0f} days"
        return (Check(name="certificate", held=left_s > 86_400, seen=seen, bound="a new one after the start"),)


MAKERS: Final[Mapping[str, type[Fault]]] = MappingProxyType(
    {
        "bad-release": BadRelease,
        "cache-hung": HungCache,
        "cache-killed": KilledCache,
        "certificate-expired": ExpiredCertificate,
        "disk-failing": FailingDisk,
        "disk-full": FullDisk,
        "disk-read-only": ReadOnlyDisk,
        "disk-slow": SlowDisk,
        "edge-hung": HungEdge,
        "edge-killed": KilledEdge,
        "few-files": FewFiles,
        "flipped-bit": FlippedBit,
        "flood": Flood,
        "host-hung": HungHost,
        "host-killed": Killed,
        "jobs-killed": KilledJobs,
        "lost-node": LostNode,
        "memory-short": ShortMemory,
        "processor-stolen": StolenProcessor,
        "state-locked": LostState,
        "supervisor-killed": KilledSupervisor,
        "worker-hung": HungWorker,
        "worker-killed": KilledWorker,
    }
)


def lacking(needs: Sequence[str]) -> str:
    """Return what this machine lacks for a drill; empty: nothing."""
    for one in needs:
        if one == "root":
            if os.geteuid() != 0:
                return "it needs root"
        elif shutil.which(one) is None:
            return f"it needs the program {one}"
    return ""
