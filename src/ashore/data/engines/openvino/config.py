"""Translates `EngineOptions` for this engine: plugin properties, the size of the KV cache, the step time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ashore.core.errors import InvalidSpec
from ashore.core.nearest import did_you_mean
from ashore.data.engines.model import EngineOptions
from ashore.data.engines.openvino.card import CARD
from ashore.data.engines.openvino.ladder import Objective
from ashore.data.engines.options import check_kv_tokens
from ashore.data.engines.processor import is_masked

_OWN_OPTIONS = tuple(name for name in CARD.options.known if name != name.upper())

_LARGEST_DEFAULT_KV_BYTES = 4 << 30
_SHARE_OF_FREE_MEMORY = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """How one replica of this engine runs."""

    properties: dict[str, str | int | float | bool] = field(default_factory=dict)
    """For the CPU plugin, by its own names."""
    max_stall_s: float = 0.1
    """Most seconds that prompts may add to a step in which other sequences are generating."""
    may_pair: bool = True
    """Whether a second compilation for large steps may be made where it pays; it costs memory."""
    looks_up: bool = False
    """Whether sequences propose tokens from their own text and earlier answers."""
    objective: Objective = field(default_factory=Objective)
    """Objective of a ladder."""
    max_prompt_step_s: float = 0.25
    """Most seconds of a step with prompts alone: how long a new prompt may have to wait for its turn."""


def run_config(options: EngineOptions) -> RunConfig:
    """Translate the options. Upper-case names are passed to the plugin unchanged, and override our choices.

    Threads are not pinned. The plugin would pin the n-th one of every host to the n-th processor, so that two hosts
    would compete for the same ones: two hosts on two cores took 24.5 ms a token pinned and 17.3 unpinned, and one of
    them up to a third longer than the other; a single host shows no difference.

    `full_precision` computes and caches in single precision: the result of a seed then does not depend on the batch.

    Raises:
        InvalidSpec: a lower-case option that this engine does not know.
    """
    own: dict[str, str | int | float | bool] = {}
    given: dict[str, str | int | float | bool] = {}
    for name, value in options.extra.items():
        if name == name.upper():
            given[name] = value
        elif name in _OWN_OPTIONS:
            own[name] = value
        else:
            raise InvalidSpec(f"the openvino engine has no option {name!r}", hint=did_you_mean(name, _OWN_OPTIONS))
    properties: dict[str, str | int | float | bool] = {
        "PERFORMANCE_HINT": "LATENCY",
        "KV_CACHE_PRECISION": "u8",
        "ENABLE_CPU_PINNING": False,
    }
    if own.get("full_precision"):
        properties.update(INFERENCE_PRECISION_HINT="f32", KV_CACHE_PRECISION="f32", DYNAMIC_QUANTIZATION_GROUP_SIZE=0)
    if is_masked():  # the plugin itself would still compute in BF16, for which oneDNN then has no product
        properties["INFERENCE_PRECISION_HINT"] = "f32"
    if options.threads:
        properties["INFERENCE_NUM_THREADS"] = options.threads
    stall_ms, ttft_ms, tpot_ms = (
        _milliseconds(name, own.get(name, usual))
        for name, usual in (("max_stall_ms", 100), ("rung_ttft_ms", 1000), ("rung_tpot_ms", 60))
    )
    return RunConfig(
        properties={**properties, **given},
        max_stall_s=stall_ms / 1000,
        objective=Objective(ttft_s=ttft_ms / 1000, tpot_s=tpot_ms / 1000),
        looks_up=bool(own.get("lookup", False)),
        may_pair=bool(own.get("second_form", True)) and not own.get("full_precision"),
    )


def _milliseconds(name: str, value: object) -> float:
    if isinstance(value, str) or not isinstance(value, int | float) or not 1 <= value <= 60_000:
        raise InvalidSpec(f"{name} is {value!r}; expected a number from 1 to 60000")
    return float(value)


def is_full_precision(properties: Mapping[str, object]) -> bool:
    """Return whether these properties make the answer to a seed independent of the batch."""
    wanted = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
    return all(properties.get(name) == value for name, value in wanted.items())


def choose_kv_tokens(options: EngineOptions, *, context_tokens: int, bytes_per_token: int, free_bytes: int) -> int:
    """Return how many tokens of KV cache to reserve: as configured, else what memory and load can use.

    Raises:
        KvCacheExhausted: the configured size does not fit into memory.
    """
    if options.kv_tokens:
        check_kv_tokens(options.kv_tokens, bytes_per_token=bytes_per_token, free_bytes=free_bytes)
        return options.kv_tokens
    budget = min(int(free_bytes * _SHARE_OF_FREE_MEMORY), _LARGEST_DEFAULT_KV_BYTES)
    return max(1, min(context_tokens * options.max_sequences, budget // bytes_per_token))
