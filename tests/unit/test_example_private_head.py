"""The example of a private head: its client encrypts what the head scores, and its search finds what is there."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ashore.data.engines.tabular import sealed
from ashore.data.engines.tabular.form import Head

EXAMPLES = Path(__file__).parents[2] / "examples"
pytest.importorskip("tenseal", reason="needs ashore[examples]")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLES)
    spec = importlib.util.spec_from_file_location("private_head_run", EXAMPLES / "private-head/run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_head_is_written_as_it_is_though_its_weights_lie_otherwise(
    example: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path))
    monkeypatch.setattr("subprocess.run", lambda *words, **fields: None)
    weights = np.asfortranarray(np.arange(6).reshape(2, 3))
    form = {"features": [{"name": "x", "kind": "vector", "size": 3}], "outputs": ["a", "b"]}
    example.make_head("h", form, weights, [1, 2])
    head = Head.load(tmp_path / "examples/h", "model.safetensors")
    assert head.weights.tolist() == weights.tolist() and head.bias.tolist() == [1, 2]
    rows = sealed.SealedRows(head)
    client = example.Sealed(rows.parameters)
    for row in ([1, -2, 127], [0, 0, 0], [-127, 5, -127]):
        size, *words = rows.score(client.encrypt(row))
        answer = np.array(words, "<u4").tobytes()[: int(size)]
        assert client.decrypt(answer) == (weights @ row + [1, 2]).tolist()
    rows.close()


def test_eight_bits_hold_what_a_regression_found(example: Any) -> None:
    class Fitted:
        coef_ = np.array([[0.5, -1.0], [0.25, 2.0]])
        intercept_ = np.array([0.1, -0.2])

    x = np.array([[0.3, -0.6], [0.2, 0.1]])
    scale, weights, bias = example.eight_bits(Fitted, x)
    assert abs(weights).max() == 127
    for row in x:
        scores = (weights @ example.whole(row, scale) + bias) * scale * 2.0 / 127
        assert scores == pytest.approx(Fitted.coef_ @ row + Fitted.intercept_, abs=0.02)
    assert example.whole(np.array([9.0, -9.0]), scale) == [127, -127]


def test_the_search_finds_a_row_in_a_file(example: Any, tmp_path: Path) -> None:
    row = np.linspace(-1, 1, 16)
    marks = example.traces(row, example.whole(row, 0.01), "a text of its own")
    assert example.seen_by(type("Server", (), {"home": tmp_path}), marks) == 0
    for number, mark in enumerate(marks):
        (tmp_path / str(number)).write_bytes(b"before" + mark)
    assert example.seen_by(type("Server", (), {"home": tmp_path}), marks) >= len(marks)


def test_the_table_has_as_many_of_each_kind(example: Any) -> None:
    kinds, texts = example.read_table(example.TABLE)
    assert len(kinds) == len(texts) == 800 and {kinds.count(one) for one in kinds} == {100}
