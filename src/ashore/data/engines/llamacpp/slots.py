"""Sequence numbers of llama.cpp's memory: prefix reuse within a partition, and eviction order.

Pure bookkeeping. Tokens computed for one (partition, adapter) are never offered to another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ashore.data.engines.llamacpp.kept import KeptPrefix, KeptPrefixes, Partition
from ashore.data.engines.sampling import common_prefix

_MIN_SHARED: Final = 8
"""Fewer equal tokens than this are computed again: cheaper than keeping track."""


@dataclass(slots=True, eq=False)
class Slot:
    """One sequence number."""

    number: int
    partition: Partition | None = None
    ids: list[int] = field(default_factory=list)
    """Tokens whose keys and values are in the memory, in order."""
    is_busy: bool = False
    last_used: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Placement of an order: `slot` keeps the first `keep` tokens of `source`, which may be the slot itself."""

    slot: Slot
    source: Slot | KeptPrefix | None
    keep: int


class Slots:
    """All sequence numbers of one context, and the prefixes that were moved out of its cells."""

    def __init__(self, num_slots: int, *, most_kept: int) -> None:
        """Create them, all empty.

        Args:
            num_slots: Sequence numbers.
            most_kept: Tokens of prefixes outside the cells; 0: prefixes are not reused.
        """
        self.kept = KeptPrefixes(most_kept)
        self._slots = tuple(Slot(number) for number in range(num_slots))
        self._uses = 0

    @property
    def keeps(self) -> bool:
        """Whether ended sequences serve others."""
        return self.kept.most_tokens > 0

    @property
    def num_tokens(self) -> int:
        """Tokens in the cells, of running sequences and of ended ones; shared ones count for each."""
        return sum(len(slot.ids) for slot in self._slots)

    def place(self, partition: Partition, ids: list[int]) -> Placement | None:
        """Return the placement of a sequence that computes `ids`, or None if every slot is busy.

        At least the last token is recomputed, for its logits. The slot is busy from now on.
        """
        idle = [slot for slot in self._slots if not slot.is_busy]
        if not idle:
            return None
        source: Slot | KeptPrefix | None
        source, keep = self._longest_prefix(partition, ids)
        if source is not None and not source.is_busy and (2 * keep >= len(source.ids) or len(idle) == 1):
            slot = source
        else:
            slot = min(idle, key=lambda s: (bool(s.ids), s is source, s.last_used))
        if self.keeps:
            kept, shared = self.kept.longest(partition, ids, beyond=keep + _MIN_SHARED - 1)
            if kept is not None:
                source, keep = kept, shared
        placement = Placement(slot=slot, source=source, keep=keep)
        slot.partition, slot.ids = partition, ids[:keep]
        slot.is_busy = True
        self._touch(slot)
        return placement

    def release(self, slot: Slot) -> None:
        """Mark a slot idle; its tokens stay in the cells, for others of its partition, until they are moved out."""
        slot.is_busy = False
        self._touch(slot)

    def forget(self, slot: Slot) -> None:
        """Mark a slot idle and empty, after its memory was dropped."""
        slot.is_busy, slot.partition, slot.ids = False, None, []

    def keep_outside(self, slot: Slot, state: NDArray[np.uint8]) -> None:
        """Store the `state` of a slot, of at most `kept.most_tokens` tokens, outside the cells."""
        assert slot.partition is not None, "an empty slot has nothing to keep"
        self.kept.add(slot.partition, slot.ids[: self.kept.most_tokens], state)

    def to_move_out(self) -> Slot | None:
        """Return the least recently used slot with tokens of an ended sequence, or None."""
        idle = [slot for slot in self._slots if slot.ids and not slot.is_busy]
        return min(idle, key=lambda s: s.last_used) if idle else None

    def _longest_prefix(self, partition: Partition, ids: list[int]) -> tuple[Slot | None, int]:
        best: Slot | None = None
        keep = 0
        if self.keeps:
            for slot in self._slots:
                if slot.partition != partition or len(slot.ids) <= keep or slot.ids[0] != ids[0]:
                    continue
                shared = min(common_prefix(slot.ids, ids), len(ids) - 1)
                if shared > keep:
                    best, keep = slot, shared
        return (best, keep) if keep >= _MIN_SHARED else (None, 0)

    def _touch(self, slot: Slot) -> None:
        self._uses += 1
        slot.last_used = self._uses
