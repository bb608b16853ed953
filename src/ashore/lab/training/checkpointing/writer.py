"""Writing checkpoints while training goes on.

The state of a run changes only inside the optimiser's update. So the live tensors are written during the next forward
and backward pass, which only reads parameters. Just before the update, the unwritten part is copied into spare memory,
from which the writer continues. The training thread waits for the piece that is being copied at that moment, and, where
more is left than the spare memory holds, until less is.

One lock orders this: the writer takes pieces from the first to the last, marks each as in hand under
the lock, and unmarks it when its bytes are in the writer's own buffer; `before_update` looks only at those marks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ashore.lab.training.checkpointing.form import (
    PIECE_BYTES,
    Layout,
    Position,
    copy_piece,
    piece_bytes,
    spare_bytes,
    touched_array,
)

Keep = Callable[[int, int, Iterator[memoryview]], Path]
"""Writes a file of a step, of so many bytes, from chunks; see `RunState.keep`."""


@dataclass(slots=True, kw_only=True)
class WriterTimes:
    """Cost of checkpoints in a run so far."""

    saved: int = 0
    skipped: int = 0
    """Were due while the one before was still being written."""
    stall_s: float = 0.0
    """Time that the training thread waited or copied."""
    copied_bytes: int = 0
    """What was not out when it was to be updated."""
    cost_s: float = 0.0
    """What the last took from the training: processor time beside it, and its wait."""
    durable_s: float = 0.0
    """From the beginning of the last until it was on disk."""


class CheckpointWriter:
    """Writes one checkpoint at a time in the background of a training loop.

    `begin`, `before_update`, `finish` and `close` are called by the thread that trains.
    """

    def __init__(self, keep: Keep, facts: Mapping[str, str], *, clock: Callable[[], float] = time.perf_counter) -> None:
        """Create the object; the thread starts with the first checkpoint.

        Args:
            keep: Writes the file.
            facts: Of the run, for the header.
            clock: Seconds, for the reported times.
        """
        self._keep, self._facts, self._clock = keep, dict(facts), clock
        self.times = WriterTimes()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._layout: Layout | None = None
        self._position: Position | None = None
        """Of the checkpoint that is being written; None: none is."""
        self._begun_s = self._stalled_s = 0.0
        self._next = 0
        """The first piece that the writer has not taken."""
        self._in_hand = False
        self._settled = -1
        """From which piece on the copies count; -1: the live tensors do."""
        self._spare = np.zeros(0, np.uint8)
        self._spare_of: Layout | None = None
        """Whose copies the spare memory is for; None: it is not there yet."""
        self._fault: BaseException | None = None
        self._closed = False

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is being written."""
        with self._changed:
            return self._position is not None

    def begin(self, position: Position, state: Callable[[], Mapping[str, Any]]) -> bool:
        """Start writing a checkpoint, and return whether it was started: False while the previous one is being written.

        Args:
            position: Where the run stands.
            state: Returns the state itself, not a copy, which must not change before `before_update` was called. A
                mapping that is the same object as before has the same tensors in the same memory.

        Raises:
            DiskFull and other errors of the checkpoint before.
        """
        began_s = self._clock()
        with self._changed:
            self._raise_fault()
            if self._position is not None:
                self.times.skipped += 1
                return False
            tensors = state()
            if self._layout is None or self._layout.tensors is not tensors or not self._layout.is_live:
                self._layout, self._spare_of = Layout(tensors), None
            self._position, self._begun_s, self._stalled_s = position, began_s, self.times.stall_s
            self._next, self._in_hand, self._settled = 0, False, -1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="checkpoint", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        self.times.stall_s += self._clock() - began_s
        return True

    def before_update(self) -> None:
        """Return when the state may change: at once, unless a checkpoint still needs it."""
        with self._changed:
            if self._position is None or self._layout is None or self._settled >= 0:
                return
            began_s = self._clock()
            layout = self._layout
            self._changed.wait_for(
                lambda: self._fault or (self._spare_of is layout and layout.left[self._next] <= len(self._spare))
            )
            at = 0
            for piece in layout.pieces[self._next :] if self._fault is None else ():
                at += len(copy_piece(piece, self._spare[at:]))
            self._settled = self._next
            self._changed.wait_for(lambda: self._fault or not self._in_hand)
            self.times.copied_bytes += at
            self.times.stall_s += self._clock() - began_s

    def finish(self) -> None:
        """Wait until a started checkpoint is on disk.

        Raises:
            DiskFull and other errors of the checkpoint.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._position is None)
            self._raise_fault()

    def close(self) -> None:
        """End the thread, after the current checkpoint. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _raise_fault(self) -> None:
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault

    def _work(self) -> None:
        buffer = touched_array(PIECE_BYTES)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._position is not None)
                if self._position is None:
                    return
                layout, position = self._layout, self._position
            assert layout is not None
            fault: BaseException | None = None
            cpu_s = time.thread_time()
            try:
                self._make_spare(layout)
                header = layout.header(msgspec.structs.replace(position, facts=dict(self._facts)))
                self._keep(position.step, len(header) + layout.num_bytes, self._chunks(header, layout, buffer))
            except BaseException as error:  # noqa: BLE001 - raised where the training thread comes by
                fault = error
            with self._changed:
                self._fault, self._position, self._in_hand = fault, None, False
                self._next = len(layout.pieces)
                self.times.cost_s = time.thread_time() - cpu_s + self.times.stall_s - self._stalled_s
                self.times.durable_s = self._clock() - self._begun_s
                self.times.saved += fault is None
                self._changed.notify_all()

    def _make_spare(self, layout: Layout) -> None:
        """Allocate and touch the memory for copies, so that copying never waits for page faults."""
        size, spare = spare_bytes(layout.num_bytes), self._spare
        if len(spare) != size:
            spare = touched_array(size)
        with self._changed:
            self._spare, self._spare_of = spare, layout
            self._changed.notify_all()

    def _chunks(self, header: memoryview, layout: Layout, buffer: NDArray[np.uint8]) -> Iterator[memoryview]:
        """Yield the bytes of the file, each piece from the live tensors or from its copy."""
        yield header
        at = 0
        for number, piece in enumerate(layout.pieces):
            with self._changed:
                is_live = self._settled < 0
                if is_live:
                    self._next, self._in_hand = number + 1, True
            if is_live:
                chunk = copy_piece(piece, buffer)
                with self._changed:
                    self._in_hand = False
                    self._changed.notify_all()
            else:
                size = piece_bytes(piece)
                chunk = self._spare.data[at : at + size]
                at += size
            yield chunk
