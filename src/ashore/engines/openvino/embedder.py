"""Encoders of the BERT family: token ids in, one unit vector out. The graph is built here from safetensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ashore.engines.model import EngineInfo, EngineOptions
from ashore.engines.openvino.config import run_config
from ashore.engines.openvino.runtime import import_openvino, openvino_version
from ashore.errors import ContextTooLong, EngineFailed, InvalidRequest, UnsupportedModel

_MOST_TOKENS_AT_ONCE = 4096
_FAR_BELOW = -1e9


class BertConfig(msgspec.Struct, frozen=True):
    """The part of `config.json` that shapes the graph."""

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int
    max_position_embeddings: int
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"


class _ModelType(msgspec.Struct, frozen=True):
    model_type: str = ""


def is_encoder(directory: Path) -> bool:
    """Tell whether the folder holds an encoder that `BertEmbedder` takes."""
    path = directory / "config.json"
    return path.is_file() and msgspec.json.decode(path.read_bytes(), type=_ModelType).model_type == "bert"


class BertEmbedder:
    """Mean-pooled, L2-normalised sentence vectors."""

    def __init__(self, directory: Path, weights: str, options: EngineOptions) -> None:
        """Build and compile the graph.

        Raises:
            UnsupportedModel: a tensor is missing or the activation is another one.
            EngineFailed: the plugin refused the graph.
        """
        self.config = msgspec.json.decode((directory / "config.json").read_bytes(), type=BertConfig)
        self._context = min(options.context_tokens or 10**9, self.config.max_position_embeddings)
        ov = import_openvino()
        model = _build(self.config, _tensors(directory / (weights or "model.safetensors")))
        properties: dict[str, Any] = dict(run_config(options).properties)
        for name in ("KV_CACHE_PRECISION", "DYNAMIC_QUANTIZATION_GROUP_SIZE"):
            properties.pop(name, None)
        try:
            self._request = ov.Core().compile_model(model, "CPU", properties).create_infer_request()
        except RuntimeError as error:
            raise EngineFailed(f"OpenVINO cannot compile {directory.name}: {error}") from error

    def info(self, name: str) -> EngineInfo:
        return EngineInfo(
            kind="openvino",
            version=openvino_version(),
            model=name,
            precision="fp32",
            context_tokens=self._context,
            vocab_size=self.config.vocab_size,
            kv_tokens=0,
            max_sequences=64,
            features=("embed",),
            embedding_size=self.config.hidden_size,
        )

    def embed(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return one vector for each sequence, in the order given. Texts of like length are computed together.

        Raises:
            InvalidRequest: an empty sequence or an id beyond the vocabulary.
            ContextTooLong: a sequence is longer than the model's positions.
        """
        for index, ids in enumerate(batch):
            if not ids or min(ids) < 0 or max(ids) >= self.config.vocab_size:
                raise InvalidRequest(f"input {index} is empty or has a token id beyond {self.config.vocab_size - 1}")
            if len(ids) > self._context:
                raise ContextTooLong(
                    f"input {index} has {len(ids)} tokens; the limit of this model is {self._context}",
                    hint="split the text",
                )
        vectors: list[list[float]] = [[] for _ in batch]
        order = sorted(range(len(batch)), key=lambda i: len(batch[i]))
        while order:
            group = [order.pop()]
            longest = len(batch[group[0]])
            while order and (len(group) + 1) * longest <= _MOST_TOKENS_AT_ONCE and len(batch[order[-1]]) * 2 > longest:
                group.append(order.pop())
            for index, vector in zip(group, self._run([batch[i] for i in group], longest), strict=True):
                vectors[index] = vector
        return vectors

    def _run(self, texts: list[Sequence[int]], longest: int) -> list[list[float]]:
        ids_BT = np.zeros((len(texts), longest), np.int64)
        mask_BT = np.zeros((len(texts), longest), np.float32)
        for row, text in enumerate(texts):
            ids_BT[row, : len(text)] = text
            mask_BT[row, : len(text)] = 1
        self._request.infer({"ids": ids_BT, "mask": mask_BT})
        vectors: list[list[float]] = self._request.get_output_tensor(0).data.tolist()
        return vectors


