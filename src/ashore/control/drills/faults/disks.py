"""A disk that is full, slow, or failing. The audit log must stay intact in every case."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import Final

from ashore.control.drills.faults.base import Fault
from ashore.control.drills.model import Check

FILL: Final = "drill-fill"


class AuditFault(Fault):
    """A disk fault; the audit log must stay intact."""

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
            told = os.statvfs(path)
            with contextlib.suppress(OSError):  # at once, if the file system can: a drill may be stopped meanwhile
                os.posix_fallocate(file.fileno(), 0, told.f_bavail * told.f_frsize)
                file.seek(0, os.SEEK_END)
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
        self.strace = self.scene.undoing.start("end", words, stderr=subprocess.DEVNULL)

    def felt(self) -> str:
        calls = self.said.read_text().count("sync(") if self.said.exists() else 0
        return f"{calls} calls were met" if calls else ""

    def mend(self) -> None:
        self.strace.wait()


class FailingDisk(SlowDisk):
    """Every third fsync of the API worker fails."""

    trouble = "error=EIO:when=2+3"
