"""A model of the shape of a 7B one, with made-up weights and some of its layers: as fast a layer as a trained one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HIDDEN, INNER, HEADS, KV, VOCAB, LAYERS = 3584, 18944, 28, 4, 8192, 28
"""Of Qwen2-7B, but for the vocabulary (152,064 there), which costs memory and next to no time."""
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2 splits text before its tokens."""
KEYS = KV * HIDDEN // HEADS


def tensors_of(layer: int) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of one layer."""
    at = f"model.layers.{layer}."
    return {
        at + "input_layernorm.weight": (HIDDEN,), at + "post_attention_layernorm.weight": (HIDDEN,),
        at + "self_attn.q_proj.bias": (HIDDEN,), at + "self_attn.k_proj.bias": (KEYS,),
        at + "self_attn.v_proj.bias": (KEYS,), at + "self_attn.q_proj.weight": (HIDDEN, HIDDEN),
        at + "self_attn.k_proj.weight": (KEYS, HIDDEN), at + "self_attn.v_proj.weight": (KEYS, HIDDEN),
        at + "self_attn.o_proj.weight": (HIDDEN, HIDDEN), at + "mlp.gate_proj.weight": (INNER, HIDDEN),
        at + "mlp.up_proj.weight": (INNER, HIDDEN), at + "mlp.down_proj.weight": (HIDDEN, INNER),
    }  # fmt: skip


def write_model(folder: Path, layers: int) -> None:
    """Write such a model in half precision, as a hub has them."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    shapes["lm_head.weight"] = (VOCAB, HIDDEN)
    for layer in range(layers):
        shapes |= tensors_of(layer)
    random = np.random.default_rng(0)
    tensors = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            tensors[name] = np.full(shape, 1.0 if "norm" in name else 0.0, np.float16)
        else:  # the noise of one block, moved on: drawing all of it would take longer than all else here
            block = (random.standard_normal(1 << 16) / np.sqrt(shape[1])).astype(np.float16)
            tensors[name] = np.resize(block, shape)
    save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": KV, "vocab_size": VOCAB, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "tie_word_embeddings": False, "hidden_act": "silu", "torch_dtype": "float16",
        "bos_token_id": 256, "eos_token_id": 257,
    }  # fmt: skip
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]  # the alphabet of byte-level BPE
    rest = [chr(256 + at) for at in range(256 - len(plain))]
    words = {letter: at for at, letter in enumerate([*map(chr, plain), *rest])}
    words |= {"th": 258} | {f"w{number:04d}": number for number in range(259, VOCAB)}
    names = ("<|bos|>", "<|end|>")
    special = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    isolated = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [{"id": 256 + at, "content": one, **special} for at, one in enumerate(names)],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [isolated, bytes_of]}, "decoder": bytes_of,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": words,
                  "merges": ["t h"]},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", "chat_template": template}))
