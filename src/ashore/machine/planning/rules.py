"""The decisions of a plan, as pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import msgspec

from ashore.core.bytesize import human_bytes
from ashore.core.errors import InvalidRequest, KvCacheExhausted, MissingExtra, UnsupportedModel
from ashore.core.ids import ADAPTER_NAME
from ashore.core.nearest import did_you_mean
from ashore.core.shapes import ModelShape, kv_bytes_per_token
from ashore.data.engines import (
    CARDS,
    EngineCard,
    EngineKind,
    EngineOptions,
    card_by_name,
    card_of,
    card_reading,
    check_kv_tokens,
    loaded,
    needed_bytes_of,
)
from ashore.data.engines.plan import (
    KV_SHARE,
    RESERVED_BYTES,
    RUNGS,
    Choice,
    Inventory,
    ModelFacts,
    ModelPlan,
    OnDemand,
    Plan,
    Tuned,
    Wish,
)
from ashore.machine.planning.changes import check_shares, cores_for, differs, share_text, why_share

ADAPTER_KINDS: Final = frozenset(card.kind for card in CARDS if "adapters" in card.features)
ENCODERS: Final = frozenset(architecture for card in CARDS for architecture in card.encoders)
"""Models that embed and do not generate."""

_PEOPLE_SAY: Final = {
    "deepseek2": "DeepSeek V2 or V3 (deepseek2)",
    "deepseek32": "DeepSeek V3.2 (deepseek32)",
    "deepseek4": "DeepSeek V4 (deepseek4)",
}
"""Architectures whose name in files does not say whose models have it."""
KV_BLOCK_TOKENS: Final = 32
"""Block of OpenVINO's paged attention on CPU."""
MAX_SEQUENCES: Final = 64
"""Throughput of the CPU engine still grows from 16 to 64 sequences; beyond that only latency does."""
MAX_BATCH_TOKENS: Final = 512
MOST_KV_TOKENS: Final = 131_072
"""64 sequences of 2,048 tokens: more than one machine without a GPU answers in a tolerable time."""
KV_ITEM_BYTES: Final = {"u4": 1, "u8": 1, "f16": 2, "bf16": 2, "f32": 4}
"""Bytes of one number in OpenVINO's KV cache; for less than a byte the safe side."""
U8_KV_OVERHEAD: Final = 1.13
"""Each row of u8 keys or values carries a scale and a zero point, eight bytes on 64 numbers of a head."""


