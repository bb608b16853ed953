"""What one forward pass sees: whole examples one behind the other, and which of them make a step.

Examples are never padded and never cut in two; attention stays inside each (`attention.py`), so that packing changes
the time a step takes and nothing else. Which examples make which step is a function of their lengths and the seed:
a run that was interrupted goes on at a step number, and needs nothing else to see the same data.

Shapes in names: T tokens of one row, N those of them that are targets.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Row = tuple[int, ...]
"""Examples, by number, that one forward pass takes together."""
OPEN_ROWS: Final = 16
"""Rows that wait for a short example; more fill rows no better and disturb the order more."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """One row of examples, one behind the other."""

    ids_T: NDArray[np.int64]
    positions_T: NDArray[np.int64]
    """Place of each token in its own example, from 0."""
    targets_T: NDArray[np.bool_]
    """Whether the model is to predict this token from those before it. Never set on the first of an example."""
    lengths: tuple[int, ...]
    """Tokens of each example."""
    examples: Row
    """Number of each example in its corpus."""

    @property
    def num_tokens(self) -> int:
        return int(self.ids_T.size)

    @property
    def num_targets(self) -> int:
        return int(self.targets_T.sum())


class BatchSource(Protocol):
    """Where a training loop gets its data from. Equal step numbers give equal data, in any process."""

    @property
    def num_steps(self) -> int:
        """Steps of the whole run, at least 1."""
        ...

    def batches(self, step: int) -> Sequence[Batch]:
        """Return the rows whose gradients make step `step`, 0 up to `num_steps` - 1; at least one target in all."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Corpus:
    """Examples as token ids, all in two arrays."""

    ids: NDArray[np.int32]
    targets: NDArray[np.bool_]
    """Parallel to `ids`."""
    starts: NDArray[np.int64]
    """Where each example starts in `ids`, and at the end the number of all tokens."""

    @property
    def num_examples(self) -> int:
        return len(self.starts) - 1

    @property
    def num_tokens(self) -> int:
        return int(self.starts[-1])

    @property
    def num_targets(self) -> int:
        return int(self.targets.sum())

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    def has_target(self, example: int) -> bool:
        return bool(self.targets[self.starts[example] : self.starts[example + 1]].any())

    def batch(self, row: Row) -> Batch:
        """Return the examples of `row` as one batch."""
        spans = [slice(int(self.starts[i]), int(self.starts[i + 1])) for i in row]
        lengths = tuple(s.stop - s.start for s in spans)
        return Batch(
            ids_T=np.concatenate([self.ids[s] for s in spans]).astype(np.int64),
            positions_T=np.concatenate([np.arange(n, dtype=np.int64) for n in lengths]),
            targets_T=np.concatenate([self.targets[s] for s in spans]),
            lengths=lengths,
            examples=row,
        )


def make_corpus(examples: Sequence[tuple[Sequence[int], Sequence[bool]]]) -> Corpus:
    """Return examples, each its token ids and which of them are targets, as a corpus. The first is never a target."""
    starts = np.zeros(len(examples) + 1, np.int64)
    np.cumsum([len(ids) for ids, _ in examples], out=starts[1:])
    ids = np.fromiter((i for tokens, _ in examples for i in tokens), np.int32, int(starts[-1]))
    targets = np.fromiter((t for _, marks in examples for t in marks), np.bool_, int(starts[-1]))
    targets[starts[:-1][np.diff(starts) > 0]] = False
    return Corpus(ids=ids, targets=targets, starts=starts)


