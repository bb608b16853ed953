"""The steps of a learning run: corrections, votes, pairs, mixed with a share of the base model's own answers.

Votes that only say what is wrong are used at most once when there are others; further steps use examples of right
answers. The share of replay is constant over the run. The step number alone determines its examples, so an interrupted
run resumes bit for bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ashore.lab.learning.objectives import Role
from ashore.lab.training.batches import Batch, Corpus, Row, group_rows, make_corpus, pack_rows
from ashore.lab.training.data import Tokens

WRONG_SHARE: Final = 0.1
"""Most of the rows that go to votes that say only what is wrong, replay apart: they took a third, and taught nothing
that a small model did not learn without them (benchmarks/reports/2026-11-29-learning-gain.md)."""
MOST_PASSES: Final = 8
"""Over what says what is right, however many votes say only what is wrong."""


@dataclass(frozen=True, slots=True)
class Learned:
    """Examples of one role as tokens. Pairs alternate better and worse."""

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
            fresh: Examples to learn.
            replay: The base's own answers; their share follows from their number.
            row_tokens: Most tokens of a row.
            batch_tokens: Tokens of a step, about.
            seed: Of the order.
            epochs: Length of the run in passes over all examples; shorter if few examples say what is right.
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
        self._steps: Final = self._planned(row_tokens, batch_tokens, seed, epochs, first_replay)

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return len(self._steps)

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole run."""
        lengths = self.corpus.lengths
        return int(sum(lengths[list(row)].sum() for step in self._steps for row in step))

    def batches(self, step: int) -> tuple[Batch, ...]:
        """See `BatchSource`."""
        return tuple(self.corpus.batch(row) for row in self._steps[step])

    def _planned(
        self, row_tokens: int, batch_tokens: int, seed: int, epochs: float, first_replay: int
    ) -> tuple[tuple[Row, ...], ...]:
        lengths = self.corpus.lengths

        def one_pass(numbers: Sequence[int], number: int = 0) -> list[Row]:
            rng = np.random.Generator(np.random.PCG64([seed, number]))
            return _rows(rng, numbers, self.roles, lengths, row_tokens)

        def drawn(numbers: Sequence[int], num_rows: float) -> list[Row]:
            passes = (one_pass(numbers, number) for number in itertools.count())
            return list(itertools.islice(itertools.chain.from_iterable(passes), round(num_rows)))

        right = [at for at in range(first_replay) if self.roles[at] != "down"]
        wrong = [at for at in range(first_replay) if self.roles[at] == "down"]
        again = range(first_replay, self.corpus.num_examples)
        num_right, num_wrong, num_again = (len(one_pass(numbers)) for numbers in (right, wrong, again))
        every = epochs * (num_right + num_wrong)
        taught = min(every - min(num_wrong, WRONG_SHARE * every), max(epochs, MOST_PASSES) * num_right)
        judged = min(num_wrong, every - taught, taught * WRONG_SHARE / (1 - WRONG_SHARE)) if right else every
        own = _woven(drawn(right, taught), drawn(wrong, judged))
        return group_rows(_woven(own, drawn(again, epochs * num_again)), lengths, max(batch_tokens, row_tokens))


def _rows(
    rng: np.random.Generator, numbers: Sequence[int], roles: Mapping[int, Role], lengths: np.ndarray, row_tokens: int
) -> list[Row]:
    """Return rows of one role each, in random order. A pair stays together."""
    rows: list[Row] = []
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


def _woven(own: Sequence[Row], kept: Sequence[Row]) -> list[Row]:
    """Return both lists merged, the second spread evenly."""
    places = [(at / max(1, len(own)), 0, row) for at, row in enumerate(own)]
    places += [((at + 0.5) / max(1, len(kept)), 1, row) for at, row in enumerate(kept)]
    return [row for _, _, row in sorted(places, key=lambda one: one[:2])]
