"""A map bounded in bytes that keeps the most frequently used entries: W-TinyLFU with weights.

New entries enter a small window (LRU). An entry that leaves it enters the main space (segmented LRU) only if its
frequency exceeds the sum of those it would evict; otherwise it is dropped. Frequencies are estimated by a count-min
sketch that halves itself, so that old counts fade.

Source: Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient Cache Admission Policy" (2017); for weights, Einziger,
Eytan, Friedman, Manes, "Lightweight Robust Size Aware Cache Management" (2022), the aggregated-victims rule.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

V = TypeVar("V")

WINDOW_SHARE: Final = 0.01
PROTECTED_SHARE: Final = 0.8
"""Of the main space."""
MAX_COUNT: Final = 15
SAMPLES_PER_ENTRY: Final = 32
"""Requests between two halvings, per entry held. Longer memory is better while tastes are steady (0.910 of Belady at 32
and 0.900 at 10 on a Zipf trace), shorter when they turn over."""
LEAST_WIDTH: Final = 1024
SLOTS_PER_ENTRY: Final = 8

_rows = struct.Struct("<4I").unpack_from


class Sketch:
    """Estimates how often a key was seen. A key is at least 16 bytes of a keyed hash, used directly as hashes."""

    def __init__(self) -> None:
        self._width = LEAST_WIDTH
        self._counts = bytearray(4 * self._width)
        self._samples = 0
        self._entries = 0

    def grow(self, entries: int) -> None:
        """Widen for so many entries. Each half is a copy of the old row, so estimates stay upper bounds."""
        self._entries = max(entries, self._entries)
        while self._width < SLOTS_PER_ENTRY * entries:
            width = self._width
            rows = [bytes(self._counts[row * width : (row + 1) * width]) for row in range(4)]
            self._counts = bytearray(b"".join(row + row for row in rows))
            self._width = 2 * width

    def add(self, key: bytes) -> None:
        """Count one request for `key`."""
        counts, mask, base = self._counts, self._width - 1, 0
        for number in _rows(key):
            slot = base + (number & mask)
            count = counts[slot]
            if count < MAX_COUNT:
                counts[slot] = count + 1
            base += mask + 1
        self._samples += 1
        if self._samples >= SAMPLES_PER_ENTRY * max(self._entries, LEAST_WIDTH // SLOTS_PER_ENTRY):
            self._counts = bytearray(self._counts.translate(_HALVED))
            self._samples //= 2

    def count(self, key: bytes) -> int:
        """Return an estimate that is never too low since the last halving."""
        counts, width = self._counts, self._width
        mask = width - 1
        a, b, c, d = _rows(key)
        least: int = min(
            counts[a & mask],
            counts[width + (b & mask)],
            counts[2 * width + (c & mask)],
            counts[3 * width + (d & mask)],
        )
        return least


_HALVED: Final = bytes(number >> 1 for number in range(256))


class TinyLfu(Generic[V]):
    """The map. Not thread-safe. A key is `bytes` of at least 16."""

    def __init__(self, max_bytes: int, *, left: Callable[[bytes, V, int, bool], None] = lambda *told: None) -> None:
        """Create it.

        Args:
            max_bytes: Limit of the total weight.
            left: Called for every entry that is no longer held: key, value, weight, and whether it was evicted or
                rejected for lack of room, rather than removed or replaced. It must not call back.
        """
        self.max_bytes: Final = max_bytes
        self.num_bytes = 0
        self.evictions = 0
        """Entries that left, or never got in, for want of room."""
        self._left = left
        self._sketch = Sketch()
        self._weights: dict[bytes, int] = {}
        self._window: OrderedDict[bytes, V] = OrderedDict()
        self._probation: OrderedDict[bytes, V] = OrderedDict()
        self._protected: OrderedDict[bytes, V] = OrderedDict()
        self._window_bytes = 0
        self._protected_bytes = 0
        self._window_room = max(1, int(max_bytes * WINDOW_SHARE))
        self._protected_room = int((max_bytes - self._window_room) * PROTECTED_SHARE)

    def __len__(self) -> int:
        return len(self._weights)

    def __contains__(self, key: bytes) -> bool:
        return key in self._weights

    def __iter__(self) -> Iterator[bytes]:
        return iter(tuple(self._weights))

    def get(self, key: bytes) -> V | None:
        """Return the value, and count the request even on a miss."""
        self._sketch.add(key)
        value = self._protected.get(key)
        if value is not None:
            self._protected.move_to_end(key)
            return value
        value = self._probation.pop(key, None)
        if value is not None:
            self._protect(key, value)
            return value
        value = self._window.get(key)
        if value is not None:
            self._window.move_to_end(key)
        return value

    def peek(self, key: bytes) -> V | None:
        """Return the value without counting the request."""
        for segment in (self._protected, self._probation, self._window):
            if key in segment:
                return segment[key]
        return None

    def put(self, key: bytes, value: V, weight: int) -> bool:
        """Store an entry of `weight` bytes, replacing one with the same key; return whether it was stored.

        An entry heavier than the whole map is refused. A lighter one may still be dropped by the next call.
        """
        self.remove(key)
        if weight > self.max_bytes - self._window_room:
            self.evictions += 1
            self._left(key, value, weight, True)
            return False
        self._weights[key] = weight
        self.num_bytes += weight
        self._window[key] = value
        self._window_bytes += weight
        self._sketch.grow(len(self._weights))
        while self._window_bytes > self._window_room and self._window:
            self._leave_window()
        return key in self._weights

    def remove(self, key: bytes) -> None:
        """Remove an entry; nothing happens if it is missing."""
        weight = self._weights.pop(key, None)
        if weight is None:
            return
        self.num_bytes -= weight
        if key in self._window:
            value = self._window.pop(key)
            self._window_bytes -= weight
        elif key in self._protected:
            value = self._protected.pop(key)
            self._protected_bytes -= weight
        else:
            value = self._probation.pop(key)
        self._left(key, value, weight, False)

    def weight(self, key: bytes) -> int:
        """Return the weight of an entry, 0 if it is missing."""
        return self._weights.get(key, 0)

    def _protect(self, key: bytes, value: V) -> None:
        self._protected[key] = value
        self._protected_bytes += self._weights[key]
        while self._protected_bytes > self._protected_room and len(self._protected) > 1:
            demoted, its_value = self._protected.popitem(last=False)
            self._protected_bytes -= self._weights[demoted]
            self._probation[demoted] = its_value

    def _leave_window(self) -> None:
        """Move the oldest of the window into the main space, if it is worth more than its victims."""
        key, value = self._window.popitem(last=False)
        weight = self._weights[key]
        self._window_bytes -= weight
        short = self.num_bytes - self._window_bytes - (self.max_bytes - self._window_room)
        victims: list[bytes] = []
        if short > 0:
            fame = self._sketch.count(key)
            for victim in self._victims():
                fame -= self._sketch.count(victim)
                if fame < 0:
                    self._drop(key, value)
                    self._touch(victims)
                    return
                victims.append(victim)
                short -= self._weights[victim]
                if short <= 0:
                    break
        for victim in victims:
            segment = self._probation if victim in self._probation else self._protected
            if segment is self._protected:
                self._protected_bytes -= self._weights[victim]
            self._drop(victim, segment.pop(victim))
        self._probation[key] = value

    def _victims(self) -> Iterator[bytes]:
        yield from self._probation
        yield from self._protected

    def _touch(self, spared: list[bytes]) -> None:
        """Move spared victims to the end of the queue, so that the next candidate meets others."""
        for key in spared:
            if key in self._probation:
                self._probation.move_to_end(key)

    def _drop(self, key: bytes, value: V) -> None:
        weight = self._weights.pop(key)
        self.num_bytes -= weight
        self.evictions += 1
        self._left(key, value, weight, True)
