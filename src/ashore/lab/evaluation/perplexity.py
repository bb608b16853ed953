"""Perplexity of a model on given text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from ashore.core.errors import InvalidRequest
from ashore.data.engines import EngineInfo, ScoreText
from ashore.data.text import TextModel
from ashore.lab.evaluation.ports import Subject, Told, untold
from ashore.lab.evaluation.statistics import Difference, Estimate, ratio, ratio_change

WINDOW_TOKENS: Final = 1024
STRIDE_TOKENS: Final = 512
"""Every window scores this many tokens and is given what stands before them: at least half a window. Fewer is more
exact and costs more; source: the sliding window of Hugging Face's page on perplexity."""


def windows(num_tokens: int, *, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Yield (begin, first scored, end) over a text, positions scored once each, from 1 on.

    Raises:
        InvalidRequest: no positive stride, or one without room for context.
    """
    if not 0 < stride < window:
        raise InvalidRequest(
            f"windows of {window} tokens every {stride}; expected a stride of 1 to {window - 1}",
            hint="omit both, or use a stride of half a window",
        )
    scored = 1
    while scored < num_tokens:
        end = min(num_tokens, window if scored == 1 else scored + stride)
        yield max(0, end - window), scored, end
        scored = end


def fitted(window: int, stride: int, info: EngineInfo) -> tuple[int, int]:
    """Return window and stride limited to a model's context."""
    window = min(window, info.context_tokens - 1)
    return window, min(stride, window - 1)


def cut_texts(texts: Sequence[str], text: TextModel, *, window: int, stride: int) -> list[tuple[int, ScoreText]]:
    """Return the windows of all texts, each with the number of its text.

    Raises:
        InvalidRequest: no text has two tokens.
    """
    cut = []
    for number, one in enumerate(texts):
        ids = text.encode(one)
        for begin, first, end in windows(len(ids), window=window, stride=stride):
            cut.append((number, ScoreText(ids[begin:end], first - begin)))
    if not cut:
        raise InvalidRequest(
            f"{len(texts)} texts have fewer than two tokens each, so nothing can be scored",
            hint="give a few thousand words of the kind of text that the model is used for",
        )
    return cut


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
