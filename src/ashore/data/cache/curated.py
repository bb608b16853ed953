"""Curated pairs of question and answer that the operator imported. Never evicted."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final

from ashore.data.cache.model import EVERYBODY, Pair, Question
from ashore.data.cache.reworded import reworded_key

MAX_QUESTION_CHARS: Final = 4096


def plain(question: str) -> str:
    """Return a question normalised for comparison: ignores compatibility forms, case, spaces and closing marks."""
    words = unicodedata.normalize("NFKC", question).casefold().split()
    return " ".join(words).rstrip(" ?.!。？！…")


class CuratedAnswers:
    """The pairs of one process, indexed by normalised question."""

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._pairs: dict[tuple[str, str, str], Pair] = {}
        self._reworded: dict[tuple[str, str, str], Pair] = {}
        self.replace(pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def pairs(self) -> tuple[Pair, ...]:
        """Return every pair."""
        return tuple(self._pairs.values())

    def replace(self, pairs: Iterable[Pair]) -> None:
        """Replace the pairs."""
        held = tuple(pairs)
        self._pairs = {(pair.tenant, pair.alias, plain(pair.question)): pair for pair in held}
        keys = ((pair, reworded_key(pair.question)) for pair in held)
        self._reworded = {(pair.tenant, pair.alias, key): pair for pair, key in keys if key is not None}

    def find(self, question: Question, now_s: float) -> Pair | None:
        """Return the most specific matching pair; None if turns precede the question.

        If the route accepts rewordings, a reworded pair is used when no exact one matches.
        """
        ask = question.ask
        if not self._pairs or not ask.single_turn or len(ask.question) > MAX_QUESTION_CHARS:
            return None
        found = _most_particular(self._pairs, question, plain(ask.question), now_s)
        if found is None and question.asked and (key := reworded_key(ask.question)) is not None:
            found = _most_particular(self._reworded, question, key, now_s)
        return found


def _most_particular(
    pairs: Mapping[tuple[str, str, str], Pair], question: Question, text: str, now_s: float
) -> Pair | None:
    for tenant in (question.ask.tenant, EVERYBODY):
        for alias in (question.ask.alias, "*"):
            pair = pairs.get((tenant, alias, text))
            if pair is not None and (pair.expires_at_s is None or now_s < pair.expires_at_s):
                return pair
    return None
