"""Models of the store as torch modules, and back as folders that `ModelStore.add_derived` takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ashore.core.errors import DiskFull, UnsupportedModel
from ashore.data.engines import TorchDtype, load_torch_model, torch_libraries
from ashore.kit.folders import make_folder
from ashore.kit.store import ModelFilesOnDisk

TRAINABLE = ("gguf", "safetensors")
"""Forms of weights that training can start from."""


def load_checkpoint(files: ModelFilesOnDisk, *, dtype: TorchDtype = "float32") -> Any:
    """Return the `PreTrainedModel` of a stored model, in evaluation mode, with tied embeddings kept tied.

    Args:
        files: From `ModelStore.reading` (which opens sealed weights too).
        dtype: Type of the parameters in memory.

    Raises:
        MissingExtra, EngineFailed: as `load_torch_model`.
        UnsupportedModel: a variant that only an engine can run, such as OpenVINO's.
    """
    if files.format not in TRAINABLE:
        raise UnsupportedModel(
            f"{files.reference} has the format {files.format!r}, which cannot be trained",
            hint=f"name the original model: {files.reference.partition('@')[0]}",
        )
    return load_torch_model(files.directory, files.format, files.weights, name=files.reference, dtype=dtype)


def save_checkpoint(model: Any, parent: ModelFilesOnDisk, folder: Path) -> Path:
    """Write a model in half precision as `config.json`, `generation_config.json` and safetensors; return the folder.

    Equal parameters give equal bytes. BF16 is taken where a weight does not fit F16 (beyond 65,504).

    Args:
        model: A `PreTrainedModel`; it is not changed.
        parent: Gives the token ids that end a text.
        folder: Made if it does not exist.

    Raises:
        DiskFull: no room; what was written is left for the caller's scratch folder to clean.
        UnsupportedModel: a weight is not a number (training diverged).
    """
    torch, _ = torch_libraries()
    state = _untied(model.state_dict())
    floats = [t for t in state.values() if t.is_floating_point() and t.numel()]
    if not all(bool(torch.isfinite(t).all()) for t in floats):
        raise UnsupportedModel(
            f"the model trained from {parent.reference} has weights that are not finite numbers",
            hint="training diverged; lower the learning rate",
        )
    largest = max(float(t.abs().max()) for t in floats)
    dtype = torch.float16 if largest <= torch.finfo(torch.float16).max else torch.bfloat16
    generation = json.loads((parent.directory / "generation.json").read_text(encoding="utf-8"))
    make_folder(folder)
    halves = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}
    try:
        model.save_pretrained(folder, state_dict=halves, safe_serialization=True)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        ids = {"bos_token_id": generation["bos_token_id"], "eos_token_id": generation["eos_token_ids"]}
        config |= {"dtype": str(dtype).removeprefix("torch."), **ids}
        _write(folder / "config.json", config)
        _write(folder / "generation_config.json", {**ids, **generation.get("defaults", {})})
    except OSError as error:
        raise DiskFull(f"writing the checkpoint to {folder}: {error}", hint="free some space and try again") from error
    return folder


def _untied(state: dict[str, Any]) -> dict[str, Any]:
    """Return each tensor once: of names that share memory (tied embeddings) the first one."""
    return dict({t.data_ptr(): (name, t) for name, t in reversed(state.items())}.values())


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, sort_keys=True), encoding="utf-8")
