"""Signs the chains at a short interval, and sends every checkpoint to its anchors: a thread of the supervisor."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from ashore.control.audit.anchors import Anchor
from ashore.core.clock import Clock
from ashore.core.errors import AshoreError
from ashore.data.audit.checkpoints import Checkpoints, SignedLine, read_checkpoints
from ashore.kit.recorder import Act, Recorder
from ashore.kit.recordfile import read_record

ANCHORED: Final = "anchored.json"
"""How far each anchor got, and how it stands: spares a search, proves nothing."""

log = logging.getLogger("ashore.audit")


class AnchorStanding(msgspec.Struct, frozen=True, kw_only=True):
    """State of an anchor."""

    place: str
    number: int = 0
    """Last checkpoint that it has; 0: none that is known."""
    good_us: int = 0
    """When it last had every checkpoint; 0: never."""
    silent_us: int = 0
    """Since when it takes none; 0: it takes them."""
    failures: int = 0
    """Rounds in a row that failed."""
    error: str = ""
    """What the last round that failed said; empty where it takes them."""


def read_anchors(root: Path) -> tuple[AnchorStanding, ...]:
    """Return the state of the anchors in use; empty if there are none, or nothing is known."""
    return tuple(one for one in _read_anchored(root).values() if isinstance(one, AnchorStanding))


def _read_anchored(root: Path) -> dict[str, AnchorStanding | int]:
    """Return the known state by place; for an unused place, its last checkpoint."""
    return read_record(root / ANCHORED, dict[str, AnchorStanding | int]) or {}


class Notary:
    """A thread with `start` and `close`; `tick` does one round."""

    def __init__(
        self,
        root: Path,
        checkpoints: Checkpoints,
        *,
        anchors: Sequence[Anchor],
        recorder: Recorder,
        clock: Clock,
        every_s: float,
    ) -> None:
        self._root = root
        self._checkpoints = checkpoints
        self._anchors = tuple(anchors)
        self._recorder = recorder
        self._clock = clock
        self._every_s = every_s
        self._silent: set[str] = set()
        """Anchors that did not take the last line."""
        self._complained: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notary", daemon=True)

    def start(self) -> Notary:
        """Sign now, so that nothing is served without a checkpoint, and continue. Returns itself.

        Raises:
            AshoreError: the key is gone, or the disk cannot be written.
        """
        self._checkpoints.make(self._now_us(), force=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Sign once more, and stop. May be called twice."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._round()

    def tick(self) -> None:
        """Sign if anything happened, and send each anchor what it lacks.

        Raises:
            AshoreError: signing failed. A failed anchor is recorded and retried.
        """
        self._checkpoints.make(self._now_us())
        self._tell_shrunk()
        self._deliver()

    def _run(self) -> None:
        self._round()
        while not self._stop.wait(self._every_s):
            self._round()

    def _round(self) -> None:
        try:
            self.tick()
        except AshoreError as fault:
            log.error("cannot sign a checkpoint: %s (%s)", fault.message, fault.hint)
        except Exception:  # outermost loop: the next round retries, and `verify` shows the gap
            log.exception("cannot sign a checkpoint")

    def _tell_shrunk(self) -> None:
        for chain in sorted(set(self._checkpoints.shrunk) - self._complained):
            self._complained.add(chain)
            log.error("the audit chain %s is shorter than its last signed checkpoint: run `ashore audit verify`", chain)
            self._recorder.record(
                Act(action="audit:tampered", actor="system", resource=f"chain/{chain}", outcome="failed")
            )

    def _deliver(self) -> None:
        before = _read_anchored(self._root)
        now = {place: one.number if isinstance(one, AnchorStanding) else one for place, one in before.items()}
        standings = {anchor.place: self._brought(anchor, before.get(anchor.place, 0)) for anchor in self._anchors}
        if {**now, **standings} != before:
            scratch = self._root / f".{ANCHORED}"
            scratch.write_bytes(msgspec.json.encode({**now, **standings}))
            scratch.replace(self._root / ANCHORED)

    def _brought(self, anchor: Anchor, before: AnchorStanding | int) -> AnchorStanding:
        """Send an anchor what it lacks, and return its new state."""
        if isinstance(before, int):
            before = AnchorStanding(place=anchor.place, number=before)
        number = before.number
        try:
            for line in self._new_for(number):
                anchor.put(line.checkpoint().number, line.raw)
                number = line.checkpoint().number
        except AshoreError as fault:
            self._tell(anchor, fault)
            return msgspec.structs.replace(
                before, number=number, silent_us=before.silent_us or self._now_us(), failures=before.failures + 1,
                error=f"{fault.code}: {fault.message}",
            )  # fmt: skip
        self._tell(anchor, None)
        if number == before.number and not before.failures and before.good_us:
            return before
        return AnchorStanding(place=anchor.place, number=number, good_us=self._now_us())

    def _new_for(self, reached: int) -> list[SignedLine]:
        """Return the checkpoints that an anchor lacks; for a new anchor only the last, which covers all."""
        last = self._checkpoints.last()
        if last is None:
            return []
        number = last.checkpoint().number
        if reached in (0, number - 1):
            return [last]
        if reached >= number:
            return []
        return [line for line in read_checkpoints(self._checkpoints.path) if line.whole and line.number > reached]

    def _tell(self, anchor: Anchor, fault: AshoreError | None) -> None:
        """Record when an anchor fails and when it recovers; not every round."""
        if (fault is not None) == (anchor.place in self._silent):
            return
        if fault is None:
            self._silent.discard(anchor.place)
        else:
            self._silent.add(anchor.place)
            log.error("%s (%s)", fault.message, fault.hint)
        self._recorder.record(
            Act(
                action="audit:anchor",
                actor="system",
                resource=f"anchor/{anchor.place}",
                outcome="done" if fault is None else "failed",
                reason="" if fault is None else f"{fault.code}: {fault.message}",
            )
        )

    def _now_us(self) -> int:
        return int(self._clock.now_s() * 1e6)
