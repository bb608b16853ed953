"""Embedders on OpenVINO pool as their makers' files say: the vectors are those of plain arithmetic in numpy."""

from __future__ import annotations

import json
from math import erf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from store_making import make_store
from tiny_encoders import HEADS, HIDDEN, LAYERS, Kind, write_cross_encoder

from ashore.core.errors import ContextTooLong, UnsupportedModel
from ashore.data.engines import EngineInfo, EngineOptions, ModelFiles
from ashore.data.engines.openvino.engine import OpenVinoEngine
from ashore.data.text import TextModel
from ashore.kit.store import ModelStore, StoredModel

TEXTS = ("tea", "what is tea", "paris a b c d e f g h")
ROOTS: dict[str, str] = {"bert": "bert.", "xlm-roberta": "roberta."}
OLD = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "word_embedding_dimension": HIDDEN}


def step(number: int, kind: str) -> dict[str, Any]:
    path = f"{number}_{kind}" if number else ""
    return {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}


STEPS = [step(0, "Transformer"), step(1, "Pooling"), step(2, "Normalize")]


def write_embedder(folder: Path, kind: Kind, pooling: dict[str, Any] | None, **files: Any) -> Path:
    """Write an encoder without a head, with the files of sentence-transformers, and return the folder."""
    write_cross_encoder(folder, kind)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["Model"]}))
    (folder / "1_Pooling").mkdir()
    if pooling is not None:
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    for name, content in ({"modules": STEPS} | files).items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def serve(store: ModelStore, model: StoredModel) -> tuple[OpenVinoEngine, EngineInfo]:
    engine = OpenVinoEngine()
    folder = str(store.open(model.reference).directory)
    files = ModelFiles(name="tiny", digest="d", directory=folder, format="safetensors", weights=model.weights)
    options = EngineOptions(kind="openvino", threads=1, extra={"INFERENCE_PRECISION_HINT": "f32"})
    return engine, engine.load(files, options)


