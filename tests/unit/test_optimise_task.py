"""The benchmark's task: what is in it, and that it is the same everywhere."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.optimise import wordnet
from benchmarks.optimise.task import definitions, kinds, write_files


def test_each_kind_is_equally_often_there_and_nothing_is_in_both_parts() -> None:
    train, test = definitions("train"), definitions("test")
    assert len(test) == 1600 and len(train) == 3520
    for items, each in ((train, 220), (test, 100)):
        assert set(Counter(item.kind for item in items).values()) == {each}
    assert len(kinds(test)) == 16
    assert not {item.text.casefold() for item in train} & {item.text.casefold() for item in test}


def test_the_files_are_the_same_bytes_everywhere(tmp_path: Path) -> None:
    first, second = write_files(tmp_path / "a"), write_files(tmp_path / "b")
    assert first.digests() == second.digests()
    assert first.digests()["kinds.jsonl"].startswith("5a95e1ba1f72eb6a")
    assert first.digests()["train.jsonl"].startswith("a4a6735c20e63927")


def test_an_item_asks_what_it_was_trained_for(tmp_path: Path) -> None:
    files = write_files(tmp_path, num_train=32, num_test=16)
    trained = [json.loads(line) for line in files.train.read_text().splitlines()]
    header, *asked = [json.loads(line) for line in files.kinds.read_text().splitlines()]
    _, *other = [json.loads(line) for line in files.words.read_text().splitlines()]
    assert (len(trained), len(asked), len(other)) == (32, 16, 16)
    assert {item["completion"] for item in trained} <= {f" {label}" for label in header["labels"]}
    assert all(item["prompt"].endswith(header["template"].removeprefix("{prompt}")) for item in trained)
    right = definitions("test")[:16]
    assert [(item["prompt"], item["answer"]) for item in asked] == [(item.text, item.kind) for item in right]
    assert all(len(set(item["choices"])) == 4 for item in other)


def test_a_definition_that_two_kinds_share_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordnet, "KINDS", {"05": "animal", "13": "food"})
    monkeypatch.setattr(wordnet, "TEST_PER_KIND", 1)
    monkeypatch.setattr(wordnet, "TRAIN_PER_KIND", 1)
    lines = ["  1 the licence"]
    for file, texts in (("05", "ABC"), ("13", "CDE")):
        for text in texts:
            gloss = f'a thing of the sort that is called {text}; "an example"'
            lines.append(f"00001740 {file} n 01 thing 0 000 @ 00001740 n 0000 | {gloss}")
    (tmp_path / "data.noun").write_text("\n".join(lines) + "\n")
    rows = wordnet.definitions(tmp_path, random.Random(1))
    assert len(rows) == 4
    assert not any(text.endswith("C") or "example" in text for _, _, text in rows)
