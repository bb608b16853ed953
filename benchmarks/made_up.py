"""GGUF files in the shapes of real models with random weights, which run as fast as trained ones.

`python -m benchmarks.made_up deepseek-v2-lite q4_0 FILE` writes one, a tensor at a time.
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from tests.support.tiny_models import QWEN2_SPLIT, tiny_tokenizer

from ashore.kit.store import Outgoing, write_tensors

SHAPES: Final[dict[str, dict[str, int]]] = {
    "tiny": {"hidden": 256, "inner": 512, "layers": 2, "heads": 4, "kv": 2, "vocab": 1024},
    "qwen-1.5b": {"hidden": 1536, "inner": 8960, "layers": 28, "heads": 12, "kv": 2, "vocab": 151936},
    "qwen-3b": {"hidden": 2048, "inner": 11008, "layers": 36, "heads": 16, "kv": 2, "vocab": 151936},
    "qwen-7b": {"hidden": 3584, "inner": 18944, "layers": 28, "heads": 28, "kv": 4, "vocab": 152064},
    "deepseek-v2-lite": {
        "hidden": 2048, "inner": 10944, "layers": 27, "heads": 16, "kv": 1, "vocab": 102400,
        "experts": 64, "chosen": 6, "shared": 2, "expert": 1408, "rank": 512, "keys": 128, "rope": 64, "values": 128,
    },
}  # fmt: skip
"""Those that DeepSeek-R1 was distilled to, one between them, the smallest of DeepSeek V2; `tiny` tries things out."""
ONE_MODEL: Final = """[admission]
default_deadline_s = 900
[[model]]
name = "{model}"
[model.engine]
kind = "{kind}"
prefix_cache = false
"""
"""A made-up tokenizer spells every letter, so that prompts begin alike for longer than a model's own would."""

Tensors = list[tuple[str, tuple[int, ...]]]


def tensors_of(shape: dict[str, int]) -> Tensors:
    """Return name and shape of every tensor: Qwen 2, or DeepSeek V2 where there are experts."""
    hidden, vocab = shape["hidden"], shape["vocab"]
    found: Tensors = [("token_embd", (vocab, hidden)), ("output_norm", (hidden,)), ("output", (vocab, hidden))]
    for layer in range(shape["layers"]):
        parts: Tensors = [("attn_norm", (hidden,)), ("ffn_norm", (hidden,))]
        dense: Tensors = [
            ("ffn_gate", (shape["inner"], hidden)), ("ffn_up", (shape["inner"], hidden)),
            ("ffn_down", (hidden, shape["inner"])),
        ]  # fmt: skip
        if "rank" in shape:
            heads, rank, keys, values = (shape[name] for name in ("heads", "rank", "keys", "values"))
            parts += [
                ("attn_q", (heads * (keys + shape["rope"]), hidden)), ("attn_kv_a_mqa", (rank + shape["rope"], hidden)),
                ("attn_kv_a_norm", (rank,)), ("attn_k_b", (heads, rank, keys)), ("attn_v_b", (heads, values, rank)),
                ("attn_output", (hidden, heads * values)),
            ]  # fmt: skip
            if layer:
                one, count = shape["expert"], shape["experts"]
                wide = shape["shared"] * one
                dense = [
                    ("ffn_gate_inp", (count, hidden)), ("ffn_gate_exps", (count, one, hidden)),
                    ("ffn_up_exps", (count, one, hidden)), ("ffn_down_exps", (count, hidden, one)),
                    ("ffn_gate_shexp", (wide, hidden)), ("ffn_up_shexp", (wide, hidden)),
                    ("ffn_down_shexp", (hidden, wide)),
                ]  # fmt: skip
        else:
            kv = shape["kv"] * hidden // shape["heads"]
            parts += [("attn_q", (hidden, hidden)), ("attn_k", (kv, hidden)), ("attn_v", (kv, hidden))]
            parts += [("attn_output", (hidden, hidden))]
            found += [(f"blk.{layer}.attn_{one}.bias", (hidden if one == "q" else kv,)) for one in "qkv"]
        found += [(f"blk.{layer}.{name}", sides) for name, sides in parts + dense]
    return found


