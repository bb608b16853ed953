"""Stores prefixes of ended sequences in ordinary memory, outside llama.cpp's cells.

Every step reads the cells up to the last one in use, of any sequence: idle content there slows every step down. A
prefix stored outside costs two copies instead, less than two of the steps that computed it.

Pure bookkeeping, like `slots`: tokens computed for one (partition, adapter) are never offered to another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ashore.data.engines.sampling import common_prefix

Partition = tuple[str, str]
"""`prefix_partition` and adapter of an order."""

_WORTH: Final = 32
"""A copied token costs less than this part of a computed one: about a hundredth on two cores, with models from 0.1 to
8 billion parameters."""


@dataclass(slots=True, eq=False)
class KeptPrefix:
    """Tokens whose keys and values are in `state`, in llama.cpp's format."""

    partition: Partition
    ids: NDArray[np.int32]
    state: NDArray[np.uint8]


class KeptPrefixes:
    """At most `most_tokens` of them; the least recently used is dropped first."""

    def __init__(self, most_tokens: int) -> None:
        self.most_tokens = most_tokens
        self._kept: dict[int, KeptPrefix] = {}
        """By `id`, in the order of use."""
        self.num_tokens = 0

    def longest(self, partition: Partition, ids: list[int], *, beyond: int) -> tuple[KeptPrefix | None, int]:
        """Return the prefix that shares the most first tokens with `ids`, and how many; None if that is not more
        than `beyond`, or if copying would cost more than computing."""
        asked = np.array(ids[:-1], np.int32)
        best: KeptPrefix | None = None
        for one in self._kept.values():
            if one.partition == partition:
                shared = common_prefix(one.ids, asked)
                if shared > beyond and shared * _WORTH >= len(one.ids):
                    best, beyond = one, shared
        return (best, beyond) if best is not None else (None, 0)

    def add(self, partition: Partition, ids: list[int], state: NDArray[np.uint8]) -> None:
        """Store a prefix of at most `most_tokens` tokens. Shorter stored prefixes of it are dropped."""
        new = KeptPrefix(partition, np.array(ids, np.int32), state)
        for one in [one for one in self._kept.values() if one.partition == partition]:
            if common_prefix(one.ids, new.ids) == len(one.ids):
                self.drop(one)
        self._kept[id(new)] = new
        self.num_tokens += len(ids)
        while self.num_tokens > self.most_tokens:
            self.drop(next(iter(self._kept.values())))

    def used(self, prefix: KeptPrefix) -> None:
        """Mark it as most recently used."""
        if self._kept.pop(id(prefix), None) is not None:
            self._kept[id(prefix)] = prefix

    def drop(self, prefix: KeptPrefix) -> None:
        """Drop it. Does nothing if it is already gone."""
        if self._kept.pop(id(prefix), None) is not None:
            self.num_tokens -= len(prefix.ids)
