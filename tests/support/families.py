"""`config.json` of families that ashore's own engines do not serve, small, in the form that their makers publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_models import QWEN2_SPLIT, tiny_tokenizer

_DENSE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "eos_token_id": 257,
}
_QWEN3_MOE = _DENSE | {"head_dim": 16, "moe_intermediate_size": 32, "num_experts": 8, "num_experts_per_tok": 2}

FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3_moe": _QWEN3_MOE | {"architectures": ["Qwen3MoeForCausalLM"]},
    "qwen3_next": _QWEN3_MOE | {"architectures": ["Qwen3NextForCausalLM"], "shared_expert_intermediate_size": 32},
    "qwen2_5_vl": _DENSE | {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "vision_config": {"depth": 2}},
    "qwen3_vl": {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "text_config": _DENSE | {"model_type": "qwen3_vl_text", "head_dim": 16},
        "vision_config": {"depth": 2, "hidden_size": 32},
    },
    "glm4": _DENSE | {"architectures": ["Glm4ForCausalLM"], "eos_token_id": [257, 258]},
    "glm4_moe": _DENSE
    | {
        "architectures": ["Glm4MoeForCausalLM"],
        "first_k_dense_replace": 1,
        "moe_intermediate_size": 32,
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
    },
    "gpt_oss": _DENSE
    | {
        "architectures": ["GptOssForCausalLM"],
        "experts_per_token": 2,
        "num_experts_per_tok": 2,
        "num_local_experts": 8,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "sliding_window": 128,
        "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.embed_tokens"]},
    },
    "gemma2": _DENSE | {"architectures": ["Gemma2ForCausalLM"], "sliding_window": 128},
    "gemma3": {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "model_type": "gemma3_text",
            "num_hidden_layers": 12,
            "sliding_window": 128,
        },
        "vision_config": {"hidden_size": 32},
    },
    "phi3": _DENSE | {"architectures": ["Phi3ForCausalLM"], "auto_map": {"AutoModelForCausalLM": "modeling_phi3.P"}},
    "mistral3": {
        "architectures": ["Mistral3ForConditionalGeneration"],
        "text_config": _DENSE | {"model_type": "mistral", "head_dim": 16},
        "vision_config": {"hidden_size": 32},
    },
    "llama4": {
        "architectures": ["Llama4ForConditionalGeneration"],
        "text_config": _DENSE
        | {
            "model_type": "llama4_text",
            "interleave_moe_layer_step": 2,
            "num_local_experts": 8,
            "num_experts_per_tok": 1,
        },
    },
    "granite": _DENSE | {"architectures": ["GraniteForCausalLM"]},
    "internlm3": _DENSE | {"architectures": ["InternLM3ForCausalLM"]},
    "kimi_k2": _DENSE
    | {
        "architectures": ["DeepseekV3ForCausalLM"],
        "kv_lora_rank": 32,
        "qk_rope_head_dim": 8,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
    },
    "minimax_m2": _DENSE
    | {"architectures": ["MiniMaxM2ForCausalLM"], "num_local_experts": 8, "num_experts_per_tok": 2},
    "internvl_chat": {"architectures": ["InternVLChatModel"], "llm_config": _DENSE | {"model_type": "qwen3"}},
    "gpt2": {
        "architectures": ["GPT2LMHeadModel"],
        "n_head": 4,
        "n_embd": 64,
        "n_layer": 2,
        "n_positions": 512,
        "vocab_size": 320,
    },
}
"""By `model_type`."""

PLAIN_TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"


def make_text(folder: Path, kind: str, *, template: str = PLAIN_TEMPLATE) -> Path:
    """Write what a checkpoint of a family has beside its weights, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": kind, **FAMILIES[kind]}))
    (folder / "tokenizer.json").write_text(json.dumps(tiny_tokenizer(QWEN2_SPLIT)))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<|bos|>", "eos_token": "<|im_end|>", "chat_template": template})
    )
    return folder
