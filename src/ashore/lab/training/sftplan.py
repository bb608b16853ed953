"""From a request to a plan: makes every choice of a fine-tuning before anything is loaded."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from ashore.core.errors import Conflict, InvalidRequest, UnknownModel, UnsupportedModel
from ashore.data.text import TextModel
from ashore.kit.store import DERIVED, ModelStore, StoredModel, made_name, parse_reference
from ashore.lab.training.batches import PackedBatches
from ashore.lab.training.checkpoints import TRAINABLE
from ashore.lab.training.memory import RunShape, estimate, require_memory
from ashore.lab.training.sftmodel import LEARNING_RATES, Kept, SftPlan, SftRequest
from ashore.lab.training.shards.places import Say
from ashore.lab.training.shards.trainingset import Told, open_set

DATA_SHARE: Final = 0.25
"""Of the memory that this machine gives, for the examples."""
SMALLEST_ROW: Final = 256
"""Shorter rows leave the processor waiting for memory: the weights are read once for each."""


def plan_sft(
    store: ModelStore,
    request: SftRequest,
    *,
    available_bytes: int,
    cache: Path,
    say: Say = lambda line: None,
    told: Told = lambda stage, done, total: None,
) -> SftPlan:
    """Read the data, make every choice, and check everything possible before anything is loaded. Needs no torch.

    Args:
        store: Has the model.
        request: What is asked for.
        available_bytes: Memory that this machine gives.
        cache: Folder of the shard that is fetched.
        say: Called with notes for the user about the data.
        told: Called with shards read.

    Raises:
        UnknownModel, UnsupportedModel, InvalidRequest, Conflict: the request cannot be met.
        BrokenData: the data is not what it must be. MemoryFull: it does not fit.
    """
    _check(request)
    parent = store.resolve(request.model)
    if parent.variant or parent.format not in TRAINABLE:
        raise UnsupportedModel(
            f"{parent.reference} has the format {parent.format!r}, which cannot be trained",
            hint=f"name the original model: {parent.name}",
        )
    kind: Kept = "model" if request.method == "full" or request.merge else "adapter"
    name = request.name or made_name(parent.name, "sft")
    _check_name(store, name, parent, kind)
    text = TextModel.load(store.open(parent.reference).directory)
    longest = min(request.max_length, parent.shape.context_tokens)
    open_it = partial(
        open_set,
        text=text,
        max_length=longest,
        cache=cache,
        skip_broken=request.skip_broken,
        person=request.person,
        most_bytes=int(DATA_SHARE * available_bytes),
        say=say,
        told=told,
    )
    data = open_it(request.data)
    validation = open_it(request.validation, role="validation") if request.validation else None
    row_tokens = max([SMALLEST_ROW, *(int(d.lengths.max()) for d in (data, validation) if d)])
    shape = require_memory(
        RunShape(
            model=parent.shape,
            method=request.method,
            rank=request.rank,
            row_tokens=row_tokens,
            precision="float32" if request.precision == "auto" else request.precision,
        ),
        available_bytes,
        chosen=request.gradient_checkpointing,
    )
    return SftPlan(
        request=request,
        parent=parent,
        text=text,
        name=name,
        kind=kind,
        data=data,
        validation=validation,
        batches=PackedBatches(
            data,
            row_tokens=row_tokens,
            batch_tokens=request.batch_tokens,
            seed=request.seed,
            epochs=request.epochs or (float("inf") if request.max_tokens else 1.0),
            max_tokens=request.max_tokens,
        ),
        row_tokens=row_tokens,
        learning_rate=request.learning_rate or LEARNING_RATES[request.method],
        gradient_checkpointing=shape.gradient_checkpointing,
        trained_parameters=shape.trained_parameters,
        memory=estimate(shape),
        available_bytes=available_bytes,
    )


def _check(request: SftRequest) -> None:
    if request.merge and request.method == "full":
        raise InvalidRequest(
            "--merge applies to adapters only; --method full already produces a model", hint="omit --merge"
        )


def _check_name(store: ModelStore, name: str, parent: StoredModel, kind: str) -> None:
    if parse_reference(name).name != name:
        raise InvalidRequest(f"{name!r} is not a valid name", hint="use letters, digits, dot, dash and underscore")
    if kind == "adapter":
        return
    try:
        there = store.resolve(name)
    except UnknownModel:
        return
    if there.source != f"{DERIVED}{parent.name}":
        raise Conflict(
            f"the name {name!r} is taken by a model from {there.source}", hint="give another name: --name NAME"
        )
