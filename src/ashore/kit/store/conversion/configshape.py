"""The shape from a `config.json` in Hugging Face form, for any architecture.

Engines' cards decide which engine serves an architecture: a model that none on this machine serves may still be put
behind a vLLM server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ashore.core.errors import UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.core.shapes import ENCODERS, HEAD, HEAVY_RATIO, LIGHT_RATIO, ModelShape
from ashore.kit.store.conversion.checkedshape import checked_shape

GGUF_NAMES: Final = {
    "mistral": "llama",
    "deepseek_v2": "deepseek2",
    "deepseek_v3": "deepseek2",
    "deepseek_v32": "deepseek32",
    "deepseek_v4": "deepseek4",
}
"""`model_type` of config.json to the name that ashore and GGUF use; any other keeps its own."""
_TEXT_PARTS: Final = ("text_config", "llm_config", "language_config")
"""Where models that also see or hear keep their decoder."""
_LEFT_OUT: Final[Mapping[str, Mapping[str, int]]] = {
    "gemma3_text": {
        "vocab_size": 262_208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131_072,
        "sliding_window_pattern": 6,
    },
}
"""By `model_type`, what published files leave out because it is the default. Source: `Gemma3TextConfig` of
transformers 5."""
_OF_A_HEAD: Final = (
    "num_layers", "hidden_size", "num_heads", "num_kv_heads", "head_dim", "vocab_size", "context_tokens",
)  # fmt: skip
_WRITES: Final = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")


def shape_of_config(config: dict[str, Any], num_parameters: int) -> ModelShape:
    """Return the shape of a model in Hugging Face form, whatever its architecture.

    Raises:
        UnsupportedModel: no `model_type`, or a missing number.
    """
    if model_type_of(config) == HEAD:  # no layers, and no tokens but bytes
        sizes = dict.fromkeys(_OF_A_HEAD, 1)
        return checked_shape({**sizes, "architecture": HEAD, "num_parameters": num_parameters}, what="config.json")
    kind, text = model_type_of(config), text_part(config)
    with foreign_errors(f"config.json of a {kind} model lacks a dimension", UnsupportedModel, hint="fetch it again"):
        values = {
            **dimensions_of_config(text),
            "architecture": GGUF_NAMES.get(kind, kind),
            "num_parameters": num_parameters,
            "num_active_parameters": active_parameters(text, num_parameters),
        }
        if not values["num_experts"]:  # what the parameters tell already stays out of manifests
            values["ffn_size"] = 0
        return checked_shape(values, what="config.json")


def model_type_of(config: Mapping[str, Any]) -> str:
    """Return `model_type` of a config.json.

    Raises:
        UnsupportedModel: there is none, or it is not a name.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", kind):
        raise UnsupportedModel(
            f"config.json has model_type {ascii(kind)[:60]}; expected the name of an architecture, such as qwen3",
            hint="fetch the model again; config.json must be the one that its makers published",
        )
    return kind


def text_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the text part; for most models that is all of config.json."""
    inner: dict[str, Any] = next((config[name] for name in _TEXT_PARTS if isinstance(config.get(name), dict)), {})
    kind = str(inner.get("model_type") or config.get("model_type"))
    return {**_LEFT_OUT.get(kind, {}), **config, **inner}


def check_generates(config: Mapping[str, Any], *, has_template: bool) -> None:
    """Check that the model of a config.json generates text, as far as that can be known.

    Raises:
        UnsupportedModel: it only reads, or an encoder and a decoder of its own read and write.
    """
    kind, named = model_type_of(config), [str(name) for name in config.get("architectures") or ()]
    if config.get("is_encoder_decoder"):
        raise UnsupportedModel(
            f"{kind} is an encoder with a decoder, as translators have; no engine of ashore serves such models",
            hint="use a model that goes on with a text: its config.json names an architecture such as LlamaForCausalLM",
        )
    if any(name.endswith(_WRITES) for name in named) or not named:
        return
    if not has_template or any(re.search("For[A-Z]", name) for name in named):
        raise UnsupportedModel(
            f"config.json names {', '.join(named)[:80]}: a model that reads texts and writes none",
            hint=f"embedders and rerankers are served of the types {', '.join(sorted(ENCODERS))}",
        )


def _head_dim(number: Callable[..., int], *, latent: bool) -> int:
    """Return the numbers of a head; of latent attention the mean of keys without positions and values."""
    keys, values = number("qk_nope_head_dim"), number("v_head_dim")
    return (keys + values) // 2 if latent and keys and values else number("head_dim", "v_head_dim")


def dimensions_of_config(config: dict[str, Any]) -> dict[str, int]:
    """Return the fields of `ModelShape` in a config.json of any decoder, except architecture and parameters.

    Raises:
        TypeError, ValueError: a dimension that every model has is missing, or is not a number.
    """

    def number(*names: str) -> int:
        return next((int(config[name]) for name in names if config.get(name) is not None), 0)

    def needed(*names: str) -> int:
        if found := number(*names):
            return found
        raise ValueError(f"{names[0]} is missing")

    heads, hidden = needed("num_attention_heads", "n_head"), needed("hidden_size", "n_embd")
    layers = needed("num_hidden_layers", "n_layer", "num_layers")
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
        "vocab_size": needed("vocab_size", "padded_vocab_size"),
        "context_tokens": needed("max_position_embeddings", "n_positions", "seq_length"),
        "latent_rank": latent + number("qk_rope_head_dim") if latent else 0,
        "ffn_size": number("intermediate_size"),
        "num_experts": experts,
        "experts_per_token": number("num_experts_per_tok", "experts_per_token") if experts else 0,
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
    """Return the active parameters per token; 0 for dense models, and if the total is unknown.

    All but the routed experts, and of these the chosen ones: three matrices of hidden times intermediate size each.
    """
    experts = int(config.get("n_routed_experts") or config.get("num_experts") or config.get("num_local_experts") or 0)
    if not experts or not total:
        return 0
    layers = int(config["num_hidden_layers"]) - int(config.get("first_k_dense_replace") or 0)
    layers //= int(config.get("interleave_moe_layer_step") or config.get("decoder_sparse_step") or 1)
    one = 3 * int(config["hidden_size"]) * int(config.get("moe_intermediate_size") or config["intermediate_size"])
    chosen = int(config.get("num_experts_per_tok") or config.get("experts_per_token") or 0)
    return max(0, total - one * layers * (experts - chosen))
