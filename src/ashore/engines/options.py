"""The options of each engine kind, `[model.engine] options`: which only tune, and which say what runs. One table.

An option that tunes changes how fast an engine runs, how much memory it takes or how exactly it computes. Everything
else (a program, a library, a file, an address, a secret) says what runs, and only ashore.toml may say that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ashore.core import EngineKind

OptionValue = str | int | float | bool
TUNING: Final[Mapping[EngineKind, tuple[str, ...]]] = MappingProxyType({
    "fake": (),
    "llamacpp": ("kv_cache",),
    "openvino": (
        "full_precision", "max_stall_ms", "second_form",
        # of the CPU plugin
        "DYNAMIC_QUANTIZATION_GROUP_SIZE", "ENABLE_CPU_PINNING", "ENABLE_CPU_RESERVATION", "ENABLE_HYPER_THREADING",
        "EXECUTION_MODE_HINT", "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "KEY_CACHE_GROUP_SIZE",
        "KEY_CACHE_PRECISION", "KV_CACHE_PRECISION", "NUM_STREAMS", "PERFORMANCE_HINT", "SCHEDULING_CORE_TYPE",
        "VALUE_CACHE_GROUP_SIZE", "VALUE_CACHE_PRECISION",
    ),
    "torch": (),
    "vllm": (
        "start_timeout_s", "task",
        # flags of `vllm serve`
        "block_size", "cpu_offload_gb", "data_parallel_size", "disable_custom_all_reduce", "dtype",
        "enable_chunked_prefill", "enable_expert_parallel", "enforce_eager", "gpu_memory_utilization",
        "kv_cache_dtype", "long_prefill_token_threshold", "max_long_partial_prefills", "max_num_batched_tokens",
        "max_num_partial_prefills", "max_seq_len_to_capture", "num_scheduler_steps", "pipeline_parallel_size",
        "quantization", "scheduling_policy", "seed", "swap_space", "tensor_parallel_size",
    ),
})  # fmt: skip
"""Options that tune. A release that somebody makes over the API may have these and no other."""

OPERATORS: Final[Mapping[EngineKind, tuple[str, ...]]] = MappingProxyType({
    "fake": (),
    "llamacpp": ("library",),
    "openvino": (),
    "torch": (),
    "vllm": ("api_key", "executable", "url", "vocab_size"),
})  # fmt: skip
"""Options that say what runs, as far as their names are ours. The openvino engine also gives every name in capitals to
its plugin, and vllm makes a flag of every other name; those are the operator's too."""

LIMITS: Final = ("context_tokens", "kv_tokens", "max_sequences", "prefix_cache", "threads")
"""Fields of `EngineOptions` that stand among the options of a release; they tune on every engine."""

_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]{0,63}")


def known_options(kind: EngineKind) -> tuple[str, ...]:
    """Return the names that an engine kind knows, sorted."""
    return tuple(sorted((*TUNING[kind], *OPERATORS[kind])))


def is_passed_on(kind: EngineKind, name: str) -> bool:
    """Return whether an engine hands a name that ashore does not know to the software behind it."""
    return kind == "vllm" or (kind == "openvino" and name == name.upper())


def is_tame(value: OptionValue) -> bool:
    """Return whether a value is a number, a flag or a word: nothing that could be a path or another argument."""
    return not isinstance(value, str) or bool(_WORD.fullmatch(value))
