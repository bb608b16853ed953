"""LoRA: small matrices beside frozen projections, in peft's format, which engines load.

An adapter is a folder as saved by peft, plus `ashore.json` with its recipe. It appears under its name atomically.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from ashore.core.errors import MissingExtra, UnsupportedModel
from ashore.data.engines import torch_libraries
from ashore.kit.extras import how_to_install
from ashore.kit.folders import make_folder
from ashore.kit.store import StoredModel, VariantRecipe
from ashore.kit.wholefile import opened

PROJECTIONS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""All linear layers of a decoder block: adapters on attention alone learn less.

Source: "LoRA Without Regret" (Thinking Machines, 2025), section on layers.
"""
RECIPE: Final = "ashore.json"
CONFIG: Final = "adapter_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraOptions:
    """Shape of an adapter."""

    rank: int = 16
    alpha: int = 32
    rank_stabilised: bool = False
    """Scale by alpha / sqrt(rank) instead of alpha / rank. Source: rsLoRA, arXiv 2312.03732."""
    targets: tuple[str, ...] = PROJECTIONS


def add_lora(model: Any, options: LoraOptions, *, seed: int) -> Any:
    """Freeze a `PreTrainedModel`, add new adapters to it, and return peft's wrapper.

    Train `peft_model.get_base_model()`, the same object with adapters inside. A new adapter changes no answer. Equal
    seeds give equal adapters.

    Raises:
        MissingExtra: peft is not installed.
        UnsupportedModel: the model has none of the projections.
    """
    torch, _ = torch_libraries()
    peft = _peft()
    torch.manual_seed(seed)
    config = peft.LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        use_rslora=options.rank_stabilised,
        target_modules=list(options.targets),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        with _unworried():
            return peft.get_peft_model(model, config)
    except ValueError as error:
        raise UnsupportedModel(
            f"{type(model).__name__} does not support adapters on {', '.join(options.targets)}: {error}",
            hint="train it with --method full",
        ) from error


def save_adapter(peft_model: Any, folder: Path, *, parent: StoredModel) -> Path:
    """Write the adapter to `folder` and return it. Equal parameters give equal bytes."""
    peft_model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": parent.name, "target_modules": sorted(config["target_modules"])}
    (folder / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True), encoding="utf-8")
    return folder


def open_adapter(model: Any, folder: Path) -> Any:
    """Return peft's wrapper of `model` with the adapter in `folder`."""
    with _unworried():
        return _peft().PeftModel.from_pretrained(model, str(folder))


def merge_adapter(model: Any, folder: Path) -> Any:
    """Return `model` with the adapter in `folder` added to its weights, in their own precision."""
    return open_adapter(model, folder).merge_and_unload()


def keep_adapter(made: Path, home: Path, name: str, *, parent: StoredModel, recipe: VariantRecipe) -> Path:
    """Move an adapter to `home/NAME`, replacing an existing one, and return that folder.

    Args:
        made: The folder that `save_adapter` wrote, on the same file system; it is gone afterwards.
        home: Where the adapters of this installation lie; made where it is missing.
        name: Of the adapter.
        parent: The model that it was trained on.
        recipe: How.
    """
    notes = {"parent": parent.reference, "parent_digest": parent.digest, "recipe": recipe.to_notes()}
    (made / RECIPE).write_text(json.dumps(notes, indent=1, ensure_ascii=False), encoding="utf-8")
    for path in (*made.iterdir(), made):
        _sync(path)
    make_folder(home, mode=0o700)
    target, old = home / name, home / f".{name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    made.rename(target)
    _sync(home)
    shutil.rmtree(old, ignore_errors=True)
    return target


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingExtra(f"adapters need peft ({error})", hint=how_to_install("train")) from error
    return cast(Any, peft)


@contextmanager
def _unworried() -> Iterator[None]:
    """Hide peft's warning about a name that transformers will change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _sync(path: Path) -> None:
    with opened(path, os.O_RDONLY) as descriptor:
        os.fsync(descriptor)
