"""Trains a copy of the model on the held-out tasks, and checks which votes agree with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
import numpy as np

from ashore.core import Message
from ashore.evaluation import Task
from ashore.evaluation.tasks.prompts import answer_ids, prompt_ids
from ashore.learning.batches import FeedbackBatches, Learned
from ashore.learning.filters import Row, kind_of
from ashore.learning.objectives import FeedbackLoss
from ashore.learning.suspects import agrees, judged_text, labels_fit
from ashore.learning.teaching import MAX_LENGTH, Teaching, adapted, batches_of
from ashore.store import ModelFilesOnDisk
from ashore.text import TextModel
from ashore.training import (
    LoopOptions,
    make_corpus,
    packed_attention,
    train,
)
from ashore.training.batches import pack_rows
from ashore.training.data import Tokens
from ashore.training.fusing import fused_adapters
from ashore.training.losses import hidden_states

SAME: Final = 1e-3
"""Difference of two scores that is none: products round."""
SCORED_ROW: Final = 1024
"""Tokens of a row of which nothing is learned."""
REFERENCE_EPOCHS: Final = 4
"""Passes over the held-out tasks that a copy of the model is taught, by which votes are judged."""
REFERENCE_STEPS: Final = 40
"""Fewest steps of that."""


def reference_of(tasks: Sequence[Task], text: TextModel, *, max_length: int = MAX_LENGTH) -> list[Tokens]:
    """Return the labelled questions of tasks as chats with their right answers, tokenised for word-for-word learning;
    those that fit.
    """
    found = []
    for task in tasks:
        as_chat = msgspec.structs.replace(task, header=msgspec.structs.replace(task.header, style="chat"))
        for item in task.items if task.header.kind == "classify" else ():
            given = prompt_ids(as_chat, item, text)
            ids = answer_ids(as_chat, item, given, str(item.answer), text)
            found.append((ids, [False] * len(given) + [True] * (len(ids) - len(given))))
    return [one for one in found if len(one[0]) <= max_length]


def reference_batches(reference: Sequence[Tokens], how: Teaching) -> FeedbackBatches:
    """Return the steps that train a copy on the held-out tasks."""
    learned = [Learned("learn", reference)]
    steps = batches_of(learned, (), replace(how, epochs=1)).num_steps
    epochs = max(REFERENCE_EPOCHS, -(-REFERENCE_STEPS // steps))
    return batches_of(learned, (), replace(how, epochs=epochs))


def taught_copy(
    files: ModelFilesOnDisk, reference: Sequence[Tokens], how: Teaching, *, stop: Callable[[], bool] = lambda: False
) -> Any | None:
    """Return a copy of a model trained on the result of `reference_of`; None: a stop was requested.

    Raises:
        MissingExtra: no torch. TrainingDiverged: see `train`.
    """
    peft_model = adapted(files, how)
    batches = reference_batches(reference, how)
    options = LoopOptions(learning_rate=how.learning_rate, seed=how.seed, precision=how.precision)
    loss = FeedbackLoss(peft_model, batches.roles, beta=how.beta)
    model = peft_model.get_base_model()
    return model if train(model, batches, loss, options, stop=stop).stopped_by == "end" else None


def agreements(model: Any, tasks: Sequence[Task], rows: Sequence[Row], text: TextModel) -> dict[str, bool]:
    """Return, by vote id, whether it agrees with what a copy trained on the held-out tasks finds likely.

    Args:
        model: From `taught_copy`.
        tasks: What it was taught; votes on answers of the first that has them as labels are judged by that one.
        rows: Votes, from `asked_about`.
        text: The model's.
    """
    found: dict[str, bool] = {}
    for labels in (task.header.labels for task in tasks if task.header.kind == "classify"):
        firsts = [_first(text, label) for label in labels]
        kinds = {kind_of(label) for label in labels}
        fit = [(row, _asked(row, text)) for row in rows if row.feedback_id not in found and labels_fit(row, kinds)]
        fit = [(row, ids) for row, ids in fit if len(ids) <= MAX_LENGTH]
        said = [_first(text, judged_text(row)) for row, _ in fit]
        for (row, _), ahead in zip(fit, num_ahead(model, [ids for _, ids in fit], said, firsts), strict=True):
            found[row.feedback_id] = agrees(row, kinds, ahead=ahead)
    return found


def num_ahead(model: Any, prompts: Sequence[Sequence[int]], said: Sequence[int], labels: Sequence[int]) -> list[int]:
    """Return, for each prompt, how many labels a model finds likelier than the given answer, by first token."""
    import torch

    if not prompts:
        return []
    corpus = make_corpus([(list(one), [False] * len(one)) for one in prompts])
    weight = model.get_output_embeddings().weight
    found = np.zeros(len(prompts), np.int64)
    model.eval()
    with torch.inference_mode(), packed_attention(model), fused_adapters(model):
        for row in pack_rows(corpus.lengths, range(len(prompts)), max(SCORED_ROW, int(corpus.lengths.max()))):
            batch = corpus.batch(row)
            last_EH = hidden_states(model, batch)[np.cumsum(batch.lengths) - 1].float()
            labels_EL = last_EH @ weight[sorted(set(labels))].float().T
            said_E = (last_EH * weight[[said[at] for at in row]].float()).sum(dim=1)
            found[list(row)] = (labels_EL > said_E[:, None] + SAME).sum(dim=1).numpy()
    return [int(one) for one in found]


def _asked(row: Row, text: TextModel) -> list[int]:
    return text.encode_chat([Message(role=one.role, content=one.content) for one in row.messages])


def _first(text: TextModel, answer: str) -> int:
    """Return the first token of an answer."""
    return text.encode(answer, bare=True)[0]
