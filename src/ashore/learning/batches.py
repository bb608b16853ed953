"""The steps of a learning run: corrections, votes, pairs, and between them a share of the base's own answers.

A vote that says only what is wrong is gone through once; the steps that more passes over it would take go to what says
what is right. The share of replay holds all along the run, and which example is in which step is a function of the step
number, so that an interrupted run goes on with the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ashore.learning.objectives import Role
from ashore.training.batches import Batch, Corpus, group_rows, make_corpus, pack_rows
from ashore.training.data import Tokens

MOST_PASSES: Final = 8
"""Over what says what is right, however many votes say only what is wrong."""


@dataclass(frozen=True, slots=True)
class Learned:
    """Examples of one role as tokens. Of pairs, better and worse in turns."""

    role: Role
    examples: Sequence[Tokens]


class FeedbackBatches:
    """A `BatchSource` over several roles and replay."""

    def __init__(
        self,
        fresh: Sequence[Learned],
        replay: Sequence[Tokens],
        *,
        row_tokens: int,
        batch_tokens: int,
        seed: int,
        epochs: float,
    ) -> None:
        """Plan the run.

        Args:
            fresh: What is learned.
            replay: The base's own answers; their share is that of the examples given.
            row_tokens: Most tokens of a row.
            batch_tokens: Tokens of a step, about.
            seed: Of the order.
            epochs: How many steps the run has: those of so many passes over all examples. Parts of a pass are rows.
        """
        roles: list[Role] = []
        examples: list[Tokens] = []
        for one in fresh:
            roles += [one.role] * len(one.examples)
            examples += one.examples
        first_replay = len(examples)
        roles += ["learn"] * len(replay)
        examples += replay
        self.corpus: Final[Corpus] = make_corpus(examples)
        self.roles: Final[dict[int, Role]] = dict(enumerate(roles))
        lengths = self.corpus.lengths
        right = [at for at in range(first_replay) if roles[at] != "down"]
        wrong = [at for at in range(first_replay) if roles[at] == "down"]

        def drawn(numbers: Sequence[int], passes: float) -> list[tuple[int, ...]]:
            return _passes(passes, lambda rng: _rows(rng, numbers, roles, lengths, row_tokens), seed)

        downs = drawn(wrong, 1 if right else epochs)
        once = len(drawn(right, 1))
        more = (epochs - 1) * len(downs) / once if once else 0.0
        own = _woven(drawn(right, min(epochs + more, max(epochs, MOST_PASSES))), downs)
        kept = drawn(range(first_replay, len(examples)), epochs)
        self._steps = group_rows(_woven(own, kept), lengths, max(batch_tokens, row_tokens))

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return len(self._steps)

    @property
    def num_tokens(self) -> int:
        """Tokens that the whole run goes through."""
        lengths = self.corpus.lengths
        return int(sum(lengths[list(row)].sum() for step in self._steps for row in step))

    def batches(self, step: int) -> tuple[Batch, ...]:
        """See `BatchSource`."""
        return tuple(self.corpus.batch(row) for row in self._steps[step])


def _passes(
    passes: float, once: Callable[[np.random.Generator], list[tuple[int, ...]]], seed: int
) -> list[tuple[int, ...]]:
    """Return the rows of so many passes, each in an order of its own; of the last, a part."""
    found: list[tuple[int, ...]] = []
    for number in range(math.ceil(passes)):
        rows = once(np.random.Generator(np.random.PCG64([seed, number])))
        found += rows[: round(min(1.0, passes - number) * len(rows))]
    return found


def _rows(
    rng: np.random.Generator, numbers: Sequence[int], roles: Sequence[Role], lengths: np.ndarray, row_tokens: int
) -> list[tuple[int, ...]]:
    """Return rows of one role each, in an order drawn at random. A pair stays together."""
    rows: list[tuple[int, ...]] = []
    by_role: dict[Role, list[int]] = {}
    for number in numbers:
        by_role.setdefault(roles[number], []).append(number)
    for role, members in sorted(by_role.items()):
        if role == "pair":
            pairs = np.array(members).reshape(-1, 2)
            packed = pack_rows(lengths[pairs].sum(axis=1), rng.permutation(len(pairs)), row_tokens)
            rows += [tuple(int(one) for at in row for one in pairs[at]) for row in packed]
        else:
            rows += pack_rows(lengths, rng.permutation(members), row_tokens)
    return [rows[place] for place in rng.permutation(len(rows))]


def _woven(own: Sequence[tuple[int, ...]], kept: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return both with the second spread evenly among the first."""
    places = [(at / max(1, len(own)), 0, row) for at, row in enumerate(own)]
    places += [((at + 0.5) / max(1, len(kept)), 1, row) for at, row in enumerate(kept)]
    return [row for _, _, row in sorted(places, key=lambda one: one[:2])]
