"""The user's data for a student: lines and plain text as examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import InvalidRequest
from ashore.data.text import TextModel
from ashore.kit.textfile import read_text_file
from ashore.lab.training import Corpus, load_data, make_corpus

TEXT_HINT: Final = "give plain UTF-8 text of the kind that the student will see; pass JSONL with --data"


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Examples whose targets are all tokens but the first of each, and which of them are answers."""

    corpus: Corpus
    answers_T: NDArray[np.bool_]


def load_samples(data: Sequence[Path], texts: Sequence[Path], text: TextModel, *, window_tokens: int) -> Samples:
    """Return the examples of training files, cut at `window_tokens`, and plain texts in pieces of that length.

    Plain text counts as an answer.

    Raises:
        InvalidRequest: a file cannot be read, is empty or not UTF-8, or there is none.
        BrokenData: a line of a training file is malformed.
    """
    parts = [load_data(path, text, max_length=window_tokens) for path in data]
    parts += [_pieces(text.encode(read_text_file(path, "the text", hint=TEXT_HINT)), window_tokens) for path in texts]
    if not parts:
        raise InvalidRequest("there is no training data", hint="pass --data FILE or --text FILE")
    marked = _joined(parts)
    inner_T = np.ones(marked.num_tokens, np.bool_)
    inner_T[marked.starts[:-1]] = False
    return Samples(replace(marked, targets=inner_T), marked.targets)


def _pieces(ids: Sequence[int], size: int) -> Corpus:
    """Return a text in pieces of `size` tokens; a last one of a single token is left out."""
    pieces = [list(ids[at : at + size]) for at in range(0, len(ids), size)]
    return make_corpus([(piece, [True] * len(piece)) for piece in pieces if len(piece) > 1])


def _joined(parts: Sequence[Corpus]) -> Corpus:
    before = np.cumsum([0, *(part.num_tokens for part in parts)])
    starts = [part.starts[:-1] + offset for part, offset in zip(parts, before, strict=False)]
    return Corpus(
        ids=np.concatenate([part.ids for part in parts]),
        targets=np.concatenate([part.targets for part in parts]),
        starts=np.concatenate([*starts, before[-1:]]),
    )
