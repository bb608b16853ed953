"""Trains an adapter from a data set, and merges it into the model's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ashore.core.chat import Message
from ashore.core.errors import BrokenData
from ashore.data.engines import torch_libraries
from ashore.data.feedback.dataset import Dataset, Example
from ashore.data.feedback.turns import LIBRARIES
from ashore.data.text import TextModel
from ashore.kit.store import ModelFilesOnDisk, StoredModel, versions_of
from ashore.lab.learning.batches import FeedbackBatches, Learned
from ashore.lab.learning.objectives import BETA, FeedbackLoss
from ashore.lab.training import (
    LoopOptions,
    LoopResult,
    LoraOptions,
    Precision,
    RunState,
    Watcher,
    add_lora,
    load_checkpoint,
    save_checkpoint,
    train,
)
from ashore.lab.training.adapters import merge_adapter, save_adapter
from ashore.lab.training.data import Tokens, chat_tokens
from ashore.lab.training.datalines import ChatExample

"""That have to be installed."""
MAX_LENGTH: Final = 1024
SMALLEST_ROW: Final = 512
"""Tokens: products of fewer rows are slower by the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """How a model is taught."""

    rank: int = 16
    learning_rate: float = 5e-4
    batch_tokens: int = 512
    epochs: float = 1
    """Steps, in passes over all examples; see `FeedbackBatches`."""
    seed: int = 0
    beta: float = BETA
    precision: Precision = "float32"
    """In which products are computed. With BF16 the weights below the adapter lie in it, too, and the adapter does not:
    what is learned is merged into weights of full precision."""
    threads: int = 0
    """0: all that torch takes."""


def learned_of(examples: Sequence[Example], text: TextModel, *, max_length: int = MAX_LENGTH) -> list[Learned]:
    """Return examples as tokens, by role. Corrections and answers voted up are learned word for word. Examples that do
    not fit are left out.

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
    """Train and write an adapter and, if requested, the merged model.

    Args:
        files: The model, from `ModelStore.reading`.
        parent: The same in the store.
        batches: Training steps.
        how: Training settings.
        adapter: Folder that the adapter is written to.
        merged: Folder for the merged model; None: not written.
        state: Folder of checkpoints; a killed run resumes bit for bit.
        watch: Called with each step.
        stop: Called after each step; if it returns True, training stops and nothing is written.

    Raises:
        MissingExtra: no torch. TrainingDiverged, DiskFull, Conflict: see `train`.
    """
    peft_model = adapted(files, how)
    options = LoopOptions(learning_rate=how.learning_rate, seed=how.seed, precision=how.precision)
    loss = FeedbackLoss(peft_model, batches.roles, beta=how.beta)
    result = train(peft_model.get_base_model(), batches, loss, options, state=state, watch=watch, stop=stop)
    if result.stopped_by == "end":
        save_adapter(peft_model, adapter, parent=parent)
        del peft_model, loss
        if merged is not None:
            save_checkpoint(merge_adapter(load_checkpoint(files), adapter), files, merged)
    return result


def adapted(files: ModelFilesOnDisk, how: Teaching) -> Any:
    """Return a model with a new adapter, as peft's.

    Args:
        files: The model, from `ModelStore.reading`.
        how: Training settings; also sets torch's threads from now on.

    Raises:
        MissingExtra: no torch.
    """
    torch, _ = torch_libraries()
    if how.threads:
        torch.set_num_threads(how.threads)
    model = load_checkpoint(files, dtype=how.precision)
    return add_lora(model, LoraOptions(rank=how.rank, alpha=2 * how.rank), seed=how.seed)


def recipe_notes(dataset: Dataset, how: Teaching, result: LoopResult, *, replay: int) -> dict[str, str]:
    """Return the recipe stored beside a learned model. It does not suffice to reproduce the model: votes may have been
    erased.
    """
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
        "precision": how.precision,
        "beta": how.beta,
        "steps": result.steps,
        **versions_of(*LIBRARIES),
    }
    return {f"learn.{name}": str(value) for name, value in facts.items()}


def _tokens(example: Example, answer: str, text: TextModel, max_length: int) -> Tokens | None:
    if not answer:
        return None
    messages = tuple(Message(role=one.role, content=one.content) for one in example.messages)
    found = _chat(messages, answer, text)
    return found if len(found[0]) <= max_length else None


def _chat(messages: tuple[Message, ...], answer: str, text: TextModel) -> Tokens:
    """Return a conversation in which only the last answer is learned."""
    ids, targets = chat_tokens(ChatExample(messages=(*messages, Message(role="assistant", content=answer))), text)[-1]
    turns = [at for at in range(1, len(targets)) if targets[at] and not targets[at - 1]]
    last = turns[-1] if turns else 1
    return ids, [mark and at >= last for at, mark in enumerate(targets)]


def _pair_lengths(learned: Learned) -> list[tuple[int, int]]:
    sizes = [len(ids) for ids, _ in learned.examples]
    return list(zip(sizes[::2], sizes[1::2], strict=True))
