"""Healing: trains the pruned model on its parent's distributions and hidden states.

Shapes in names: T tokens of a row, N those with a predicted target, H hidden size, V vocabulary, K reported tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from ashore.data.engines import torch_libraries
from ashore.lab.optimize.pruning.model import Method
from ashore.lab.optimize.surgery import Lesson, LossMix, freeze_vocabulary, hidden_mismatch, lesson_loss
from ashore.lab.training import (
    Batch,
    Corpus,
    LoopOptions,
    LoraOptions,
    PackedBatches,
    RunState,
    Watcher,
    add_lora,
    hidden_states,
    packed_attention,
    train,
)

TOLD: Final = 64
"""Tokens of the parent's distribution that are compared one by one; the rest counts as one."""
STATES_SHARE: Final = 1.0
"""Weight of the last hidden states against the distributions, both per target."""
MIX: Final = LossMix()
ROW_TOKENS: Final = 1024
"""Tokens of one forward pass; longer examples have one of their own."""
STEP_TOKENS: Final = 2048
MOST_EPOCHS: Final = 20
"""How often a text is gone through, where it has fewer tokens than healing may take."""


@dataclass(frozen=True, slots=True)
class HealingLoss:
    """A `Loss`: distance between the pruned model and its parent.

    Hidden states are compared at every token, because they share a space and need no product with the vocabulary;
    distributions only at the targets.
    """

    parent: Any = field(repr=False)
    """Under `packed_attention` while it is used."""

    def __call__(self, model: Any, batch: Batch) -> Any:
        torch, _ = torch_libraries()
        with torch.no_grad():
            wanted_TH = hidden_states(self.parent, batch)
        got_TH = hidden_states(model, batch)
        (targets_N,) = np.nonzero(batch.targets_T)
        at_N = torch.from_numpy(targets_N - 1)
        lesson = self._lesson(wanted_TH[at_N], torch.from_numpy(batch.ids_T[targets_N]))
        apart = lesson_loss(got_TH[at_N], model.get_output_embeddings().weight, lesson, MIX)
        every_T = torch.full((len(got_TH),), batch.num_targets / len(got_TH))
        return apart + STATES_SHARE * hidden_mismatch(got_TH, wanted_TH, every_T)

    def _lesson(self, wanted_NH: Any, next_N: Any) -> Lesson:
        """Return the parent's output at N positions, in chunks."""
        torch, _ = torch_libraries()
        head_VH = self.parent.get_output_embeddings().weight
        ids, told = [], []
        with torch.no_grad():
            for chunk_nH in wanted_NH.split(128):
                logits_nV = (chunk_nH @ head_VH.to(chunk_nH.dtype).T).float()
                best = logits_nV.topk(min(TOLD, logits_nV.shape[-1] - 1))
                ids.append(best.indices)
                told.append(best.values - logits_nV.logsumexp(-1, keepdim=True))
            told_NK = torch.cat(told)
            rest_N = torch.log1p(-told_NK.exp().sum(-1).clamp(max=1 - 1e-7))
        return Lesson(torch.cat(ids), told_NK, rest_N, next_N, torch.ones(len(next_N)))


@dataclass(frozen=True, slots=True, kw_only=True)
class HealOptions:
    """Options of healing."""

    max_tokens: int
    method: Method
    learning_rate: float
    seed: int


def heal(
    child: Any,
    parent: Any,
    corpus: Corpus,
    options: HealOptions,
    state: RunState | None,
    *,
    watch: Watcher,
    stop: Callable[[], bool],
) -> int:
    """Train `child`, in place, on `parent`'s output for a text, and return the number of tokens used.

    Args:
        child: Cut out of `parent`.
        parent: Not changed.
        corpus: Examples and their targets.
        options: Options.
        state: Folder of checkpoints to resume from; None: no checkpoints.
        watch: Called with each step.
        stop: Called after each step; True stops.

    Raises:
        KeyboardInterrupt: `stop` returned True; a checkpoint is stored.
        TrainingDiverged, DiskFull, Conflict: as `training.train`.
    """
    freeze_vocabulary(child)
    adapters = add_lora(child, LoraOptions(), seed=options.seed) if options.method == "lora" else None
    rows = PackedBatches(
        corpus,
        row_tokens=max(ROW_TOKENS, int(corpus.lengths.max())),
        batch_tokens=STEP_TOKENS,
        seed=options.seed,
        epochs=MOST_EPOCHS,
        max_tokens=options.max_tokens,
    )
    how = LoopOptions(learning_rate=options.learning_rate, seed=options.seed)
    with packed_attention(parent):
        done = train(child, rows, HealingLoss(parent), how, state=state, watch=watch, stop=stop)
    if done.stopped_by == "request":
        raise KeyboardInterrupt
    if adapters is not None:
        adapters.merge_and_unload()  # the matrices of `child` are plain again
    return done.tokens
