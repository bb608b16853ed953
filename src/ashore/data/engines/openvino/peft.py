"""A LoRA adapter as the `peft` library saves it: two small matrices for each projection that it changes.

Source: peft's checkpoint format (adapter_config.json, adapter_model.safetensors) and its LoraConfig.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import CorruptBlob, UnknownModel, UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.kit.store import read_tensors

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_TENSOR = re.compile(r"(?:base_model\.model\.)?(?:model\.)?(layers\.\d+\..+)\.lora_(A|B)(?:\.default)?\.weight")


class PeftFile(msgspec.Struct, frozen=True):
    """The part of adapter_config.json that changes the meaning of the matrices."""

    peft_type: str
    r: int
    lora_alpha: float
    use_rslora: bool = False
    use_dora: bool = False
    bias: str = "none"
    fan_in_fan_out: bool = False
    modules_to_save: list[str] | None = None
    rank_pattern: dict[str, float] | None = None
    alpha_pattern: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class LowRank:
    """The term added to one projection: `x @ down_RI.T @ up_OR.T`, with the adapter's scale in `up_OR`.

    Shapes in names: R rank, I inputs, O outputs.
    """

    down_RI: NDArray[np.float32]
    up_OR: NDArray[np.float32]

    @property
    def rank(self) -> int:
        return int(self.down_RI.shape[0])


def read_adapter(directory: Path) -> dict[str, LowRank]:
    """Return what the adapter adds to each projection, by names like `layers.0.self_attn.q_proj`.

    Raises:
        UnknownModel: the folder or a file of it is missing.
        CorruptBlob: a file does not match its name.
        UnsupportedModel: it is not plain LoRA over projections of a decoder's layers; the message names the difference.
    """
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise UnknownModel(
                f"{directory} has no {name}", hint="an adapter is a directory saved by peft, in safetensors"
            )
    with foreign_errors(f"the adapter {directory.name} cannot be read", hint="save the adapter again with peft"):
        return _read(directory)


def _read(directory: Path) -> dict[str, LowRank]:
    config = msgspec.json.decode((directory / CONFIG).read_bytes(), type=PeftFile)
    _refuse_other_kinds(config, directory)
    halves: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, values in read_tensors(directory / WEIGHTS).items():
        found = _TENSOR.fullmatch(name)
        if found is None:
            raise UnsupportedModel(
                f"{directory.name} has the unsupported tensor {name!r}",
                hint="only LoRA matrices of layer projections are supported",
            )
        halves.setdefault(found[1], {})[found[2]] = values
    return {module: _low_rank(module, pair, config, directory) for module, pair in halves.items()}


def _refuse_other_kinds(config: PeftFile, directory: Path) -> None:
    others = {
        f"peft_type {config.peft_type[:40]!r}": config.peft_type.upper() != "LORA",
        "DoRA": config.use_dora,
        f"bias {config.bias[:40]!r}": config.bias != "none",
        f"modules_to_save {str(config.modules_to_save)[:80]}": bool(config.modules_to_save),
        "fan_in_fan_out": config.fan_in_fan_out,
    }
    found = [words for words, holds in others.items() if holds]
    if found:
        raise UnsupportedModel(
            f"{directory.name} is not plain LoRA: {', '.join(found)}", hint="merge it into a checkpoint"
        )


def _low_rank(module: str, pair: Mapping[str, NDArray[np.float32]], config: PeftFile, directory: Path) -> LowRank:
    down, up = pair.get("A"), pair.get("B")
    if down is None or up is None or down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
        seen = {half: list(values.shape) for half, values in pair.items()}
        raise CorruptBlob(
            f"{directory.name}: the matrices of {module} are {seen}; expected A [r, inputs] and B [outputs, r]",
            hint="save the adapter again with peft",
        )
    rank = int(_of_pattern(module, config.rank_pattern, config.r))
    if down.shape[0] != rank:
        raise CorruptBlob(
            f"{directory.name}: {module} has rank {down.shape[0]}; {CONFIG} says {rank}",
            hint="the weights and the configuration belong to different adapters",
        )
    alpha = _of_pattern(module, config.alpha_pattern, config.lora_alpha)
    scale = alpha / (sqrt(rank) if config.use_rslora else rank)
    return LowRank(np.ascontiguousarray(down), np.ascontiguousarray(up * np.float32(scale)))


def _of_pattern(module: str, pattern: Mapping[str, float] | None, default: float) -> float:
    """Return the value of the first pattern that matches the end of `module`, as peft resolves it."""
    for expression, value in (pattern or {}).items():
        try:
            if re.fullmatch(rf"(?:.*\.)?(?:{expression})", f"model.{module}"):
                return value
        except re.error as error:
            raise CorruptBlob(f"{CONFIG} has the pattern {expression!r}: {error}", hint="correct it") from error
    return default
