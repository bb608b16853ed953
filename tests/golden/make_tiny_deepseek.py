"""Make the tiny DeepSeek models of the tests: random weights, and what PyTorch answers with them.

    python tests/golden/make_tiny_deepseek.py

writes `deepseek_v2_tiny.gguf`, `deepseek_v3_tiny.gguf` and `tiny_deepseek.json` beside this file. Needs torch,
transformers and gguf. The names and settings of the GGUF files are those that llama.cpp reads for its architecture
`deepseek2`: latent attention with keys and values decompressed per head, experts stacked, no vocabulary.
"""

from __future__ import annotations

import json
import random
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
NEW_TOKENS = 24
NUM_PROMPTS = 10
SHAPE: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 32,
    "q_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
KINDS: dict[str, dict[str, Any]] = {
    "v2": {
        "n_group": 1,
        "topk_group": 1,
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.0,
        "topk_method": "greedy",
    },
    "v3": {"n_group": 2, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 2.5},
}


def make_model(kind: str, seed: int = 7) -> Any:
    """Return a random model of the shape of DeepSeek V2 or V3, in single precision."""
    import torch
    from transformers import DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM

    config_class, model_class = {
        "v2": (DeepseekV2Config, DeepseekV2ForCausalLM),
        "v3": (DeepseekV3Config, DeepseekV3ForCausalLM),
    }[kind]
    torch.manual_seed(seed)
    model = model_class(config_class(**SHAPE, **KINDS[kind], attn_implementation="eager")).float().eval()
    with (
        torch.no_grad()
    ):  # the usual deviation of 0.02 gives nearly flat logits at this size, and so nothing to compare
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if name.endswith("e_score_correction_bias"):
                tensor.normal_(0.0, 0.1)
            elif tensor.dim() > 1:
                tensor.normal_(0.0, tensor.shape[-1] ** -0.5 if "embed" not in name else 1.0)
    return model


def greedy(model: Any, ids: list[int]) -> tuple[list[int], list[float]]:
    """Return the greedy tokens and the differences between the two best logits."""
    import torch

    tokens: list[int] = []
    margins: list[float] = []
    with torch.inference_mode():
        for _ in range(NEW_TOKENS):
            best = model(input_ids=torch.tensor([ids + tokens])).logits[0, -1].topk(2)
            tokens.append(int(best.indices[0]))
            margins.append(round(float(best.values[0] - best.values[1]), 5))
    return tokens, margins


def prompts() -> list[list[int]]:
    """Return prompts of random tokens, one to a few dozen long."""
    draw = random.Random(11)
    return [
        [draw.randrange(SHAPE["vocab_size"]) for _ in range(length)] for length in (1, 2, 3, 5, 8, 13, 21, 34, 40, 60)
    ]


