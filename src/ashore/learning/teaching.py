"""From a data set to an adapter, and the model that it makes when it is added to the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from ashore.core import Message
from ashore.engines import torch_libraries
from ashore.errors import BrokenData
from ashore.evaluation import Task
from ashore.evaluation.tasks.prompts import answer_ids, prompt_ids
from ashore.learning.batches import FeedbackBatches, Learned
from ashore.learning.dataset import Dataset, Example
from ashore.learning.filters import Row, kind_of
from ashore.learning.objectives import BETA, FeedbackLoss
from ashore.learning.suspects import agrees, judged_text, labels_fit
from ashore.store import ModelFilesOnDisk, StoredModel, versions_of
from ashore.text import TextModel
from ashore.training import (
    LoopOptions,
    LoopResult,
    LoraOptions,
    RunState,
    Watcher,
    add_lora,
    load_checkpoint,
    make_corpus,
    packed_attention,
    save_checkpoint,
    train,
)
from ashore.training.adapters import save_adapter
from ashore.training.batches import pack_rows
from ashore.training.data import Tokens, chat_tokens
from ashore.training.datalines import ChatExample
from ashore.training.losses import hidden_states

LIBRARIES: Final = ("torch", "transformers", "peft")
"""That have to be installed."""
MAX_LENGTH: Final = 1024
SMALLEST_ROW: Final = 512
"""Tokens: products of fewer rows are slower by the token."""
SAME: Final = 1e-3
"""Difference of two scores that is none: products round."""
SCORED_ROW: Final = 1024
"""Tokens of a row of which nothing is learned."""
REFERENCE_EPOCHS: Final = 4
"""Passes over the held-out tasks that a copy of the model is taught, by which votes are judged."""
REFERENCE_STEPS: Final = 40
"""Fewest steps of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """How a model is taught."""

    rank: int = 16
    learning_rate: float = 5e-4
    batch_tokens: int = 512
    epochs: int = 1
    seed: int = 0
    beta: float = BETA
    threads: int = 0
    """0: all that torch takes."""


def learned_of(examples: Sequence[Example], text: TextModel, *, max_length: int = MAX_LENGTH) -> list[Learned]:
    """Return examples as tokens, by their role. Corrections and answers that were voted up are learned word for word.
    What does not fit is left out.

    Raises:
        InvalidRequest: the template refuses a conversation.
    """
    learn: list[Tokens] = []
    pairs: list[Tokens] = []
    downs: list[Tokens] = []
    for one in examples:
        better = _tokens(one, one.wanted, text, max_length)
        worse = _tokens(one, one.unwanted, text, max_length)
        if one.kind in ("correction", "up") and better:
            learn.append(better)
        elif one.kind == "preferred" and better and worse:
            pairs += (better, worse)
        elif one.kind == "down" and worse:
            downs.append(worse)
    return [Learned("learn", learn), Learned("pair", pairs), Learned("down", downs)]


def replay_of(own: Sequence[tuple[str, str]], text: TextModel, *, max_length: int = MAX_LENGTH) -> list[Tokens]:
    """Return the model's own answers as tokens."""
    found = [_chat((Message(role="user", content=prompt),), said, text) for prompt, said in own]
    return [one for one in found if len(one[0]) <= max_length]


def batches_of(learned: Sequence[Learned], replay: Sequence[Tokens], how: Teaching) -> FeedbackBatches:
    """Return the steps of a run.

    Raises:
        BrokenData: there is nothing to learn.
    """
    lengths = [len(ids) for one in learned for ids, _ in one.examples]
    if not lengths:
        raise BrokenData("no example of the data set fits the context", hint="see `ashore learn dataset`")
    pair = max((a + b for one in learned if one.role == "pair" for a, b in _pair_lengths(one)), default=0)
    longest = max([SMALLEST_ROW, pair, *lengths, *(len(ids) for ids, _ in replay)])
    return FeedbackBatches(
        learned, replay, row_tokens=longest, batch_tokens=how.batch_tokens, seed=how.seed, epochs=how.epochs
    )