def make_plan(
    wishes: Sequence[Wish],
    facts: Mapping[str, ModelFacts],
    inventory: Inventory,
    tuned: Mapping[str, Tuned],
    kept: Mapping[str, ModelPlan] = MappingProxyType({}),
) -> Plan:
    """Plan how the requested models are served on this machine.

    Args:
        wishes: One for each model; aliases differ.
        facts: By `Wish.name`.
        inventory: Resources of the machine.
        tuned: By store name; the best measured settings.
        kept: By alias, running models to keep unchanged; the others get the remaining memory.

    Raises:
        UnsupportedModel: no engine here supports the model.
        InvalidRequest: an adapter has a name that clients could not request.
        MissingExtra: the requested engine's server is not on this machine, and no address is given.
        KvCacheExhausted: weights and the smallest useful cache do not fit in memory.
    """
    for wish in wishes:
        check_adapter_names(wish)
    check_shares(wishes, inventory)
    kinds = {w.name: choose_engine(w, facts[w.name], tuned.get(facts[w.name].name)) for w in wishes}
    here = [w for w in wishes if card_of(kinds[w.name][0]).memory.ours]
    sizes = {
        _alias(w): (weight_bytes_to_run(facts[w.name], kinds[w.name][1]) + rung_bytes(facts[w.name], w)) * w.replicas
        for w in here
    }
    together = _loaded_together(here, sizes, inventory)
    here = [w for w in here if _alias(w) in together]
    decoders = sum(w.replicas for w in here if _needs_cache(facts[w.name]))
    sharing = sum(w.replicas for w in here if _needs_cache(facts[w.name]) and w.demand is None)
    sharing += max((w.replicas for w in here if _needs_cache(facts[w.name]) and w.demand is not None), default=0)
    promised = sum(w.replicas for w in here if _needs_cache(facts[w.name]) and w.share is not None and w.share.cpus)
    weights = sum(sizes[_alias(w)] for w in here)
    held = [(facts[w.name], w, kept[_alias(w)]) for w in here if _alias(w) in kept and _needs_cache(facts[w.name])]
    held_bytes = sum(
        kv_cache_bytes(fact.shape, one.options) * w.replicas for fact, w, one in held if fact.shape is not None
    )
    waiting = max(min(decoders, 1), decoders - sum(w.replicas for _, w, _ in held))
    cache_bytes = _cache_bytes_per_replica(inventory, weights, waiting, held_bytes)
    models = []
    for wish in wishes:
        kind, variant, why = kinds[wish.name]
        why += _rounded(variant, facts[wish.name])
        if _alias(wish) in kept:
            models.append(kept[_alias(wish)])
            continue
        models.append(
            _plan_model(
                wish,
                facts[wish.name],
                Choice(field="engine", value=" ".join(filter(None, (kind, variant))), why=why),
                kind,
                variant,
                tuned.get(facts[wish.name].name),
                replace(inventory, cores=cores_for(wish, wishes, inventory)),
                1 if wish.share is not None and wish.share.cpus else max(1, sharing - promised),
                cache_bytes,
            )
        )
    demand = tuple(w.demand for w in wishes if w.demand is not None)
    caches = {
        _alias(w): kv_cache_bytes(shape, model.options) * w.replicas
        for w, model in zip(wishes, models, strict=True)
        if _alias(w) in sizes and _needs_cache(facts[w.name]) and (shape := facts[w.name].shape) is not None
    }
    _refuse_kv_tokens(wishes, models, caches, inventory.memory_bytes - weights)
    taken = {
        alias: sizes.get(alias, needed_bytes_of(w.name) * w.replicas) + caches.get(alias, 0)
        for w in wishes
        for alias in (_alias(w),)
    }
    models = [
        replace(model, choices=(*model.choices, _memory(sizes[model.alias], caches.get(model.alias, 0))))
        if model.alias in sizes and model.alias not in kept
        else model
        for model in models
    ]
    shares = tuple(w.share for w in wishes if w.share is not None)
    return Plan(models=tuple(models), inventory=inventory, demand=demand, shares=shares, sizes=taken)


