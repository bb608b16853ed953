"""Batches: whole examples packed into rows, and the rows of each step.

Examples are never padded and never cut in two; attention stays inside each (`attention.py`), so that packing changes
the time a step takes and nothing else. Which examples make which step is a function of their lengths and the seed:
an interrupted run resumes at a step number, and needs nothing else to see the same data.

Shapes in names: T tokens of one row, N those of them that are targets.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Row = tuple[int, ...]
"""Examples, by number, that one forward pass takes together."""
BLOCK_EXAMPLES: Final = 1 << 16
"""Examples whose rows are planned together, and kept in memory together."""
OPEN_ROWS: Final = 16
"""Rows that wait for a short example; more fill rows no better and disturb the order more."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """One row of concatenated examples."""

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
    """Source of a training loop's data. Equal step numbers give equal data, in any process."""

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

    @property
    def all_taught(self) -> bool:
        """Whether each example has a target."""
        return bool(np.logical_or.reduceat(self.targets, self.starts[:-1]).all()) if self.num_tokens else False

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return the numbers of all examples, shuffled: a function of the arguments only."""
        return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(self.num_examples)

    def batch(self, row: Row) -> Batch:
        """Return the examples of `row` as one batch."""
        spans = [slice(int(self.starts[i]), int(self.starts[i + 1])) for i in row]
        ids_T = np.concatenate([self.ids[s] for s in spans])
        targets_T = np.concatenate([self.targets[s] for s in spans])
        lengths = tuple(s.stop - s.start for s in spans)
        return Batch(
            ids_T=ids_T.astype(np.int64),
            positions_T=np.concatenate([np.arange(n, dtype=np.int64) for n in lengths]),
            targets_T=targets_T,
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
    """The steps of a run over examples: each epoch reshuffled, each row packed full.

    Thread-safe.
    """

    def __init__(
        self,
        examples: Corpus,
        *,
        row_tokens: int,
        batch_tokens: int,
        seed: int,
        epochs: float = 1.0,
        max_tokens: int = 0,
    ) -> None:
        """Plan the run.

        Args:
            examples: Each has a target, and none is longer than `row_tokens`.
            row_tokens: Most tokens of one forward pass, which memory bounds.
            batch_tokens: Tokens of one step, about: the rows of a step stop when the next would go beyond.
            seed: Of the shuffling.
            epochs: How often each example is seen; parts of an epoch are whole steps.
            max_tokens: Ends the run before the step that would go beyond; 0: only `epochs` counts.
        """
        self._lengths = examples.lengths
        longest = int(self._lengths.max(initial=0))
        if not 0 < longest <= row_tokens or not examples.all_taught:
            raise ValueError(f"{len(self._lengths)} examples, the longest of {longest}, in rows of {row_tokens}")
        self._examples, self._seed = examples, seed
        self._row_tokens, self._batch_tokens = row_tokens, max(batch_tokens, row_tokens)
        self._num_blocks = -(-len(self._lengths) // BLOCK_EXAMPLES)
        self._order = lru_cache(maxsize=2)(partial(examples.order, seed))
        self._block = lru_cache(maxsize=3)(self._plan_block)
        self._ends: list[int] = []
        """Steps of the run after each block, epoch after epoch."""
        self.num_tokens = self._plan(epochs, max_tokens)
        """Tokens that the whole run goes through."""

    @property
    def num_steps(self) -> int:
        return self._ends[-1]

    def batches(self, step: int) -> tuple[Batch, ...]:
        """See `BatchSource`."""
        return tuple(self._examples.batch(row) for row in self.rows(step))

    def rows(self, step: int) -> tuple[Row, ...]:
        """Return which examples make step `step`, row by row."""
        at = bisect_right(self._ends, step)
        return self._block(*divmod(at, self._num_blocks))[step - (self._ends[at - 1] if at else 0)]

    def _plan(self, epochs: float, max_tokens: int) -> int:
        """Count the steps of every block, and return the tokens of all."""
        left, done = max_tokens or float("inf"), 0
        for epoch in count():
            share = min(1.0, epochs - epoch)
            if self._ends and share <= 0:
                break
            blocks = [self._step_tokens(epoch, block) for block in range(self._num_blocks)]
            sizes = np.cumsum(np.concatenate(blocks))
            taken = min(max(1, round(share * len(sizes))), int((sizes <= left).sum())) or int(not self._ends)
            first = self._ends[-1] if self._ends else 0
            if taken:
                ends = np.minimum(np.cumsum([len(block) for block in blocks]), taken)
                self._ends += [first + int(end) for end in ends]
                left, done = left - int(sizes[taken - 1]), done + int(sizes[taken - 1])
            if taken < len(sizes):
                break
        return done

    def _step_tokens(self, epoch: int, block: int) -> NDArray[np.int64]:
        """Return the tokens of each step of a block."""
        steps = self._block(epoch, block)
        return np.array([sum(int(self._lengths[list(row)].sum()) for row in step) for step in steps], np.int64)

    def _plan_block(self, epoch: int, block: int) -> tuple[tuple[Row, ...], ...]:
        order = self._order(epoch)[block * BLOCK_EXAMPLES : (block + 1) * BLOCK_EXAMPLES]
        return group_rows(pack_rows(self._lengths, order, self._row_tokens), self._lengths, self._batch_tokens)


def pack_rows(lengths: NDArray[np.int64], order: Sequence[int] | NDArray[np.int64], row_tokens: int) -> list[Row]:
    """Return rows that contain every example of `order` once, none longer than `row_tokens`.

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
