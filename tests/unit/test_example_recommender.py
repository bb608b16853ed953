"""The shop's example: its catalogue, its measures, and the best cache, on data small enough to see through."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

INDEX = """\
Package: shop
Depends: libc6 (>= 2.38), a | b, python3:any
Recommends: till, scales (>> 1)
Suggests: shop, parasol
Description-en: sells things

Package: till
Depends: libc6
Description: counts money

Package: shop
Depends: another
"""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")
    return importlib.import_module("recommender.run")


def test_a_catalogue_is_read(example: Any) -> None:
    found = example.catalogue(INDEX)
    assert found["shop"] == {"needs": {"libc6", "a", "python3"}, "truth": {"till", "scales", "parasol"},
                             "text": "shop: sells things"}  # fmt: skip
    assert found["till"]["text"] == "till: counts money" and len(found) == 2


@pytest.mark.parametrize("text", ["", "no fields", "Package: \n\n\n", "Package: x\nDepends: " + "y," * 9000])
def test_a_damaged_index_gives_what_can_be_read(example: Any, text: str) -> None:
    assert example.catalogue(text).keys() <= {"x"}


def test_factors_find_what_goes_together(example: Any) -> None:
    kinds = [({"y"}, {"c", "d"}), ({"x"}, {"a", "b"})]
    packages = {f"p{at}": {"needs": kinds[at % 2][0], "truth": kinds[at % 2][1], "text": ""} for at in range(40)}
    packages |= {name: {"needs": set(), "truth": set(), "text": ""} for name in "abcd"}
    items, train, test = example.split(packages, 4, 10)
    scores = example.by_factors(packages, items, train, test, 2)
    truths = [{items.index(name) for name in packages[one]["truth"]} for one in test]
    for row, truth in zip(scores, truths, strict=True):
        assert set(np.argsort(-row)[:2].tolist()) == truth
    assert example.recall(scores, truths).tolist() == [1.0] * 10
    assert example.places(np.array([[1.0, 3.0, 2.0]])).tolist() == [[2, 0, 1]]


def test_belady_is_the_best_that_any_cache_can_do(example: Any) -> None:
    random = np.random.default_rng(0)
    for _ in range(30):
        trace = random.integers(0, 4, 8).tolist()
        best = 0
        for choice in itertools.product(range(3), repeat=len(trace)):  # which to drop, or the new one
            kept: list[int] = []
            hits = 0
            for one, drop in zip(trace, choice, strict=True):
                hits += one in kept
                if one not in kept:
                    kept.append(one)
                if len(kept) > 2:
                    kept.pop(drop)
            best = max(best, hits)
        assert round(example.belady(trace, 2) * len(trace)) == best


def test_a_shape_is_written_as_a_hub_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, example: Any) -> None:
    shape = importlib.import_module("recommender.shape")
    for name, value in {"HIDDEN": 16, "INNER": 32, "HEADS": 4, "KV": 2, "VOCAB": 300, "KEYS": 8}.items():
        monkeypatch.setattr(shape, name, value)
    shape.write_model(tmp_path, 2)
    from ashore.kit.store.prepare import prepare

    made = prepare(tmp_path, tmp_path / "s", to_f16=False, recommended={}, progress=lambda *told: None)
    assert (made.shape.architecture, made.shape.num_layers, made.shape.hidden_size) == ("qwen2", 2, 16)