def states(folder: Path, kind: Kind, ids: list[int]) -> NDArray[np.float64]:
    """Return the last state of each token, [T, H]."""
    w = {k.removeprefix(ROOTS[kind]): v.astype(np.float64) for k, v in load_file(folder / "model.safetensors").items()}
    epsilon, first = (1e-12, 0) if kind == "bert" else (1e-5, 2)

    def linear(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        unit = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
        return unit * w[name + ".weight"] + w[name + ".bias"]

    words = w["embeddings.word_embeddings.weight"][ids]
    places = w["embeddings.position_embeddings.weight"][first : first + len(ids)]
    x = norm(words + places + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        parts = (linear(x, f"{at}attention.self.{name}") for name in ("query", "key", "value"))
        query, key, value = (part.reshape(len(ids), HEADS, -1).swapaxes(0, 1) for part in parts)
        scores = query @ key.swapaxes(1, 2) / np.sqrt(HIDDEN / HEADS)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        read = (shares / shares.sum(-1, keepdims=True) @ value).swapaxes(0, 1).reshape(len(ids), HIDDEN)
        x = norm(x + linear(read, at + "attention.output.dense"), at + "attention.output.LayerNorm")
        wide = linear(x, at + "intermediate.dense")
        wide = wide * 0.5 * (1 + np.vectorize(erf)(wide / np.sqrt(2)))
        x = norm(x + linear(wide, at + "output.dense"), at + "output.LayerNorm")
    return x


def pooled(x: NDArray[np.float64], way: str) -> NDArray[np.float64]:
    weights = np.arange(1, len(x) + 1)
    ways = {"cls": x[0], "mean": x.mean(0), "max": x.max(0), "last": x[-1], "weighted": weights @ x / weights.sum()}
    return ways[way]


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
@pytest.mark.parametrize(
    ("pooling", "way"),
    [
        (OLD, "cls"),
        ({"pooling_mode": "cls", "embedding_dimension": HIDDEN}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "include_prompt": True}, "mean"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "max"}, "max"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode_weightedmean_tokens": True}, "weighted"),
    ],
)
def test_vectors_are_pooled_as_the_files_say(tmp_path: Path, kind: Kind, pooling: dict[str, Any], way: str) -> None:
    folder = write_embedder(tmp_path / "m", kind, pooling, sentence_bert_config={"max_seq_length": 32})
    store = make_store(tmp_path)
    engine, info = serve(store, store.pull(str(folder)))
    text = TextModel.load(folder)
    assert (info.features, info.embedding_size, info.context_tokens) == (("embed",), HIDDEN, 32)
    ids = [list(text.encode(one)) for one in TEXTS]
    for one, vector in zip(ids, engine.embed(ids), strict=True):
        x = states(folder, kind, one)
        expected = pooled(x, way)
        assert vector == pytest.approx(expected / np.linalg.norm(expected), abs=2e-5)
    with pytest.raises(ContextTooLong, match="limit of this model is 32"):
        engine.embed([ids[0] * 12])
    engine.close()


PROMPTED = {"config_sentence_transformers": {"prompts": {"query": "query: ", "passage": "passage: "}}}


@pytest.mark.parametrize(
    ("pooling", "files", "words"),
    [
        ({"pooling_mode": "colbert"}, {}, "asks for 'colbert'"),
        (OLD | {"pooling_mode_mean_tokens": True}, {}, "'cls_token' and 'mean_tokens'"),
        ({"pooling_mode_mean_tokens": True, "include_prompt": False}, PROMPTED, "left out of the mean"),
        (OLD, {"modules": [*STEPS[:2], step(2, "Dense")]}, "a layer '2_Dense' with the activation"),
        (OLD, {"modules": [STEPS[0], step(1, "Dense"), step(2, "Pooling")]}, "in this order"),
        (OLD, {"modules": [*STEPS[:2], step(2, "LSTM")]}, "the step 'LSTM'"),
        (OLD, {"modules": STEPS[:1]}, "no pooling"),
        (None, {}, "1_Pooling/config.json is missing"),
        (
            OLD,
            {"config_sentence_transformers": {"default_prompt_name": "query"}},
            "prompts that are no texts, or no 'query'",
        ),
        (
            OLD,
            {"modules": STEPS[:2], "config_sentence_transformers": {"similarity_fn_name": "dot"}},
            "not compared by their angle",
        ),
    ],
)
def test_an_embedder_that_would_be_served_wrong_is_not_pulled(
    tmp_path: Path, pooling: dict[str, Any] | None, files: dict[str, Any], words: str
) -> None:
    folder = write_embedder(tmp_path / "m", "bert", pooling, **files)
    with pytest.raises(UnsupportedModel, match=words):
        make_store(tmp_path).pull(str(folder))


def test_embedders_of_other_kinds_are_not_taken_for_models_that_write(tmp_path: Path) -> None:
    folder = write_embedder(tmp_path / "m", "bert", OLD)
    config = json.loads((folder / "config.json").read_text())
    for kind in ("gemma3_text", "t5"):
        told = config | {"model_type": kind, "architectures": ["Gemma3ForCausalLM"]}
        (folder / "config.json").write_text(json.dumps(told))
        with pytest.raises(UnsupportedModel, match=rf"modules\.json asks for vectors of a '{kind}'"):
            make_store(tmp_path).pull(str(folder))


@pytest.mark.parametrize("activation", ["Tanh", "Identity", "ReLU"])
def test_a_layer_behind_the_pooling_is_computed(tmp_path: Path, activation: str) -> None:
    rng = np.random.default_rng(3)
    layer = {"linear.weight": rng.normal(size=(48, HIDDEN)), "linear.bias": rng.normal(size=48)}
    folder = write_embedder(tmp_path / "m", "bert", OLD, modules=[*STEPS[:2], step(2, "Dense"), step(3, "Normalize")])
    (folder / "2_Dense").mkdir()
    told = {
        "in_features": HIDDEN,
        "out_features": 48,
        "activation_function": f"torch.nn.modules.activation.{activation}",
    }
    (folder / "2_Dense" / "config.json").write_text(json.dumps(told))
    store = make_store(tmp_path)
    with pytest.raises(UnsupportedModel, match="whose weights are not in safetensors"):
        store.pull(str(folder))
    save_file({name: one.astype(np.float32) for name, one in layer.items()}, folder / "2_Dense" / "model.safetensors")
    engine, info = serve(store, store.pull(str(folder)))
    assert info.embedding_size == 48
    ids = list(TextModel.load(folder).encode(TEXTS[1]))
    x = states(folder, "bert", ids)[0] @ layer["linear.weight"].T + layer["linear.bias"]
    x = {"Tanh": np.tanh(x), "Identity": x, "ReLU": np.maximum(x, 0)}[activation]
    assert engine.embed([ids])[0] == pytest.approx(x / np.linalg.norm(x), abs=2e-5)
    engine.close()


def test_prompts_trained_lengths_and_the_precision_that_computes_are_told(tmp_path: Path) -> None:
    folder = write_embedder(tmp_path / "m", "bert", OLD, **PROMPTED)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"matryoshka_dimensions": [16, 8]}))
    store = make_store(tmp_path)
    engine, info = serve(store, store.pull(str(folder)))
    assert (info.prompts, info.default_prompt) == ({"query": "query: ", "passage": "passage: "}, "")
    assert (info.dims, info.precision) == ((8, 16), "fp32")
    engine.close()
    told = OpenVinoEngine()
    path = str(store.open(store.pull(str(folder)).reference).directory)
    files = ModelFiles(name="tiny", digest="d", directory=path, format="safetensors", weights="model.safetensors")
    extra = {"INFERENCE_PRECISION_HINT": "bf16"}
    computes = told.load(files, EngineOptions(kind="openvino", threads=1, extra=extra)).precision
    assert computes in ("bf16", "fp32"), "what the processor has"
    [vector] = told.embed([list(TextModel.load(folder).encode(TEXTS[1]))])
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6), "also where it computes in half precision"
    told.close()


