"""How many texts go to an engine in one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ashore.data.engines import ScoreText

CALL_TOKENS: Final = 16_384
"""Tokens of one call: some seconds on two cores, so that progress is seen; its first and last steps, which are not
full, are then a small part of it."""
CALL_ANSWERS: Final = 20_000
"""Log-probabilities of one call, top ones included: what fits a frame."""


def calls_of(texts: Sequence[ScoreText], *, top_logprobs: int) -> Iterator[list[ScoreText]]:
    """Cut texts into calls, in order, at least one text each."""
    call: list[ScoreText] = []
    tokens = answers = 0
    for text in texts:
        told = (len(text.ids) - text.start) * (1 + top_logprobs)
        if call and (tokens + len(text.ids) > CALL_TOKENS or answers + told > CALL_ANSWERS):
            yield call
            call, tokens, answers = [], 0, 0
        call.append(text)
        tokens += len(text.ids)
        answers += told
    if call:
        yield call
