"""Heads: what a row is turned into, what is refused by name, and the same scores on encrypted rows."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_bench import failure, finish, run, token_ids
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_head import FORM, ROW, WEIGHTS, sealed_row, write_head

from ashore.core.errors import InvalidRequest, UnsupportedByEngine, UnsupportedModel
from ashore.core.ids import OrderId
from ashore.data.engines import EngineOptions, GenerateOrder, ModelFiles, Sampling
from ashore.data.engines.tabular import sealed
from ashore.data.engines.tabular.engine import TabularEngine
from ashore.data.engines.tabular.form import Head, HeadForm

OPTIONS = EngineOptions(kind="tabular")


def loaded(folder: Path) -> TabularEngine:
    engine = TabularEngine()
    files = ModelFiles(name="h", digest="sha256:d", directory=str(folder), format="safetensors",
                       weights="model.safetensors")  # fmt: skip
    engine.load(files, OPTIONS)
    return engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TabularEngine]:
    one = loaded(write_head(tmp_path_factory.mktemp("head")))
    yield one
    one.close()
    one.close()


def asked(question: bytes, **fields: Any) -> GenerateOrder:
    fields = {"max_new_tokens": 50_000, "sampling": Sampling(temperature=0), **fields}
    return GenerateOrder(order_id=OrderId("a"), prompt_ids=list(question), **fields)


def ask(engine: TabularEngine, *rows: Any) -> Any:
    return json.loads(bytes(token_ids(run(engine, asked(json.dumps({"rows": rows}).encode()))["a"])))


def refused(engine: TabularEngine, question: bytes) -> Any:
    return failure(run(engine, asked(question))["a"])


def test_scores_decisions_and_points_that_add_up(engine: TabularEngine) -> None:
    said = ask(engine, ROW, {**ROW, "age": None}, {**ROW, "purpose": "house", "debts": 1e9, "vector": [0, 0, 0]})
    assert said["scores"] == [56, 44, 5 - 9 - 3 * 127 - 600]
    assert said["decisions"] == ["approve", "approve", "refuse"]
    assert said["head"] == "sha256:d"
    assert [sum(one.values()) for one in said["reasons"]] == said["scores"]
    assert said["reasons"][0] == {"base": -600, "age": 5, "purpose": 30, "debts": -12, "vector": 633}


def test_a_question_without_rows_is_answered_by_the_card(engine: TabularEngine) -> None:
    card = json.loads(bytes(token_ids(run(engine, asked(b"{}"))["a"])))
    assert card["features"][0]["edges"] == [25, 40] and card["decisions"] == FORM["decisions"]
    assert card["encrypted"]["size"] == 10


def test_of_several_outputs_the_largest_decides(tmp_path: Path) -> None:
    form = {"features": [{"name": "x", "kind": "vector", "size": 2, "scale": 0.01}], "outputs": ["a", "b", "c"]}
    folder = write_head(tmp_path, form=form, weights=[[1, 0], [0, 1], [-1, -1]], bias=[0, 5, 0])
    said = ask(loaded(folder), {"x": [0.5, 0.1]}, {"x": [-1, -0.5]})
    assert said["scores"] == [[50, 15, -60], [-100, -45, 150]] and said["decisions"] == ["a", "c"]
    assert said["reasons"] == [{"base": 0, "x": 50}, {"base": 0, "x": 150}]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"age": "=1+1"}, "rows[1].age"),
        ({"age": True}, "rows[1].age"),
        ({"debts": None}, "rows[1].debts"),
        ({"debts": [1]}, "rows[1].debts"),
        ({"purpose": "=cmd|' /C calc'!A0"}, "rows[1].purpose"),
        ({"purpose": ["car"]}, "rows[1].purpose"),
        ({"purpose": {}}, "rows[1].purpose"),
        ({"vector": [1, 2]}, "rows[1].vector"),
        ({"vector": [1, 2, "3"]}, "rows[1].vector"),
        ({"vector": [1, 2, None]}, "rows[1].vector"),
        ({"vector": [[1], 2, 3]}, "rows[1].vector"),
        ({"other": 1}, "rows[1].other"),
        ({"x" * 5000: 1}, "rows[1]." + "x" * 100),
    ],
)
def test_a_wrong_field_is_refused_by_its_place(engine: TabularEngine, change: dict[str, Any], param: str) -> None:
    fault = refused(engine, json.dumps({"rows": [ROW, {**ROW, **change}]}).encode())
    assert (fault.code, fault.param) == ("invalid_request", param)
    assert len(fault.message) < 300


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 5000])
def test_numbers_that_are_none_are_refused(engine: TabularEngine, number: str) -> None:
    question = json.dumps({"rows": [ROW]}).replace("420", number).encode()
    assert refused(engine, question).code == "invalid_request"


@pytest.mark.parametrize(
    "question", [b"\xff", b"[1]", b'{"rows":[]}', b'{"rows":[1]}', b'{"row":[]}', b"[" * 9000, b'{"rows":"=1+1"}']
)
def test_what_is_no_question_is_refused(engine: TabularEngine, question: bytes) -> None:
    assert refused(engine, question).code in ("invalid_request", "unknown_field")


def test_too_many_rows_are_refused_and_one_bad_order_fails_alone(engine: TabularEngine) -> None:
    assert "256" in refused(engine, json.dumps({"rows": [ROW] * 257}).encode()).message
    assert len(ask(engine, *[ROW] * 256)["scores"]) == 256
    good = asked(json.dumps({"rows": [ROW]}).encode())
    bad = GenerateOrder(order_id=OrderId("b"), prompt_ids=list(b"no"), max_new_tokens=9)
    events = run(engine, good, bad)
    assert finish(events["a"]).reason == "stop" and failure(events["b"]).code == "invalid_request"


def test_an_answer_is_cut_like_any_other_and_may_be_cancelled(engine: TabularEngine) -> None:
    events = run(engine, asked(json.dumps({"rows": [ROW]}).encode(), max_new_tokens=7))["a"]
    assert finish(events).reason == "length" and len(token_ids(events)) == 7
    engine.submit(asked(json.dumps({"rows": [ROW]}).encode()))
    engine.cancel(OrderId("a"))
    engine.cancel(OrderId("a"))
    assert [finish([one]).reason for one in engine.step(0.0)] == ["cancelled"]


@pytest.mark.parametrize(
    "change",
    [
        {"weights": [[1, 2]]},
        {"bias": [1, 2]},
        {"form": {"features": []}},
        {"form": {**FORM, "features": [*FORM["features"][:3], FORM["features"][0]]}},
        {"form": {**FORM, "features": [{"name": "x", "kind": "vector", "scale": 0}]}},
        {"form": {**FORM, "code": "x"}},
    ],
)
def test_a_head_that_does_not_fit_its_form_is_not_loaded(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModel):
        loaded(write_head(tmp_path, **change))


# --- encrypted rows

tenseal = pytest.importorskip("tenseal", reason="needs ashore[examples]")


def bytes_of(words: list[float]) -> bytes:
    return np.array(words[1:], "<u4").tobytes()[: int(words[0])]


def test_an_encrypted_row_gets_the_same_score(engine: TabularEngine) -> None:
    assert engine._sealed is not None and engine._sealed.parameters is not None and engine._head is not None
    draw = random.Random(0)
    for _ in range(5):
        row = {"age": draw.choice([None, 20, 30, 50]), "purpose": draw.choice(["car", "house"]),
               "debts": draw.randrange(-9999, 9999), "vector": [draw.uniform(-2, 2) for _ in range(3)]}  # fmt: skip
        design = engine._head.design(row, "row").tolist()
        ciphertext, opened = sealed_row(engine._sealed.parameters, design)
        [answer] = engine.embed([list(ciphertext)])
        assert opened(bytes_of(answer)) == ask(engine, row)["scores"]


def test_several_outputs_of_a_vector_as_large_as_an_embedding_are_exact() -> None:
    numbers = np.random.default_rng(1)
    weights, bias = numbers.integers(-127, 128, (10, 384)), numbers.integers(-9999, 9999, 10)
    form = HeadForm(features=(), outputs=tuple("abcdefghij"))
    head = object.__new__(Head)
    head.form, head.weights, head.bias = form, weights, bias
    rows = sealed.SealedRows(head)
    assert rows.parameters is not None
    x = numbers.choice([-127, 127], 384)  # the largest there are
    ciphertext, opened = sealed_row(rows.parameters, x.tolist())
    assert opened(bytes_of(rows.score(ciphertext))) == (weights @ x + bias).tolist()
    rows.close()


def test_ciphertexts_that_lie_are_refused_and_the_next_is_scored(engine: TabularEngine) -> None:
    assert engine._sealed is not None and engine._sealed.parameters is not None and engine._head is not None
    good, _ = sealed_row(engine._sealed.parameters, engine._head.design(ROW, "row").tolist())
    larger = good[:8] + (1 << 60).to_bytes(8, "little") + good[16:]
    for bad in (b"x", good[:-100], good[:1000], bytes(45_000), larger, good * 3):
        with pytest.raises(InvalidRequest, match="cannot be scored"):
            engine.embed([list(bad)])
    draw = random.Random(2)
    for _ in range(40):
        flipped = bytearray(good)
        flipped[draw.randrange(64)] ^= 1 << draw.randrange(8)
        try:
            engine.embed([list(flipped)])
        except InvalidRequest:
            continue
    assert engine.embed([list(good)])


def test_a_child_that_dies_or_hangs_is_replaced(engine: TabularEngine) -> None:
    rows = engine._sealed
    assert rows is not None and rows.parameters is not None and engine._head is not None
    good, _ = sealed_row(rows.parameters, engine._head.design(ROW, "row").tolist())
    engine.embed([list(good)])
    assert rows._child is not None and rows._line is not None
    rows._child.kill()
    rows._child.wait()
    with pytest.raises(InvalidRequest, match="ended"):
        engine.embed([list(good)])
    assert engine.embed([list(good)])
    os.kill(rows._child.pid, signal.SIGSTOP)
    rows._line.settimeout(0.05)
    with pytest.raises(InvalidRequest, match="timed out"):
        engine.embed([list(good)])
    assert engine.embed([list(good)])


def test_a_head_with_more_weights_than_a_ciphertext_says_so(tmp_path: Path) -> None:
    form = {"features": [{"name": "x", "kind": "vector", "size": 4096}], "outputs": ["a", "b"]}
    large = loaded(write_head(tmp_path, form=form, weights=np.ones((2, 4096)), bias=[0, 0]))
    assert json.loads(bytes(token_ids(run(large, asked(b"{}"))["a"])))["encrypted"] is None
    with pytest.raises(UnsupportedByEngine):
        large.embed([[1]])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3), st.floats(-1e9, 1e9))
def test_the_points_of_any_row_add_up(vector: list[float], debts: float) -> None:
    import msgspec

    head = Head(msgspec.convert(FORM, HeadForm), np.array(WEIGHTS), np.array([-600]))
    said: Any = head.answer([{**ROW, "vector": vector, "debts": debts}], "d")
    assert sum(said["reasons"][0].values()) == said["scores"][0]
