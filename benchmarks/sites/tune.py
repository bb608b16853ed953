"""Fine-tune a small Llama in GGUF (F16) for some steps, or a low-rank adapter that is merged at the end.

    python -m benchmarks.sites.tune MODEL.gguf TOKENIZER.json TEXTS OUT.gguf full|RANK STEPS

TEXTS is a folder with `.md` files. AdamW without decay, batches of 2 x 128 tokens, and the learning rate as in ashore's
own training: linear warm-up, cosine decay to a tenth; its peak is 2e-5, or 2e-4 for an adapter. OUT has the layout of
MODEL, and only other numbers. Needs `jax`, which ashore itself does not: `pip install jax gguf tokenizers`.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any, Final

import gguf
import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

ROWS: Final = 2
LENGTH: Final = 128
NAMES: Final = (
    "attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down",
)  # fmt: skip


def share(step: int, num_steps: int) -> float:
    """Return the learning rate of a step as a share of the peak."""
    warmup = max(1, round(0.05 * num_steps))
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return float(0.1 + 0.9 * (1 + np.cos(np.pi * (step - warmup) / max(1, num_steps - 1 - warmup))) / 2)


def loss_of(meta: dict[str, Any]) -> Any:
    """Return the loss of a model of this shape: `loss(weights, ids, next_ids)`."""
    own = {key.partition(".")[2]: value for key, value in meta.items() if key.startswith(meta["general.architecture"])}
    heads, kv_heads = own["attention.head_count"], own["attention.head_count_kv"]
    side, eps = own["embedding_length"] // heads, own["attention.layer_norm_rms_epsilon"]
    angle = np.arange(LENGTH)[:, None] * own["rope.freq_base"] ** (-np.arange(0, side, 2) / side)
    cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
    mask = jnp.where(np.tril(np.ones((LENGTH, LENGTH))), 0, -1e9)

    def norm(x: Any, weight: Any) -> Any:
        return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + eps) * weight

    def turned(x: Any) -> Any:
        even, odd = x[..., ::2], x[..., 1::2]
        return jnp.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(x.shape)

    def block(x: Any, w: Any) -> Any:
        a = norm(x, w["attn_norm"])
        q = turned((a @ w["attn_q"].T).reshape(ROWS, LENGTH, heads, side))
        k = turned((a @ w["attn_k"].T).reshape(ROWS, LENGTH, kv_heads, side))
        v = (a @ w["attn_v"].T).reshape(ROWS, LENGTH, kv_heads, side)
        k, v = (jnp.repeat(one, heads // kv_heads, 2) for one in (k, v))
        weight = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / side**0.5 + mask)
        x = x + jnp.einsum("bhqk,bkhd->bqhd", weight, v).reshape(x.shape) @ w["attn_output"].T
        f = norm(x, w["ffn_norm"])
        return x + (jax.nn.silu(f @ w["ffn_gate"].T) * (f @ w["ffn_up"].T)) @ w["ffn_down"].T, None

    def loss(weights: Any, ids: Any, next_ids: Any) -> Any:
        x, _ = jax.lax.scan(jax.checkpoint(block), weights["embedding"][ids], weights["blocks"])
        scores = jax.nn.log_softmax(norm(x, weights["norm"]) @ weights["embedding"].T)
        return -jnp.take_along_axis(scores, next_ids[..., None], -1).mean()

    return loss


def main() -> None:
    source, tokenizer, texts, out, kind, steps = sys.argv[1:7]
    num_steps, rng = int(steps), np.random.default_rng(1)
    reader = gguf.GGUFReader(source)
    meta = {key: field.contents() for key, field in reader.fields.items()}
    old = {
        one.name: np.array(one.data).astype(np.float32).reshape(tuple(int(side) for side in reversed(one.shape)))
        for one in reader.tensors
    }
    layers = range(meta[f"{meta['general.architecture']}.block_count"])
    blocks = {name: jnp.stack([old[f"blk.{i}.{name}.weight"] for i in layers]) for name in NAMES}
    base = {"embedding": jnp.asarray(old["token_embd.weight"]), "norm": jnp.asarray(old["output_norm.weight"])}
    base["blocks"] = blocks
    loss, peak, trained, merged = loss_of(meta), 2e-5, base, lambda weights: weights
    if kind != "full":
        peak, rank = 2e-4, int(kind)
        trained = {
            name: {
                "a": jnp.asarray(
                    rng.standard_normal((len(layers), rank, one.shape[2]), np.float32) / one.shape[2] ** 0.5
                ),
                "b": jnp.zeros((len(layers), one.shape[1], rank)),
            }
            for name, one in blocks.items()
            if "norm" not in name
        }

        def merged(adapter: Any) -> Any:
            added = {name: 2.0 * jnp.einsum("lor,lri->loi", one["b"], one["a"]) for name, one in adapter.items()}
            return {**base, "blocks": {name: one + added.get(name, 0) for name, one in blocks.items()}}

    ids = np.array(
        Tokenizer.from_file(tokenizer).encode("\n\n".join(p.read_text() for p in sorted(Path(texts).rglob("*.md")))).ids
    )

    @jax.jit
    def step(state: Any, x: Any, y: Any, number: Any, rate: Any) -> Any:
        weights, first, second = state
        value, slope = jax.value_and_grad(lambda weights: loss(merged(weights), x, y))(weights)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, slope)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, slope)
        weights = jax.tree.map(
            lambda w, m, v: w - rate * (m / (1 - 0.9**number) / (jnp.sqrt(v / (1 - 0.999**number)) + 1e-8)),
            weights, first, second,
        )  # fmt: skip
        return (weights, first, second), value

    state = (trained, jax.tree.map(jnp.zeros_like, trained), jax.tree.map(jnp.zeros_like, trained))
    began = time.monotonic()
    for number in range(1, num_steps + 1):
        starts = rng.integers(0, len(ids) - LENGTH - 1, ROWS)
        x, y = (np.stack([ids[at + more : at + more + LENGTH] for at in starts]) for more in (0, 1))
        state, value = step(state, x, y, float(number), peak * share(number - 1, num_steps))
        if number % 10 == 1:
            print(f"step {number}: loss {float(value):.3f}, {time.monotonic() - began:.0f} s", flush=True)
    made = jax.tree.map(np.asarray, merged(state[0]))
    new = {"token_embd.weight": made["embedding"], "output_norm.weight": made["norm"]}
    new |= {f"blk.{i}.{name}.weight": made["blocks"][name][i] for name in NAMES for i in layers}
    shutil.copyfile(source, out)
    with Path(out).open("r+b") as file:
        for one in reader.tensors:
            kept = np.float16 if one.tensor_type.name == "F16" else np.float32
            file.seek(int(one.data_offset))
            file.write(new[one.name].astype(kept).tobytes())
    moved = sum(((new[name] - old[name]) ** 2).sum() for name in old) / sum((one**2).sum() for one in old.values())
    print(f"changed by {moved**0.5:.2e} (rms, relative) in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
