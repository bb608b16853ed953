"""The store of a home as the commands on models open it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ashore.cli.athome import settings_of
from ashore.cli.recorded import os_user
from ashore.store import ModelStore, StoredModel

AsJson = Annotated[bool, Parameter(name="--json", negative=())]


def open_store(config: Path | None = None) -> ModelStore:
    """Return the store of this home; `config`: an ashore.toml with its settings."""
    from ashore.bootstrap import build_store

    settings = settings_of(config)
    return build_store(settings.home, settings)


@contextmanager
def recorded_store(config: Path | None) -> Iterator[ModelStore]:
    """Give a store whose acts are in the audit log when the block ends."""
    from ashore.bootstrap import build_store, command_recorder, key_keeper

    settings = settings_of(config)
    settings.home.create()
    keeper = key_keeper(settings)
    with command_recorder(settings.home, keeper) as recorder:
        yield build_store(settings.home, settings, recorder, actor=os_user(), keeper=keeper)


def print_json(document: Any) -> None:
    """Print what a `--json` asked for."""
    print(json.dumps(document, indent=1, ensure_ascii=False, default=str))


def model_json(model: StoredModel) -> dict[str, Any]:
    """Return a stored model in the words that every `--json` uses."""
    document = dataclasses.asdict(model)
    document["sealed"] = {"key_id": model.sealed.key_id} if model.sealed else None
    return {"reference": model.reference, **document, "num_bytes": model.num_bytes}
