"""The card of the vllm engine."""

from __future__ import annotations

from typing import Final

from ashore.data.engines.card import Choosing, EngineCard, Memory, Options, Program, Tuning, features

CARD: Final = EngineCard(
    kind="vllm",
    adapter="ashore.data.engines.vllm.engine:VllmEngine",
    title="vLLM",
    what="GPU: an external vLLM server, over HTTP",
    formats=("safetensors", "gguf", "remote"),
    architectures="what that server supports",
    features=features("adapters", "grammar", "score", "sleep"),
    libraries=("vllm",),
    choosing=Choosing(
        rank=3,
        why="{architecture} in {format}; ashore starts and supervises {program}",
        instead="set [model.engine] fleet = true and name a vLLM server in [[fleet.node]]",
    ),
    options=Options(
        tune=(
            "lookup", "start_timeout_s", "task",
            # flags of `vllm serve`
            "block_size", "cpu_offload_gb", "data_parallel_size", "disable_custom_all_reduce", "dtype",
            "enable_chunked_prefill", "enable_expert_parallel", "enable_lora", "enforce_eager",
            "gpu_memory_utilization",
            "kv_cache_dtype", "long_prefill_token_threshold", "max_long_partial_prefills", "max_lora_rank",
            "max_loras", "max_num_batched_tokens",
            "max_num_partial_prefills", "max_seq_len_to_capture", "num_scheduler_steps", "pipeline_parallel_size",
            "quantization", "scheduling_policy", "seed", "swap_space", "tensor_parallel_size",
        ),
        operators=(
            "api_key", "ca_file", "dialect", "enable_sleep_mode", "executable", "fleet", "key", "precision",
            "served_model_name", "vocab_size",
        ),
        passed_on="all",
        unused=("threads",),
    ),
    waits_for_turns=False,  # nothing computes on this machine's processors
    memory=Memory(ours=False),  # it fills its devices, or another machine
    program=Program(
        name="vllm",
        how_to_get="install it in a separate environment (python3 -m venv ~/vllm && ~/vllm/bin/pip install vllm) "
        'and write options = { executable = "~/vllm/bin/vllm" } in [model.engine], or name a server of another '
        "machine in [[fleet.node]]",
        shell_line="ashore.data.engines.vllm.command:shell_line",
        embedding={"task": "embed"},
        adapters="ashore.data.engines.vllm.command:adapter_options",
        flags="ashore.data.engines.vllm.command:vllm_flags",
        quiet={"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"},
        outside="set [model.engine] fleet = true and name a server in [[fleet.node]], or install vllm on a machine "
        "with a GPU",
    ),
    tuning=Tuning(why_not="an external server; measure it at its address with `ashore bench serve`"),
)  # fmt: skip
