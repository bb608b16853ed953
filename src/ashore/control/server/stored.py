"""Calls about models on disk: those of the store, and those of the catalogue that can be pulled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal, Protocol

import msgspec

from ashore.core.errors import NotFound, NotReady
from ashore.core.nearest import did_you_mean
from ashore.kit.call import Actor, Call, Nothing, Rights
from ashore.kit.copied import copied

if TYPE_CHECKING:
    from ashore.kit.store import CatalogEntry, ModelStore, StoredModel

READ: Final = "model:read"
Fits = Literal["here", "elsewhere", "too-large", "no"]
"""here: an engine of this machine serves it. elsewhere: another server does, behind ashore. too-large: it exceeds the
memory of this machine. no: no engine serves it."""


class ServesHere(Protocol):
    """Says what would serve models of the catalogue on this machine."""

    def __call__(self, entries: Iterable[CatalogEntry], /) -> Mapping[str, tuple[Fits, str]]:
        """Return, by name, whether a model fits, and what would serve it, in words. Reads the machine."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The store of a home, and what its machine could serve. Both read the disk; not for an event loop."""

    store: Callable[[], ModelStore]
    here: ServesHere


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreDesk:
    """What a look at the store needs."""

    rights: Rights
    shelf: Shelf | None = None


OneModel = Annotated[str, msgspec.Meta(max_length=200, description="List only this model.")]


class CheckOut(msgspec.Struct, frozen=True, kw_only=True):
    """One limit of an evaluation gate."""

    metric: str
    about: str
    """Name of the text or task; empty: the whole model."""
    limit: float
    seen: float | None
    """Null: it was not measured."""
    passed: bool


class StoredOut(msgspec.Struct, frozen=True, kw_only=True):
    """A model as pulled, or a variant of it."""

    reference: str
    name: str
    variant: str
    """Empty for a model as pulled."""
    digest: str
    format: str
    precision: str
    """Empty where the store does not know it."""
    num_bytes: int
    licence: str
    source: str
    sealed: bool
    created_at: int
    gate: Literal["passed", "failed"] | None
    """Last verdict of an evaluation gate on exactly these bytes; null: there is none."""
    checks: list[CheckOut]
    """What that verdict is about, where one model is listed."""


class BrokenOut(msgspec.Struct, frozen=True, kw_only=True):
    """A model that cannot be read."""

    reference: str
    problem: str


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Models of the store."""

    items: list[StoredOut]
    broken: list[BrokenOut] = []
    """Models and variants whose manifest is missing or altered: pull them again, or remove them."""


class EntryOut(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the catalogue. A number without a public source is null."""

    name: str
    summary: str
    source: str
    licence: str
    licence_url: str
    accept_licence: bool
    """Whether the licence must be accepted by name before the download."""
    format: str
    weight_bytes: int | None
    num_parameters: int | None
    context_tokens: int | None
    engines: list[str]
    facts: str
    """Where the numbers come from, and which are missing."""
    unverified: list[str]
    """Numbers that no public copy of the repository's own files confirms."""
    here: str
    """What would serve it on this machine, in words."""
    fits: Fits


def list_stored(desk: StoreDesk, actor: Actor, model: OneModel = "") -> ModelList:
    """List the models of the store with their variants: format, precision, size, gate, licence, seal."""
    store = _shelf(desk).store()
    models, broken = store.survey()

    def is_shown(name: str) -> bool:
        may = desk.rights.decide(actor.principal, READ, f"model/{name}").allowed
        return model in ("", name) and may

    found = [one for one in models if is_shown(one.name)]
    if not found:
        desk.rights.require(actor.principal, READ, f"model/{model or '*'}")
        if model:
            near = did_you_mean(model, [one.name for one in models])
            raise NotFound(f"the store has no model {model!r}", hint=near, param="model")
    return ModelList(
        items=[_stored(store, one, checks=bool(model)) for one in sorted(found, key=lambda one: one.reference)],
        broken=[copied(BrokenOut, one) for one in broken if is_shown(one.reference.partition("@")[0])],
    )


def list_catalogue(desk: StoreDesk, actor: Actor, asked: Nothing) -> list[EntryOut]:
    """List the models that ashore knows by name, and what this machine would serve them with.

    Any other model is pulled by its source, such as hf:ORG/NAME.
    """
    shelf = _shelf(desk)
    entries = shelf.store().catalog.entries
    here = shelf.here(entries)
    return [_entry(one, *here[one.name]) for one in entries]


LIST: Final = Call("model", "list", "GET", "/models/stored", READ, list_stored)
CATALOG: Final = Call("model", "catalog", "GET", "/models/catalog", READ, list_catalogue)
CALLS: Final = (LIST, CATALOG)


def _shelf(desk: StoreDesk) -> Shelf:
    if desk.shelf is None:
        raise NotReady("this server has no store", hint="start the server with `ashore up`")
    return desk.shelf


def _stored(store: ModelStore, one: StoredModel, *, checks: bool) -> StoredOut:
    from ashore.kit.store import gate_verdict

    verdict = gate_verdict(store, f"{one.name}@{one.digest}") if store.attachments(one, "gate") else None
    return copied(
        StoredOut,
        one,
        precision=one.recipe.get("precision", ""),
        sealed=one.sealed is not None,
        created_at=one.created_s,
        gate=None if verdict is None else "passed" if verdict.passed else "failed",
        checks=[copied(CheckOut, line) for line in verdict.lines] if verdict is not None and checks else [],
    )


def _entry(one: CatalogEntry, fits: Fits, here: str) -> EntryOut:
    known = dict(one.known)
    return copied(
        EntryOut,
        one,
        engines=list(one.engines),
        unverified=list(one.unverified),
        num_parameters=known.get("num_parameters"),
        context_tokens=known.get("context_tokens"),
        fits=fits,
        here=here,
    )
