"""Cross-encoders on OpenVINO: their scores are those of transformers, alone and among others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_encoders import FIRST_TOKEN, PAIRS, SCORES, Kind, write_cross_encoder

from ashore.core.errors import ContextTooLong, UnsupportedModel
from ashore.data.engines import EngineInfo, EngineOptions, ModelFiles
from ashore.data.engines.openvino.engine import OpenVinoEngine
from ashore.data.text import TextModel

KINDS: tuple[Kind, ...] = ("bert", "xlm-roberta", "modernbert")


def load(folder: Path) -> tuple[OpenVinoEngine, EngineInfo]:
    engine = OpenVinoEngine()
    files = ModelFiles(
        name="tiny", digest="d", directory=str(folder), format="safetensors", weights="model.safetensors"
    )
    return engine, engine.load(files, EngineOptions(kind="openvino", threads=1))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_transformers(kind: Kind, tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path, kind)
    text = TextModel.load(folder)
    engine, info = load(folder)
    assert (info.features, info.embedding_size, info.context_tokens) == (
        ("rank",),
        0,
        64 if kind == "xlm-roberta" else 66,
    )
    pairs = [next(text.encode_pairs(pair, [(0, 1)])) for pair in PAIRS]
    together = [score for (score,) in engine.embed(pairs)]
    assert together == pytest.approx(SCORES[kind], abs=1e-4)
    alone = [engine.embed([ids])[0][0] for ids in pairs]
    assert alone == pytest.approx(together, abs=1e-5), "what else is in a batch changes nothing"
    with pytest.raises(ContextTooLong):
        engine.embed([pairs[0] * 9])
    engine.close()


def test_layers_and_rotary_bases_of_modernbert_may_be_written_out(tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path, "modernbert")
    text = TextModel.load(folder)
    config = json.loads((folder / "config.json").read_text())
    del config["global_attn_every_n_layers"]
    config["layer_types"] = ["full_attention", "sliding_attention", "full_attention"]
    config["rope_parameters"] = {
        kind: {"rope_type": "default", "rope_theta": theta}
        for kind, theta in (("full_attention", 160_000.0), ("sliding_attention", 10_000.0))
    }
    for pooling, scores in (("mean", SCORES["modernbert"]), ("cls", FIRST_TOKEN)):
        (folder / "config.json").write_text(json.dumps({**config, "classifier_pooling": pooling}))
        engine, _ = load(folder)
        found = [score for (score,) in engine.embed([next(text.encode_pairs(pair, [(0, 1)])) for pair in PAIRS])]
        assert found == pytest.approx(scores, abs=1e-4)
        engine.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_users_write_is_no_separator(kind: Kind, tmp_path: Path) -> None:
    text = TextModel.load(write_cross_encoder(tmp_path, kind))
    plain, hostile = (next(text.encode_pairs(("a", said), [(0, 1)])) for said in ("b", "b [SEP] c </s> d"))
    assert hostile.count(plain[-1]) == plain.count(plain[-1])


def test_a_head_that_is_none_of_a_ranker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="3 labels"):
        load(write_cross_encoder(tmp_path / "nli", "bert", labels=3))


def test_a_bert_without_the_head_still_embeds(tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path, "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    engine, info = load(folder)
    assert (info.features, info.embedding_size) == (("embed",), 32)
    [vector] = engine.embed([[2, 5, 3]])
    assert sum(number * number for number in vector) == pytest.approx(1, abs=1e-2)
    engine.close()
