"""Uploads closed segments to the archive: a thread of the supervisor.

A round does a bounded amount of work; if more waits, the next one follows soon. A file remembers what was copied and
read back, so that a round only considers new and old segments. The file only saves work: a segment is read back again
before it is removed.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Final

import msgspec

from ashore.control.audit.archive import Archive, Archived, archive_segments
from ashore.core.clock import Clock
from ashore.core.errors import AshoreError
from ashore.data.audit import Checkpoints, chains_in, segments_of
from ashore.kit.recorder import Act, ActOutcome, Recorder
from ashore.kit.recordfile import read_record

ARCHIVED: Final = "archived.json"
ROUND_BYTES: Final = 256 << 20
"""A round ends after copying and verifying, or removing, so many bytes."""
SOON_S: Final = 1.0
"""Pause before the next round where more waits."""
RETRY_S: Final = 300.0
"""Longest pause after a failed round."""
STOP_S: Final = 10.0
"""Longest wait for a running round when the server stops: it may be interrupted anywhere."""

log = logging.getLogger("ashore.audit")


class ArchiveStanding(msgspec.Struct, frozen=True, kw_only=True):
    """State of scheduled archiving."""

    place: str
    good_us: int = 0
    """When a round last ended well; 0: none did."""
    failures: int = 0
    """Rounds in a row that failed."""
    failed_us: int = 0
    error: str = ""
    """What the last round that failed said; empty since one ended well."""
    copied: dict[str, int] = {}
    """Last segment that is in the archive, by chain."""


def read_standing(root: Path) -> ArchiveStanding | None:
    """Return the state of archiving; None if it never ran, or its file is damaged."""
    return read_record(root / ARCHIVED, ArchiveStanding)


def waiting_segments(root: Path, standing: ArchiveStanding) -> int:
    """Return how many closed segments are not archived yet."""
    return sum(
        number > standing.copied.get(chain, 0) for chain in chains_in(root) for number in segments_of(root, chain)[:-1]
    )


class Archivist:
    """A thread with `start` and `close`; `tick` does one round."""

    def __init__(
        self,
        root: Path,
        checkpoints: Checkpoints,
        archive: Archive,
        *,
        recorder: Recorder,
        clock: Clock,
        after_days: int,
        every_s: float,
        round_bytes: int = ROUND_BYTES,
    ) -> None:
        """Create it; touches nothing.

        Args:
            root: Folder of the audit.
            checkpoints: Of the same home; they record what was removed.
            archive: Destination.
            recorder: Records results, and failures once until the next success.
            clock: Wall time.
            after_days: Shortest time that a segment stays here.
            every_s: Between two rounds.
            round_bytes: Work limit of a round; at least one segment is processed.
        """
        self._root = root
        self._checkpoints = checkpoints
        self._archive = archive
        self._recorder = recorder
        self._clock = clock
        self._after_days = after_days
        self._every_s = every_s
        self._round_bytes = round_bytes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="archivist", daemon=True)

    def start(self) -> Archivist:
        """Start with an immediate round. Returns itself; call once."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop after the current segment. May be called twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def tick(self) -> bool:
        """Do one round; return whether more waits. A failed upload is logged and retried in the next round."""
        standing = read_standing(self._root)
        if standing is None or standing.place != self._archive.place:  # a different archive has nothing yet
            standing = ArchiveStanding(place=self._archive.place)
        done: list[Archived] = []
        try:
            archive_segments(
                self._root,
                self._checkpoints.home,
                self._archive,
                self._checkpoints,
                now_us=self._now_us(),
                after_days=self._after_days,
                known=standing.copied,
                goes_on=lambda: not self._stop.is_set() and sum(one.num_bytes for one in done) < self._round_bytes,
                done=done,
            )
        except AshoreError as fault:
            self._keep(self._failed(standing, done, fault))
            return False
        self._keep(self._went_well(standing, done))
        return sum(one.num_bytes for one in done) >= self._round_bytes

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stop.wait(pause_s):
            pause_s = self._every_s
            try:
                if self.tick():
                    pause_s = min(SOON_S, self._every_s)
                elif (standing := read_standing(self._root)) is not None and standing.failures:
                    pause_s = min(RETRY_S, self._every_s)
            except Exception:  # outermost loop: nothing was removed, and the next round retries
                log.exception("cannot archive the audit log")

    def _went_well(self, standing: ArchiveStanding, done: list[Archived]) -> ArchiveStanding:
        if done or standing.failures:
            removed = sum(one.removed for one in done)
            self._tell(
                "done",
                detail={"segments": len(done), "removed": removed, "bytes": sum(one.num_bytes for one in done)},
            )
        return msgspec.structs.replace(
            standing, good_us=self._now_us(), failures=0, failed_us=0, error="", copied=_copied(standing, done)
        )

    def _failed(self, standing: ArchiveStanding, done: list[Archived], fault: AshoreError) -> ArchiveStanding:
        said = f"{fault.code}: {fault.message}"
        if said != standing.error:
            log.error("cannot archive the audit log: %s (%s)", fault.message, fault.hint)
            self._tell("failed", reason=said)
        return msgspec.structs.replace(
            standing, failures=standing.failures + 1, failed_us=self._now_us(), error=said,
            copied=_copied(standing, done),
        )  # fmt: skip

    def _tell(self, outcome: ActOutcome, *, reason: str = "", detail: dict[str, str | int] | None = None) -> None:
        self._recorder.record(
            Act(
                action="audit:archive",
                actor="system",
                resource=f"archive/{self._archive.place}",
                outcome=outcome,
                reason=reason,
                detail={"after_days": self._after_days, **(detail or {})},
            )
        )

    def _keep(self, standing: ArchiveStanding) -> None:
        scratch = self._root / f".{ARCHIVED}"
        try:
            scratch.write_bytes(msgspec.json.encode(standing))
            scratch.replace(self._root / ARCHIVED)
        except OSError as fault:
            log.error("cannot write %s: %s; the next round copies again", self._root / ARCHIVED, fault.strerror)

    def _now_us(self) -> int:
        return int(self._clock.now_s() * 1e6)


def _copied(standing: ArchiveStanding, done: list[Archived]) -> dict[str, int]:
    copied = dict(standing.copied)
    for one in done:
        copied[one.chain] = max(copied.get(one.chain, 0), one.segment)
    return copied