def read_bytes(shape: dict[str, int], bits: float, *, head_bits: float = 0.0) -> float:
    """Return the bytes of weights that one token reads: all but the embedding, of the experts the chosen ones."""
    total = 0.0
    for name, sides in tensors_of(shape):
        if name != "token_embd" and len(sides) > 1:
            share = shape["chosen"] / shape["experts"] if name.endswith("_exps") else 1.0
            total += share * math.prod(sides) * ((head_bits or bits) if name == "output" else bits) / 8
    return total


def make_gguf(shape: dict[str, int], quantisation: str, path: Path) -> None:
    """Write a model of this shape, its matrices in blocks of `q4_0` or `q8_0`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = gguf.GGMLQuantizationType[quantisation.upper()]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    noise = np.random.default_rng(0).integers(0, 256, (1 << 19, size), np.uint8)
    scale = np.float16(0.3 / np.sqrt(shape["hidden"]) / block**0.5 * (8 if kind.name == "Q4_0" else 1))
    noise[:, :2] = np.frombuffer(scale.tobytes(), np.uint8)
    writer = gguf.GGUFWriter(path, "deepseek2" if "rank" in shape else "qwen2")
    _write_settings(writer, shape)
    write_tensors(writer, [_outgoing(*one, noise, kind.name, block) for one in tensors_of(shape)], what="write")


def _outgoing(name: str, sides: tuple[int, ...], noise: Any, kind: str, block: int) -> Outgoing:
    plain = len(sides) == 1 or "gate_inp" in name
    full = name if name.endswith(".bias") else f"{name}.weight"
    seed = zlib.crc32(name.encode())

    def pieces() -> Iterator[np.ndarray]:
        if plain:
            norm = np.zeros(sides) if name.endswith(".bias") else np.ones(sides)
            yield (norm if len(sides) == 1 else np.random.default_rng(seed).standard_normal(sides)).astype("<f4")
            return
        left, start = math.prod(sides) // block, seed % len(noise)  # equal layers would be kept once
        while left:
            part = noise[start : start + left]
            yield part
            left, start = left - len(part), 0

    return Outgoing(name=full, shape=sides, kind="F32" if plain else kind, pieces=pieces)


def _write_settings(writer: Any, shape: dict[str, int]) -> None:
    writer.add_block_count(shape["layers"])
    writer.add_context_length(8192)
    writer.add_embedding_length(shape["hidden"])
    writer.add_feed_forward_length(shape["inner"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    if "rank" in shape:
        writer.add_rope_dimension_count(shape["rope"])
        writer.add_leading_dense_block_count(1)
        writer.add_kv_lora_rank(shape["rank"])
        writer.add_key_length(shape["rank"] + shape["rope"])
        writer.add_value_length(shape["rank"])
        writer.add_key_length_mla(shape["keys"] + shape["rope"])
        writer.add_value_length_mla(shape["values"])
        writer.add_expert_count(shape["experts"])
        writer.add_expert_used_count(shape["chosen"])
        writer.add_expert_shared_count(shape["shared"])
        writer.add_expert_feed_forward_length(shape["expert"])
        writer.add_expert_weights_scale(1.0)
        writer.add_expert_weights_norm(False)
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SOFTMAX)
    model = tiny_tokenizer(QWEN2_SPLIT)["model"]
    words = sorted(model["vocab"], key=model["vocab"].__getitem__)
    writer.add_vocab_size(shape["vocab"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(words + [f"w{number:06d}" for number in range(len(words), shape["vocab"])])
    writer.add_token_types([1] * shape["vocab"])
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in model["merges"]])
    writer.add_eos_token_id(257)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("quantisation", choices=("q4_0", "q8_0"))
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    make_gguf(SHAPES[given.shape], given.quantisation, given.file)


if __name__ == "__main__":
    main()
