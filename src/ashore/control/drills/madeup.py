"""Made-up models of a twin, on the disk."""

from __future__ import annotations

import json
from pathlib import Path

from ashore.kit.folders import make_folder


def make_text(folder: Path) -> None:
    """Write the text files of a model that others compute: a tokenizer whose tokens are bytes, and a template."""
    make_folder(folder)
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    vocab = {chr(byte) if byte in kept else chr(next(spare)): byte for byte in range(256)}
    flags = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    bytewise = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    files = {
        "tokenizer.json": {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": 256, "content": "<|end|>", **flags}],
            "normalizer": None,
            "pre_tokenizer": bytewise,
            "post_processor": None,
            "decoder": bytewise,
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        },
        "tokenizer_config.json": {
            "eos_token": "<|end|>",
            "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
        },
        "config.json": {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 257,
            "max_position_embeddings": 2048,
            "eos_token_id": 256,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))


def make_model(folder: Path) -> None:
    """Write a model of two layers with random weights, for the text files of `make_text`."""
    import numpy as np
    from safetensors.numpy import save_file

    make_text(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_bytes())
    tokenizer["model"]["vocab"]["th"], tokenizer["model"]["merges"] = 257, ["t h"]  # OpenVINO reads no list without one
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    said, luck = json.loads((folder / "config.json").read_bytes()), np.random.default_rng(1)
    said |= {"vocab_size": 258, "rms_norm_eps": 1e-5, "rope_theta": 10_000.0, "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(said))
    wide, deep, rows = said["hidden_size"], said["intermediate_size"], said["vocab_size"]
    narrow = wide * said["num_key_value_heads"] // said["num_attention_heads"]
    shapes = {"model.embed_tokens": (rows, wide), "lm_head": (rows, wide), "model.norm": (wide,)}
    for layer in range(said["num_hidden_layers"]):
        parts = {
            "self_attn.q_proj": (wide, wide), "self_attn.k_proj": (narrow, wide), "self_attn.v_proj": (narrow, wide),
            "self_attn.o_proj": (wide, wide), "mlp.gate_proj": (deep, wide), "mlp.up_proj": (deep, wide),
            "mlp.down_proj": (wide, deep), "input_layernorm": (wide,), "post_attention_layernorm": (wide,),
        }  # fmt: skip
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in parts.items()}
    tensors = {f"{name}.weight": luck.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