def teach(
    files: ModelFilesOnDisk,
    parent: StoredModel,
    batches: FeedbackBatches,
    how: Teaching,
    *,
    adapter: Path,
    merged: Path | None,
    state: RunState | None = None,
    watch: Watcher = lambda report: None,
    stop: Callable[[], bool] = lambda: False,
) -> LoopResult:
    """Train an adapter, and write it, and where asked the model with the adapter added to its weights.

    Args:
        files: The model, from `ModelStore.reading`.
        parent: The same in the store.
        batches: What is learned.
        how: How.
        adapter: Folder that the adapter is written to.
        merged: Folder for the merged model; None: none is made.
        state: Where checkpoints are kept, so that the run goes on after any kill with the same bits.
        watch: Hears of steps.
        stop: Asked after each step; where it says yes nothing is written.

    Raises:
        MissingExtra: no torch. TrainingDiverged, DiskFull, Conflict: see `train`.
    """
    torch, _ = torch_libraries()
    if how.threads:
        torch.set_num_threads(how.threads)
    peft_model = add_lora(load_checkpoint(files), LoraOptions(rank=how.rank, alpha=2 * how.rank), seed=how.seed)
    options = LoopOptions(learning_rate=how.learning_rate, seed=how.seed)
    loss = FeedbackLoss(peft_model, batches.roles, beta=how.beta)
    result = train(peft_model.get_base_model(), batches, loss, options, state=state, watch=watch, stop=stop)
    if result.stopped_by == "end":
        save_adapter(peft_model, adapter, parent=parent)
        if merged is not None:
            save_checkpoint(peft_model.merge_and_unload(), files, merged)
    return result


def reference_of(tasks: Sequence[Task], text: TextModel, *, max_length: int = MAX_LENGTH) -> list[Tokens]:
    """Return the questions of tasks that have labels, with their right answers, as tokens to be learned word for word;
    those that fit."""
    found = []
    for task in tasks:
        for item in task.items if task.header.kind == "classify" else ():
            given = prompt_ids(task, item, text)
            ids = answer_ids(task, item, given, str(item.answer), text)
            found.append((ids, [False] * len(given) + [True] * (len(ids) - len(given))))
    return [one for one in found if len(one[0]) <= max_length]


