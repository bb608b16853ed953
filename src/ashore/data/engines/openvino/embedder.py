"""Encoders: token ids in, one unit vector or one score out. The graph is built from safetensors.

A cross-encoder is such an encoder with a head on its first token: a sequence-classification checkpoint of one label,
which reads a question and a text together and scores how well the text answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import ContextTooLong, EngineFailed, InvalidRequest, UnsupportedModel
from ashore.core.shapes import DECODERS_THAT_EMBED, ENCODERS
from ashore.data.engines.model import EngineInfo, EngineOptions, Feature
from ashore.data.engines.openvino.causal import CausalConfig, build_causal
from ashore.data.engines.openvino.config import run_config
from ashore.data.engines.openvino.encodergraph import Drawing
from ashore.data.engines.openvino.modernbert import ModernBertConfig, build_modernbert, modernbert_logit
from ashore.data.engines.openvino.runtime import import_openvino, openvino_version
from ashore.kit.store import EMBEDDING, Embedding

_MOST_TOKENS_AT_ONCE = 4096
_FEW_TOKENS = 256
"""A group with fewer gets shorter texts, too: a small product of matrices does not use the processor."""


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
    type_vocab_size: int = 2
    pad_token_id: int = 0
    architectures: tuple[str, ...] = ()
    id2label: dict[str, str] | None = None

    @property
    def is_roberta(self) -> bool:
        """Whether its positions begin after the padding's, and its head has layers of its own."""
        return self.model_type in ("roberta", "xlm-roberta")

    @property
    def first_position(self) -> int:
        return self.pad_token_id + 1 if self.is_roberta else 0

    @property
    def most_tokens(self) -> int:
        """Longest text."""
        return self.max_position_embeddings - self.first_position

    @property
    def ranks(self) -> bool:
        """Whether it has the head of a cross-encoder."""
        return any(name.endswith("ForSequenceClassification") for name in self.architectures)


class _ModelType(msgspec.Struct, frozen=True):
    model_type: str = ""


def open_encoder(directory: Path, weights: str, options: EngineOptions) -> Embedder | None:
    """Return the encoder in a folder, built and compiled; None for another kind of model.

    Raises:
        UnsupportedModel: a tensor is missing, the activation is not supported, or the head has several labels.
        EngineFailed: the plugin refused the graph.
    """
    path = directory / "config.json"
    kind = msgspec.json.decode(path.read_bytes(), type=_ModelType).model_type if path.is_file() else ""
    if kind in DECODERS_THAT_EMBED.values() and (directory / EMBEDDING).is_file():
        causal = msgspec.json.decode(path.read_bytes(), type=CausalConfig)
        return CausalEmbedder(directory, causal, weights, options)
    if kind not in ENCODERS:
        return None
    if kind == "modernbert":
        modern = msgspec.json.decode(path.read_bytes(), type=ModernBertConfig)
        return (ModernBertRanker if modern.ranks else ModernBertEmbedder)(directory, modern, weights, options)
    config = msgspec.json.decode(path.read_bytes(), type=BertConfig)
    return (BertRanker if config.ranks else BertEmbedder)(directory, config, weights, options)


