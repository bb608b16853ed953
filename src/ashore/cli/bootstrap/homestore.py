"""The store of a home as commands and operations open it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ashore.cli.bootstrap.athome import settings_of
from ashore.cli.bootstrap.records import command_recorder
from ashore.cli.bootstrap.stores import build_store, key_keeper
from ashore.kit.store import ModelStore, StoredModel


def open_store(config: Path | None = None) -> ModelStore:
    """Return the store of this home; `config`: an ashore.toml with its settings."""
    settings = settings_of(config)
    return build_store(settings.home, settings)


@contextmanager
def recorded_store(config: Path | None, actor: str) -> Iterator[ModelStore]:
    """Yield a store whose acts, done by `actor`, are in the audit log when the block ends."""
    settings = settings_of(config)
    settings.home.create()
    keeper = key_keeper(settings)
    with command_recorder(settings.home, keeper) as recorder:
        yield build_store(settings.home, settings, recorder, actor=actor, keeper=keeper)


def model_json(model: StoredModel) -> dict[str, Any]:
    """Return a stored model in the fields that every `--json` uses."""
    document = dataclasses.asdict(model)
    document["sealed"] = {"key_id": model.sealed.key_id} if model.sealed else None
    return {"reference": model.reference, **document, "num_bytes": model.num_bytes}