def test_an_embedder_of_the_modernbert_family_pools_the_states_of_its_ranker(tmp_path: Path) -> None:
    folder = write_embedder(tmp_path / "m", "modernbert", {"pooling_mode": "mean"})
    store = make_store(tmp_path)
    engine, info = serve(store, store.pull(str(folder)))
    ids = [list(TextModel.load(folder).encode(one)) for one in TEXTS]
    alone = [engine.embed([one])[0] for one in ids]
    assert info.features == ("embed",) and info.embedding_size == HIDDEN
    for one, vector in zip(engine.embed(ids), alone, strict=True):
        assert one == pytest.approx(vector, abs=2e-5), "padding changes nothing"
    assert np.dot(alone[0], alone[1]) < 0.999
    engine.close()


QWEN = {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 48, "hidden_act": "silu",
    "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
}  # fmt: skip


def test_a_decoder_that_embeds_gives_the_state_of_its_last_token(tmp_path: Path) -> None:
    folder = write_embedder(tmp_path / "m", "bert", {"pooling_mode_lasttoken": True}, **PROMPTED)
    vocab_size = json.loads((folder / "config.json").read_text())["vocab_size"]
    (folder / "config.json").write_text(json.dumps(QWEN | {"vocab_size": vocab_size}))
    rng = np.random.default_rng(5)
    shapes = {"model.embed_tokens": (vocab_size, 32), "model.norm": (32,)}
    for layer in range(2):
        at = f"model.layers.{layer}."
        shapes |= {at + "input_layernorm": (32,), at + "post_attention_layernorm": (32,)}
        shapes |= {at + f"self_attn.{name}": (16,) for name in ("q_norm", "k_norm")}
        shapes |= {at + "self_attn.q_proj": (64, 32), at + "self_attn.o_proj": (32, 64)}
        shapes |= {at + f"self_attn.{name}": (32, 32) for name in ("k_proj", "v_proj")}
        shapes |= {at + "mlp.gate_proj": (48, 32), at + "mlp.up_proj": (48, 32), at + "mlp.down_proj": (32, 48)}
    w = {f"{name}.weight": rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(w, folder / "model.safetensors")
    store = make_store(tmp_path)
    model = store.pull(str(folder))
    assert model.shape.architecture == "qwen3-embedder" and model.shape.is_encoder
    engine, info = serve(store, model)
    assert (info.features, info.embedding_size) == (("embed",), 32)
    ids = [list(TextModel.load(folder).encode(one)) for one in TEXTS]
    for one, vector in zip(ids, engine.embed(ids), strict=True):
        last = qwen_states({name: value.astype(np.float64) for name, value in w.items()}, one)[-1]
        assert vector == pytest.approx(last / np.linalg.norm(last), abs=2e-5)
    engine.close()


def qwen_states(w: dict[str, NDArray[np.float64]], ids: list[int]) -> NDArray[np.float64]:
    """Return the last state of each token, [T, H]: the formulas of transformers' modeling_qwen3."""
    size, length = 16, len(ids)

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * w[name + ".weight"]

    angles = np.outer(np.arange(length), 1e6 ** (-np.arange(0, size, 2) / size))
    cosines, sines = np.cos(np.tile(angles, 2)), np.sin(np.tile(angles, 2))

    def turned(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x * cosines + np.concatenate([-x[..., size // 2 :], x[..., : size // 2]], -1) * sines

    x = w["model.embed_tokens.weight"][ids]
    for layer in range(2):
        at = f"model.layers.{layer}."
        read = norm(x, at + "input_layernorm")
        query, key, value = (
            (read @ w[f"{at}self_attn.{name}_proj.weight"].T).reshape(length, -1, size).swapaxes(0, 1) for name in "qkv"
        )
        query, key = turned(norm(query, at + "self_attn.q_norm")), turned(norm(key, at + "self_attn.k_norm"))
        key, value = key.repeat(2, 0), value.repeat(2, 0)
        scores = query @ key.swapaxes(1, 2) / np.sqrt(size) + np.triu(np.full((length, length), -1e9), 1)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True) @ value).swapaxes(0, 1).reshape(length, -1)
        x = x + mixed @ w[at + "self_attn.o_proj.weight"].T
        read = norm(x, at + "post_attention_layernorm")
        gate = read @ w[at + "mlp.gate_proj.weight"].T
        x = (
            x
            + (gate / (1 + np.exp(-gate)) * (read @ w[at + "mlp.up_proj.weight"].T)) @ w[at + "mlp.down_proj.weight"].T
        )
    return norm(x, "model.norm")


@pytest.mark.parametrize(("pooling", "outdated"), [(OLD, True), ({"pooling_mode": "mean"}, False), (None, False)])
def test_a_store_from_before_is_served_as_before_and_verify_says_what_to_pull_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pooling: dict[str, Any] | None, outdated: bool
) -> None:
    files = {} if pooling else {"modules": []}
    folder, store = write_embedder(tmp_path / "m", "bert", pooling, **files), make_store(tmp_path)
    with monkeypatch.context() as earlier:  # what an earlier version made of the same files
        earlier.setattr("ashore.kit.store.prepare.is_embedder", lambda config, read: False)
        old = store.pull(str(folder))
    assert "embedding.json" not in {f.path for f in old.files}
    engine, _ = serve(store, old)
    ids = [list(TextModel.load(folder).encode(one)) for one in TEXTS]
    mean = states(folder, "bert", ids[1]).mean(0)
    assert engine.embed(ids)[1] == pytest.approx(mean / np.linalg.norm(mean), abs=2e-5)
    engine.close()
    assert store.verify().outdated == ((old.reference,) if outdated else ())
    new = store.pull(str(folder))
    assert new.digest != old.digest and store.verify().outdated == ()
