"""The one module that knows concrete adapters: it builds things and hands them over.

Only the command line and the entry points of processes call it. Everything heavy is imported inside the function that
needs it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ashore.core import SystemClock
from ashore.errors import UnknownModel, UnknownVariant

if TYPE_CHECKING:
    from ashore.settings import Home
    from ashore.store import ModelStore, StoredModel

INT8 = "int8"


def build_store(home: Home) -> ModelStore:
    """Return the model store of this home. Makes the folders that are missing."""
    from ashore.store import ModelStore

    home.create()
    return ModelStore(root=home.store, run_models=home.run_models, clock=SystemClock())


def make_ready(
    store: ModelStore, name: str, *, offline: bool = False, say: Callable[[str], None] = lambda line: None
) -> StoredModel:
    """Return the stored form of `name` that the CPU engine serves: pulled if absent, and prepared once.

    A decoder gets the variant `int8`, which is kept; an encoder is served as pulled. May be called twice: the second
    call only looks. When the machine dies halfway, the next call starts that step again.

    Args:
        store: Where models lie.
        name: Catalogue name, store name, source, or either with `@variant`.
        offline: Do not fetch what is absent.
        say: Told, in a few words, what takes time.

    Raises:
        UnknownModel: it is not in the store, and cannot be fetched.
    """
    try:
        model = store.resolve(name)
    except UnknownModel:
        if offline:
            raise
        say(f"pulling {name}")
        model = store.pull(name)
    if model.variant or model.format == "openvino" or model.shape.architecture == "bert":
        return model
    return prepare_variant(store, model, INT8, say=say)


def prepare_variant(
    store: ModelStore, parent: StoredModel, variant: str, *, say: Callable[[str], None] = lambda line: None
) -> StoredModel:
    """Return `parent@variant`, made now if it is absent. Only `int8` can be made here."""
    try:
        return store.resolve(f"{parent.name}@{variant}")
    except (UnknownModel, UnknownVariant):
        if variant != INT8:
            raise
    from ashore.engines.openvino.prepare import prepare_int8

    say(f"preparing {parent.name}@{variant} for OpenVINO (once)")
    files = store.open(parent.reference)
    scratch = Path(tempfile.mkdtemp(prefix=f"{parent.name}-{variant}-", dir=store.root))
    try:
        recipe = prepare_int8(Path(files.directory), files.weights, scratch, progress=None)
        return store.add_variant(
            parent, variant, scratch, format="openvino", weights="openvino_model.xml", recipe=recipe
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
