"""Scores given texts: many packed into each step, in borrowed blocks, shared beginnings computed once.

Texts wait for one that computes a beginning they share, and continue from there: whole blocks are shared, the block in
which they diverge is copied. Shapes in names: N rows of logits, V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import KvCacheExhausted
from ashore.data.engines.model import ScoreText
from ashore.data.engines.openvino.blocks import BlockPool, Parent, Root
from ashore.data.engines.openvino.graph import make_batch
from ashore.data.engines.openvino.paired import PairedModel
from ashore.data.engines.sampling import by_prefix, common_prefix

_MOST_LOGIT_BYTES: Final = 64 << 20
"""Rows of logits held at once: 341 of 49,152 tokens, 110 of 152,064."""
_WORTH_WAITING: Final = 8
"""Tokens of a shared beginning for which a text waits a step; the step is filled with others meanwhile."""
_LOOKED_AT: Final = 64
"""Waiting texts that are looked at to fill a step."""

_LATER: Final = "try again later, or raise kv_tokens of the replica"

_serials = itertools.count()


@dataclass(frozen=True, slots=True)
class ScoredPiece:
    """Rows of logits of one text. A view that the next piece overwrites."""

    place: int
    """Which of the texts."""
    first: int
    """Position of the token that the first row is compared with; the others follow."""
    logits_NV: NDArray[np.float32]


@dataclass(slots=True, eq=False)
class _Text:
    """One text in progress. Its last token is never computed: no prediction after it is needed."""

    place: int
    ids: list[int]
    first_row: int
    end: int
    done: int = 0
    blocks: list[int] = field(default_factory=list)
    table: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    parent: Parent = ("", "")
    published: int = 0
    shares: bool = True
    """False once another text has published the same block: what follows stays private."""


class TextScorer:
    """Scores the texts of one call. Leaves no blocks in the pool."""

    def __init__(self, model: PairedModel, pool: BlockPool, *, chunk_tokens: Callable[[], int]) -> None:
        self.num_computed = 0
        """Tokens computed so far."""
        self._model, self._pool, self._next_chunk = model, pool, chunk_tokens
        self._chunk_tokens = 0
        self._most_rows = max(1, _MOST_LOGIT_BYTES // (4 * model.facts.vocab_size))
        self._root: Root = ("\0scoring", str(next(_serials)))
        self._running: list[_Text] = []
        self._waiting: list[_Text] = []
        self._gave_way = False

    def give_way(self) -> None:
        """Return all blocks, between two steps: running sequences need them. What is not scored yet is refused."""
        self._gave_way = True
        for text in self._running:
            self._pool.release(text.blocks)
        self._running.clear()

    def pieces(self, texts: Sequence[ScoreText]) -> Iterator[list[ScoredPiece]]:
        """Yield the rows of logits for the scored tokens of `texts`, step by step; those of one text come in order.
        Blocks stay borrowed between two steps.

        Raises:
            KvCacheExhausted: running sequences hold the blocks that a text needs.
            EngineFailed: the plugin failed in a step.
        """
        self._waiting = [
            _Text(place, texts[place].ids, texts[place].start - 1, len(texts[place].ids) - 1)
            for place in by_prefix(texts)
        ]
        try:
            while self._waiting or self._running:
                self._chunk_tokens = self._next_chunk()
                self._admit()
                yield self._step()
                if self._gave_way:
                    raise KvCacheExhausted("running sequences need the KV cache of a scored text", hint=_LATER)
        finally:
            for text in self._running:
                self._pool.release(text.blocks)
            self._pool.forget(self._root)

    def _admit(self) -> None:
        """Start waiting texts until the next step is full, skipping those that should wait."""
        tokens = sum(text.end - text.done for text in self._running)
        looked_at = 0
        while tokens < self._chunk_tokens and looked_at < min(len(self._waiting), _LOOKED_AT):
            text = self._waiting[looked_at]
            if not self._start(text):
                looked_at += 1
                continue
            del self._waiting[looked_at]
            self._running.append(text)
            tokens += text.end - text.done
        if not self._running:
            text = self._waiting[0]
            raise KvCacheExhausted(
                f"no KV cache left for a text of {len(text.ids)} tokens beside the running sequences",
                hint=_LATER,
            )

    def _start(self, text: _Text) -> bool:
        """Give a text its blocks, sharing the first ones if possible; False if it must wait."""
        size = self._pool.block_tokens
        hit = self._pool.match(self._root, text.ids, text.first_row)
        known = len(hit.blocks) * size + hit.tail_tokens
        needed = -(-text.end // size) - len(hit.blocks)
        if self._shared_with_running(text) - known >= _WORTH_WAITING or needed > self._pool.num_available:
            self._pool.release(list(hit.blocks))
            return False
        text.blocks = list(hit.blocks)
        text.parent, text.published, text.done = hit.parent, len(hit.blocks), len(hit.blocks) * size
        for number in range(needed):
            block = self._pool.take()
            assert block is not None, "there are enough: they were counted"
            text.blocks.append(block)
            # The first block taken may be this very tail, with its content.
            if number == 0 and hit.tail_block is not None:
                text.done += hit.tail_tokens
                if block != hit.tail_block:
                    self._model.copy_block(hit.tail_block, block)
        text.table = np.array(text.blocks, np.int32)
        return True

    def _shared_with_running(self, text: _Text) -> int:
        """Return the longest beginning that a text being computed will leave for this one."""
        shared = (
            common_prefix(text.ids[: text.first_row], other.ids[: other.end])
            for other in self._running
            if other.done < other.end
        )
        return max(shared, default=0)

    def _step(self) -> list[ScoredPiece]:
        tokens, rows = self._chunk_tokens, self._most_rows
        chunks: list[tuple[_Text, int, int]] = []
        for text in self._running:
            # Positions before `first_row` cost no row of logits, those from it on cost one each.
            free = max(0, text.first_row - text.done)
            end = min(text.end, text.done + min(tokens, free + rows))
            if end == text.done:
                break
            chunks.append((text, text.done, end))
            tokens -= end - text.done
            rows -= max(0, end - max(text.done, text.first_row))
        pieces = self._compute(chunks)
        for text, _, end in chunks:
            text.done = end
            self._publish(text)
            if end == text.end:
                self._running.remove(text)
                self._pool.release(text.blocks)
        return pieces

    def _compute(self, chunks: Sequence[tuple[_Text, int, int]]) -> list[ScoredPiece]:
        size, offset = self._pool.block_tokens, 0
        batch = []
        sampled: list[int] = []
        wanted: list[tuple[_Text, int, int]] = []
        for text, start, end in chunks:
            batch.append((text.ids, start, end, text.table, -(-end // size)))
            first = max(start, text.first_row)
            if first < end:
                wanted.append((text, first, end - first))
                sampled += range(offset + first - start, offset + end - start)
            offset += end - start
        self._model.start(make_batch(batch, sampled or [offset - 1]))
        logits_NV = self._model.wait()
        self.num_computed += offset
        ends = itertools.accumulate(count for _, _, count in wanted)
        return [
            ScoredPiece(text.place, first + 1, logits_NV[end - count : end])
            for (text, first, count), end in zip(wanted, ends, strict=True)
        ]

    def _publish(self, text: _Text) -> None:
        """Offer a text's computed blocks to those that wait."""
        size = self._pool.block_tokens
        while text.shares and text.published * size < text.done:
            start = text.published * size
            ids = tuple(text.ids[start : min(text.done, start + size)])
            node = self._pool.publish(text.parent, ids, text.blocks[text.published])
            if node is None:
                text.shares = False
            if node is None or len(ids) < size:
                break
            text.parent = node
            text.published += 1
