"""The shape that a `config.json` in Hugging Face form tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ashore.core import HEAVY_RATIO, LIGHT_RATIO, ModelShape, foreign_errors
from ashore.errors import UnsupportedModel
from ashore.store.conversion.checkedshape import checked_shape

ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "deepseek_v2": "deepseek2",
    "deepseek_v3": "deepseek2",
    "deepseek_v32": "deepseek32",
    "deepseek_v4": "deepseek4",
    "bert": "bert",
    "modernbert": "modernbert",
    "xlm-roberta": "xlm-roberta",
}
"""`model_type` of config.json to the names that ashore and GGUF use."""


def shape_of_config(config: dict[str, Any], num_parameters: int) -> ModelShape:
    """Return the shape of a model in Hugging Face form.

    Raises:
        UnsupportedModel: a `model_type` that no engine here takes, or a missing number.
    """
    kind = str(config.get("model_type", ""))
    if kind not in ARCHITECTURES:
        raise UnsupportedModel(
            f"config.json says model_type {kind[:40]!r}", hint="known: " + ", ".join(sorted(ARCHITECTURES))
        )
    with foreign_errors(f"config.json of a {kind} model lacks a dimension", UnsupportedModel, hint="fetch it again"):
        values = {
            **dimensions_of_config(config),
            "architecture": ARCHITECTURES[kind],
            "num_parameters": num_parameters,
            "num_active_parameters": active_parameters(config, num_parameters),
        }
        if not values["num_experts"]:  # what the parameters tell already stays out of manifests
            values["ffn_size"] = 0
        return checked_shape(values, what="config.json")


def _head_dim(number: Callable[..., int], *, latent: bool) -> int:
    """Return the numbers of a head; of latent attention the mean of keys without positions and values."""
    keys, values = number("qk_nope_head_dim"), number("v_head_dim")
    return (keys + values) // 2 if latent and keys and values else number("head_dim", "v_head_dim")


def dimensions_of_config(config: dict[str, Any]) -> dict[str, int]:
    """Return the fields of `ModelShape` that a config.json of any decoder tells, except architecture and parameters.

    Raises:
        KeyError, TypeError, ValueError: a dimension that every model has is missing, or is not a number.
    """

    def number(*names: str) -> int:
        return next((int(config[name]) for name in names if config.get(name) is not None), 0)

    heads, hidden, layers = int(config["num_attention_heads"]), int(config["hidden_size"]), number("num_hidden_layers")
    latent = number("kv_lora_rank")
    experts = number("n_routed_experts", "num_experts", "num_local_experts")
    expert_size = number("moe_intermediate_size", "intermediate_size") if experts else 0
    shared = number("shared_expert_intermediate_size") or number("n_shared_experts") * expert_size
    found = {
        "num_layers": layers,
        "hidden_size": hidden,
        "num_heads": heads,
        "num_kv_heads": number("num_key_value_heads") or heads,
        "head_dim": _head_dim(number, latent=bool(latent)) or hidden // heads,
        "vocab_size": int(config["vocab_size"]),
        "context_tokens": int(config["max_position_embeddings"]),
        "latent_rank": latent + number("qk_rope_head_dim") if latent else 0,
        "ffn_size": number("intermediate_size"),
        "num_experts": experts,
        "experts_per_token": number("num_experts_per_tok") if experts else 0,
        "expert_size": expert_size,
        "shared_size": shared if experts else 0,
        "dense_layers": number("first_k_dense_replace") if experts else 0,
        "query_rank": number("q_lora_rank"),
        "index_dim": number("index_head_dim"),
    }
    kinds = config.get("layer_types") or ()
    linear = sum(kind == "linear_attention" for kind in kinds)
    windows = sum(kind == "sliding_attention" for kind in kinds)
    if not kinds and config.get("sliding_window") and config.get("use_sliding_window", True):
        every = number("sliding_window_pattern")  # Gemma 3: each sixth layer sees everything
        windows = layers - layers // every if every else layers
    if linear:
        keys = number("linear_num_key_heads") * number("linear_key_head_dim")
        values = number("linear_num_value_heads") * number("linear_value_head_dim")
        state = values * number("linear_key_head_dim") + (2 * keys + values) * (number("linear_conv_kernel_dim") or 4)
        found |= {"linear_layers": linear, "linear_state": state}
    if ratios := config.get("compress_ratios"):  # DeepSeek V4; a ratio of 0 has the window only
        ratios = ratios[:layers]
        found |= {
            "window_tokens": number("sliding_window"),
            "window_layers": sum(ratio not in (LIGHT_RATIO, HEAVY_RATIO) for ratio in ratios),
            "light_layers": sum(ratio == LIGHT_RATIO for ratio in ratios),
            "heavy_layers": sum(ratio == HEAVY_RATIO for ratio in ratios),
        }
    elif windows:
        found |= {"window_tokens": number("sliding_window"), "window_layers": windows}
    return found


def active_parameters(config: dict[str, Any], total: int) -> int:
    """Return the parameters that one token touches; 0 for dense models.

    All but the routed experts, and of these the chosen ones: three matrices of hidden times intermediate size each.
    """
    experts = int(config.get("n_routed_experts") or config.get("num_experts") or config.get("num_local_experts") or 0)
    if not experts:
        return 0
    layers = int(config["num_hidden_layers"]) - int(config.get("first_k_dense_replace") or 0)
    one = 3 * int(config["hidden_size"]) * int(config.get("moe_intermediate_size") or config["intermediate_size"])
    return total - one * layers * (experts - int(config["num_experts_per_tok"]))
