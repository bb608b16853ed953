"""Moves blocks between the KV cache and prefixes on disk. The engine's thread only does the bookkeeping.

A block that is read is one that the pool has given away, and no sequence holds it yet. A block that is written may be
evicted meanwhile: its copy counts only if the block still has the same place in the tree afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ashore.data.engines.openvino.blocks import BlockPool, Parent
from ashore.data.engines.openvino.paired import PairedModel
from ashore.data.engines.openvino.scheduler import Sequence as Order
from ashore.data.engines.prefixes import PrefixStore

_LEAST_BLOCKS: Final = 2
"""Fewer are computed: about as quick with the smallest models."""


@dataclass(slots=True, eq=False)
class _Load:
    names: list[str]
    ids: list[int]
    """Their tokens."""
    parent: Parent
    held: tuple[int, ...]
    """Blocks before them, in memory already."""
    blocks: list[int]
    done: Future[int]
    due_s: float
    waiting: list[Order]


class KeptBlocks:
    """Prefixes on disk for one engine."""

    def __init__(
        self, store: PrefixStore, pool: BlockPool, model: PairedModel, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.store: Final = store
        self._pool = pool
        self._model = model
        self._clock = clock
        self._loads: list[_Load] = []
        self.restored_tokens = 0

    def begin(self, order: Order, *, seconds_per_token: float) -> bool:
        """Begin to read the blocks of a prompt that are on disk and not in memory; return False if there are none.

        Otherwise the order waits until `ready` returns it: at most as long as computing them would take.
        """
        pool, size, limit = self._pool, self._pool.block_tokens, len(order.ids) - 1
        partition = order.root[0]
        self.store.prepare(partition)
        names = self.store.names(partition, order.ids[:limit])
        for load in self._loads:
            if load.waiting and load.names[0] in names:
                load.waiting.append(order)
                return True
        if any(not load.waiting for load in self._loads):  # the disk is slower than computing
            return False
        first = pool.count_match(order.root, order.ids, limit) // size
        count = self.store.num_stored(names[first:])
        if count < _LEAST_BLOCKS or 2 * count > pool.num_available:
            return False
        hit = pool.match(order.root, order.ids, limit)
        blocks = [block for _ in range(count) if (block := pool.take()) is not None]
        chosen = names[first : first + len(blocks)]
        done = self.store.fetch(partition, chosen, lambda at, data: self._model.write_block(blocks[at], data))
        ids = order.ids[first * size : (first + len(blocks)) * size]
        due_s = self._clock() + len(ids) * seconds_per_token
        self._loads.append(_Load(chosen, ids, hit.parent, hit.blocks, blocks, done, due_s, [order]))
        return True

    def ready(self) -> Sequence[Order]:
        """Return the orders that wait no longer. Blocks that were read are in the pool then."""
        if not self._loads:
            return ()
        found: list[Order] = []
        now_s = self._clock()
        for load in list(self._loads):
            if load.done.done():
                self._publish(load)
                self._loads.remove(load)
            elif now_s < load.due_s:
                continue
            found += load.waiting
            load.waiting.clear()
        return found

    @property
    def num_waiting(self) -> int:
        return sum(len(load.waiting) for load in self._loads)

    def wait_for_reads(self, timeout_s: float) -> None:
        """Wait until blocks were read."""
        wait([load.done for load in self._loads], timeout=timeout_s, return_when=FIRST_COMPLETED)

    def drop(self, order: Order) -> None:
        """Let an order wait no longer. Does nothing if it does not."""
        for load in self._loads:
            if order in load.waiting:
                load.waiting.remove(order)
                load.due_s = max(load.due_s, self._clock())

    def keep(self, order: Order) -> None:
        """Have the whole blocks of a sequence written. Call it before they are released."""
        size, blocks = self._pool.block_tokens, order.blocks[: order.published]
        serials = [self._pool.serial(block) for block in blocks]
        names = self.store.names(order.root[0], order.ids[: len(blocks) * size])
        self.store.keep(
            order.root[0], names, num_proven=order.cached // size, read=partial(self._copy, blocks, serials)
        )

    def close(self) -> None:
        """Finish writing."""
        self.store.close()

    def _copy(self, blocks: list[int], serials: list[int | None], at: int) -> NDArray[np.uint8] | None:
        """Return a copy of a block, or None if it is another by now. On the writer's thread."""
        data = self._model.read_block(blocks[at])
        serial = serials[at]
        return data if serial is not None and self._pool.serial(blocks[at]) == serial else None

    def _publish(self, load: _Load) -> None:
        size, parent, pool = self._pool.block_tokens, load.parent, self._pool
        count = load.done.result()
        for at in range(count):
            ids = tuple(load.ids[at * size : (at + 1) * size])
            parent = pool.publish_or_find(parent, ids, load.blocks[at])
        pool.release([*load.held, *load.blocks])
        self.restored_tokens += count * size
