"""What mixtures of experts and latent attention have beside other decoders in a GGUF file: tensors and settings.

The matrices of a layer's experts are stacked, and latent attention has its keys and values decompressed for each head,
the keys transposed, so that they can be multiplied into the queries.
Sources: llama.cpp, architectures `deepseek2` and `qwen3moe` (names, settings); DeepSeek-V2 paper, section 2.1;
Hugging Face's modeling_deepseek_v2, modeling_deepseek_v3 and modeling_qwen3_moe (formulas).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ashore.core.errors import UnsupportedModel
from ashore.core.shapes import ModelShape
from ashore.kit.store.conversion.safetensorsmeta import TensorPlace

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

GGUF_ARCHITECTURES: Final = {"qwen3_moe": "qwen3moe"}
"""Architectures that GGUF names otherwise than ashore."""
LAYER: Final = {
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "mlp.gate": "ffn_gate_inp",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
}
CORRECTION: Final = "mlp.gate.e_score_correction_bias"
DECOMPRESSION: Final = "self_attn.kv_b_proj.weight"
LITE_LAYERS: Final = (26, 27)
"""Numbers of layers with which llama.cpp takes latent attention whose queries are not compressed, such as V2-Lite's."""
_EXPERT: Final = re.compile(r"model\.layers\.(\d+)\.mlp\.experts\.(\d+)\.(gate|up|down)_proj\.weight")


def stacked_experts(
    places: Mapping[str, TensorPlace], shape: ModelShape
) -> Iterator[tuple[str, tuple[TensorPlace, ...]]]:
    """Yield the name and the matrices, by number, of each stack of experts.

    Raises:
        UnsupportedModel: a layer lacks some of its experts, or they differ in shape.
    """
    stacks: dict[tuple[int, str], dict[int, TensorPlace]] = {}
    for name, place in places.items():
        if (found := _EXPERT.fullmatch(name)) and int(found[1]) < shape.num_layers:
            stacks.setdefault((int(found[1]), found[3]), {})[int(found[2])] = place
    for (layer, part), experts in sorted(stacks.items()):
        is_whole = len(experts) == shape.num_experts == max(experts) + 1
        if not is_whole or len({place.shape for place in experts.values()}) > 1:
            raise UnsupportedModel(
                f"layer {layer} has {len(experts)} experts of {part}_proj; expected {shape.num_experts} of one shape",
                hint="fetch the model again",
            )
        yield f"blk.{layer}.ffn_{part}_exps.weight", tuple(experts[number] for number in range(shape.num_experts))


def is_expert(name: str) -> bool:
    """Return whether a tensor of a checkpoint is a matrix of one expert."""
    return _EXPERT.fullmatch(name) is not None


def keys_of(values_NK: npt.NDArray[np.float32], config: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Return the decompression of keys without positions, [heads, rank, numbers of a head]."""
    return _by_head(values_NK, config)[:, : int(config["qk_nope_head_dim"])].swapaxes(1, 2)


def values_of(values_NK: npt.NDArray[np.float32], config: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Return the decompression of values, [heads, numbers of a head, rank]."""
    return _by_head(values_NK, config)[:, int(config["qk_nope_head_dim"]) :]


def _by_head(values_NK: npt.NDArray[np.float32], config: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    return values_NK.reshape(int(config["num_attention_heads"]), -1, int(config["kv_lora_rank"]))


def check_experts(config: Mapping[str, Any], shape: ModelShape) -> None:
    """Check that llama.cpp computes a mixture of experts as its config.json says.

    Raises:
        UnsupportedModel: it would compute something else; the message names the setting.
    """
    if shape.latent_rank:
        chosen_by = str(config.get("topk_method") or "")
        groups = int(config.get("n_group") or 1)
        wrong = {
            f"q_lora_rank: null with {shape.num_layers} layers": not shape.query_rank
            and shape.num_layers not in LITE_LAYERS,
            f"topk_method: {chosen_by} with {groups} groups": chosen_by == "group_limited_greedy" and groups > 1,
            "rope_interleave: false": config.get("rope_interleave") is False,
            "moe_layer_freq": int(config.get("moe_layer_freq") or 1) != 1,
        }
    else:
        wrong = {
            "norm_topk_prob: false": not config.get("norm_topk_prob"),
            "mlp_only_layers": bool(config.get("mlp_only_layers")),
            "decoder_sparse_step": int(config.get("decoder_sparse_step") or 1) != 1,
        }
    if not 0 < shape.experts_per_token <= shape.num_experts:  # llama.cpp would end its process at the load
        wrong[f"num_experts_per_tok: {shape.experts_per_token} of {shape.num_experts}"] = True
    if odd := [setting for setting, is_wrong in wrong.items() if is_wrong]:
        raise UnsupportedModel(
            f"config.json of this {shape.architecture} model says {odd[0]}, which llama.cpp does not compute",
            hint="serve the safetensors with vllm",
        )


def write_expert_settings(writer: Any, config: Mapping[str, Any], shape: ModelShape) -> None:
    """Write the settings of experts, and of latent attention where the model has it, to a `gguf.GGUFWriter`."""
    import gguf

    writer.add_expert_count(shape.num_experts)
    writer.add_expert_used_count(shape.experts_per_token)
    writer.add_expert_feed_forward_length(shape.expert_size)
    if not shape.latent_rank:
        return
    rank, rope = int(config["kv_lora_rank"]), int(config["qk_rope_head_dim"])
    writer.add_leading_dense_block_count(shape.dense_layers)
    if shape.query_rank:
        writer.add_q_lora_rank(shape.query_rank)
    writer.add_kv_lora_rank(rank)
    writer.add_key_length(rank + rope)
    writer.add_value_length(rank)
    writer.add_key_length_mla(int(config["qk_nope_head_dim"]) + rope)
    writer.add_value_length_mla(int(config["v_head_dim"]))
    writer.add_expert_shared_count(int(config.get("n_shared_experts") or 0))
    writer.add_expert_group_count(int(config.get("n_group") or 1))
    writer.add_expert_group_used_count(int(config.get("topk_group") or 1))
    writer.add_expert_weights_scale(float(config.get("routed_scaling_factor") or 1.0))
    v3 = config.get("model_type") == "deepseek_v3"
    writer.add_expert_weights_norm(bool(config.get("norm_topk_prob", v3)))
    gating = str(config.get("scoring_func") or ("sigmoid" if v3 else "softmax"))
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType[gating.upper()])