class Embedder:
    """Embeds texts as unit vectors, pooled and shaped as `embedding.json` says."""

    FEATURES: ClassVar[tuple[Feature, ...]] = ("embed",)
    PROPERTIES: ClassVar[Mapping[str, str]] = {}
    """Default plugin properties."""

    def __init__(self, directory: Path, config: Any, weights: str, options: EngineOptions) -> None:
        """Build and compile the graph; use `open_encoder`, which chooses the class."""
        self.config = config
        told = directory / EMBEDDING
        self._embedding = msgspec.json.decode(told.read_bytes(), type=Embedding) if told.is_file() else Embedding()
        most = min(self._embedding.max_tokens or 10**9, getattr(config, "most_tokens", config.max_position_embeddings))
        self._context = min(options.context_tokens or 10**9, most)
        self._check()
        ov = import_openvino()
        draw = Drawing(_tensors(directory, weights or "model.safetensors", self._embedding))
        model = draw.model(self._head(draw, self._states(draw)))
        properties: dict[str, Any] = dict(run_config(options).properties)
        for name in ("KV_CACHE_PRECISION", "DYNAMIC_QUANTIZATION_GROUP_SIZE"):
            properties.pop(name, None)
        for name, value in self.PROPERTIES.items():
            properties.setdefault(name, value)
        try:
            compiled = ov.Core().compile_model(model, "CPU", properties)
            self._request = compiled.create_infer_request()
        except RuntimeError as error:
            raise EngineFailed(f"OpenVINO cannot compile {directory.name}: {error}") from error
        computes = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        self._precision = {"f32": "fp32", "f16": "fp16"}.get(computes, computes)
        """What the plugin computes in, which it chooses by the machine unless it is told."""

    def _states(self, draw: Drawing) -> Any:
        """Return the states of all tokens, [B, T, H]."""
        raise NotImplementedError

    def info(self, name: str) -> EngineInfo:
        return EngineInfo(
            kind="openvino",
            version=openvino_version(),
            model=name,
            precision=self._precision,
            context_tokens=self._context,
            vocab_size=self.config.vocab_size,
            kv_tokens=0,
            max_sequences=64,
            features=self.FEATURES,
            embedding_size=self._embedding_size,
            prompts=self._embedding.prompts,
            default_prompt=self._embedding.default_prompt,
            dims=self._embedding.dims,
        )

    @property
    def _embedding_size(self) -> int:
        dense = self._embedding.dense
        return dense[-1].size if dense else int(self.config.hidden_size)

    def _check(self) -> None:
        """Check that the model may be served.

        Raises:
            UnsupportedModel: it may not.
        """

    def _head(self, draw: Drawing, x: Any) -> Any:
        """Return one vector for each text, of any length."""
        match self._embedding.pooling:
            case "cls":
                x = draw.first_state(x)
            case "mean":
                x = draw.mean_state(x)
            case "max":
                x = draw.largest_state(x)
            case "last":
                x = draw.last_state(x)
            case "weighted":
                x = draw.weighted_state(x)
        for layer in self._embedding.dense:
            x = draw.linear(x, f"{layer.path}.linear")
            match layer.activation:
                case "tanh":
                    x = draw.op.tanh(x)
                case "relu":
                    x = draw.op.relu(x)
                case "gelu":
                    x = draw.op.gelu(x, "erf")
                case "identity":
                    pass
        return x

    def embed(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return one vector for each sequence, in the order given. Texts of similar length are computed together.

        For a cross-encoder a sequence is a pair, and its vector is one number: its unbounded score.

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
            while order and (len(group) + 1) * longest <= _MOST_TOKENS_AT_ONCE:
                if len(batch[order[-1]]) < longest * 7 / 8 and len(group) * longest >= _FEW_TOKENS:
                    break  # an eighth of what is computed may be padding
                group.append(order.pop())
            for index, vector in zip(group, self._run([batch[i] for i in group], longest), strict=True):
                vectors[index] = vector
        return vectors

    def _run(self, texts: list[Sequence[int]], longest: int) -> list[list[float]]:
        ids_BT = np.zeros((len(texts), longest), np.int64)
        mask_BT = np.zeros((len(texts), longest), np.float32)
        types_BT = np.zeros((len(texts), longest), np.int64)
        for row, text in enumerate(texts):
            ids_BT[row, : len(text)] = text
            mask_BT[row, : len(text)] = 1
            types_BT[row, self._second(text) : len(text)] = 1
        self._request.infer({"ids": ids_BT, "mask": mask_BT, "types": types_BT})
        vectors: list[list[float]] = self._finished(self._request.get_output_tensor(0).data).tolist()
        return vectors

    def _finished(self, vectors_BH: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors of length one, whatever precision they were computed in."""
        lengths_B1 = np.sqrt((vectors_BH.astype(np.float64) ** 2).sum(1, keepdims=True))
        units_BH: NDArray[np.float32] = (vectors_BH / np.maximum(lengths_B1, 1e-12)).astype(np.float32)
        return units_BH

    def _second(self, text: Sequence[int]) -> int:
        """Return where the second text of a pair begins; its length if there is none."""
        return len(text)


class BertEmbedder(Embedder):
    """Of the BERT and RoBERTa families."""

    def _states(self, draw: Drawing) -> Any:
        return _bert(self.config, draw)


class ModernBertEmbedder(Embedder):
    """Of the ModernBERT family."""

    def _states(self, draw: Drawing) -> Any:
        return build_modernbert(self.config, draw)


class CausalEmbedder(Embedder):
    """Of decoders whose last states are the result."""

    def _states(self, draw: Drawing) -> Any:
        return build_causal(self.config, draw)


class Ranker(Embedder):
    """Scores of pairs: each sequence of ids is a question and a text, and its vector is one number, a logit."""

    FEATURES: ClassVar[tuple[Feature, ...]] = ("rank",)
    PROPERTIES: ClassVar[Mapping[str, str]] = {"INFERENCE_PRECISION_HINT": "f32"}
    """Scores are compared with thresholds that were found in single precision."""

    @property
    def _embedding_size(self) -> int:
        return 0

    def _check(self) -> None:
        labels = self.config.id2label or {"0": "", "1": ""}
        if len(labels) != 1:
            raise UnsupportedModel(
                f"the classifier has {len(labels)} labels; a reranker has one",
                hint="serve a cross-encoder for ranking, such as one made from ms-marco or of the BGE family",
            )

    def _finished(self, vectors_BH: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors_BH


class BertRanker(Ranker, BertEmbedder):
    """Of the BERT and RoBERTa families."""

    def _head(self, draw: Drawing, x: Any) -> Any:
        """Return the one logit of the first token of each pair."""
        first = draw.first_state(x)
        if self.config.is_roberta:
            return draw.linear(draw.op.tanh(draw.linear(first, "classifier.dense")), "classifier.out_proj")
        return draw.linear(draw.op.tanh(draw.linear(first, "pooler.dense")), "classifier")

    def _second(self, text: Sequence[int]) -> int:
        """The second text begins after the first separator."""
        if self.config.type_vocab_size < 2:
            return len(text)
        return list(text).index(text[-1]) + 1


class ModernBertRanker(Ranker, ModernBertEmbedder):
    """Of the ModernBERT family, whose pairs have no token types."""

    def _head(self, draw: Drawing, x: Any) -> Any:
        return modernbert_logit(self.config, draw, x)


_PREFIX: Final = re.compile(r"(bert|roberta|model)\.")


def _tensors(directory: Path, weights: str, embedding: Embedding) -> dict[str, Any]:
    """Return the tensors of a model by the names that its bare encoder has, and those of layers behind the pooling."""
    from ashore.kit.store import read_tensors

    found: dict[str, Any] = {}
    for path in sorted(directory.glob("*.safetensors")) if weights.endswith(".json") else (directory / weights,):
        found |= {_PREFIX.sub("", name, count=1): value for name, value in read_tensors(path).items()}
    for layer in embedding.dense:
        tensors = read_tensors(directory / layer.path / "model.safetensors")
        found |= {f"{layer.path}.{name}": value for name, value in tensors.items()}
    return found


def _bert(config: BertConfig, draw: Drawing) -> Any:
    if config.hidden_act != "gelu":
        raise UnsupportedModel(f"the activation {config.hidden_act!r} is not supported; expected 'gelu'")
    op, ints, linear = draw.op, draw.ints, draw.linear
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads

    def norm(x: Any, name: str) -> Any:
        unit = draw.normed(x, config.layer_norm_eps)
        return op.add(op.multiply(unit, draw.weight(name + ".weight")), draw.weight(name + ".bias"))

    def by_head(x: Any) -> Any:
        return op.transpose(op.reshape(x, ints(0, 0, heads, size), True), ints(0, 2, 1, 3))

    first = draw.whole(config.first_position)
    places = op.range(first, op.add(draw.length, first), draw.whole(1), "i64")
    words = draw.embedded(draw.ids_BT, "embeddings.word_embeddings.weight")
    positions = draw.embedded(places, "embeddings.position_embeddings.weight")
    kind = draw.embedded(draw.types_BT, "embeddings.token_type_embeddings.weight")
    x = norm(op.add(op.add(words, positions), kind), "embeddings.LayerNorm")
    bias = draw.unseen()
    for layer in range(config.num_hidden_layers):
        at = f"encoder.layer.{layer}."
        query, key, value = (by_head(linear(x, f"{at}attention.self.{n}")) for n in ("query", "key", "value"))
        read = draw.attended(query, key, value, bias, heads=heads, size=size)
        x = norm(op.add(x, linear(read, at + "attention.output.dense")), at + "attention.output.LayerNorm")
        wide = op.gelu(linear(x, at + "intermediate.dense"), "erf")
        x = norm(op.add(x, linear(wide, at + "output.dense")), at + "output.LayerNorm")
    return x
