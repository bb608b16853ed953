"""The most different answers of a shadow and of the live release, side by side, for review before a promotion.

Texts arrive masked; nothing here sees the original.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MOST_CHARS: Final = 2000
"""Longest text of a pair; what is longer is cut after it was masked."""
MOST_READ_CHARS: Final = 65_536
"""Pairs with a longer text are not kept: nobody would mask and read it."""
KEPT_S: Final = 30 * 86_400
"""Pairs are forgotten after 30 days."""
GRAM: Final = 3
"""Characters of one piece of wording; two answers in Chinese differ by them as well as two in English."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One request to a live release and the answers of it and of the candidate, masked."""

    pair_id: str
    """Begins with the second in which it was made, so that what is old is found by it."""
    distance: float
    """Of wording, from 0, the same answer, to 1."""
    at_s: int
    tenant: str
    route: str = ""
    turns: int = 1
    """Messages of the conversation; the last one is shown."""
    prompt: str
    live: str
    candidate: str
    candidate_failed: bool = False


class Widest:
    """Tracks how different a pair must be to be among this process's most different ones."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[float] = []

    def takes(self, distance: float) -> bool:
        """Return whether a pair is among them; if so, it counts from now on."""
        if distance <= 0 or not self._most:
            return False
        if len(self._kept) < self._most:
            heapq.heappush(self._kept, distance)
            return True
        return distance > heapq.heappushpop(self._kept, distance)


def pair_id_of(at_s: int, tag: str) -> str:
    """Return the name of a pair; names sort by time."""
    return f"{at_s:012d}-{tag}"


def wording_distance(one: str, other: str) -> float:
    """Return how differently two texts are worded: 0 for the same trigrams, 1 for none in common.

    The Sorensen-Dice coefficient over counted pieces (Dice 1945), subtracted from 1. The caller normalises case and
    white space.
    """
    if one == other:
        return 0.0
    a, b = _grams(one), _grams(other)
    total = a.total() + b.total()
    return 1.0 - 2.0 * (a & b).total() / total if total else 1.0


def cut(text: str) -> str:
    """Return a masked text, cut for storage."""
    return text if len(text) <= MOST_CHARS else text[: MOST_CHARS - 1] + "…"


def most_different(pairs: Sequence[Pair], most: int) -> tuple[Pair, ...]:
    """Return the `most` most different pairs, these first; of equal ones the newest."""
    return tuple(sorted(pairs, key=lambda pair: (pair.distance, pair.pair_id), reverse=True)[:most])


def _grams(text: str) -> Counter[str]:
    padded = f"\0{text}\0"
    return Counter(padded[at : at + GRAM] for at in range(max(1, len(padded) - GRAM + 1)))
