"""The graph of a decoder, built from the tensors of a GGUF file: Llama, Qwen 2 and Qwen 3.

One matrix is read, rounded and kept at a time, so that memory holds the model once, in the precision that is wanted.
Projections that read one input are one product and a split: small products read memory at about half the machine's
bandwidth, large ones at nearly all of it. The forms of attention, rotation and norms are those that OpenVINO's plugin
and its rewrite for paged attention recognise.
Source: Hugging Face's modeling_llama, modeling_qwen2 and modeling_qwen3 (formulas); GGUF specification (names).

Rotary frequencies of queries and keys, from a GGUF file.

In half precision they would rotate a token at position 1,000 wrongly by up to 0.15 radians. Source: llama.cpp's
`rope_freqs` (divisors of the frequencies) and `rope.scaling.*`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.data.engines.openvino.card import DECODERS
from ashore.data.engines.openvino.fourbits import check_row
from ashore.data.engines.openvino.gptq import EIGHT_HIGH, EIGHT_LOW, HIGH, LOW, FourBits, round_nearest
from ashore.data.engines.openvino.products import decompressed
from ashore.data.engines.openvino.runtime import import_openvino

_DEFAULT_BASE: Final = 10_000.0
_HINT: Final = "serve this model with the llamacpp engine"
_ROWS: Final = 8192
"""Rows rounded at once: bounds the memory for a head with a large vocabulary."""
_GROUPS: Final = (
    ("self_attn", ("v_proj", "k_proj", "q_proj"), ("attn_v", "attn_k", "attn_q")),
    ("mlp", ("gate_proj", "up_proj"), ("ffn_gate", "ffn_up")),
)
_PRODUCTS: Final = 4
"""Of a layer: these two, and those back to the width of the model."""


def frequencies_of(gguf: Path) -> NDArray[np.float32]:
    """Return the rotation of each pair of a head's numbers per position, in radians.

    Raises:
        UnsupportedModel: their scaling is not supported (YaRN, LongRoPE).
    """
    from ashore.kit.store import gguf_reader

    with gguf_reader(gguf) as reader:
        fields = {name.partition(".")[2]: field.contents() for name, field in reader.fields.items() if ".rope." in name}
        scaling, factor = str(fields.get("rope.scaling.type", "none")), float(fields.get("rope.scaling.factor", 1.0))
        if scaling not in ("none", "linear"):
            raise UnsupportedModel(f"{gguf.name} scales its rotation by {scaling!r}", hint=_HINT)
        size = int(fields.get("rope.dimension_count", 0)) or _head_size(reader)
        base = float(fields.get("rope.freq_base", _DEFAULT_BASE))
        frequencies = base ** (-np.arange(0, size, 2, dtype=np.float64) / size)
        if scaling == "linear":
            frequencies /= factor
        for tensor in reader.tensors:
            if tensor.name == "rope_freqs.weight":
                frequencies /= tensor.data.astype(np.float64).ravel()
        return frequencies.astype(np.float32)


def _head_size(reader: Any) -> int:
    """Return the size of one head if the file does not give the number of rotated dimensions."""
    fields = {name.partition(".")[2]: field.contents() for name, field in reader.fields.items()}
    known = int(fields.get("attention.key_length", 0))
    return known or int(fields["embedding_length"]) // int(fields["attention.head_count"])


@dataclass(frozen=True, slots=True)
class Bits:
    """How the weights of products are kept."""

    bits: int
    """16, 8 or 4."""
    group_size: int = 0
    """Weights of a row that share a scale; 0: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A model, its weights in memory."""

    model: Any
    context_tokens: int
    """0 if the file does not have it."""
    num_products: int
    """Products of layers; the output head is one more."""


@foreign_errors("the tensors of this model do not fit together", UnsupportedModel, hint="fetch the model again")
def build_decoder(gguf: Path, products: Bits, others: Bits) -> Built:
    """Return the model of a GGUF file, quantized or not, with state for keys and values.

    Args:
        gguf: The file.
        products: For the products of layers.
        others: For the embedding and the output head; rows that do not divide into its groups have one scale.

    Raises:
        UnsupportedModel: another architecture, or a scaling of rotation that the graph has no form for.
        CorruptBlob: not a whole GGUF file, or a tensor is missing.
        InvalidRequest: rows do not divide into groups.
    """
    from ashore.kit.store import gguf_reader

    frequencies = frequencies_of(gguf)
    with gguf_reader(gguf) as reader:
        decoder = _Decoder(reader, frequencies, products, others)
    return decoder.build()


class _Decoder:
    def __init__(self, reader: Any, frequencies: NDArray[np.float32], products: Bits, others: Bits) -> None:
        self._op = import_openvino("openvino.opset13")
        self._ov = import_openvino()
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        fields = {name: field.contents() for name, field in reader.fields.items() if "tokenizer." not in name}
        self._family = str(fields["general.architecture"])
        if self._family not in DECODERS:
            raise UnsupportedModel(
                f"OpenVINO serves {', '.join(sorted(DECODERS))}; this model is {self._family}",
                hint="serve this model with the llamacpp engine",
            )

        def own(key: str, usual: Any = None) -> Any:
            return fields.get(f"{self._family}.{key}", usual)

        self._layers = int(own("block_count"))
        self._hidden = int(own("embedding_length"))
        self._heads = int(own("attention.head_count"))
        self._kv_heads = int(own("attention.head_count_kv", self._heads))
        self._size = int(own("attention.key_length", self._hidden // self._heads))
        self._eps = float(own("attention.layer_norm_rms_epsilon"))
        self._context_tokens = int(own("context_length", 0))
        self._frequencies = frequencies
        self._products = products
        self._others = Bits(others.bits) if others.group_size and self._hidden % others.group_size else others

    def build(self) -> Built:
        op = self._op
        ids, mask, positions = (op.parameter([-1, -1], np.int64, name=n) for n in _INPUTS)
        beams = op.parameter([-1], np.int32, name="beam_idx")
        for node in (ids, mask, positions, beams):
            node.output(0).set_names({node.get_friendly_name()})
        embedding = self._matrix("model.embed_tokens.weight", ("token_embd.weight",), self._others)
        x = op.gather(embedding, op.convert(ids, "i32"), _whole(op, 0))
        self._batch = op.gather(op.shape_of(ids), _ints(op, 0), _ints(op, 0))
        self._beams = beams
        self._mask = op.convert(op.unsqueeze(op.unsqueeze(mask, _whole(op, 1)), _whole(op, 1)), "f32")
        self._cos, self._sin = self._rotation(positions)
        sinks: list[Any] = []
        for layer in range(self._layers):
            x = self._layer(x, layer, sinks)
        x = self._norm(x, "output_norm.weight", (1, 1, -1))
        head = embedding
        if "output.weight" in self._tensors:
            head = self._matrix("lm_head.weight", ("output.weight",), self._others)
        logits = op.matmul(x, head, False, True)
        logits.set_friendly_name("lm_head")
        logits.output(0).set_names({"logits"})
        model = self._ov.Model([op.result(logits)], sinks, [beams, positions, mask, ids], "decoder")
        return Built(model=model, context_tokens=self._context_tokens, num_products=_PRODUCTS * self._layers)

    def _layer(self, x: Any, layer: int, sinks: list[Any]) -> Any:
        op, blk = self._op, f"blk.{layer}."
        normed = self._norm(x, blk + "attn_norm.weight", (1, 1, -1))
        value, key, query = self._joined(normed, layer, *_GROUPS[0])
        query = self._turned(self._by_head(query, self._heads, blk + "attn_q_norm.weight"))
        key = self._turned(self._by_head(key, self._kv_heads, blk + "attn_k_norm.weight"))
        value = self._by_head(value, self._kv_heads, "")
        key, value = (
            self._kept(new, f"past_key_values.{layer}.{what}present.{layer}.{what}", sinks)
            for new, what in ((key, "key"), (value, "value"))
        )
        mixed = op.scaled_dot_product_attention(query, self._repeated(key), self._repeated(value), self._mask)
        flat = op.reshape(op.transpose(mixed, _ints(op, 0, 2, 1, 3)), _ints(op, 0, 0, self._heads * self._size), True)
        x = op.add(x, self._product(flat, layer, "self_attn", ("o_proj",), ("attn_output",)))
        normed = self._norm(x, blk + "ffn_norm.weight", (1, 1, -1))
        gate, up = self._joined(normed, layer, *_GROUPS[1])
        return op.add(x, self._product(op.multiply(op.swish(gate), up), layer, "mlp", ("down_proj",), ("ffn_down",)))

    def _joined(self, x: Any, layer: int, room: str, names: tuple[str, ...], stored: tuple[str, ...]) -> list[Any]:
        """Return the products of `x` with several matrices, and their biases added."""
        op = self._op
        product = self._product(x, layer, room, names, stored)
        sizes = [int(self._tensor(f"blk.{layer}.{one}.weight").shape[1]) for one in stored]
        split = op.variadic_split(product, _whole(op, -1), _ints(op, *sizes))
        parts = [split.output(index) for index in range(len(sizes))]
        biases = [f"blk.{layer}.{one}.bias" for one in stored]
        if biases[0] not in self._tensors:
            return parts
        return [op.add(part, self._vector(bias, (-1,))) for part, bias in zip(parts, biases, strict=True)]

    def _product(self, x: Any, layer: int, room: str, names: tuple[str, ...], stored: tuple[str, ...]) -> Any:
        op = self._op
        at = f"model.layers[{layer}].{room}"
        weights = self._matrix(
            "+".join(f"{at}.{one}.weight" for one in names),
            tuple(f"blk.{layer}.{one}.weight" for one in stored),
            self._products,
        )
        product = op.matmul(x, weights, False, True)
        product.set_friendly_name(f"{at}.{'+'.join(names)}")
        return product

    def _matrix(self, name: str, stored: tuple[str, ...], bits: Bits) -> Any:
        """Return the rows of several tensors under one another, in single precision, as they are kept in `bits`."""
        op = self._op
        if bits.bits == 16:
            half = np.concatenate([part.astype(np.float16) for one in stored for part in self._rows(one)])
            return op.convert(self._constant(half, name), "f32")
        width = int(self._tensor(stored[0]).shape[0])
        group_size = bits.group_size or width
        check_row(name, width, group_size)
        low, high = (EIGHT_LOW, EIGHT_HIGH) if bits.bits == 8 else (LOW, HIGH)
        parts = [round_nearest(part, group_size, low=low, high=high) for one in stored for part in self._rows(one)]
        rounded = FourBits(
            codes_NK=np.concatenate([part.codes_NK for part in parts]),
            scales_NG=np.concatenate([part.scales_NG for part in parts]),
        )
        return decompressed(rounded, name, bits=bits.bits)

    def _constant(self, values: NDArray[Any], name: str) -> Any:
        constant = self._op.constant(values, shared_memory=True)
        constant.set_friendly_name(name)
        return constant

    def _tensor(self, name: str) -> Any:
        if name not in self._tensors:
            raise UnsupportedModel(f"the {self._family} model has no tensor {name}", hint="fetch the model again")
        return self._tensors[name]

    def _rows(self, name: str) -> Any:
        """Yield the rows of a matrix in single precision, some at a time, with heads as halves."""
        import gguf

        tensor = self._tensor(name)
        heads = {"attn_q": self._heads, "attn_k": self._kv_heads}.get(name.split(".")[-2], 0)
        if self._family == "llama" and heads:
            yield _pairs_to_halves(gguf.quants.dequantize(tensor.data, tensor.tensor_type), heads)
            return
        for start in range(0, len(tensor.data), _ROWS):
            yield gguf.quants.dequantize(tensor.data[start : start + _ROWS], tensor.tensor_type)

    def _vector(self, name: str, shape: tuple[int, ...]) -> Any:
        values = self._tensor(name).data.astype(np.float32)
        heads = {"attn_q": self._heads, "attn_k": self._kv_heads}.get(name.split(".")[-2], 0)
        if self._family == "llama" and heads:
            values = _pairs_to_halves(values, heads)
        return self._op.constant(values.reshape(shape))

    def _norm(self, x: Any, name: str, shape: tuple[int, ...]) -> Any:
        op = self._op
        mean = op.reduce_mean(op.power(x, _number(op, 2.0, 3)), _ints(op, -1), True)
        scale = op.divide(_number(op, 1.0, 3), op.sqrt(op.add(mean, _number(op, self._eps, 3))))
        return op.multiply(op.multiply(scale, x), self._vector(name, shape))

    def _by_head(self, x: Any, heads: int, norm: str) -> Any:
        op = self._op
        rows = op.reshape(x, _ints(op, 0, 0, heads, self._size), True)
        if norm in self._tensors:
            rows = self._norm(rows, norm, (1, 1, 1, -1))
        return op.transpose(rows, _ints(op, 0, 2, 1, 3))

    def _rotation(self, positions: Any) -> tuple[Any, Any]:
        op = self._op
        wide = op.broadcast(
            op.constant(self._frequencies.reshape(1, -1, 1)),
            op.concat([self._batch, _ints(op, 1), _ints(op, 1)], 0),
            broadcast_spec="BIDIRECTIONAL",
        )
        angles = op.transpose(
            op.matmul(wide, op.convert(op.unsqueeze(positions, _whole(op, 1)), "f32"), False, False),
            _ints(op, 0, 2, 1),
        )
        both = op.concat([angles, angles], -1)
        return op.unsqueeze(op.cos(both), _whole(op, 1)), op.unsqueeze(op.sin(both), _whole(op, 1))

    def _turned(self, x: Any) -> Any:
        op, half = self._op, self._size // 2
        second = op.slice(x, _ints(op, half), _ints(op, 2**63 - 1), _ints(op, 1), _ints(op, 3))
        first = op.slice(x, _ints(op, 0), _ints(op, half), _ints(op, 1), _ints(op, 3))
        swapped = op.concat([op.multiply(second, _number(op, -1.0, 4)), first], -1)
        return op.add(op.multiply(x, self._cos), op.multiply(swapped, self._sin))

    def _kept(self, new: Any, name: str, sinks: list[Any]) -> Any:
        """Return `new` behind what the state of this name keeps; the state keeps both from then on."""
        op = self._op
        shape = op.concat([self._batch, *(_ints(op, n) for n in (self._kv_heads, 0, self._size))], 0)
        empty = op.broadcast(_number(op, 0.0, 0), shape)
        past = op.read_value(empty, name, self._ov.Type.f32, [-1, self._kv_heads, -1, self._size])
        both = op.concat([op.gather(past, self._beams, _whole(op, 0)), new], 2)
        sinks.append(op.assign(both, name))
        return both

    def _repeated(self, x: Any) -> Any:
        """Return keys or values once for each head of the queries."""
        op, times = self._op, self._heads // self._kv_heads
        if times == 1:
            return x
        shape = op.concat([self._batch, *(_ints(op, n) for n in (self._kv_heads, times, 1, self._size))], 0)
        wide = op.broadcast(op.unsqueeze(x, _whole(op, 2)), shape, broadcast_spec="BIDIRECTIONAL")
        return op.reshape(wide, _ints(op, 0, self._heads, -1, self._size), True)


def _pairs_to_halves(values: NDArray[Any], heads: int) -> NDArray[Any]:
    """Reorder the rows of each head from pairs, as GGUF has them of Llama, to (first half, second half)."""
    half = values.shape[0] // heads // 2
    return values.reshape(heads, half, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


_INPUTS: Final = ("input_ids", "attention_mask", "position_ids")


def _ints(op: Any, *numbers: int) -> Any:
    return op.constant(np.array(numbers, np.int64))


def _whole(op: Any, number: int) -> Any:
    return op.constant(np.array(number, np.int64))


def _number(op: Any, number: float, dimensions: int) -> Any:
    return op.constant(np.full((1,) * dimensions, number, np.float32))
