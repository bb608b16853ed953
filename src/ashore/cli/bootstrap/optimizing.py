"""Builders of quantised, pruned, distilled and trained models, and of what evaluates them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from ashore.cli.bootstrap.stores import stored_files
from ashore.cli.bootstrap.variants import prepare_variant, quietly
from ashore.core.errors import UnknownModel
from ashore.core.kinds import EngineKind
from ashore.kit.folders import make_folder
from ashore.kit.settings import Home, Settings

if TYPE_CHECKING:
    from ashore.kit.store import ModelStore, Progress
    from ashore.lab.evaluation import Subject
    from ashore.lab.optimize.distilling import Distiller
    from ashore.lab.optimize.pruning import Pruner
    from ashore.lab.training import SftPlan, SftRequest, SftRun


def plan_sft(
    home: Home,
    store: ModelStore,
    request: SftRequest,
    *,
    say: Callable[[str], None],
    told: Callable[[str, int, int], None],
) -> SftPlan:
    """Return the plan of a fine-tuning on this machine; the shard that is fetched is in the home's cache. See
    `training.plan_sft`."""
    from ashore.data.engines import read_inventory
    from ashore.lab import training

    return training.plan_sft(
        store, request, available_bytes=read_inventory().memory_bytes, cache=home.cache / "data", say=say, told=told
    )


def sft_run(home: Home, store: ModelStore, plan: SftPlan, *, say: Callable[[str], None]) -> SftRun:
    """Return the runner of a plan; unfinished runs are in the home's cache, adapters in its `adapters`."""
    from ashore.lab.training import SftRun

    return SftRun(
        store, plan, runs=home.cache / "training", adapters=home.adapters, logs=home.logs / "training", say=say
    )


def distiller(store: ModelStore, home: Home, *, told: Callable[[str, float], None] = quietly) -> Distiller:
    """Return the distiller; teachers' outputs and unfinished runs are in the home's cache.

    A teacher without a variant runs on `openvino` in half precision if that supports its family.
    """
    from ashore.data.engines import DEFAULT, read_inventory
    from ashore.lab.optimize.distilling import Distiller

    def open_teacher(reference: str, *, kind: EngineKind | None) -> AbstractContextManager[Subject]:
        model = store.resolve(reference)
        if kind is None and not model.variant and model.shape.architecture in (DEFAULT.decoders or ()):
            kind = DEFAULT.kind
        return open_subject(store, home, reference, kind=kind, told=told)

    return Distiller(store, home.cache / "distill", open_teacher, free_memory=lambda: read_inventory().memory_bytes)


def pruner(settings: Settings, store: ModelStore) -> Pruner:
    """Return the pruner; unfinished runs are in the home's cache."""
    from ashore.data.engines import read_inventory
    from ashore.lab.optimize.pruning import Pruner

    return Pruner(store, settings.home.cache / "pruning", free_memory=lambda: read_inventory().memory_bytes)


@contextmanager
def open_subject(
    store: ModelStore,
    home: Home,
    name: str,
    *,
    kind: EngineKind | None = None,
    options: Mapping[str, str | int | float | bool] = {},
    threads: int = 0,
    told: Callable[[str, float], None] = quietly,
    progress: Progress | None = None,
) -> Iterator[Subject]:
    """Open `name[@variant]`, or a `fake:` model, for evaluation behind an engine in its own host.

    The bare name of a GGUF or safetensors model is evaluated on `openvino` as its variant `fp16`, which has the same
    weights, which is made if absent.

    Args:
        store: The model store.
        home: Folder of the hosts' logs.
        name: Reference; pulled first if it is only in the catalogue.
        kind: Engine; default: the one that reads the model's stored form.
        options: Of the engine, by its own names, such as `full_precision`.
        threads: 0 means all.
        told: Called while preparing.
        progress: Called while pulling.

    Raises:
        UnknownModel, UnknownVariant: there is no such model.
        MemoryFull: it would not fit beside what runs.
        AshoreError: the engine could not load it.
    """
    from ashore.data.engines import EngineOptions, card_of, card_reading, files_by_name, read_inventory
    from ashore.lab.evaluation import check_memory, memory_needed, open_hosted

    log = home.logs / "evaluate.log"
    make_folder(log.parent)
    if (files := files_by_name(name, home.run)) is not None:
        with open_hosted(files, EngineOptions(kind=card_reading(files.format).kind), log=log) as subject:
            yield subject
        return
    try:
        model = store.resolve(name)
    except UnknownModel:
        model = store.pull(name, progress=progress)
    card = card_of(kind) if kind is not None else card_reading(model.format)
    if card.exact and model.format != card.native and not model.variant:
        model = prepare_variant(store, model, card.exact, told=told)
    kind = card.kind
    needed = memory_needed(kind=kind, weight_bytes=model.weight_bytes, num_parameters=model.shape.num_parameters)
    check_memory(needed, free_bytes=read_inventory().memory_bytes, name=model.reference)
    files = stored_files(store, model.reference)
    engine = EngineOptions(kind=kind, max_sequences=16, threads=threads, extra=dict(options))
    with open_hosted(files, engine, log=log) as subject:
        yield subject
