"""Embedders on OpenVINO pool as their makers' files say: the vectors are those of plain arithmetic in numpy."""

from __future__ import annotations

import json
from math import erf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
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


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
@pytest.mark.parametrize(
    ("pooling", "way"),
    [
        (OLD, "cls"),
        ({"pooling_mode": "cls", "embedding_dimension": HIDDEN}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "include_prompt": True}, "mean"),
        ({"pooling_mode": "mean"}, "mean"),
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
        expected = x[0] if way == "cls" else x.mean(0)
        assert vector == pytest.approx(expected / np.linalg.norm(expected), abs=2e-5)
    with pytest.raises(ContextTooLong, match="limit of this model is 32"):
        engine.embed([ids[0] * 12])
    engine.close()


@pytest.mark.parametrize(
    ("pooling", "files", "words"),
    [
        ({"pooling_mode": "lasttoken"}, {}, "asks for 'lasttoken'"),
        ({"pooling_mode_max_tokens": True}, {}, "asks for 'max_tokens'"),
        (OLD | {"pooling_mode_mean_tokens": True}, {}, "'cls_token' and 'mean_tokens'"),
        ({"pooling_mode_mean_tokens": True, "include_prompt": False}, {}, "left out of the mean"),
        (OLD, {"modules": [*STEPS[:2], step(2, "Dense")]}, "the step 'Dense'"),
        (OLD, {"modules": STEPS[:1]}, "no pooling"),
        (None, {}, "1_Pooling/config.json is missing"),
        (OLD, {"config_sentence_transformers": {"default_prompt_name": "query"}}, "a prompt before every text"),
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
    folder = write_embedder(tmp_path / "m", "modernbert", OLD)
    with pytest.raises(UnsupportedModel, match="modernbert models are served as rerankers only"):
        make_store(tmp_path).pull(str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]})
    )
    with pytest.raises(UnsupportedModel, match=r"modules\.json asks for vectors of a 'qwen3'"):
        make_store(tmp_path).pull(str(folder))


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
