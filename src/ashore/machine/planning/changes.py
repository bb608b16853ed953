"""Differences between two plans: added, replaced, kept and removed models, and the names of releases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ashore.core.bytesize import human_bytes
from ashore.core.errors import InvalidRequest
from ashore.data.engines import RESERVED_BYTES, Change, EngineCard, Inventory, ModelPlan, Plan, Promise, Wish


def check_shares(wishes: Sequence[Wish], inventory: Inventory) -> None:
    """Check that this machine can provide all reserved shares at once.

    Raises:
        InvalidRequest: it cannot.
    """
    promised = sum(w.share.cpus for w in wishes if w.share is not None)
    if promised > inventory.cores:
        raise InvalidRequest(
            f"[model.share] promises {promised:g} processors in all; this machine has {inventory.cores}",
            hint="promise less, or serve fewer models here",
            param="share",
        )
    kept = sum(w.share.memory_bytes for w in wishes if w.share is not None)
    if kept and kept > inventory.memory_bytes - RESERVED_BYTES:
        raise InvalidRequest(
            f"[model.share] promises {human_bytes(kept)} of memory in all; "
            f"{human_bytes(max(0, inventory.memory_bytes - RESERVED_BYTES))} are free for models",
            hint="promise less, or serve fewer models here",
            param="share",
        )


def cores_for(wish: Wish, wishes: Sequence[Wish], inventory: Inventory) -> int:
    """Return the processors that a replica may use: its part of its model's share, or those not exclusive to another
    model.
    """
    if wish.share is not None and wish.share.cpus:
        return max(1, math.ceil(wish.share.cpus / wish.replicas))
    alone = sum(int(w.share.cpus) for w in wishes if w.share is not None and w.share.cpus == int(w.share.cpus))
    return max(1, inventory.cores - alone)


def share_text(share: Promise) -> str:
    """Return a share in a few words; `none` without one."""
    words = [f"{share.cpus:g} processors"] if share.cpus else []
    return ", ".join([*words, *([human_bytes(share.memory_bytes)] if share.memory_bytes else [])]) or "none"


def why_share(share: Promise, card: EngineCard) -> str:
    """Return what the share means for this engine."""
    if share.cpus and share.cpus != int(share.cpus):
        spins = f"; {card.title} waits by spinning, and is steadier on whole ones" if card.spins else ""
        return f"requested; a weight among those that have no processors of their own{spins}"
    return "requested; its processors are its alone" if share.cpus else "requested"


def compare(before: Plan, after: Plan) -> tuple[Change, ...]:
    """Return the changes from one plan to the other, alias by alias."""
    old = {m.alias: m for m in before.models}
    new = {m.alias: m for m in after.models}
    changes = []
    for alias in sorted(old.keys() | new.keys()):
        if alias not in new:
            changes.append(Change(alias=alias, kind="remove", what=old[alias].reference))
        elif alias not in old:
            changes.append(Change(alias=alias, kind="add", what=describe(new[alias])))
        elif differs(old[alias], new[alias]):
            what = f"{describe(old[alias])} -> {describe(new[alias])}"
            changes.append(Change(alias=alias, kind="replace", what=what + _reasons(old[alias], new[alias])))
        else:
            changes.append(Change(alias=alias, kind="keep", what=describe(new[alias]) + _rules(before, after, alias)))
    return tuple(changes)


def _rules(before: Plan, after: Plan, alias: str) -> str:
    """Return the changes for a model whose hosts stay: when it is loaded, and its share."""

    def said(plan: Plan) -> tuple[object, ...]:
        return (*(r for r in plan.demand if r.alias == alias), *(s for s in plan.shares if s.alias == alias))

    if said(before) == said(after):
        return ""
    load = "load on demand" if alias in after.on_demand else "loaded at the start"
    share = next((f", share of {share_text(one)}" for one in after.shares if one.alias == alias), "")
    return f" (now: {load}{share})"


def _reasons(old: ModelPlan, new: ModelPlan) -> str:
    """Return why the planner's choices differ from before; nothing that the operator requested."""
    before = {choice.field: choice.value for choice in old.choices}
    moved = [c for c in new.choices if c.value != before.get(c.field) and c.why not in ("requested", "default")]
    why = [c.why if c.field == "reload" else f"{c.field}: {c.why}" for c in moved]
    return f" ({'; '.join(why)})" if why else ""


def differs(old: ModelPlan, new: ModelPlan) -> bool:
    """Return whether serving `new` needs other engine hosts than `old` has."""

    def served(model: ModelPlan) -> tuple[object, ...]:
        return model.name, model.variant, model.options, model.replicas, model.adapters

    return served(old) != served(new)


def describe(model: ModelPlan) -> str:
    """Return a model's plan in one line."""
    options = model.options
    words = [model.reference, options.kind, f"x{model.replicas}"]
    if options.threads:
        words.append(f"threads={options.threads}")
    if options.kv_tokens:
        words.append(f"kv_tokens={options.kv_tokens}")
    words += [f"{key}={value}" for key, value in sorted(options.extra.items())]
    words += [f"adapter={name}" for name, _ in model.adapters]
    return " ".join(words)


def number_releases(before: Plan, after: Plan) -> Plan:
    """Return `after` with the releases of `before` for unchanged models, and the next number for changed ones."""
    old = {m.alias: m for m in before.models}
    models = []
    for model in after.models:
        was = old.get(model.alias)
        if was is not None:
            release = next_release(was.release) if differs(was, model) else was.release
            model = replace(model, release=release)
        models.append(model)
    return replace(after, models=tuple(models))


def next_release(release: str) -> str:
    """Return the name of the release after this one: `chat-1` gives `chat-2`."""
    stem, _, number = release.rpartition("-")
    return f"{stem}-{int(number) + 1}" if stem and number.isdigit() else f"{release}-2"
