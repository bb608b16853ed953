"""A LoRA adapter as the `peft` library saves it: two small matrices for each projection that it changes.

Source: peft's checkpoint format (adapter_config.json, adapter_model.safetensors) and its LoraConfig.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import CorruptBlob, InvalidSpec, UnknownModel, UnsupportedModel
from ashore.core.expressions import compile_re2
from ashore.core.foreign import foreign_errors
from ashore.kit.store import read_tensors

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_TENSOR = re.compile(r"(?:base_model\.model\.)?(?:model\.)?(layers\.\d+\..+)\.lora_(A|B)(?:\.default)?\.weight")
MOST_PATTERNS: Final = 1_024
"""Of `rank_pattern` and of `alpha_pattern`. A model of 128 layers has 896 projections."""
LARGEST_WEIGHT: Final = 1e6
"""A step computes every adapter of its batch for every token, so what overflows in one would be felt by all."""
_Patterns = Sequence[tuple[Any, float]]


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
    ranks, alphas = _compiled(config.rank_pattern), _compiled(config.alpha_pattern)
    return {
        module: _low_rank(
            module,
            pair,
            rank=int(_of_pattern(module, ranks, config.r)),
            alpha=_of_pattern(module, alphas, config.lora_alpha),
            rslora=config.use_rslora,
            directory=directory,
        )
        for module, pair in halves.items()
    }


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


def _low_rank(
    module: str,
    pair: Mapping[str, NDArray[np.float32]],
    *,
    rank: int,
    alpha: float,
    rslora: bool,
    directory: Path,
) -> LowRank:
    down, up = pair.get("A"), pair.get("B")
    if down is None or up is None or down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
        seen = {half: list(values.shape) for half, values in pair.items()}
        raise CorruptBlob(
            f"{directory.name}: the matrices of {module} are {seen}; expected A [r, inputs] and B [outputs, r]",
            hint="save the adapter again with peft",
        )
    if down.shape[0] != rank:
        raise CorruptBlob(
            f"{directory.name}: {module} has rank {down.shape[0]}; {CONFIG} says {rank}",
            hint="the weights and the configuration belong to different adapters",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        up = up * np.float32(alpha / (sqrt(rank) if rslora else rank))
    for half, values in (("A", down), ("B", up)):
        if not np.all(np.abs(values) <= LARGEST_WEIGHT):  # false for NaN, too
            raise CorruptBlob(
                f"{directory.name}: the matrix {half} of {module} has numbers that are not finite, or beyond "
                f"{LARGEST_WEIGHT:,.0f}",
                hint="the training of the adapter failed; train it again with a lower learning rate",
            )
    return LowRank(np.ascontiguousarray(down), np.ascontiguousarray(up))


def _compiled(pattern: Mapping[str, float] | None) -> _Patterns:
    pattern = pattern or {}
    if len(pattern) > MOST_PATTERNS:
        raise CorruptBlob(f"{CONFIG} has {len(pattern):,} patterns; expected at most {MOST_PATTERNS:,}")
    try:
        return [(compile_re2(rf"(?:.*\.)?(?:{one})", f"the pattern {one[:80]!r}"), v) for one, v in pattern.items()]
    except InvalidSpec as error:
        raise CorruptBlob(f"{CONFIG}: {error.message}", hint=error.hint) from error


def _of_pattern(module: str, patterns: _Patterns, default: float) -> float:
    """Return the value of the first pattern that matches the end of `module`, as peft resolves it."""
    return next((value for one, value in patterns if one.fullmatch(f"model.{module}")), default)
