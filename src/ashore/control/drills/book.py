"""Drill data of a home: reports, the running drill, the schedule."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from ashore.control.drills.model import Drill, Report
from ashore.control.drills.report import digest_of, encoded, markdown, page
from ashore.control.drills.watcher import start_of
from ashore.core.errors import Conflict
from ashore.kit.decode import UNDECODABLE
from ashore.kit.folders import make_folder
from ashore.kit.processes.lock import locked
from ashore.kit.recordfile import read_record, write_record

FOLDER: Final = "drills"
_ID: Final = re.compile(r"^[a-z-]+-\d{8}T\d{6}$")


class Book:
    """`drills/` of a home."""

    def __init__(self, home: Path) -> None:
        self.folder = home / FOLDER
        self.journal = self.folder / "undo.jsonl"

    def new_id(self, drill: str, now_s: float) -> str:
        """Return the name of a run: `host-killed-20261128T100000`."""
        return f"{drill}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now_s))}"

    @contextmanager
    def running(self, drill: str) -> Iterator[int]:
        """Hold the lock of the only drill that may run, and yield its descriptor: every process that has it open holds
        the lock.

        Raises:
            Conflict: another drill runs.
        """
        make_folder(self.folder, mode=0o700)

        def busy() -> Conflict:
            now = self.now_running()
            what = f"another drill runs: {now[0]}" if now else "what an earlier drill broke is being undone"
            return Conflict(what, hint="`ashore drill stop` ends it")

        with locked(self.folder / "running.json", busy, flags=os.O_NOFOLLOW) as descriptor:
            told = {"drill": drill, "pid": os.getpid(), "start": start_of(os.getpid())}
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(told).encode())
            (self.folder / "stop").unlink(missing_ok=True)
            yield descriptor
            os.ftruncate(descriptor, 0)

    def now_running(self) -> tuple[str, int] | None:
        """Return the running drill and its process; None: none runs."""
        path = self.folder / "running.json"
        with suppress(OSError, ValueError, KeyError):
            told = json.loads(path.read_bytes())
            if start_of(told["pid"]) == (told["start"] or "gone"):
                return str(told["drill"]), int(told["pid"])
        return None

    def ask_to_stop(self) -> None:
        """Ask the running drill to end at its next check."""
        make_folder(self.folder, mode=0o700)
        (self.folder / "stop").touch()

    def is_stopped(self) -> bool:
        return (self.folder / "stop").exists()

    def keep(self, report: Report, drill: Drill | None) -> tuple[Path, str]:
        """Write a report in its three formats; return the path without suffix, and the digest of the JSON."""
        folder = self.folder / "reports"
        make_folder(folder, mode=0o700)
        data = encoded(report)
        digest = digest_of(data)
        base = folder / report.id
        texts = {".json": data, ".md": markdown(report, drill).encode(), ".html": page(report, drill, digest).encode()}
        for end, text in texts.items():
            path = base.with_name(base.name + end)
            path.write_bytes(text)
            path.chmod(0o600)
        return base, digest

    def reports(self, since_s: float = 0.0) -> tuple[tuple[Report, str], ...]:
        """Return the reports since a moment with the digests of their files, oldest first."""
        found = []
        for path in sorted((self.folder / "reports").glob("*.json")):
            if not _ID.match(path.stem):
                continue
            data = path.read_bytes()
            try:
                report = msgspec.json.decode(data, type=Report)
            except UNDECODABLE:
                continue
            if report.began_s >= since_s:
                found.append((report, digest_of(data)))
        return tuple(sorted(found, key=lambda one: one[0].began_s))

    def schedule(self) -> dict[str, int]:
        """Return the longest interval between two runs, in seconds, by drill."""
        return read_record(self.folder / "schedule.json", dict[str, int]) or {}

    def set_schedule(self, drill: str, every_s: int) -> None:
        """Set the interval of a drill; 0: never."""
        kept = {**self.schedule(), drill: every_s}
        make_folder(self.folder, mode=0o700)
        write_record(self.folder / "schedule.json", {name: one for name, one in kept.items() if one})

    def due(self, now_s: float) -> Mapping[str, float]:
        """Return how many seconds each scheduled drill is overdue; negative: not due yet."""
        last: dict[str, float] = {}
        for report, _ in self.reports():
            if report.verdict in ("pass", "fail"):
                last[report.drill] = max(last.get(report.drill, 0.0), report.began_s)
        return {name: now_s - last.get(name, 0.0) - every_s for name, every_s in self.schedule().items()}
