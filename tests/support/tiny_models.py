"""Tiny models with seeded random weights in Hugging Face form, and a small byte-level vocabulary. Numpy alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2_SPLIT = LLAMA3_SPLIT.replace("{1,3}", "")

BASE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "torch_dtype": "float32",
    "bos_token_id": 256,
    "eos_token_id": 257,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": BASE
    | {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "qwen2": BASE | {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": True},
    "qwen3": BASE | {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 32},
}
_LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "moe_intermediate_size": 32,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 32,
    "q_lora_rank": 32,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "greedy",
    "scoring_func": "softmax",
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
}
"""Latent attention and experts, as DeepSeek has them."""
_YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "beta_fast": 32, "beta_slow": 1}
EXPERTS: dict[str, dict[str, Any]] = {
    "qwen3_moe": BASE
    | {
        "model_type": "qwen3_moe",
        "architectures": ["Qwen3MoeForCausalLM"],
        "head_dim": 32,
        "moe_intermediate_size": 32,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
    },
    "deepseek_v2": BASE | _LATENT | {"model_type": "deepseek_v2", "architectures": ["DeepseekV2ForCausalLM"]},
    "deepseek_v2_lite": BASE
    | _LATENT
    | {
        "model_type": "deepseek_v2",
        "architectures": ["DeepseekV2ForCausalLM"],
        "num_hidden_layers": 27,
        "q_lora_rank": None,
        "n_shared_experts": 2,
        "rope_scaling": _YARN | {"mscale": 0.707, "mscale_all_dim": 0.707},
    },
    "deepseek_v3": BASE
    | _LATENT
    | {
        "model_type": "deepseek_v3",
        "architectures": ["DeepseekV3ForCausalLM"],
        "n_group": 2,
        "topk_group": 1,
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "rope_scaling": _YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
    },
}


def make_tiny_model(
    folder: Path, kind: str, *, seed: int = 0, dtype: str = "F32", shards: int = 1, layers: int = 0
) -> Path:
    """Write a model of few layers to `folder` and return it. Equal arguments give equal files.

    Args:
        layers: 0: those of its config.
    """
    config = {**CONFIGS, **EXPERTS}[kind] | ({"num_hidden_layers": layers} if layers else {})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [257], "temperature": 0.7, "top_p": 0.9})
    )
    tensors = _tensors(config, kind, seed)
    _save(folder, tensors, dtype, shards)
    (folder / "tokenizer.json").write_text(json.dumps(tiny_tokenizer(LLAMA3_SPLIT if kind == "llama" else QWEN2_SPLIT)))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "bos_token": "<|bos|>",
                "eos_token": "<|im_end|>",
                "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
            }
        )
    )
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# tiny\n")
    return folder


def _tensors(config: dict[str, Any], kind: str, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    hidden, middle, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = config.get("head_dim", hidden // config["num_attention_heads"])
    q, kv = head * config["num_attention_heads"], head * config["num_key_value_heads"]

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float16).astype(np.float32)

    def vector(size: int, middle: float = 1.0) -> np.ndarray:
        return (middle + 0.1 * rng.standard_normal(size)).astype(np.float16).astype(np.float32)

    tensors = {"model.embed_tokens.weight": matrix(vocab, hidden), "model.norm.weight": vector(hidden)}
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = matrix(vocab, hidden)
    latent = "kv_lora_rank" in config
    num_experts = config.get("num_experts") or config.get("n_routed_experts") or 0
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        tensors[at + "input_layernorm.weight"] = vector(hidden)
        tensors[at + "post_attention_layernorm.weight"] = vector(hidden)
        has_experts = num_experts and layer >= config.get("first_k_dense_replace", 0)
        attention = [("q", q, hidden), ("k", kv, hidden), ("v", kv, hidden), ("o", hidden, q)]
        if latent:
            heads, rank, rope = config["num_attention_heads"], config["kv_lora_rank"], config["qk_rope_head_dim"]
            keys, values = config["qk_nope_head_dim"], config["v_head_dim"]
            if lora := config["q_lora_rank"]:
                attention = [("q_a", lora, hidden), ("q_b", heads * (keys + rope), lora)]
                tensors[at + "self_attn.q_a_layernorm.weight"] = vector(lora)
            else:
                attention = [("q", heads * (keys + rope), hidden)]
            tensors[at + "self_attn.kv_a_proj_with_mqa.weight"] = matrix(rank + rope, hidden)
            tensors[at + "self_attn.kv_a_layernorm.weight"] = vector(rank)
            attention += [("kv_b", heads * (keys + values), rank), ("o", hidden, heads * values)]
        for name, rows, columns in attention:
            tensors[f"{at}self_attn.{name}_proj.weight"] = matrix(rows, columns)
            if kind == "qwen2" and name in ("q", "k", "v"):
                tensors[f"{at}self_attn.{name}_proj.bias"] = vector(rows, 0.0)
        if has_experts:
            size = config["moe_intermediate_size"]
            widths = {f"mlp.experts.{number}": size for number in range(num_experts)}
            if shared := config.get("n_shared_experts"):
                widths["mlp.shared_experts"] = shared * size
            tensors[at + "mlp.gate.weight"] = matrix(num_experts, hidden)
            if config.get("topk_method") == "noaux_tc":
                tensors[at + "mlp.gate.e_score_correction_bias"] = vector(num_experts, 0.0)
        else:
            widths = {"mlp": middle}
        for name, width in widths.items():
            tensors[f"{at}{name}.gate_proj.weight"] = matrix(width, hidden)
            tensors[f"{at}{name}.up_proj.weight"] = matrix(width, hidden)
            tensors[f"{at}{name}.down_proj.weight"] = matrix(hidden, width)
        if kind.startswith("qwen3"):
            tensors[at + "self_attn.q_norm.weight"] = vector(head)
            tensors[at + "self_attn.k_norm.weight"] = vector(head)
    return tensors


def _save(folder: Path, tensors: dict[str, np.ndarray], dtype: str, shards: int) -> None:
    if dtype == "F16":
        tensors = {k: v.astype(np.float16) for k, v in tensors.items()}
    names = sorted(tensors)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
    else:
        where = {name: f"model-{1 + i % shards:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(names)}
        for file in sorted(set(where.values())):
            save_file({n: tensors[n] for n in names if where[n] == file}, folder / file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    if dtype == "BF16":
        _to_bf16(folder / "model.safetensors")


def _to_bf16(path: Path) -> None:
    """Rewrite a file of float32 as BF16 by hand: numpy has no such type."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    body = np.frombuffer(data[8 + length :], dtype="<u4")
    for tensor in header.values():
        if "dtype" in tensor:
            tensor["dtype"] = "BF16"
            tensor["data_offsets"] = [n // 2 for n in tensor["data_offsets"]]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + (body >> 16).astype("<u2").tobytes())


def byte_alphabet() -> list[str]:
    """Return the 256 characters that stand for bytes in byte-level vocabularies, in byte order. Source: GPT-2."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b) if b in kept else chr(next(spare)) for b in range(256)]


def tiny_tokenizer(split: str) -> dict[str, Any]:
    """Return a tokenizer.json: 256 bytes, three specials, a few merges."""
    vocab = {c: i for i, c in enumerate(byte_alphabet())}
    merges = []
    for index, (left, right) in enumerate((("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("1", "2"), ("12", "3"))):
        vocab[left + right] = 260 + index
        merges.append(f"{left} {right}")
    special = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    names = ("<|bos|>", "<|im_end|>", "<|im_start|>")
    steps = [
        {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": 256 + i, "content": n, **special} for i, n in enumerate(names)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": merges,
        },
    }


def make_small_gguf(path: Path) -> Path:
    """Write a GGUF file of one small tensor and four tokens, and return it."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    for name, value in (("block_count", 1), ("context_length", 64), ("embedding_length", 8), ("head_count", 2)):
        writer.add_uint32(f"llama.{'attention.' if name == 'head_count' else ''}{name}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["a", "b", "ab", "<|im_end|>"])
    writer.add_token_merges(["a b"])
    writer.add_token_types([1, 1, 1, 3])
    writer.add_eos_token_id(3)
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("token_embd.weight", np.zeros((4, 8), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
