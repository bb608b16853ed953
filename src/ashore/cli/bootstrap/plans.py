"""Facts for planning from the store, the machine and the results of `engine tune`."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ashore.cli.bootstrap.state import open_state
from ashore.cli.bootstrap.variants import is_prepared
from ashore.core.errors import KvCacheExhausted, UnknownModel, UnknownVariant, UnsupportedModel
from ashore.core.kinds import EngineKind
from ashore.kit.settings import Home, Settings

if TYPE_CHECKING:
    from ashore.control.server.stored import Fits
    from ashore.data.engines import Inventory, ModelFacts, Plan, Tuned, Wish
    from ashore.kit.store import CatalogEntry, ModelStore, StoredModel


def gather_facts(store: ModelStore, wishes: Iterable[Wish]) -> dict[str, ModelFacts]:
    """Return the facts of each wanted model: from the store, else from the catalogue.

    Raises:
        UnknownModel: neither knows it, or it is a source that must be pulled before anything is known.
        InvalidSpec: a model is only a name with a wrong option.
    """
    return {wish.name: replace(_facts_of(store, wish), programs=find_programs(wish)) for wish in wishes}


def find_programs(wish: Wish) -> dict[EngineKind, str]:
    """Return, for each engine that starts a server, the path of its executable for this model.

    It is `options.executable`, else found on PATH. Missing ones are left out.
    """
    from ashore.data.engines import CARDS

    found = {}
    for card in CARDS:
        if card.program is not None:
            named = Path(str(dict(wish.options).get("executable", card.program.name))).expanduser()
            if path := shutil.which(named):
                found[card.kind] = path
    return found


def server_command_lines(store: ModelStore, home: Home, plan: Plan) -> dict[str, str]:
    """Return, by alias, the command of each server that an engine of this plan starts. Creates nothing.

    `$PORT` stands for a free port, and `$KEY` for a secret, both chosen when the engine host starts.
    """
    from ashore.data.engines import ModelFiles, card_of, loaded, reads_store

    lines = {}
    for model in plan.models:
        program = card_of(model.options.kind).program
        if program is None or not reads_store(model.options):
            continue
        stored = store.resolve(model.reference) if model.in_store else None
        folder = stored.digest.removeprefix("sha256:") if stored else "DIGEST"
        files = ModelFiles(
            name=model.reference,
            digest="",
            directory=str(home.run_models / folder),
            format=stored.format if stored else "safetensors",
            weights=stored.weights if stored else "",
        )
        lines[model.alias] = loaded(program.shell_line)(files, model.options)
    return lines


def _facts_of(store: ModelStore, wish: Wish) -> ModelFacts:
    from ashore.data.engines import ModelFacts, card_by_name, check_name
    from ashore.kit.store import is_source

    if (card := card_by_name(wish.name)) is not None:
        check_name(wish.name)
        return ModelFacts(name=wish.name, format=card.formats[0], shape=None)
    if wish.fleet:
        return ModelFacts(name=wish.name, format="remote", shape=None)
    try:
        model = store.resolve(wish.name)
    except UnknownVariant:
        name, _, variant = wish.name.partition("@")
        if not is_prepared(variant):
            raise
        return _stored_facts(store, store.resolve(name), variant)
    except UnknownModel:
        name, _, variant = wish.name.partition("@")
        entry = next((e for e in store.catalog.entries if e.name == name), None) or store.catalog.find_source(wish.name)
        if (entry is None or entry.shape is None) and is_source(wish.name):
            raise UnknownModel(
                f"{wish.name} is not in the store yet, so it cannot be planned{_by_its_name(wish.name)}",
                hint=f"pull it first: `ashore model pull {wish.name}`",
            ) from None
        if entry is None or entry.shape is None:
            raise
        return _catalogue_facts(entry, variant if entry.name == name else "")
    return _stored_facts(store, model, model.variant)


def _catalogue_facts(entry: CatalogEntry, variant: str = "") -> ModelFacts:
    from ashore.data.engines import ModelFacts

    assert entry.shape is not None
    return ModelFacts(
        name=entry.name,
        variant=variant,
        format=entry.format,
        shape=entry.shape,
        weight_bytes=entry.weight_bytes or 2 * entry.shape.num_parameters,
        in_store=False,
    )


def served_here(entries: Iterable[CatalogEntry]) -> dict[str, tuple[Fits, str]]:
    """Return, by name, whether a model of the catalogue fits this machine, and what would serve it, or what else could.
    Weights beyond the memory of the machine may fit into that of its GPUs.
    """
    from ashore.data.engines import CARDS, Wish, card_of, read_inventory
    from ashore.kit.accelerators import count_cards
    from ashore.kit.extras import absent
    from ashore.machine.planning import make_plan

    inventory, has_gpu = read_inventory(), bool(count_cards())
    found: dict[str, tuple[Fits, str]] = {}
    for entry in entries:
        servers = [card.title for card in CARDS if card.program is not None and card.kind in entry.engines]
        elsewhere = f"with {servers[0]}" if servers else "no"
        beside: tuple[Fits, str] = ("elsewhere" if servers else "no", elsewhere)
        wish = Wish(name=entry.name)
        try:
            facts = replace(_catalogue_facts(entry), programs=find_programs(wish))
            (model,) = make_plan([wish], {entry.name: facts}, inventory, {}).models
        except (UnsupportedModel, KvCacheExhausted) as fault:
            is_large = isinstance(fault, KvCacheExhausted)
            is_large |= not has_gpu and (entry.weight_bytes or 0) > inventory.memory_bytes
            found[entry.name] = ("too-large", f"{elsewhere}; too large here") if is_large else beside
        else:
            kind = model.options.kind
            lacks = card_of(kind).extra and absent(card_of(kind).modules)
            by = " ".join(filter(None, (kind, model.variant))) + (", not installed" if lacks else "")
            found[entry.name] = ("here", by) if kind in entry.engines else beside
    return found


def _by_its_name(source: str) -> str:
    """Return the needs of a model that is not stored, if its name implies a known shape; else nothing."""
    from ashore.core.bytesize import human_bytes
    from ashore.data.engines import read_inventory
    from ashore.lab.sizing import find_network

    network = find_network(source.partition(":")[2].partition("@")[0].partition(":")[0])
    if network is None:
        return ""
    count, free = int(network.parameters), read_inventory().memory_bytes
    return (
        f"; by its name it has {count / 1e9:.3g} billion parameters: about {human_bytes(2 * count)} on disk and to "
        f"download in 16 bits, {human_bytes(count * 17 // 16)} in memory as INT8, of {human_bytes(free)} that are free"
    )


def _stored_facts(store: ModelStore, model: StoredModel, variant: str) -> ModelFacts:
    from ashore.data.engines import ModelFacts

    return ModelFacts(
        name=model.name,
        variant=variant,
        format=model.format,
        shape=model.shape,
        weight_bytes=model.num_bytes,
        precision=model.recipe.get("precision", ""),
        variant_bytes={
            one.variant: one.num_bytes
            for one in store.list()
            if one.name == model.name and one.variant and not store.is_outdated(one)
        },
    )


def _original_of(store: ModelStore, fact: ModelFacts) -> str:
    """Return the digest of the model that a fact is about, as pulled, also where its variant was imported alone."""
    try:
        return store.resolve(fact.name).digest
    except UnknownModel:
        variant = store.resolve(f"{fact.name}@{fact.variant}")
        return variant.parent or variant.digest


def tuned_choices(
    settings: Settings, store: ModelStore, facts: Mapping[str, ModelFacts], inventory: Inventory
) -> tuple[dict[str, Tuned], tuple[str, ...]]:
    """Return the results of `engine tune` for these models on this machine, and notes on ignored ones."""
    if not settings.home.state_db.exists() and not settings.state_url:
        return {}, ()
    from ashore.data.engines import Tuned
    from ashore.data.engines.tuning import Unused, describe_machine, recorded_choice

    here = describe_machine(cpu=inventory.cpu, cores=inventory.cores)
    tuned: dict[str, Tuned] = {}
    notes = []
    with closing(open_state(settings)) as state, state.read() as connection:
        for fact in facts.values():
            if fact.shape is None or not fact.in_store:
                continue
            found = recorded_choice(connection, model=fact.name, model_digest=_original_of(store, fact), here=here)
            if isinstance(found, Unused):
                notes.append(found.reason)
            elif found is not None:
                tuned[fact.name] = Tuned(
                    kind=found.kind,
                    variant=found.variant,
                    threads=found.options.threads,
                    options=tuple(sorted(found.options.extra.items())),
                    why=found.reason,
                )
    return tuned, tuple(notes)
