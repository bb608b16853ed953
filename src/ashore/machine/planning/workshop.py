"""Plans a model as a release, from the store and the machine: the adapter of `Workshop`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypedDict

from ashore.core.errors import InvalidRequest, UnknownModel
from ashore.core.nearest import did_you_mean
from ashore.data.engines import (
    LIMITS,
    ModelFacts,
    ModelPlan,
    OptionValue,
    Wish,
    card_of,
    engine_kinds,
    needed_bytes_of,
    read_inventory,
    reads_store,
)
from ashore.data.releases.model import RUNG, digest_of_value, engine_digest
from ashore.data.releases.ports import Described, ReleaseWish
from ashore.kit.store import DERIVED, TEXT_FILES
from ashore.machine.planning.rules import kv_cache_bytes, make_plan

if TYPE_CHECKING:
    from ashore.kit.store import ModelStore, StoredModel

AMPLE_BYTES: Final = 1 << 60
"""Memory that a release is planned with; whether there is as much is asked when it is loaded, and not before."""

Policies = Callable[[str], dict[str, str]]
"""Digests of the other settings that affect the answers of an alias: masking, cached answers."""
Facts = Callable[["ModelStore", list[Wish]], Mapping[str, ModelFacts]]
"""What is known of models, by `Wish.name`, from a store."""


Options = tuple[tuple[str, OptionValue], ...]


class Limits(TypedDict, total=False):
    """The limits that an operator may set for a release, by the names of `[model.engine]`."""

    context_tokens: int
    kv_tokens: int
    max_sequences: int
    threads: int
    prefix_cache: bool


class StoreWorkshop:
    """Plans releases as `ashore up` plans models. Reads the store; create one for each process."""

    def __init__(self, store: Callable[[], ModelStore], policies: Policies, facts: Facts) -> None:
        self._store = store
        self._policies = policies
        self._facts = facts

    def describe(self, wish: ReleaseWish, *, live: ModelPlan | None) -> Described:
        if wish.engine and wish.engine not in engine_kinds():
            raise InvalidRequest(
                f"there is no engine {wish.engine[:40]!r}", hint=did_you_mean(wish.engine, engine_kinds())
            )
        said, options = limits_of(wish.options)
        limits = _limits_of_live(live)
        limits.update(said)
        asked = Wish(
            name=wish.model,
            alias=wish.alias,
            replicas=wish.replicas or (live.replicas if live is not None else 1),
            kind=wish.engine or "auto",
            adapters=wish.adapters,
            options=options,
            **limits,
        )
        taken_over = _of_the_operator(live)
        names = frozenset(name for name, _ in taken_over)
        plan = self._plan(replace(asked, options=(*taken_over, *options), taken_over=names))
        if live is None or plan.options.kind != live.options.kind:
            plan = self._plan(asked)
        return self.describe_plan(plan)

    def _plan(self, asked: Wish) -> ModelPlan:
        facts = self._facts(self._store(), [asked])
        return make_plan([asked], facts, replace(read_inventory(), memory_bytes=AMPLE_BYTES), {}).models[0]

    def describe_plan(self, plan: ModelPlan) -> Described:
        parts = {"engine": engine_digest(plan), **self._policies(plan.alias)}
        parts |= {f"adapter {name}": digest_of_value((name, folder)) for name, folder in plan.adapters}
        if not reads_store(plan.options):
            weights = {"weights": digest_of_value(plan.name)}
            return Described(
                plan=plan, parts={**weights, **parts}, needed_bytes=needed_bytes_of(plan.name) * plan.replicas
            )
        store = self._store()
        model = store.resolve(plan.reference)
        rungs = [store.resolve(reference) for reference in plan.rungs]
        parts |= {"weights": model.digest, **_texts(store, model), **{f"{RUNG}{r.variant}": r.digest for r in rungs}}
        cache = kv_cache_bytes(model.shape, plan.options)
        needed = (sum(one.num_bytes for one in (model, *rungs)) + cache) * plan.replicas
        return Described(
            plan=plan,
            parts=parts,
            origins=origins_of(store, model),
            needed_bytes=needed if card_of(plan.options.kind).memory.ours else 0,
        )

    def free_bytes(self) -> int:
        return read_inventory().memory_bytes


def origins_of(store: ModelStore, model: StoredModel) -> tuple[str, ...]:
    """Return every store name of a model and of the models that it was made from."""
    stored = store.list()
    lineage, names = {model.digest}, {model.name}
    while model.parent is not None and model.parent not in lineage:
        names.add(model.source.removeprefix(DERIVED) if model.source.startswith(DERIVED) else model.name)
        lineage.add(model.parent)
        parent = next((one for one in stored if one.digest == model.parent), None)
        if parent is None:  # it was removed; its name is known still
            break
        model = parent
    return tuple(sorted(names | {one.name for one in stored if one.digest in lineage}))


def limits_of(options: Options) -> tuple[Limits, Options]:
    """Split engine options into limits and the options that go to the engine unchanged.

    Raises:
        InvalidRequest: a limit is not a non-negative integer, or `prefix_cache` is not a flag.
    """
    limits, rest = Limits(), []
    for name, value in options:
        if name not in LIMITS:
            rest.append((name, value))
            continue
        kind = bool if name == "prefix_cache" else int
        if type(value) is not kind or value < 0:
            expected = "true or false" if kind is bool else "a whole number, 0 or more; 0 lets the plan choose"
            raise InvalidRequest(f"engine option {name} is {value!r}; expected {expected}", param="options")
        limits[name] = value  # type: ignore[literal-required]
    return limits, tuple(rest)


def _limits_of_live(live: ModelPlan | None) -> Limits:
    """Return the limits that a release inherits from the live one, so that both get the same resources."""
    if live is None:
        return Limits()
    if card_of(live.options.kind).prefix:
        return Limits(max_sequences=live.options.max_sequences)
    return Limits(
        context_tokens=live.options.context_tokens,
        kv_tokens=live.options.kv_tokens,
        max_sequences=live.options.max_sequences,
        threads=live.options.threads,
    )


def _of_the_operator(live: ModelPlan | None) -> Options:
    """Return the live release's operator-only options. API callers cannot set them, so a new release on the same engine
    inherits them. Nodes belong to their model only.
    """
    if live is None or "fleet" in live.options.extra:
        return ()
    tunes = card_of(live.options.kind).options.tune
    return tuple((k, v) for k, v in sorted(live.options.extra.items()) if k not in tunes)


def _texts(store: ModelStore, model: StoredModel) -> dict[str, str]:
    """Return the digests of tokenizer and template; a variant without its own uses its parent's, if that is stored."""
    found = {file.path: file.digest for file in model.files if file.path in TEXT_FILES}
    if model.variant:
        with suppress(UnknownModel):  # the variant was imported alone
            parent = store.resolve(model.name)
            found = {file.path: file.digest for file in parent.files if file.path in TEXT_FILES} | found
    names = {"tokenizer.json": "tokenizer", "chat_template.jinja": "template", "generation.json": "generation"}
    return {names[path]: digest for path, digest in found.items()}
