"""Allocation of llama.cpp's cells: running sequences, ended ones, and prefixes that were moved out."""

from __future__ import annotations

import logging
import time
from typing import Final

from ashore.data.engines.llamacpp.context import LlamaContext
from ashore.data.engines.llamacpp.kept import Partition
from ashore.data.engines.llamacpp.slots import Placement, Slot, Slots

MOST_TIDYING: Final = 1 / 16
"""Of the time. Usually a sequence is copied in milliseconds; where the library cannot use flash attention, its values
lie number by number, and a copy takes as long as computing it."""

_log = logging.getLogger(__name__)


class Memory:
    """The cells of one context and the bookkeeping over them, always changed together."""

    def __init__(self, context: LlamaContext, num_slots: int, *, most_kept: int) -> None:
        """Create it empty; `most_kept` as for `Slots`."""
        self.context = context
        self._slots = Slots(num_slots, most_kept=most_kept)
        self._tidy_due_s = 0.0

    @property
    def num_tokens(self) -> int:
        """Tokens in the cells, at most as many as there are cells."""
        return min(self._slots.num_tokens, self.context.kv_tokens)

    def begin(self, partition: Partition, ids: list[int], *, others_run: bool) -> Slot | None:
        """Return a slot for a sequence that computes `ids`, reusing tokens that are computed already.

        None if every slot is busy, or if most of the sequence is stored outside the cells, which have no room for it
        until others end (`others_run`): recomputing it would need the same room.
        """
        placement = self._slots.place(partition, ids)
        if placement is None:
            return None
        if not self._prepare(placement, others_run):
            self._slots.forget(placement.slot)
            return None
        return placement.slot

    def end(self, slot: Slot) -> None:
        """End a sequence. Its tokens serve others, in the cells until `make_room`."""
        if self._slots.keeps:
            self._slots.release(slot)
        else:
            self.take_back(slot)

    def take_back(self, slot: Slot) -> None:
        """Remove a slot's tokens from the cells; store them outside if prefixes are kept and memory is left."""
        most = self._slots.kept.most_tokens
        if slot.ids and most:
            if len(slot.ids) > most:
                self.context.cut(slot.number, most)
            try:
                self._slots.keep_outside(slot, self.context.state_of(slot.number))
            except MemoryError:
                _log.warning("no memory to keep a prefix of %d tokens: it will be computed again", len(slot.ids))
        self._slots.forget(slot)
        self.context.cut(slot.number, 0)

    def give_up(self, slot: Slot) -> None:
        """Drop the content of a busy slot, which is undefined."""
        self.context.cut(slot.number, 0)
        slot.ids = []

    def make_room(self) -> bool:
        """Move the least recently ended sequence out of the cells; False if they hold no idle one."""
        slot = self._slots.to_move_out()
        if slot is None:
            return False
        self.take_back(slot)
        return True

    def tidy(self) -> None:
        """Move the least recently ended sequence out of the cells, if that took less than `MOST_TIDYING` of recent
        time."""
        began_s = time.perf_counter()
        if began_s >= self._tidy_due_s and self.make_room():
            ended_s = time.perf_counter()
            self._tidy_due_s = ended_s + (ended_s - began_s) / MOST_TIDYING

    def _prepare(self, placement: Placement, others_run: bool) -> bool:
        """Load the slot with the prefix found for it; False if that has to wait."""
        slot, source, keep = placement.slot, placement.source, placement.keep
        if source is slot:
            self.context.cut(slot.number, keep)
            return True
        self.context.cut(slot.number, 0)
        if isinstance(source, Slot):
            self.context.copy(source.number, slot.number, keep)
        elif source is not None:
            is_most = 2 * keep >= len(source.ids)
            while not self.context.restore(slot.number, source.state):
                if self.make_room():
                    continue
                if is_most and others_run:
                    return False
                slot.ids = []
                return True
            self.context.cut(slot.number, keep)
            if is_most:
                self._slots.kept.drop(source)  # it will be stored again, longer
            else:
                self._slots.kept.used(source)
        return True