class PackedBatches:
    """The steps of a run over a corpus: each epoch shuffled anew, each row packed full."""

    def __init__(
        self,
        corpus: Corpus,
        *,
        row_tokens: int,
        batch_tokens: int,
        seed: int,
        epochs: float = 1.0,
        max_tokens: int = 0,
    ) -> None:
        """Plan the run.

        Args:
            corpus: Each example has a target, and none is longer than `row_tokens`.
            row_tokens: Most tokens of one forward pass, which memory bounds.
            batch_tokens: Tokens of one step, about: the rows of a step stop when the next would go beyond.
            seed: Of the shuffling.
            epochs: How often each example is seen; parts of an epoch are whole steps.
            max_tokens: Ends the run before the step that would go beyond; 0: only `epochs` counts.
        """
        longest = int(corpus.lengths.max(initial=0))
        if not 0 < longest <= row_tokens or not all(corpus.has_target(i) for i in range(corpus.num_examples)):
            raise ValueError(f"{corpus.num_examples} examples, the longest of {longest}, in rows of {row_tokens}")
        self._corpus, self._seed = corpus, seed
        self._row_tokens, self._batch_tokens = row_tokens, max(batch_tokens, row_tokens)
        self._epoch = lru_cache(maxsize=2)(self._plan_epoch)
        self._ends = self._steps_until(epochs, max_tokens)

    @property
    def num_steps(self) -> int:
        return self._ends[-1]

    @property
    def num_tokens(self) -> int:
        """Tokens that the whole run goes through."""
        return sum(self._num_tokens_of(self._rows(step)) for step in range(self.num_steps))

    def batches(self, step: int) -> tuple[Batch, ...]:
        """See `BatchSource`."""
        return tuple(self._corpus.batch(row) for row in self._rows(step))

    def _rows(self, step: int) -> tuple[Row, ...]:
        epoch = bisect_right(self._ends, step)
        return self._epoch(epoch)[step - (self._ends[epoch - 1] if epoch else 0)]

    def _num_tokens_of(self, rows: Sequence[Row]) -> int:
        return int(sum(self._corpus.lengths[list(row)].sum() for row in rows))

    def _steps_until(self, epochs: float, max_tokens: int) -> list[int]:
        """Return the number of steps after each epoch."""
        ends: list[int] = []
        left = max_tokens or float("inf")
        for epoch in count():
            share = min(1.0, epochs - epoch)
            if ends and share <= 0:
                break
            sizes = np.cumsum([self._num_tokens_of(rows) for rows in self._epoch(epoch)])
            taken = min(max(1, round(share * len(sizes))), int((sizes <= left).sum())) or int(not ends)
            if taken:
                ends.append((ends[-1] if ends else 0) + taken)
                left -= int(sizes[taken - 1])
            if taken < len(sizes):
                break
        return ends

    def _plan_epoch(self, epoch: int) -> tuple[tuple[Row, ...], ...]:
        order = np.random.Generator(np.random.PCG64([self._seed, epoch])).permutation(self._corpus.num_examples)
        rows = pack_rows(self._corpus.lengths, order, self._row_tokens)
        return group_rows(rows, self._corpus.lengths, self._batch_tokens)


def pack_rows(lengths: NDArray[np.int64], order: Sequence[int] | NDArray[np.int64], row_tokens: int) -> list[Row]:
    """Return rows that hold every example of `order` once, none longer than `row_tokens`.

    An example goes into the first of the last few open rows that has room, so that rows are nearly full and the
    shuffled order is nearly kept.
    """
    open_rows: list[tuple[list[int], int]] = []
    rows: list[Row] = []
    for example in map(int, order):
        size = int(lengths[example])
        for at, (members, used) in enumerate(open_rows):
            if used + size <= row_tokens:
                members.append(example)
                open_rows[at] = (members, used + size)
                break
        else:
            open_rows.append(([example], size))
            if len(open_rows) > OPEN_ROWS:
                fullest = max(range(len(open_rows) - 1), key=lambda at: open_rows[at][1])
                rows.append(tuple(open_rows.pop(fullest)[0]))
    return rows + [tuple(members) for members, _ in open_rows]


def group_rows(rows: Sequence[Row], lengths: NDArray[np.int64], batch_tokens: int) -> tuple[tuple[Row, ...], ...]:
    """Return the rows, in order, as steps of at most `batch_tokens`, at least one row each."""
    steps: list[tuple[Row, ...]] = []
    rows_now: list[Row] = []
    tokens = 0
    for row in rows:
        size = int(sum(lengths[i] for i in row))
        if rows_now and tokens + size > batch_tokens:
            steps.append(tuple(rows_now))
            rows_now, tokens = [], 0
        rows_now.append(row)
        tokens += size
    return (*steps, tuple(rows_now)) if rows_now else tuple(steps)
