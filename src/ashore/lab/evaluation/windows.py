"""Long texts cut into windows that fit a context, so that every token but the first is scored once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ashore.core.errors import InvalidRequest
from ashore.data.engines import EngineInfo, ScoreText
from ashore.data.text import TextModel

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
