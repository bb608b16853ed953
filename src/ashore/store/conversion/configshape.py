"""The shape that a `config.json` in Hugging Face form tells."""

from __future__ import annotations

from typing import Any

from ashore.core import ModelShape, foreign_errors
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
        heads = int(config["num_attention_heads"])
        hidden = int(config["hidden_size"])
        latent = int(config.get("kv_lora_rank") or 0)
        rope = int(config.get("qk_rope_head_dim") or 0)
        return checked_shape(
            {
                "architecture": ARCHITECTURES[kind],
                "num_layers": int(config["num_hidden_layers"]),
                "hidden_size": hidden,
                "num_heads": heads,
                "num_kv_heads": int(config.get("num_key_value_heads") or heads),
                "head_dim": int(config.get("head_dim") or config.get("v_head_dim") or hidden // heads),
                "vocab_size": int(config["vocab_size"]),
                "context_tokens": int(config["max_position_embeddings"]),
                "num_parameters": num_parameters,
                "num_active_parameters": active_parameters(config, num_parameters),
                "latent_rank": latent + rope if latent else 0,
            },
            what="config.json",
        )


def active_parameters(config: dict[str, Any], total: int) -> int:
    """Return the parameters that one token touches; 0 for dense models.

    All but the routed experts, and of these the chosen ones: three matrices of hidden times intermediate size each.
    """
    experts = int(config.get("n_routed_experts") or config.get("num_experts") or 0)
    if not experts:
        return 0
    layers = int(config["num_hidden_layers"]) - int(config.get("first_k_dense_replace") or 0)
    one = 3 * int(config["hidden_size"]) * int(config["moe_intermediate_size"])
    return total - one * layers * (experts - int(config["num_experts_per_tok"]))
