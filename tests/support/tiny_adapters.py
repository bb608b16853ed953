"""Random LoRA adapters over the tiny models, as peft saves them, and the same merged into a checkpoint.

All numbers are small multiples of powers of two, so that merged weights are exact in half precision: what a merged
model answers then differs from base and adapter in the order of additions alone.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

PROJECTIONS = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip


def coarsen(base: Path) -> Path:
    """Round the weights of a checkpoint to multiples of 1/256, in place, and return it."""
    weights = load_file(base / "model.safetensors")
    save_file({n: np.round(w * 256) / 256 for n, w in weights.items()}, base / "model.safetensors")
    return base


def make_adapter(
    folder: Path, base: Path, *, seed: int, rank: int = 4, targets: tuple[str, ...] = PROJECTIONS, **config: Any
) -> Path:
    """Write an adapter for the checkpoint in `base` to `folder` and return it. `config` goes into its configuration."""
    rng = np.random.default_rng(seed)
    weights = load_file(base / "model.safetensors")
    tensors = {}
    for name, weight in weights.items():
        module = name.removesuffix(".weight")
        if module.endswith(targets):
            outputs, inputs = weight.shape
            stem = f"base_model.model.{module}"
            tensors[f"{stem}.lora_A.weight"] = rng.integers(-1, 2, (rank, inputs)).astype(np.float32)
            tensors[f"{stem}.lora_B.weight"] = rng.integers(-3, 4, (outputs, rank)).astype(np.float32) / 64
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": list(targets), **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def merge(folder: Path, base: Path, adapter: Path, *, scale: float = 2.0) -> Path:
    """Write to `folder` the checkpoint in `base` with the adapter added to its weights, and return it."""
    shutil.copytree(base, folder)
    weights, matrices = load_file(base / "model.safetensors"), load_file(adapter / "adapter_model.safetensors")
    for name in [n for n in matrices if n.endswith(".lora_A.weight")]:
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        weights[f"{module}.weight"] += scale * matrices[name.replace("lora_A", "lora_B")] @ matrices[name]
    save_file(weights, folder / "model.safetensors")
    return folder
