"""The loss of a student that learns from a teacher, and the source of the teacher's outputs.

Shapes in names: T tokens of a row, N predicted tokens among them, K tokens reported by the teacher.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import CorruptBlob
from ashore.data.engines import torch_libraries
from ashore.lab.optimize.distilling.logitstore import LogitStore
from ashore.lab.optimize.distilling.toprows import NOTHING, TopRows, join_rows
from ashore.lab.optimize.surgery import Lesson, LossMix, lesson_loss
from ashore.lab.training import Batch, Corpus, hidden_states


@dataclass(frozen=True, slots=True)
class StoredTeacher:
    """Stored outputs of a teacher, for every position but the first of each example."""

    store: LogitStore

    def rows(self, batch: Batch) -> TopRows:
        parts = [self.store.rows(example) for example in batch.examples]
        for part, length, example in zip(parts, batch.lengths, batch.examples, strict=True):
            if len(part) != length - 1:
                raise CorruptBlob(f"the teacher returned {len(part)} rows for example {example}; expected {length - 1}")
        return join_rows(parts)


def _within(told: TopRows, num_tokens: int) -> TopRows:
    """Return rows without tokens outside the student's vocabulary: a teacher's table may be padded longer."""
    known_NK = told.ids_NK < num_tokens
    if known_NK.all():
        return told
    return TopRows(
        np.where(known_NK, told.ids_NK, 0),
        np.where(known_NK, told.logprobs_NK, NOTHING).astype(np.float32),
        told.rest_N,
    )


def position_weights(corpus: Corpus, answers_T: NDArray[np.bool_], *, input_share: float) -> NDArray[np.float32]:
    """Return the loss weight of each token of `corpus`; the mean over its targets is 1.

    Answers are few but matter to the user, inputs are many and carry the language: each kind gets a fixed share of the
    total, whatever their numbers. If there is only one kind, it gets all.

    Args:
        corpus: Its targets are answers and inputs.
        answers_T: Which of its tokens are answers.
        input_share: 0 to 1.
    """
    weights_T = np.zeros(corpus.num_tokens, np.float32)
    kinds = ((corpus.targets & answers_T, 1 - input_share), (corpus.targets & ~answers_T, input_share))
    there = [(where, share) for where, share in kinds if where.any()]
    for where, share in there:
        weights_T[where] = (share if len(there) == 2 else 1.0) * corpus.num_targets / where.sum()
    return weights_T


class DistilLoss:
    """A `training.Loss`: distance between student and teacher, summed over the targets of a row."""

    def __init__(
        self, teacher: StoredTeacher, mix: LossMix, *, corpus: Corpus | None = None, weights_T: Any = None
    ) -> None:
        """Create it; without `corpus` and its `weights_T` every target has the same weight."""
        self._teacher, self._mix, self._corpus, self._weights_T = teacher, mix, corpus, weights_T

    def __call__(self, model: Any, batch: Batch) -> Any:
        torch, _ = torch_libraries()
        (at,) = np.nonzero(batch.targets_T)
        head_VH = model.get_output_embeddings().weight
        told = _within(self._teacher.rows(batch), len(head_VH))
        lesson = Lesson(
            torch.from_numpy(told.ids_NK),
            torch.from_numpy(told.logprobs_NK),
            torch.from_numpy(told.rest_N),
            torch.from_numpy(batch.ids_T[at]),
            torch.from_numpy(self._weights(batch)[at]),
        )
        hidden_NH = hidden_states(model, batch)[torch.from_numpy(at - 1)]
        return lesson_loss(hidden_NH, head_VH, lesson, self._mix)

    def _weights(self, batch: Batch) -> NDArray[np.float32]:
        if self._corpus is None:
            return np.ones(batch.num_tokens, np.float32)
        starts = self._corpus.starts
        return np.concatenate([self._weights_T[starts[i] : starts[i + 1]] for i in batch.examples])
