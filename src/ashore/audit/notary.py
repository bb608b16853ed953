"""Has the chains signed at a short interval, and brings every checkpoint to its anchors: a thread of the supervisor."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from ashore.audit.anchors import Anchor
from ashore.audit.checkpoints import Checkpoints, SignedLine, read_checkpoints
from ashore.core import UNDECODABLE, Act, Clock, Recorder
from ashore.errors import AshoreError

ANCHORED: Final = "anchored.json"
"""How far each anchor got: spares a search, proves nothing."""

log = logging.getLogger("ashore.audit")


class Notary:
    """`start` and `close` around its life; `tick` does one round."""

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
        """Sign now, so that nothing served is without a checkpoint, and go on. Returns itself.

        Raises:
            AshoreError: the key is gone, or the disk cannot be written.
        """
        self._checkpoints.make(self._now_us(), force=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Sign what there is once more, and stop. May be called twice."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._round()

    def tick(self) -> None:
        """Sign if anything happened, and bring to each anchor what it does not have.

        Raises:
            AshoreError: nothing could be signed. An anchor that fails is told in the record, and tried again.
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
            log.error("no checkpoint: %s (%s)", fault.message, fault.hint)
        except Exception:  # the outermost loop: the next round tries again, and `verify` shows the gap
            log.exception("no checkpoint")

    def _tell_shrunk(self) -> None:
        for chain in sorted(set(self._checkpoints.shrunk) - self._complained):
            self._complained.add(chain)
            log.error("the audit chain %s is shorter than it was signed: run `ashore audit verify`", chain)
            self._recorder.record(
                Act(action="audit:tampered", actor="system", resource=f"chain/{chain}", outcome="failed")
            )

    def _deliver(self) -> None:
        reached = self._reached()
        before = dict(reached)
        for anchor in self._anchors:
            try:
                for line in self._new_for(reached.get(anchor.place)):
                    number = line.checkpoint().number
                    anchor.put(number, line.raw)
                    reached[anchor.place] = number
                self._tell(anchor, None)
            except AshoreError as fault:
                self._tell(anchor, fault)
        if reached != before:
            scratch = self._root / f".{ANCHORED}"
            scratch.write_bytes(msgspec.json.encode(reached))
            scratch.replace(self._root / ANCHORED)

    def _new_for(self, reached: int | None) -> list[SignedLine]:
        """Return the checkpoints that an anchor does not have; of one that is new here, the last, which covers all."""
        last = self._checkpoints.last()
        if last is None:
            return []
        number = last.checkpoint().number
        if reached is None or reached == number - 1:
            return [last]
        if reached >= number:
            return []
        return [line for line in read_checkpoints(self._checkpoints.path) if line.whole and line.number > reached]

    def _reached(self) -> dict[str, int]:
        try:
            return msgspec.json.decode((self._root / ANCHORED).read_bytes(), type=dict[str, int])
        except (OSError, *UNDECODABLE):
            return {}

    def _tell(self, anchor: Anchor, fault: AshoreError | None) -> None:
        """Record that an anchor fell silent, and that it is back; not every round."""
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
