"""Perplexity of a model on given text."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from ashore.core.errors import InvalidRequest
from ashore.lab.evaluation.ports import Subject, Told, untold
from ashore.lab.evaluation.statistics import Difference, Estimate, ratio, ratio_change
from ashore.lab.evaluation.windows import STRIDE_TOKENS, WINDOW_TOKENS, cut_texts, fitted


class Block(msgspec.Struct, frozen=True, array_like=True):
    """What one window scored; the unit that is drawn again for intervals."""

    nats: float
    """Sum of the negative log-probabilities, natural logarithm."""
    tokens: int


class Perplexity(msgspec.Struct, frozen=True, kw_only=True):
    """Perplexity on texts: the exponential of the mean surprise of a token."""

    perplexity: Estimate
    bits_per_byte: float
    """Surprise by byte of UTF-8: comparable between models that cut text into different tokens."""
    num_tokens: int
    """Tokens scored: all but the first of each text."""
    num_texts: int
    num_bytes: int
    window_tokens: int
    stride_tokens: int
    blocks: tuple[Block, ...]


def perplexity(
    subject: Subject,
    texts: Sequence[str],
    *,
    window: int = WINDOW_TOKENS,
    stride: int = STRIDE_TOKENS,
    told: Told = untold,
) -> Perplexity:
    """Return the perplexity of `subject` on `texts`.

    Args:
        subject: The model; see `open_hosted`.
        texts: Each is scored separately. Use text that nothing was tuned on.
        window: Longest context of a token, less where the model's is shorter.
        stride: Tokens that each window scores.
        told: Called with windows done.

    Raises:
        InvalidRequest: nothing to score.
        UnsupportedByEngine: the engine does not score.
    """
    window, stride = fitted(window, stride, subject.info)
    cut = cut_texts(texts, subject.text, window=window, stride=stride)
    scored = subject.score([one for _, one in cut], told=told)
    blocks = tuple(Block(-sum(row[0].logprob for row in rows), len(rows)) for rows in scored)
    nats, tokens = _columns(blocks)
    seen = {number for number, _ in cut}
    num_bytes = sum(len(texts[number].encode()) for number in seen)
    return Perplexity(
        perplexity=ratio(nats, tokens, of=np.exp),
        bits_per_byte=float(nats.sum() / np.log(2) / num_bytes),
        num_tokens=int(tokens.sum()),
        num_texts=len(seen),
        num_bytes=num_bytes,
        window_tokens=window,
        stride_tokens=stride,
        blocks=blocks,
    )


def perplexity_increase(before: Perplexity, after: Perplexity) -> Difference:
    """Return the relative increase from `before` to `after` on the same windows: 0.005 is half a percent.

    Raises:
        InvalidRequest: they were not taken on the same windows.
    """
    first, tokens = _columns(before.blocks)
    second, other = _columns(after.blocks)
    if tokens.shape != other.shape or (tokens != other).any():
        raise InvalidRequest(
            f"perplexities over {before.num_tokens} and {after.num_tokens} tokens in other windows cannot be compared",
            hint="measure both with the same text, window and tokenizer; bits_per_byte compares different tokenizers",
        )
    return ratio_change(first, second, tokens, of=np.expm1)


def _columns(blocks: Sequence[Block]) -> tuple[np.typing.NDArray[np.float64], np.typing.NDArray[np.float64]]:
    return np.array([b.nats for b in blocks]), np.array([b.tokens for b in blocks], np.float64)
