"""Variants that an engine needs to serve a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ashore.core.errors import Conflict, UnknownModel
from ashore.core.kinds import EngineKind

if TYPE_CHECKING:
    from ashore.data.engines import Rounder
    from ashore.kit.store import ModelStore, StoredModel
    from ashore.lab.optimize import Quantiser


def quietly(stage: str, share: float) -> None:
    """A callback that ignores progress."""


def is_prepared(variant: str) -> bool:
    """Return whether a variant is one that this machine makes on demand for an engine."""
    from ashore.data.engines import CARDS

    return any(variant in card.prepared for card in CARDS)


def make_ready(store: ModelStore, name: str) -> StoredModel:
    """Return the stored form of `name` that the default engine serves: pulled if absent, and prepared once.

    A decoder gets the variant `int8`, which is stored; an encoder is served as pulled. May be called twice: the second
    call only looks. When the machine dies halfway, the next call starts that step again.
    """
    from ashore.data.engines import DEFAULT

    try:
        model = store.resolve(name)
    except UnknownModel:
        model = store.pull(name)
    if model.variant and store.is_outdated(model):
        return prepare_variant(store, store.resolve(model.name), model.variant)
    if model.variant or model.format == DEFAULT.native or model.shape.architecture in DEFAULT.encoders:
        return model
    return prepare_variant(store, model, DEFAULT.variant)


def prepare_variant(
    store: ModelStore, parent: StoredModel, variant: str, *, told: Callable[[str, float], None] = quietly
) -> StoredModel:
    """Return `parent@variant`, made if it is absent or was made from an earlier model of that name. `told` is called
    with each step and its progress.

    Raises:
        UnknownVariant: it is absent, and not one that is prepared (`is_prepared`).
        Conflict: it was made of an earlier model of that name, and is not one of them either.
    """
    if not is_prepared(variant):
        model = store.resolve(f"{parent.name}@{variant}")
        if store.is_outdated(model):
            raise Conflict(
                f"{model.reference} was made from an earlier {parent.name} ({model.parent}); that name now means "
                f"{parent.digest}",
                hint=f"make it again: `ashore optimize quantize {parent.name} --to ...`",
            )
        return model
    return quantiser(store).prepare(parent, variant, told=told)


def quantiser(store: ModelStore) -> Quantiser:
    """Return the quantiser, for the command line and for `up`."""
    from ashore.data.engines import CARDS, loaded, read_inventory
    from ashore.lab.optimize import Quantiser

    rounders: dict[EngineKind, Rounder] = {c.kind: loaded(c.rounding.rounder) for c in CARDS if c.rounding is not None}
    return Quantiser(store, rounders, free_memory=lambda: read_inventory().memory_bytes)
