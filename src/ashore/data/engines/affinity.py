"""Sends an order to the place that computed the same opening before, without remembering where that was. Pure.

Places are ordered by a hash of the opening and their name (rendezvous hashing): processes that share nothing agree on
that order, and a place that leaves moves only its own openings. The first of the order gets the order, unless that is
dearer than to compute the prompt elsewhere. How much of a prompt is found at which rank is learned from the answers; of
traffic whose openings never return that is the same at every rank, and the least loaded place is taken.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

FIRST_SHARES: Final = (0.5, 0.0, 0.0)
"""Assumed share of a prompt that is cached at the first place of its order, the second, and any other, before answers
show it."""
LEARN: Final = 0.02
"""Weight of one answer in these shares."""
DELAYS: Final = 3.0
"""A prompt token that is computed again is counted so often: prompts that come after it wait for it, too. In simulation
(`tests/unit/test_affinity_simulated.py`) 2 to 4 are equally good."""
SEQUENCE_TOKENS: Final = 32.0
"""A running sequence counts as so many prompt tokens that wait."""
LEAST_BOUND: Final = 8
BOUND: Final = 2.0
"""No place runs more than `LEAST_BOUND` sequences and `BOUND` times the mean, whatever lies there."""


class Place(Protocol):
    """Where orders may go."""

    waiting_tokens: float
    """Prompt tokens that are still to be computed there, as far as this process knows."""

    @property
    def name(self) -> str:
        """Its address, equal in all processes that use it."""
        ...

    @property
    def running(self) -> int:
        """Sequences of this process that run there."""
        ...


P = TypeVar("P", bound=Place)


@dataclass(slots=True, eq=False)
class Turn:
    """One order that is being placed."""

    opening: bytes = b""
    """Hash of its beginning; empty: the least loaded place is taken."""
    prompt_tokens: int = 0
    rank: int = -1
    """Where the chosen place is in the order of its opening; -1: there was no choice by it."""
    waits: float = 0.0
    """Prompt tokens that it adds to the place until its first token."""

    def wait_at(self, place: Place) -> None:
        """Count its prompt at a place."""
        place.waiting_tokens += self.waits

    def begin_at(self, place: Place) -> None:
        """Count it no longer: its first token came, or it left. May be called twice."""
        place.waiting_tokens -= self.waits
        self.waits = 0.0


class Affinity:
    """The choice among the places of one model, in one process."""

    def __init__(self) -> None:
        self.shares = list(FIRST_SHARES)
        self.placed = [0, 0]
        """Orders with an opening that went to the first place of its order, and to another one."""

    def choose(self, turn: Turn, places: Sequence[P]) -> P:
        """Return the place for an order with an opening; there must be one. `turn` takes what was chosen."""
        turn.rank, turn.waits = -1, float(turn.prompt_tokens)
        if len(places) == 1:
            return places[0]
        ordered = sorted(places, key=lambda one: _score(turn.opening, one.name), reverse=True)
        bound = max(LEAST_BOUND, math.ceil(BOUND * (sum(one.running for one in places) + 1) / len(places)))
        saved = [DELAYS * turn.prompt_tokens * share for share in self.shares]
        turn.rank, chosen = min(
            ((rank, one) for rank, one in enumerate(ordered) if one.running < bound),
            key=lambda pair: _load(pair[1]) - saved[min(pair[0], 2)],
        )
        turn.waits *= 1.0 - self.shares[min(turn.rank, 2)]
        self.placed[turn.rank > 0] += 1
        return chosen

    def learn(self, turn: Turn, cached_tokens: int) -> None:
        """Take how much of a prompt was found where it went."""
        if turn.rank >= 0 and turn.prompt_tokens:
            at = min(turn.rank, 2)
            self.shares[at] += LEARN * (cached_tokens / turn.prompt_tokens - self.shares[at])


def _load(place: Place) -> float:
    return place.waiting_tokens + SEQUENCE_TOKENS * place.running


def _score(opening: bytes, name: str) -> bytes:
    return hashlib.blake2b(opening + name.encode(), digest_size=8).digest()