def write_gguf(model: Any, kind: str, path: Path) -> None:
    """Write `model` as llama.cpp's `deepseek2`."""
    import gguf

    c = model.config
    w = gguf.GGUFWriter(path, "deepseek2")
    w.add_name(f"deepseek {kind} tiny, random weights")
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(1)
    w.add_rope_freq_base(10000.0)
    w.add_rope_dimension_count(c.qk_rope_head_dim)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_leading_dense_block_count(c.first_k_dense_replace)
    w.add_vocab_size(c.vocab_size)
    w.add_q_lora_rank(c.q_lora_rank)
    w.add_kv_lora_rank(c.kv_lora_rank)
    w.add_key_length(c.kv_lora_rank + c.qk_rope_head_dim)
    w.add_value_length(c.kv_lora_rank)
    w.add_key_length_mla(c.qk_nope_head_dim + c.qk_rope_head_dim)
    w.add_value_length_mla(c.v_head_dim)
    w.add_expert_feed_forward_length(c.moe_intermediate_size)
    w.add_expert_count(c.n_routed_experts)
    w.add_expert_used_count(c.num_experts_per_tok)
    w.add_expert_shared_count(c.n_shared_experts)
    w.add_expert_group_count(c.n_group)
    w.add_expert_group_used_count(c.topk_group)
    w.add_expert_weights_scale(c.routed_scaling_factor)
    w.add_expert_weights_norm(c.norm_topk_prob)
    w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID if kind == "v3" else gguf.ExpertGatingFuncType.SOFTMAX)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    w.add_tokenizer_model("none")
    for name, tensor in tensors(model):
        w.add_tensor(name, np.ascontiguousarray(tensor, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def tensors(model: Any) -> list[tuple[str, np.ndarray]]:
    """Return the tensors under llama.cpp's names."""
    c = model.config
    state = {name: tensor.detach().float().numpy() for name, tensor in model.state_dict().items()}
    found = [
        ("token_embd.weight", state["model.embed_tokens.weight"]),
        ("output_norm.weight", state["model.norm.weight"]),
        ("output.weight", state["lm_head.weight"]),
    ]
    plain = {
        "input_layernorm.weight": "attn_norm.weight",
        "post_attention_layernorm.weight": "ffn_norm.weight",
        "self_attn.q_a_proj.weight": "attn_q_a.weight",
        "self_attn.q_a_layernorm.weight": "attn_q_a_norm.weight",
        "self_attn.q_b_proj.weight": "attn_q_b.weight",
        "self_attn.kv_a_proj_with_mqa.weight": "attn_kv_a_mqa.weight",
        "self_attn.kv_a_layernorm.weight": "attn_kv_a_norm.weight",
        "self_attn.o_proj.weight": "attn_output.weight",
        "mlp.gate_proj.weight": "ffn_gate.weight",
        "mlp.up_proj.weight": "ffn_up.weight",
        "mlp.down_proj.weight": "ffn_down.weight",
        "mlp.gate.weight": "ffn_gate_inp.weight",
        "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
        "mlp.shared_experts.gate_proj.weight": "ffn_gate_shexp.weight",
        "mlp.shared_experts.up_proj.weight": "ffn_up_shexp.weight",
        "mlp.shared_experts.down_proj.weight": "ffn_down_shexp.weight",
    }
    for layer in range(c.num_hidden_layers):
        source, target = f"model.layers.{layer}.", f"blk.{layer}."
        found += [(target + new, state[source + old]) for old, new in plain.items() if source + old in state]
        heads = state[source + "self_attn.kv_b_proj.weight"].reshape(
            c.num_attention_heads, c.qk_nope_head_dim + c.v_head_dim, c.kv_lora_rank
        )
        found.append((target + "attn_k_b.weight", heads[:, : c.qk_nope_head_dim].transpose(0, 2, 1)))
        found.append((target + "attn_v_b.weight", heads[:, c.qk_nope_head_dim :]))
        if source + "mlp.experts.gate_up_proj" in state:
            both = state[source + "mlp.experts.gate_up_proj"]
            found.append((target + "ffn_gate_exps.weight", both[:, : c.moe_intermediate_size]))
            found.append((target + "ffn_up_exps.weight", both[:, c.moe_intermediate_size :]))
            found.append((target + "ffn_down_exps.weight", state[source + "mlp.experts.down_proj"]))
    return found


def main() -> None:
    cases: dict[str, Any] = {"made_with": {name: version(name) for name in ("torch", "transformers", "gguf")}}
    for kind in KINDS:
        model = make_model(kind)
        path = HERE / f"deepseek_{kind}_tiny.gguf"
        write_gguf(model, kind, path)
        cases[kind] = []
        for ids in prompts():
            tokens, margins = greedy(model, ids)
            cases[kind].append({"prompt_ids": ids, "tokens": tokens, "margins": margins})
        print(kind, path.stat().st_size, "bytes", sorted(m for case in cases[kind] for m in case["margins"])[:5])
    (HERE / "tiny_deepseek.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