def _tensors(path: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    try:
        loaded = load_file(path)
    except (OSError, ValueError) as error:
        raise EngineFailed(f"cannot read {path.name}: {error}") from error
    return {name.removeprefix("bert."): value for name, value in loaded.items()}


def _build(config: BertConfig, tensors: dict[str, Any]) -> Any:
    if config.hidden_act != "gelu":
        raise UnsupportedModel(f"the activation {config.hidden_act!r} is not supported; expected 'gelu'")
    ov, op = import_openvino(), import_openvino("openvino.opset13")
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads

    def weight(name: str) -> Any:
        if name not in tensors:
            raise UnsupportedModel(f"the weights have no tensor {name!r}: not a BERT encoder")
        return op.constant(tensors[name].astype(np.float32))

    def ints(*values: int) -> Any:
        return op.constant(np.array(values, np.int64))

    def linear(x: Any, name: str) -> Any:
        return op.add(op.matmul(x, weight(name + ".weight"), False, True), weight(name + ".bias"))

    def norm(x: Any, name: str) -> Any:
        unit = op.mvn(x, ints(-1), True, config.layer_norm_eps, "inside_sqrt")
        return op.add(op.multiply(unit, weight(name + ".weight")), weight(name + ".bias"))

    def by_head(x: Any) -> Any:
        return op.transpose(op.reshape(x, ints(0, 0, heads, size), True), ints(0, 2, 1, 3))

    ids_BT = op.parameter([-1, -1], np.int64, name="ids")
    mask_BT = op.parameter([-1, -1], np.float32, name="mask")
    for parameter, name in ((ids_BT, "ids"), (mask_BT, "mask")):
        parameter.output(0).set_names({name})
    length = op.gather(op.shape_of(ids_BT), op.constant(np.int64(1)), op.constant(np.int64(0)))
    places = op.range(op.constant(np.int64(0)), length, op.constant(np.int64(1)), "i64")
    zero = op.constant(np.int64(0))
    words = op.gather(weight("embeddings.word_embeddings.weight"), ids_BT, zero)
    positions = op.gather(weight("embeddings.position_embeddings.weight"), places, zero)
    kind = op.gather(weight("embeddings.token_type_embeddings.weight"), zero, zero)
    x = norm(op.add(op.add(words, positions), kind), "embeddings.LayerNorm")
    hidden_keys = op.subtract(op.constant(np.float32(1)), op.unsqueeze(mask_BT, ints(1, 2)))
    bias = op.multiply(hidden_keys, op.constant(np.float32(_FAR_BELOW)))
    scale = op.constant(np.float32(size**-0.5))
    for layer in range(config.num_hidden_layers):
        at = f"encoder.layer.{layer}."
        query, key, value = (by_head(linear(x, f"{at}attention.self.{n}")) for n in ("query", "key", "value"))
        seen = op.scaled_dot_product_attention(query, key, value, bias, scale)
        joined = op.reshape(op.transpose(seen, ints(0, 2, 1, 3)), ints(0, 0, config.hidden_size), True)
        x = norm(op.add(x, linear(joined, at + "attention.output.dense")), at + "attention.output.LayerNorm")
        wide = op.gelu(linear(x, at + "intermediate.dense"), "erf")
        x = norm(op.add(x, linear(wide, at + "output.dense")), at + "output.LayerNorm")
    weights_BT1 = op.unsqueeze(mask_BT, ints(2))
    total = op.reduce_sum(op.multiply(x, weights_BT1), ints(1))
    mean = op.divide(total, op.reduce_sum(weights_BT1, ints(1)))
    unit = op.normalize_l2(mean, ints(1), 1e-12, "add")
    return ov.Model([op.result(unit)], [ids_BT, mask_BT], "encoder")