def _refuse_kv_tokens(
    wishes: Sequence[Wish], models: Sequence[ModelPlan], caches: Mapping[str, int], free_bytes: int
) -> None:
    """Check that the requested KV caches fit together, by the same rule as the engine when it loads."""
    for wish, model in zip(wishes, models, strict=True):
        if needed := caches.get(model.alias, 0) if wish.kv_tokens else 0:
            tokens = wish.kv_tokens * wish.replicas
            check_kv_tokens(tokens, bytes_per_token=needed // tokens, free_bytes=free_bytes, alias=model.alias)
            free_bytes -= needed


def _memory(weights: int, cache: int) -> Choice:
    """Return the planned memory of all replicas of a model; shown by `status` and `model ps`."""
    parts = f"weights {human_bytes(weights)}" + (f", KV cache at most {human_bytes(cache)}" if cache else "")
    return Choice(field="memory", value=human_bytes(weights + cache), why=parts)


def what_fits(plan: Plan) -> tuple[Choice, ...]:
    """Return how the models of a plan share the memory, as text; empty without models on demand."""
    if not plan.demand:
        return ()
    first = sum(size for alias, size in plan.sizes.items() if alias not in plan.on_demand)
    waiting = sorted((plan.sizes.get(rule.alias, 0), rule.alias) for rule in plan.demand)
    left, at_once = plan.memory_bytes - first, 0
    for size, _ in reversed(waiting):  # largest first: so the number fits whichever are requested
        if size > left:
            break
        left, at_once = left - size, at_once + 1
    total = sum(size for size, _ in waiting)
    too_large = [alias for size, alias in waiting if size > plan.memory_bytes - first]
    fits = f"any {at_once} of {len(waiting)} at once" if at_once < len(waiting) else "all at once"
    why = f"{human_bytes(total)} together, beside {human_bytes(first)} that stay loaded"
    found = [
        Choice(field="budget", value=human_bytes(plan.memory_bytes), why="for all models; see [tiers] memory_bytes"),
        Choice(field="on demand", value=fits, why=why),
    ]
    if too_large:
        found.append(Choice(field="too large", value=", ".join(too_large), why="cannot be loaded beside what stays"))
    return tuple(found)


def _loaded_together(here: Sequence[Wish], sizes: Mapping[str, int], inventory: Inventory) -> set[str]:
    """Return the aliases that fit into memory at once: all that load at the start, and of those on demand the largest
    that fit into half of the rest, at least one. The other half is for their caches.
    """
    together = {_alias(w) for w in here if w.demand is None}
    left = int((inventory.memory_bytes - RESERVED_BYTES - sum(sizes[alias] for alias in together)) * (1 - KV_SHARE))
    waiting = sorted((w for w in here if w.demand is not None), key=lambda w: (-sizes[_alias(w)], _alias(w)))
    for number, wish in enumerate(waiting):
        if number == 0 or sizes[_alias(wish)] <= left:
            together.add(_alias(wish))
            left -= sizes[_alias(wish)]
    return together


def plan_beside(
    running: Plan,
    wishes: Sequence[Wish],
    facts: Mapping[str, ModelFacts],
    tuned: Mapping[str, Tuned],
) -> Plan:
    """Plan as `make_plan` for a machine that serves `running`, keeping running models where possible.

    Threads and cache are divided among all models, so one more model would change every other. A model that differs
    only in these, without an explicit setting, keeps them as long as the rest fits. Otherwise everything is divided
    again, and the changed choices have the reason.

    Raises:
        AshoreError: as `make_plan`.
    """
    fresh = make_plan(wishes, facts, running.inventory, tuned)
    old = {model.alias: model for model in running.models}
    kept = {
        model.alias: old[model.alias]
        for wish, model in zip(wishes, fresh.models, strict=True)
        if model.alias in old and _may_stay(wish, old[model.alias], model, tuned.get(model.name))
    }
    if not any(differs(one, new) for new in fresh.models if (one := kept.get(new.alias)) is not None):
        return fresh
    try:
        return make_plan(wishes, facts, running.inventory, tuned, kept)
    except KvCacheExhausted as fault:
        crowded = Choice(
            field="reload", value="replaced", why=f"the other models do not fit beside it: {fault.message}"
        )
        models = tuple(
            replace(model, choices=(*model.choices, crowded)) if model.alias in kept else model
            for model in fresh.models
        )
        return replace(fresh, models=models)


def _may_stay(wish: Wish, old: ModelPlan, new: ModelPlan, tuned: Tuned | None) -> bool:
    """Return whether two plans of an alias differ only in resources that the planner divides."""
    options = new.options
    if not wish.kv_tokens:
        options = msgspec.structs.replace(options, kv_tokens=old.options.kv_tokens)
    if not wish.threads and not (tuned is not None and tuned.threads):
        options = msgspec.structs.replace(options, threads=old.options.threads)
    return not differs(old, replace(new, options=options))


def check_adapter_names(wish: Wish) -> None:
    """Check that every adapter of a model can be requested.

    Raises:
        InvalidRequest: a name has characters not allowed in an alias, or two are equal.
    """
    names = [name for name, _ in wish.adapters]
    for name in names:
        if not ADAPTER_NAME.fullmatch(name) or names.count(name) > 1:
            raise InvalidRequest(
                f"{wish.name} has an adapter named {name[:64]!r}"
                + (f" {names.count(name)} times" if names.count(name) > 1 else ""),
                hint="use at most 64 letters, digits, dots, dashes and underscores, and each name only once",
                param="adapters",
            )


def choose_engine(wish: Wish, facts: ModelFacts, tuned: Tuned | None) -> tuple[EngineKind, str, str]:
    """Return the engine, the stored variant that it runs, and the reason."""
    kind, variant, why = _choose_engine(wish, facts, tuned)
    if wish.adapters and kind not in ADAPTER_KINDS:
        raise UnsupportedModel(
            f"{wish.name} has the adapters {', '.join(name for name, _ in wish.adapters)}; "
            f"the engine {kind} supports none ({why})",
            hint=f"engines that take adapters: {', '.join(sorted(ADAPTER_KINDS))}; to create a release without them, "
            "give --drop-adapters NAME",
        )
    return kind, variant, why


def _choose_engine(wish: Wish, facts: ModelFacts, tuned: Tuned | None) -> tuple[EngineKind, str, str]:
    if (card := card_by_name(facts.name)) is not None:
        is_remote = "remote" in card.formats
        if is_remote and not wish.fleet:
            raise UnsupportedModel(
                f"{wish.name} is a model of a server elsewhere, and no server is named",
                hint="add fleet = true to its [model.engine], and [[fleet.node]] with the address",
            )
        if wish.fleet and not is_remote:
            raise UnsupportedModel(
                f"{wish.name}: fleet = true is for models of the store; names with {card.prefix} never ask a node",
                hint="name the model that the nodes serve, or remove fleet = true from [model.engine]",
            )
        return card.kind, "", f"the name starts with {card.prefix}"
    if wish.fleet:
        return card_reading("remote").kind, "", "engine nodes: [[fleet.node]], and those that join"
    if wish.kind != "auto":
        return _asked_for(card_of(wish.kind), wish, facts)
    assert facts.shape is not None
    architecture = facts.shape.architecture
    for card in CARDS:
        if not card.choosing.rank and card.decoders is not None and architecture in card.decoders:
            return card.kind, "", card.choosing.why
    ranked = sorted((card for card in CARDS if card.choosing.rank), key=lambda card: _rank(card, facts))
    for card in ranked:
        if architecture in card.encoders:
            return card.kind, facts.variant, card.choosing.why_encoder
    if tuned is not None and not facts.variant and (not wish.adapters or tuned.kind in ADAPTER_KINDS):
        return tuned.kind, tuned.variant, tuned.why or "measured as best on this machine"
    passed = ""
    for card in ranked:
        program = facts.programs.get(card.kind, "")
        if card.program is not None and (not program or facts.variant):
            continue
        if facts.format in card.formats and _takes(card, facts):
            native = card.choosing.why_native if facts.format == card.native else ""
            why = (native or card.choosing.why).format(
                architecture=architecture, format=facts.format, program=program, passed=passed
            )
            return card.kind, _variant(card, facts), why
        passed = passed or f"{card.title} supports {_names(card)}, not {architecture}"
    raise UnsupportedModel(
        f"no engine of this machine serves {wish.name}, which is {_PEOPLE_SAY.get(architecture, architecture)} in "
        f"{facts.format} files: {'; '.join(_why_not(card, facts) for card in ranked)}",
        hint=", or ".join(card.choosing.instead for card in ranked if card.choosing.instead),
    )


def _rank(card: EngineCard, facts: ModelFacts) -> int:
    return (card.choosing.rank_converted if facts.format != card.native else 0) or card.choosing.rank


def _asked_for(card: EngineCard, wish: Wish, facts: ModelFacts) -> tuple[EngineKind, str, str]:
    """Return the choice for the operator's engine; raise if it does not support the model."""
    if card.program is not None:
        refuse_without_program(card, wish.name, facts.programs)
        if facts.format not in card.formats or facts.variant:
            raise UnsupportedModel(
                f"{wish.name} is in {facts.format}; {card.kind} needs the model as it was pulled",
                hint=f"use {facts.name}",
            )
        return card.kind, "", f"requested; {facts.programs[card.kind]} is started and supervised here"
    assert facts.shape is not None
    if facts.format not in card.formats:
        raise UnsupportedModel(
            f"{wish.name} is in {facts.format}; {card.kind} supports {' and '.join(card.formats)}",
            hint=card.choosing.instead or f"pull it as {' or '.join(card.formats)}",
        )
    if not _takes(card, facts):
        others = (c.kind for c in CARDS if c.choosing.rank and facts.format in c.formats and _takes(c, facts))
        raise UnsupportedModel(
            f"{wish.name} is {facts.shape.architecture}; {card.kind} supports {_names(card)}",
            hint=f"use {' or '.join(others)}",
        )
    return card.kind, _variant(card, facts), "requested"


def _why_not(card: EngineCard, facts: ModelFacts) -> str:
    """Return why an engine that the planner may choose does not serve a model, as text."""
    if facts.format not in card.formats:
        return f"{card.title} reads {' and '.join(form for form in card.formats if form != 'remote')}"
    if not _takes(card, facts):
        return f"{card.title} serves {_names(card)}"
    if card.program is not None and not facts.programs.get(card.kind):
        return f"{card.title} is not installed here"
    return f"{card.title} serves no variant of it"


def _takes(card: EngineCard, facts: ModelFacts) -> bool:
    """Return whether an engine supports a model's architecture."""
    assert facts.shape is not None
    if card.decoders is None or facts.format == card.native:
        return True
    return facts.shape.architecture in card.decoders | card.encoders


def _variant(card: EngineCard, facts: ModelFacts) -> str:
    """Return the variant that an engine runs: the requested one, else the engine's default for a decoder as pulled."""
    prepares = _needs_cache(facts) and facts.format != card.native
    return facts.variant or (card.variant if prepares else "")


def refuse_without_program(card: EngineCard, name: str, programs: Mapping[EngineKind, str]) -> None:
    """Check that the program that an engine starts was found, if it starts one.

    Raises:
        MissingExtra: it was not; the hint says how to install it.
    """
    if card.program is not None and not programs.get(card.kind):
        raise MissingExtra(
            f"{name} is set to {card.kind}, which is not installed on this machine, and no URL of a server is given",
            hint=card.program.how_to_get,
        )


def weight_bytes_to_run(facts: ModelFacts, variant: str) -> int:
    """Return the weight bytes that one replica keeps in memory."""
    if facts.shape is None:
        return 0
    if variant in facts.variant_bytes:
        return facts.variant_bytes[variant]
    if any(variant and variant == card.variant and facts.format != card.native for card in CARDS):  # INT8, with scales
        return facts.shape.num_parameters + facts.shape.num_parameters // 16
    return facts.weight_bytes


def rung_bytes(facts: ModelFacts, wish: Wish) -> int:
    """Return the weight bytes of all rungs below the first, as far as their precisions are known."""
    if facts.shape is None:
        return 0
    bits = {one.name: one.bits for card in CARDS for one in card.precisions}
    known = facts.variant_bytes
    rungs = str(dict(wish.options).get(RUNGS, "")).split(".")
    return sum(known.get(rung, int(facts.shape.num_parameters * bits.get(rung, 16) / 8)) for rung in rungs if rung)


def _rounded(variant: str, facts: ModelFacts) -> str:
    """Return the precision of the weights before they were prepared, if it is not a plain one."""
    is_plain = facts.precision in ("", "fp16", "bf16", "fp32")
    return f"; {variant} from a {facts.precision} file" if variant and not is_plain else ""


def _needs_cache(facts: ModelFacts) -> bool:
    return facts.shape is not None and facts.shape.architecture not in ENCODERS


def _names(card: EngineCard) -> str:
    return ", ".join(sorted(card.decoders or ()))


def _alias(wish: Wish) -> str:
    return wish.alias or wish.name


def _cache_bytes_per_replica(inventory: Inventory, weights: int, decoders: int, held_bytes: int = 0) -> int:
    """Return the cache share of each of so many decoders, in addition to `held_bytes` of others."""
    free = inventory.memory_bytes - RESERVED_BYTES - weights
    if decoders == 0:
        return 0
    if free <= 0:
        raise KvCacheExhausted(
            f"the weights take {human_bytes(weights)}; {human_bytes(inventory.memory_bytes)} of memory are free, "
            f"and {human_bytes(RESERVED_BYTES)} of it are kept for the rest of the system",
            hint="serve fewer models or replicas, a smaller variant, or use a machine with more memory",
        )
    return max(0, int((free * KV_SHARE - held_bytes) / decoders))


def _check_options(card: EngineCard, wish: Wish) -> None:
    """Check that an engine knows every requested option, or passes it on."""
    if RUNGS in dict(wish.options) and RUNGS not in card.options.known:
        able = ", ".join(one.kind for one in CARDS if RUNGS in one.options.known)
        raise InvalidRequest(
            f"{_alias(wish)}: the engine {card.kind} has no ladder",
            hint=f"[model.ladder] needs {able}",
            param="options",
        )
    if RUNGS in dict(wish.options) and wish.adapters:
        raise InvalidRequest(
            f"{_alias(wish)} has a ladder and adapters, and rungs compute without adapters",
            hint="give the adapters to a model of their own, or remove [model.ladder]",
            param="adapters",
        )
    for name, _ in wish.options:
        if name not in (*card.options.known, *wish.taken_over) and not card.options.passes_on(name):
            raise InvalidRequest(
                f"{_alias(wish)}: the engine {card.kind} has no option {name[:60]!r}",
                hint=did_you_mean(name[:60], card.options.known)
                if card.options.known
                else "it has no options; remove this one",
                param="options",
            )


def _check_context(wish: Wish, facts: ModelFacts) -> None:
    """Check that the requested context is within the model's own."""
    most = facts.shape.context_tokens if facts.shape is not None else 0
    if 0 < most < wish.context_tokens:
        raise InvalidRequest(
            f"{_alias(wish)}: context_tokens is {wish.context_tokens:,}; the model takes {most:,} at most",
            hint=f"set [model.engine] context_tokens to {most} or less, or leave it out",
            param="context_tokens",
        )


def _plan_model(
    wish: Wish,
    facts: ModelFacts,
    engine: Choice,
    kind: EngineKind,
    variant: str,
    tuned: Tuned | None,
    inventory: Inventory,
    decoders: int,
    cache_bytes: int,
) -> ModelPlan:
    embedder = facts.shape is not None and facts.shape.architecture in ENCODERS
    followed = tuned if tuned is not None and (tuned.kind, tuned.variant) == (kind, variant) else None
    threads = _choose_threads(wish, followed, inventory, decoders, embedder=embedder)
    sequences = wish.max_sequences or MAX_SEQUENCES
    extra = dict(followed.options) if followed else {}
    extra |= dict(wish.options)
    card = card_of(kind)
    _check_options(card, wish)
    _check_context(wish, facts)
    cache = _choose_cache(wish, facts, kind, sequences, cache_bytes, _cache_precision(kind, extra))
    if wish.fleet:
        reached = {"fleet": _alias(wish), "key": wish.key, "ca_file": wish.ca_file}
        extra |= {name: word for name, word in reached.items() if word}
    elif card.program is not None:
        extra |= {"executable": facts.programs[kind], **(card.program.embedding if embedder else {})}
        if wish.adapters and card.program.adapters:
            extra = loaded(card.program.adapters)(len(wish.adapters)) | extra
    options = EngineOptions(
        kind=kind,
        context_tokens=wish.context_tokens,
        kv_tokens=cache[0],
        max_sequences=sequences,
        max_batch_tokens=MAX_BATCH_TOKENS,
        threads=threads[0],
        prefix_cache=wish.prefix_cache,
        extra=extra,
    )
    alias = _alias(wish)
    choices = [engine]
    if card.memory.ours:
        choices.append(Choice(field="threads", value=str(threads[0]), why=threads[1]))
    if cache[1]:
        choices.append(Choice(field="kv_tokens", value=f"{cache[0]:,}", why=cache[1]))
    if wish.share is not None:
        choices.append(Choice(field="share", value=share_text(wish.share), why=why_share(wish.share, card)))
    if rungs := str(extra.get(RUNGS, "")):
        value = " > ".join((variant or facts.name, *rungs.split(".")))
        choices.append(Choice(field="ladder", value=value, why="requested; whole steps change, over one KV cache"))
    if wish.demand is not None:
        choices.append(Choice(field="load", value="demand", why=_why_demand(wish.demand)))
    choices.append(
        Choice(field="replicas", value=str(wish.replicas), why="requested" if wish.replicas > 1 else "default")
    )
    if wish.adapters:
        names = " ".join(f"{alias}:{name}" for name, _ in wish.adapters)
        choices.append(Choice(field="adapters", value=names, why="requested; each request has its own"))
    asked = {key for key, _ in wish.options}
    if found := tuple((key, value) for key, value in (followed.options if followed else ()) if key not in asked):
        choices.append(Choice(field="tuned", value=_join(found), why="measured as best on this machine"))
    if given := tuple((key, value) for key, value in wish.options if not key.startswith("rung")):
        choices.append(Choice(field="options", value=_join(given), why="requested; passed to the engine unchanged"))
    return ModelPlan(
        alias=alias,
        release=f"{alias}-1",
        name=facts.name,
        variant=variant,
        options=options,
        replicas=wish.replicas,
        embedder=embedder,
        in_store=facts.in_store,
        adapters=wish.adapters,
        choices=tuple(choices),
    )


def _why_demand(demand: OnDemand) -> str:
    if demand.pin:
        return "requested; pinned: loaded in the background, and kept"
    if demand.keep_alive_s:
        return f"requested; unloaded after {demand.keep_alive_s} s without a request, or when memory is short"
    return "requested; unloaded when memory is short"


def _join(options: tuple[tuple[str, object], ...]) -> str:
    return " ".join(f"{key}={value}" for key, value in options)


def _choose_threads(
    wish: Wish, tuned: Tuned | None, inventory: Inventory, decoders: int, *, embedder: bool
) -> tuple[int, str]:
    if wish.threads:
        return wish.threads, "requested"
    if tuned is not None and tuned.threads:
        return tuned.threads, "measured as best on this machine"
    if wish.share is not None and wish.share.cpus:
        return inventory.cores, f"its share of {wish.share.cpus:g} processors"
    if embedder or decoders <= 1:
        return inventory.cores, f"all {inventory.cores} cores"
    share = max(1, inventory.cores // decoders)
    return share, f"{inventory.cores} cores shared by {decoders} engine hosts"


def _choose_cache(
    wish: Wish, facts: ModelFacts, kind: EngineKind, sequences: int, cache_bytes: int, precision: str
) -> tuple[int, str]:
    """Return the KV cache tokens of one replica, and the reason; 0 and empty if the cache is not ours."""
    if not _needs_cache(facts) or not card_of(kind).memory.ours:
        return wish.kv_tokens, "requested" if wish.kv_tokens else ""
    assert facts.shape is not None
    per_token = _bytes_per_token(facts.shape, kind, precision, prefix_cache=wish.prefix_cache)
    if wish.kv_tokens:
        size = human_bytes(wish.kv_tokens * per_token)
        return wish.kv_tokens, f"requested; {size} at {human_bytes(per_token)} a token"
    context = wish.context_tokens or facts.shape.context_tokens
    affordable = cache_bytes // per_token
    useful = min(sequences * context, MOST_KV_TOKENS)
    tokens = min(affordable, useful) // KV_BLOCK_TOKENS * KV_BLOCK_TOKENS
    needed = min(context, 2 * KV_BLOCK_TOKENS)
    if tokens < needed:
        raise KvCacheExhausted(
            f"{wish.name}: {human_bytes(cache_bytes)} are left for the KV cache, {affordable:,} tokens; "
            f"at least {needed:,} are needed",
            hint="serve fewer models or replicas, or use a machine with more memory",
        )
    size = human_bytes(tokens * per_token)
    if affordable < useful:
        return tokens, f"{size}, as much as memory allows ({human_bytes(per_token)} a token)"
    return (
        tokens,
        f"{size} at {human_bytes(per_token)} a token, {min(sequences, tokens // context) or 1} whole contexts",
    )


def _bytes_per_token(shape: ModelShape, kind: EngineKind, precision: str, *, prefix_cache: bool) -> int:
    itemsize = KV_ITEM_BYTES.get(precision, 2)
    per_token = kv_bytes_per_token(shape, itemsize=itemsize)
    if itemsize == 1:
        per_token = int(per_token * U8_KV_OVERHEAD)
    return int(per_token * (1 + card_of(kind).memory.kept_share)) if prefix_cache else per_token


def _cache_precision(kind: EngineKind, extra: Mapping[str, object]) -> str:
    kv = card_of(kind).memory.kv
    if kv is None:
        return ""
    return str(extra.get(kv.option, kv.exact if extra.get("full_precision") else kv.usual))


def kv_cache_bytes(shape: ModelShape, options: EngineOptions) -> int:
    """Return the bytes of one replica's full KV cache, including kept prefixes; 0 if the memory is not this
    machine's.
    """
    if not options.kv_tokens or not card_of(options.kind).memory.ours:
        return 0
    precision = _cache_precision(options.kind, options.extra)
    return options.kv_tokens * _bytes_per_token(shape, options.kind, precision, prefix_cache=options.prefix_cache)
