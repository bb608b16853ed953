"""How likely a given text is: every position's log-probability, computed in chunks over borrowed blocks."""

from __future__ import annotations

import numpy as np

from ashore.engines.model import EngineInfo, TokenLogprob
from ashore.engines.openvino.blocks import BlockPool
from ashore.engines.openvino.graph import make_batch
from ashore.engines.openvino.paired import PairedModel
from ashore.engines.ordercheck import check_ids, check_top_logprobs
from ashore.engines.sampling import score_row
from ashore.errors import ContextTooLong, InvalidRequest, KvCacheExhausted

_MOST_ROWS = 128
"""Rows of logits held at once: 128 rows of 150,000 tokens are 77 MB."""


def score_text(
    model: PairedModel, pool: BlockPool, ids: list[int], top_logprobs: int, *, info: EngineInfo, chunk_tokens: int
) -> list[tuple[TokenLogprob, ...]]:
    """Return, for each token but the first, its log-probability and the `top_logprobs` best ones.

    Raises:
        InvalidRequest: fewer than two tokens, or ids beyond the vocabulary.
        UnsupportedByEngine: too many `top_logprobs`.
        ContextTooLong: longer than the context.
        KvCacheExhausted: running sequences hold the blocks that this text needs.
    """
    check_ids(ids, info, where="the text")
    if len(ids) < 2:
        raise InvalidRequest("a text to score needs at least two tokens")
    check_top_logprobs(top_logprobs, info)
    if len(ids) > info.context_tokens:
        raise ContextTooLong(f"the text has {len(ids)} tokens; the context has {info.context_tokens}")
    blocks: list[int] = []
    try:
        while len(blocks) * pool.block_tokens < len(ids):
            block = pool.take()
            if block is None:
                raise KvCacheExhausted(f"no room for a text of {len(ids)} tokens beside the running sequences")
            blocks.append(block)
        return _scored(model, pool, ids, np.array(blocks, np.int32), top_logprobs, min(chunk_tokens, _MOST_ROWS))
    finally:
        pool.release(blocks)


def _scored(
    model: PairedModel, pool: BlockPool, ids: list[int], table: np.typing.NDArray[np.int32], top: int, chunk: int
) -> list[tuple[TokenLogprob, ...]]:
    found: list[tuple[TokenLogprob, ...]] = []
    last = len(ids) - 1
    for start in range(0, last, chunk):
        end = min(start + chunk, last)
        model.start(make_batch([(ids, start, end, table, -(-end // pool.block_tokens))], list(range(end - start))))
        logits_SV = model.wait()
        for row, position in zip(logits_SV, range(start + 1, end + 1), strict=True):
            found.append(score_row(row, ids[position], top))
    return found
