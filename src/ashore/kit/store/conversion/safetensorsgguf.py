"""Safetensors in Hugging Face form to one GGUF file, in F16 or smaller, on numpy, one matrix at a time.

The mapping follows what GGUF readers expect: Llama's query and key rows are reordered from halves to pairs (rotary
embedding of neighbours), tied embeddings are left out, rank-1 tensors and routers are F32, Llama 3's frequency scaling
becomes the tensor `rope_freqs.weight`. `experts` adds DeepSeek and Qwen 3 MoE. Equal input gives equal bytes.
Sources: GGUF specification (keys, tensor names); Hugging Face's modeling_llama and modeling_rope_utils (formulas).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ashore.core.errors import UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.core.shapes import ModelShape
from ashore.kit.store.conversion.bf16 import fits_f16, read_tensor
from ashore.kit.store.conversion.configshape import shape_of_config
from ashore.kit.store.conversion.experts import (
    CORRECTION,
    DECOMPRESSION,
    GGUF_ARCHITECTURES,
    check_experts,
    is_expert,
    keys_of,
    stacked_experts,
    values_of,
    write_expert_settings,
)
from ashore.kit.store.conversion.experts import LAYER as EXPERT_LAYER
from ashore.kit.store.conversion.generation import chat_template_from_folder, generation_from_folder
from ashore.kit.store.conversion.ggufvocab import write_vocabulary
from ashore.kit.store.conversion.ggufwriting import Outgoing, write_tensors
from ashore.kit.store.conversion.safetensorsmeta import TensorPlace, read_headers, with_scales
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CONVERTED = ("deepseek2", "llama", "qwen2", "qwen3", "qwen3_moe")
FILE_TYPE_F16 = 1
ROUTER = "ffn_gate_inp"
"""Part of the names of matrices that choose experts: tiny, and decisive."""
TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    **EXPERT_LAYER,
}
IGNORED_ENDINGS = ("rotary_emb.inv_freq", "masked_bias", "attn.bias")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """One tensor under its GGUF name."""

    name: str
    places: tuple[TensorPlace, ...]
    """Written one behind the other: one, or a stack of experts."""
    shape: tuple[int, ...]
    """As written."""
    turn: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]] | None = None
    """How the numbers of a place are reordered; None: not at all."""

    def pieces(self) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the numbers of each place."""
        for place in self.places:
            values = read_tensor(place)
            yield values if self.turn is None else self.turn(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How matrices become smaller while they are converted."""

    file_type: int
    """`general.file_type`."""
    kind_of: Callable[[str, int, int, bool], str | None]
    """Tensor, numbers in a row, blocks of the model, and whether embeddings are also the head, to the name of a GGUF
    format; None: not packed."""
    pack: Callable[[str, npt.NDArray[np.float32], str], npt.NDArray[np.uint8]]
    """Tensor, numbers and format to bytes, with a row of them for each row of numbers."""


@foreign_errors(
    "config.json and the tensors of this model do not fit together", UnsupportedModel, hint="fetch it again"
)
def convert_safetensors_to_gguf(
    directory: Path, out: Path, *, packing: Packing | None = None, progress: Progress = silent
) -> dict[str, str]:
    """Write the model of a folder in Hugging Face form to `out`; return the recipe.

    May be called twice; `out` appears atomically. Memory: about three times the largest matrix.

    Raises:
        UnsupportedModel: another architecture, a tensor that has no place, an unknown vocabulary or rope scaling.
        CorruptBlob: a file that is cut short.
        DiskFull: no room for `out`.
    """
    import gguf

    config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    places = with_scales(read_headers(directory))
    shape = shape_of_config(config, sum(p.num_elements for p in places.values()))
    if shape.architecture not in CONVERTED:
        raise UnsupportedModel(
            f"ashore cannot convert safetensors of {shape.architecture} models (supported: {', '.join(CONVERTED)})",
            hint="use a .gguf file with llamacpp, or serve the safetensors with vllm",
        )
    if shape.num_experts:
        check_experts(config, shape)
    mapped = tuple(_map(places, shape, config))
    extra = _rope_frequencies(config, shape)
    scratch = out.with_name(out.name + ".tmp")
    tied = all(tensor.name != "output.weight" for tensor in mapped)
    with disk_errors(out), ExitStack() as stack:
        stack.callback(scratch.unlink, missing_ok=True)
        writer = gguf.GGUFWriter(scratch, GGUF_ARCHITECTURES.get(shape.architecture, shape.architecture))
        _write_settings(writer, config, shape, directory)
        writer.add_file_type(packing.file_type if packing is not None else FILE_TYPE_F16)
        write_vocabulary(writer, directory, _embedding_rows(places), generation_from_folder(directory))
        template = chat_template_from_folder(directory)
        if template:
            writer.add_chat_template(template)
        outgoing = [_outgoing(tensor, packing, shape.num_layers, tied=tied) for tensor in mapped]
        if extra is not None:
            rope = Outgoing(name="rope_freqs.weight", shape=extra.shape, kind="F32", pieces=lambda: iter((extra,)))
            outgoing.append(rope)
        write_tensors(writer, outgoing, what="convert to GGUF", progress=progress)
        scratch.replace(out)
    return {"converted_from": "safetensors", "precision": "fp16", "tool": f"ashore conversion, gguf {_gguf_version()}"}


def _outgoing(tensor: Mapped, packing: Packing | None, num_blocks: int, *, tied: bool) -> Outgoing:
    """Return a tensor in the format that `packing` gives it, else in F16 or F32."""
    packed = (
        packing.kind_of(tensor.name, tensor.shape[-1], num_blocks, tied) if packing and _is_matrix(tensor) else None
    )

    def pieces() -> Iterator[npt.NDArray[Any]]:
        for values in tensor.pieces():
            if packed is None or packing is None:
                yield values.astype("<f2" if kind == "F16" else "<f4")
            else:
                yield packing.pack(tensor.name, values, packed)

    kind = packed or _kind_of(tensor)
    return Outgoing(name=tensor.name, shape=tensor.shape, kind=kind, pieces=pieces)


def halves_to_pairs(values: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Reorder the rows of each head from (first half, second half) to (pairs), for rotary embedding of neighbours.

    `values` is a weight (rows, columns) or a bias (rows).
    """
    rest = values.shape[1:]
    half = values.shape[0] // heads // 2
    return values.reshape(heads, 2, half, *rest).swapaxes(1, 2).reshape(values.shape)


def _map(places: dict[str, TensorPlace], shape: ModelShape, config: dict[str, Any]) -> Iterator[Mapped]:
    tied = bool(config.get("tie_word_embeddings", False))
    for name, place in sorted(places.items(), key=lambda item: _order(item[0])):
        if name.endswith(IGNORED_ENDINGS) or (tied and name == "lm_head.weight") or is_expert(name):
            continue
        if name in TOP:
            yield Mapped(name=TOP[name], places=(place,), shape=place.shape)
            continue
        layer, _, rest = name.removeprefix("model.layers.").partition(".")
        part, _, kind = rest.rpartition(".")
        if layer.isdigit() and int(layer) >= shape.num_layers:
            continue  # DeepSeek V3 keeps a layer behind the last one, to predict more tokens than the next
        if rest == DECOMPRESSION and shape.latent_rank:
            heads, rank = shape.num_heads, int(config["kv_lora_rank"])
            keys, values = int(config["qk_nope_head_dim"]), int(config["v_head_dim"])
            for target, turn, sides in (("k", keys_of, (rank, keys)), ("v", values_of, (values, rank))):
                yield Mapped(
                    name=f"blk.{layer}.attn_{target}_b.weight",
                    places=(place,),
                    shape=(heads, *sides),
                    turn=partial(turn, config=config),
                )
            continue
        if rest == CORRECTION:
            yield Mapped(name=f"blk.{layer}.exp_probs_b.bias", places=(place,), shape=place.shape)
            continue
        if (
            not name.startswith("model.layers.")
            or not layer.isdigit()
            or part not in LAYER
            or kind not in ("weight", "bias")
        ):
            raise UnsupportedModel(f"the tensor {name!r} has no place in a {shape.architecture} GGUF file")
        turned = None
        if shape.architecture == "llama" and part in ("self_attn.q_proj", "self_attn.k_proj"):
            heads = shape.num_heads if part == "self_attn.q_proj" else shape.num_kv_heads
            turned = partial(halves_to_pairs, heads=heads)
        yield Mapped(name=f"blk.{layer}.{LAYER[part]}.{kind}", places=(place,), shape=place.shape, turn=turned)
    for name, stack in stacked_experts(places, shape):
        yield Mapped(name=name, places=stack, shape=(len(stack), *stack[0].shape))


def _order(name: str) -> tuple[int, int, str]:
    """Embedding first, layers by number, the rest last."""
    if name.startswith("model.layers."):
        return 1, int(name.split(".")[2]), name
    return (0 if name.startswith("model.embed") else 2), 0, name


def _is_matrix(tensor: Mapped) -> bool:
    return len(tensor.shape) > 1


def _kind_of(tensor: Mapped) -> str:
    """Return F16 for matrices whose values fit, F32 for vectors, routers, and rare matrices that do not fit."""
    if not _is_matrix(tensor) or ROUTER in tensor.name:
        return "F32"
    return "F16" if all(place.dtype == "F16" or fits_f16(read_tensor(place)) for place in tensor.places) else "F32"


def _write_settings(writer: Any, config: dict[str, Any], shape: ModelShape, directory: Path) -> None:
    writer.add_name(str(config.get("_name_or_path") or directory.name))
    writer.add_block_count(shape.num_layers)
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(1 if shape.latent_rank else shape.num_kv_heads)
    writer.add_layer_norm_rms_eps(float(config.get("rms_norm_eps", 1e-6)))
    writer.add_vocab_size(shape.vocab_size)
    writer.add_rope_dimension_count(int(config["qk_rope_head_dim"]) if shape.latent_rank else shape.head_dim)
    if shape.num_experts:
        write_expert_settings(writer, config, shape)
    if not shape.latent_rank and (
        shape.head_dim * shape.num_heads != shape.hidden_size or shape.architecture.startswith("qwen3")
    ):
        writer.add_key_length(shape.head_dim)
        writer.add_value_length(shape.head_dim)
    writer.add_rope_freq_base(float(_rope(config).get("rope_theta") or config.get("rope_theta") or 10000.0))
    _write_scaling(writer, config)


def _write_scaling(writer: Any, config: dict[str, Any]) -> None:
    import gguf

    scaling = _rope(config)
    kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
    match kind:
        case "default" | "llama3":
            return
        case "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(float(scaling["factor"]))
        case "yarn":
            writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            writer.add_rope_scaling_factor(float(scaling["factor"]))
            original = scaling.get("original_max_position_embeddings") or config["max_position_embeddings"]
            writer.add_rope_scaling_orig_ctx_len(int(original))
            if everywhere := float(scaling.get("mscale_all_dim") or 0.0):  # a factor of DeepSeek's attention
                writer.add_rope_scaling_yarn_log_mul(0.1 * everywhere)
        case _:
            raise UnsupportedModel(
                f"config.json has the rotary scaling {kind!r}", hint="supported: linear, yarn, llama3"
            )


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """Return the rope settings: `rope_parameters` in new files, `rope_scaling` in old ones."""
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return dict(found)


def _rope_frequencies(config: dict[str, Any], shape: ModelShape) -> npt.NDArray[np.float32] | None:
    """Return Llama 3's divisors of the rotary frequencies; None for models without this scaling.

    Source: Hugging Face, modeling_rope_utils, `_compute_llama3_parameters`: long waves are divided by `factor`, short
    ones not at all, those between by a smooth mixture.
    """
    import numpy as np

    scaling = _rope(config)
    if (scaling.get("rope_type") or scaling.get("type")) != "llama3":
        return None
    base = float(scaling.get("rope_theta") or config.get("rope_theta") or 10000.0)
    factor, low, high = (float(scaling[k]) for k in ("factor", "low_freq_factor", "high_freq_factor"))
    original = float(scaling["original_max_position_embeddings"])
    divisors = []
    for index in range(0, shape.head_dim, 2):
        wavelength = 2 * math.pi * base ** (index / shape.head_dim)
        if wavelength < original / high:
            divisors.append(1.0)
        elif wavelength > original / low:
            divisors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors, dtype=np.float32)


def _embedding_rows(places: dict[str, TensorPlace]) -> int:
    place = places.get("model.embed_tokens.weight")
    if place is None:
        raise UnsupportedModel("the safetensors have no model.embed_tokens.weight")
    return place.shape[0]


def _gguf_version() -> str:
    from importlib.metadata import version

    return version("gguf")
