"""Packing of texts to score, over a pool of blocks and a model that only notes what it is asked to compute."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashore.core.errors import KvCacheExhausted
from ashore.data.engines import ScoreText
from ashore.data.engines.openvino.blocks import BlockPool
from ashore.data.engines.openvino.graph import GraphFacts
from ashore.data.engines.openvino.scoring import TextScorer

BLOCK = 32
VOCAB = 11


class NotingModel:
    """Keeps in every place of every block which tokens led there; a row of logits is a digest of those tokens."""

    def __init__(self, num_blocks: int) -> None:
        self.facts = GraphFacts(vocab_size=VOCAB, context_tokens=4096, precision="fp16")
        self.memory: list[list[tuple[int, ...]]] = [[()] * BLOCK for _ in range(num_blocks)]
        self.steps: list[int] = []
        self._rows: np.ndarray[Any, Any] = np.zeros((0, VOCAB), np.float32)

    def copy_block(self, source: int, target: int) -> None:
        self.memory[target] = list(self.memory[source])

    def start(self, batch: Any) -> None:
        self.steps.append(batch.token_ids_T.size)
        seen = []
        for row, past in enumerate(batch.past_lens_B):
            begin, end = batch.subsequence_begins[row], batch.subsequence_begins[row + 1]
            table = batch.block_indices[batch.block_indices_begins[row] : batch.block_indices_begins[row + 1]]
            for at, token in enumerate(batch.token_ids_T[begin:end], start=int(past)):
                before = self.memory[table[(at - 1) // BLOCK]][(at - 1) % BLOCK] if at else ()
                path = (*before, int(token))
                self.memory[table[at // BLOCK]][at % BLOCK] = path
                seen.append(path)
        self._rows = np.array([digest(seen[place]) for place in batch.sampled_S], np.float32)

    def wait(self) -> np.ndarray[Any, Any]:
        return self._rows


def digest(path: tuple[int, ...]) -> list[float]:
    return [float(hash((path, n)) % 1000) for n in range(VOCAB)]


def score(texts: list[ScoreText], *, blocks: int = 64, chunk: int = 96) -> tuple[list[list[list[float]]], NotingModel]:
    pool, model = BlockPool(blocks, BLOCK), NotingModel(blocks)
    scorer = TextScorer(model, pool, chunk_tokens=lambda: chunk)  # type: ignore[arg-type]
    rows: list[list[list[float]]] = [[] for _ in texts]
    for piece in chain.from_iterable(scorer.pieces(texts)):
        assert piece.first == texts[piece.place].start + len(rows[piece.place])
        rows[piece.place] += piece.logits_NV.tolist()
    assert scorer.num_computed == sum(model.steps)
    assert pool.num_available == blocks
    assert sum(1 for _ in iter(pool.take, None)) == blocks
    return rows, model


def expected(text: ScoreText) -> list[list[float]]:
    return [digest(tuple(text.ids[:at])) for at in range(text.start, len(text.ids))]


@given(
    stems=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=90), min_size=1, max_size=3),
    tails=st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 200)),
        min_size=1,
        max_size=12,
    ),
    chunk=st.integers(1, 130),
)
@settings(deadline=None)
def test_every_row_follows_from_its_own_text(
    stems: list[list[int]], tails: list[tuple[int, list[int], int]], chunk: int
) -> None:
    texts = []
    for stem, tail, start in tails:
        ids = [*stems[stem % len(stems)], *tail]
        texts.append(ScoreText(ids, 1 + start % (len(ids) - 1)))
    rows, _ = score(texts, chunk=chunk)
    assert rows == [expected(text) for text in texts]


def test_a_shared_beginning_is_computed_once() -> None:
    stem = [n % 7 for n in range(70)]
    texts = [ScoreText([*stem, n, n, n], 70) for n in range(8)]
    _, model = score(texts)
    assert sum(model.steps) <= 72 + 7 * 4


def test_short_texts_fill_a_step_together() -> None:
    texts = [ScoreText([n % 10, n // 10, *([5] * 10)], 11) for n in range(64)]
    _, model = score(texts, chunk=96)
    assert len(model.steps) <= 10


def test_a_text_without_room_is_refused_and_nothing_is_kept() -> None:
    pool, model = BlockPool(2, BLOCK), NotingModel(2)
    scorer = TextScorer(model, pool, chunk_tokens=lambda: 64)  # type: ignore[arg-type]
    with pytest.raises(KvCacheExhausted, match="100 tokens"):
        list(scorer.pieces([ScoreText([1] * 100)]))
    assert pool.num_available == 2


def test_a_caller_that_stops_early_leaves_no_block_held() -> None:
    pool, model = BlockPool(16, BLOCK), NotingModel(16)
    pieces = TextScorer(model, pool, chunk_tokens=lambda: 32).pieces([ScoreText([1] * 100), ScoreText([2] * 100)])  # type: ignore[arg-type]
    next(iter(pieces))
    pieces.close()  # type: ignore[attr-defined]
    assert pool.num_available == 16


def test_a_text_whose_blocks_running_sequences_need_gives_all_of_them_back() -> None:
    pool, model = BlockPool(8, BLOCK), NotingModel(8)
    scorer = TextScorer(model, pool, chunk_tokens=lambda: 16)  # type: ignore[arg-type]
    pieces = scorer.pieces([ScoreText([1] * (BLOCK * 6))])
    next(pieces)
    assert pool.num_available < 8, "they are borrowed between two steps"
    scorer.give_way()
    assert pool.num_available == 8
    with pytest.raises(KvCacheExhausted, match="running sequences"):
        next(pieces)
    assert pool.num_available == 8
