"""The benchmark's task and its untouched skill, as the files that `ashore` reads.

    python -m benchmarks.optimise.task FOLDER [--train N] [--test N]

writes `train.jsonl` (prompt and completion), `train_chat.jsonl` (messages), `kinds.jsonl` (the task: sixteen choices)
and `words.jsonl` (the untouched skill: four choices), the same bytes for the same numbers, and prints their digests.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parents[1] / "data" / "optimise"
SOURCE: Final = "WordNet 3.0, drawn by benchmarks/optimise/wordnet.py"
LICENCE: Final = "WordNet 3.0 licence, Copyright 2006 by Princeton University"
TEMPLATE: Final = "{prompt}\nKind:"
"""How a definition is put, in training and in the task alike."""
SEED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A definition and the kind of what it defines."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What `write_files` wrote."""

    train: Path
    train_chat: Path
    kinds: Path
    words: Path

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file by its name."""
        paths = (self.train, self.train_chat, self.kinds, self.words)
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def definitions(split: str) -> list[Definition]:
    """Return the definitions of `train` or `test`, in the order of the table, which is random."""
    rows = (line.split("\t") for line in (DATA / "definitions.tsv").read_text(encoding="utf-8").splitlines())
    return [Definition(kind=kind, text=text) for where, kind, text in rows if where == split]


def kinds(items: Iterable[Definition]) -> list[str]:
    return sorted({item.kind for item in items})


def write_files(folder: Path, *, num_train: int | None = None, num_test: int | None = None) -> Files:
    """Write the first so many items of each set (None: all) into `folder`. Called again it writes the same."""
    train, test = definitions("train")[:num_train], definitions("test")
    files = Files(
        train=folder / "train.jsonl",
        train_chat=folder / "train_chat.jsonl",
        kinds=folder / "kinds.jsonl",
        words=folder / "words.jsonl",
    )
    folder.mkdir(parents=True, exist_ok=True)
    _write(
        files.train,
        [{"prompt": TEMPLATE.replace("{prompt}", item.text), "completion": f" {item.kind}"} for item in train],
    )
    _write(
        files.train_chat,
        [
            {
                "messages": [
                    {"role": "user", "content": f"What kind of thing is this? {item.text}"},
                    {"role": "assistant", "content": item.kind},
                ]
            }
            for item in train
        ],
    )
    _write(
        files.kinds,
        [
            _header("kinds", "classify", TEMPLATE) | {"labels": kinds(test)},
            *({"prompt": item.text, "answer": item.kind} for item in test[:num_test]),
        ],
    )
    _write(
        files.words,
        [_header("words", "choice", "The word that means “{prompt}” is"), *_word_items()[:num_test]],
    )
    return files


def _header(name: str, kind: str, template: str) -> dict[str, object]:
    return {
        "task": name,
        "kind": kind,
        "language": "en",
        "source": SOURCE,
        "licence": LICENCE,
        "style": "plain",
        "template": template,
    }


def _word_items() -> list[dict[str, object]]:
    rng = random.Random(SEED)
    items: list[dict[str, object]] = []
    for line in (DATA / "words.tsv").read_text(encoding="utf-8").splitlines():
        text, right, *wrong = line.split("\t")
        choices = [right, *wrong]
        rng.shuffle(choices)
        items.append({"prompt": text, "choices": choices, "answer": choices.index(right)})
    return items


def _write(path: Path, rows: Iterable[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int)
    parser.add_argument("--test", type=int)
    given = parser.parse_args()
    files = write_files(given.folder, num_train=given.train, num_test=given.test)
    for name, digest in files.digests().items():
        print(f"{digest}  {name}")


if __name__ == "__main__":
    main()
