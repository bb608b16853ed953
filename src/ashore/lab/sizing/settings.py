"""The ashore.toml of a choice."""

from __future__ import annotations

import json
from math import ceil

from ashore.lab.sizing.choose import Option
from ashore.lab.sizing.wish import Load

_VLLM_QUANTISED = {"fp8": "fp8", "int8": "compressed-tensors", "weight4": "awq"}


def ashore_toml(option: Option, *, model: str, load: Load) -> str:
    """Return the settings of one machine of an option. Every machine of the plan gets the same.

    Args:
        option: What was chosen.
        model: Name of the model, as the store knows it, or will know it.
        load: For the longest request: four times the mean lengths.
    """
    context = 1024 * ceil(4 * (load.isl + load.osl) / 1024)
    context = min(context, max(1024, option.kv_tokens // 32 * 32))
    here = max(1, min(option.replicas, ceil(option.replicas / option.machines)))
    lines = [
        f"# {option.name}: {option.replicas} replicas on {option.machines} machines, planned by `ashore plan size`.",
        f"# Planned: first token {1e3 * option.first_s.value:.0f} ms, {1e3 * option.token_s.value:.1f} ms a token, "
        f"{option.requests_per_s.value:.3g} requests/s each.",
        "[[model]]",
        f"name = {json.dumps(model)}",
        'alias = "chat"',
        f"replicas = {min(here, 64)}",
        "",
        "[model.engine]",
    ]
    if option.chip.is_cpu:
        lines += ['kind = "openvino"', f"max_sequences = {option.at_once}", f"context_tokens = {context}"]
        return "\n".join(lines) + "\n"
    options: dict[str, str | int | float | bool] = {"tensor_parallel_size": option.tp}
    if option.ep > 1:
        options["enable_expert_parallel"] = True
    if option.precision.name in _VLLM_QUANTISED:
        options["quantization"] = _VLLM_QUANTISED[option.precision.name]
    if option.precision.cache < 2:
        options["kv_cache_dtype"] = "fp8"
    options["max_num_batched_tokens"] = 8192
    written = ", ".join(f"{name} = {json.dumps(value)}" for name, value in options.items())
    lines += [
        'kind = "vllm"',
        f"max_sequences = {option.at_once}",
        f"context_tokens = {context}",
        f"prefix_cache = {json.dumps(load.shared_tokens > 0)}" if not load.shared_tokens else "prefix_cache = true",
        f"options = {{ {written} }}",
    ]
    return "\n".join(lines) + "\n"