def reference_batches(reference: Sequence[Tokens], how: Teaching) -> FeedbackBatches:
    """Return the steps in which a copy is taught the held-out tasks."""
    learned = [Learned("learn", reference)]
    steps = batches_of(learned, (), replace(how, epochs=1)).num_steps
    epochs = max(REFERENCE_EPOCHS, -(-REFERENCE_STEPS // steps))
    return batches_of(learned, (), replace(how, epochs=epochs))


def agreements(
    files: ModelFilesOnDisk,
    tasks: Sequence[Task],
    rows: Sequence[Row],
    text: TextModel,
    how: Teaching,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, bool] | None:
    """Teach a copy of the model the held-out tasks, and return by the id of each vote whether it agrees with what the
    copy then finds likely. The copy is dropped.

    Args:
        files: The model, from `ModelStore.reading`.
        tasks: What the copy is taught; those without labels are left out.
        rows: Votes, from `asked_about`.
        text: The model's.
        how: How it is taught, but for the epochs.
        stop: Asked after each step; where it says yes, None is returned.

    Raises:
        MissingExtra: no torch. TrainingDiverged: see `train`.
    """
    reference = reference_of(tasks, text)
    if not reference or not rows:
        return {}
    torch, _ = torch_libraries()
    if how.threads:
        torch.set_num_threads(how.threads)
    peft_model = add_lora(load_checkpoint(files), LoraOptions(rank=how.rank, alpha=2 * how.rank), seed=how.seed)
    batches = reference_batches(reference, how)
    options = LoopOptions(learning_rate=how.learning_rate, seed=how.seed)
    loss = FeedbackLoss(peft_model, batches.roles, beta=how.beta)
    model = peft_model.get_base_model()
    if train(model, batches, loss, options, stop=stop).stopped_by != "end":
        return None
    found = {}
    for labels in (task.header.labels for task in tasks if task.header.kind == "classify"):
        firsts = [_first(text, label) for label in labels]
        kinds = {kind_of(label) for label in labels}
        fit = [row for row in rows if row.feedback_id not in found and labels_fit(row, kinds)]
        asked = [text.encode_chat([Message(role=one.role, content=one.content) for one in row.messages]) for row in fit]
        said = [_first(text, judged_text(row)) for row in fit]
        places = [at for at, ids in enumerate(asked) if len(ids) <= MAX_LENGTH]
        for at, ahead in zip(
            places, num_ahead(model, [asked[at] for at in places], [said[at] for at in places], firsts), strict=True
        ):
            found[fit[at].feedback_id] = agrees(fit[at], kinds, ahead=ahead)
    return found


def num_ahead(model: Any, prompts: Sequence[Sequence[int]], said: Sequence[int], labels: Sequence[int]) -> list[int]:
    """Return for each prompt how many labels a model finds likelier than what was said, by their first tokens."""
    import torch

    if not prompts:
        return []
    corpus = make_corpus([(list(one), [False] * len(one)) for one in prompts])
    weight = model.get_output_embeddings().weight
    found = np.zeros(len(prompts), np.int64)
    model.eval()
    with torch.inference_mode(), packed_attention(model):
        for row in pack_rows(corpus.lengths, range(len(prompts)), max(SCORED_ROW, int(corpus.lengths.max()))):
            batch = corpus.batch(row)
            last_EH = hidden_states(model, batch)[np.cumsum(batch.lengths) - 1].float()
            labels_EL = last_EH @ weight[sorted(set(labels))].float().T
            said_E = (last_EH * weight[[said[at] for at in row]].float()).sum(dim=1)
            found[list(row)] = (labels_EL > said_E[:, None] + SAME).sum(dim=1).numpy()
    return [int(one) for one in found]


def recipe_notes(dataset: Dataset, how: Teaching, result: LoopResult, *, replay: int) -> dict[str, str]:
    """Return what is kept beside a learned model: how it was made, and of what. It cannot be made again from that
    alone: the votes may have been erased."""
    facts: Mapping[str, object] = {
        "maker": "learn",
        "dataset": dataset.digest,
        "examples": len(dataset.examples),
        "replay": replay,
        "rank": how.rank,
        "learning_rate": how.learning_rate,
        "batch_tokens": how.batch_tokens,
        "epochs": how.epochs,
        "seed": how.seed,
        "beta": how.beta,
        "steps": result.steps,
        **versions_of(*LIBRARIES),
    }
    return {f"learn.{name}": str(value) for name, value in facts.items()}


def _first(text: TextModel, answer: str) -> int:
    """Return the first token of an answer."""
    return text.encode(answer, bare=True)[0]


def _tokens(example: Example, answer: str, text: TextModel, max_length: int) -> Tokens | None:
    if not answer:
        return None
    messages = tuple(Message(role=one.role, content=one.content) for one in example.messages)
    found = _chat(messages, answer, text)
    return found if len(found[0]) <= max_length else None


def _chat(messages: tuple[Message, ...], answer: str, text: TextModel) -> Tokens:
    """Return a conversation of which the last answer alone is learned."""
    ids, targets = chat_tokens(ChatExample(messages=(*messages, Message(role="assistant", content=answer))), text)[-1]
    turns = [at for at in range(1, len(targets)) if targets[at] and not targets[at - 1]]
    last = turns[-1] if turns else 1
    return ids, [mark and at >= last for at, mark in enumerate(targets)]


def _pair_lengths(learned: Learned) -> list[tuple[int, int]]:
    sizes = [len(ids) for ids, _ in learned.examples]
    return list(zip(sizes[::2], sizes[1::2], strict=True))
