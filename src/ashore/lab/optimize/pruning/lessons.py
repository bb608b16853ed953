"""Token samples of the user's files for measuring, training and evaluation; the evaluation set is disjoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np

from ashore.core.errors import InvalidRequest
from ashore.data.engines import Samples
from ashore.data.text import TextModel
from ashore.lab.optimize.calibration import FEWEST_TOKENS, SAMPLE_TOKENS, read_text
from ashore.lab.training import Corpus, load_data, make_corpus

DATA_SUFFIXES: Final = (".jsonl", ".ndjson")
"""Names of files with examples, one a line; all others are plain text."""
MOST_SAMPLES: Final = 32
"""Samples that parts are measured and matrices fitted on: 16,384 tokens, ten for each input of the demo model's."""
ASIDE: Final = 8
"""One example, or piece of a text, in so many is set aside to be judged on."""
MOST_ASIDE_TOKENS: Final = 4096

Example = tuple[Sequence[int], Sequence[bool]]
"""Token ids, and which of them the model is to predict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """Token ids of the user's files."""

    measured: Samples
    """On which it is decided what goes; all of one length."""
    aside: Corpus
    """On which nothing is decided or learned."""
    corpus: Corpus | None
    """On which the rest is taught; None where it is not."""


def read_lessons(calibration: Path, heal: Path | None, text: TextModel, *, context_tokens: int) -> Lessons:
    """Read the files of a pruning.

    Args:
        calibration: Plain text, or examples in JSONL.
        heal: The same for healing; may be the same file; None: no healing.
        text: The parent's.
        context_tokens: Context length of the parent.

    Raises:
        InvalidRequest: a file cannot be read, is not text, or has too few tokens. BrokenData: a line is not an example.
    """
    length = min(SAMPLE_TOKENS, context_tokens)
    examples = _examples(heal or calibration, text, length)
    aside, rest = _split(examples)
    seen = rest if heal in (None, calibration) else _examples(calibration, text, length)
    return Lessons(
        measured=_samples([ids for ids, _ in seen], length, calibration),
        aside=make_corpus(aside),
        corpus=make_corpus(rest) if heal else None,
    )


def _examples(path: Path, text: TextModel, length: int) -> list[Example]:
    if path.suffix in DATA_SUFFIXES:
        corpus = load_data(path, text, max_length=length)
        spans = [slice(int(a), int(b)) for a, b in zip(corpus.starts[:-1], corpus.starts[1:], strict=True)]
        return [(corpus.ids[span].tolist(), corpus.targets[span].tolist()) for span in spans]
    ids = text.encode(read_text(path), bare=True)
    pieces = (ids[at : at + length] for at in range(0, len(ids), length))
    return [(piece, [True] * len(piece)) for piece in pieces if len(piece) > 1]


def _split(examples: list[Example]) -> tuple[list[Example], list[Example]]:
    """Return the held-out part, and the rest."""
    aside: list[Example] = []
    rest: list[Example] = []
    tokens = 0
    for number, example in enumerate(examples, start=1):
        if number % ASIDE == 0 and tokens < MOST_ASIDE_TOKENS:
            aside.append(example)
            tokens += len(example[0])
        else:
            rest.append(example)
    return aside, rest


def _samples(texts: list[Sequence[int]], length: int, path: Path) -> Samples:
    """Return pieces of one length, from all over the texts."""
    ids = list(chain.from_iterable(texts))
    if len(ids) < FEWEST_TOKENS:
        raise InvalidRequest(
            f"{path} has {len(ids)} tokens for the measurement; at least {FEWEST_TOKENS} are needed",
            hint="give more text of the kind that the model will see",
        )
    starts = range(0, len(ids) - length + 1, length)
    chosen = np.unique(np.linspace(0, len(starts) - 1, min(MOST_SAMPLES, len(starts))).round().astype(int))
    return tuple(tuple(ids[starts[i] : starts[i] + length]) for i in chosen)
