"""The store of models, and the keys that open its sealed ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ashore.core.clock import SystemClock
from ashore.core.errors import InvalidRequest, UnknownModel, UnknownVariant, UnsupportedModel
from ashore.core.shapes import HEAD
from ashore.kit.recorder import Recorder
from ashore.kit.settings import Home, Settings

if TYPE_CHECKING:
    from ashore.data.engines import ModelFiles, ModelPlan, Plan
    from ashore.kit.sealing import KeyKeeper
    from ashore.kit.store import ModelStore, StoredModel

Keeper = Callable[[], "KeyKeeper"]


def build_store(
    home: Home,
    settings: Settings | None = None,
    recorder: Recorder | None = None,
    *,
    actor: str = "system",
    keeper: Keeper | None = None,
    create: bool = True,
) -> ModelStore:
    """Return the model store of this home.

    Args:
        home: The home.
        settings: Mirrors, and the key source of sealed models.
        recorder: Records when models are sealed, unsealed, rekeyed, and opened while sealed.
        actor: The actor in the audit log.
        keeper: From `key_keeper`, where the process has one already.
        create: Make the folders of the home that are missing.
    """
    from ashore.kit.egress import child_egress
    from ashore.kit.store import Endpoints, ModelStore, open_source

    if create:
        home.create()
    endpoints = Endpoints(allow=child_egress())
    if settings is not None:
        endpoints = replace(
            endpoints,
            hugging_face=settings.hf_endpoint,
            model_scope=settings.ms_endpoint,
            offline=settings.offline,
        )
    return ModelStore(
        root=home.store,
        run_models=home.run_models,
        clock=SystemClock(),
        sources=partial(open_source, endpoints=endpoints),
        keeper=keeper or key_keeper(settings),
        recorder=recorder,
        actor=actor,
    )


def key_keeper(settings: Settings | None) -> Keeper:
    """Return the keeper of all sealing keys; it asks for a passphrase only once.

    The result reads nothing until called, and raises `SealingKeyMissing` if no key source is configured.
    """
    from ashore.kit.sealing.keysource import no_key_source

    source = settings.sealing_key if settings else ""
    return cache(lambda: open_key_source(source) if source else no_key_source())


def open_key_source(text: str) -> KeyKeeper:
    """Return the keeper behind `keyring:FILE`, `passphrase:FILE` or `transit:URL`. Raises `InvalidSpec`."""
    from ashore.kit.processes import forbid_core_dumps
    from ashore.kit.sealing.keysource import open_keeper, parse_key_source

    forbid_core_dumps()
    return open_keeper(parse_key_source(text), SystemClock())


def sealing_notes(store: ModelStore, plan: Plan) -> tuple[str, ...]:
    """Return what the operator must know about the sealed models of a plan."""
    from ashore.kit.sealing.clearfiles import swap_in_use

    areas = swap_in_use()
    sealed = [m.reference for m in plan.models if m.in_store and m.reference and _is_sealed(store, m)]
    if not areas or not sealed:
        return ()
    return (
        f"{', '.join(sealed)} is sealed, and this machine swaps to {', '.join(areas)}: unsealed weights and keys may "
        "be written there; switch swap off (swapoff -a) or encrypt it",
    )


def _is_sealed(store: ModelStore, model: ModelPlan) -> bool:
    try:
        return store.resolve(model.reference).sealed is not None
    except (UnknownModel, UnknownVariant, InvalidRequest):
        return False


def open_model_files(store: ModelStore, home: Home, model: ModelPlan, *, without_weights: bool = False) -> ModelFiles:
    """Return the files of a planned model, verified against the store. `without_weights`: only those that API workers
    read; the weights may be in a bucket.

    Raises:
        WeightsAway: its weights are in a bucket.
        CorruptBlob: a file was altered or cut short.
        UnsupportedModel: there is no tokenizer, which every worker needs.
    """
    from ashore.data.engines import files_by_name, reads_store

    if (made_up := files_by_name(model.name, home.run)) is not None:
        return made_up
    remote = not reads_store(model.options)
    reference = text_of(store, model.name).reference if remote else model.reference
    files = stored_files(store, reference, without_weights=without_weights or remote)
    if not files.plain_bytes and not (Path(files.directory) / "tokenizer.json").is_file():
        raise UnsupportedModel(
            f"{files.name} has no tokenizer.json in {files.directory}",
            hint=f"pull it again: `ashore model pull {model.name}{' --text-only' if remote else ''}`",
        )
    if model.rungs:
        rungs = tuple(stored_files(store, rung, without_weights=without_weights) for rung in model.rungs)
        if sealed := [one.name for one in (files, *rungs) if one.sealed is not None]:
            raise UnsupportedModel(
                f"{sealed[0]} is sealed, and a ladder opens no sealed models",
                hint="remove [model.ladder], or unseal it",
            )
        files = msgspec.structs.replace(files, rungs=rungs)
    if remote:
        return msgspec.structs.replace(files, name=model.name, format="remote", weights="", sealed=None)
    return files


def text_of(store: ModelStore, name: str) -> StoredModel:
    """Return tokenizer and template, with or without weights, of a model that another server runs.

    Args:
        store: The model store; nothing is fetched.
        name: Store name or source.

    Raises:
        UnknownModel: the store has neither.
    """
    from ashore.kit.store import TEXT, is_source, name_of_source

    try:
        return store.resolve(name)
    except (UnknownModel, UnknownVariant):
        return store.resolve(f"{name_of_source(name) if is_source(name) else name.partition('@')[0]}@{TEXT}")


def stored_files(store: ModelStore, reference: str, *, without_weights: bool = False) -> ModelFiles:
    """Open a model of the store for an engine.

    Raises:
        UnknownModel, UnknownVariant: there is none of this name.
        SealingKeyMissing, CorruptBlob: it is sealed and cannot be opened, or is damaged.
    """
    from ashore.data.engines import ModelFiles

    opened = store.open(reference, without_weights=without_weights)
    return ModelFiles(
        name=reference,
        digest=opened.digest,
        directory=str(opened.directory),
        format=opened.format,
        weights=opened.weights,
        sealed=opened.sealed,
        plain_bytes=store.resolve(reference).shape.architecture == HEAD,
    )
