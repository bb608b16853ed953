"""From a request to a plan: validates compatibility, presence and resources. Makes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import Conflict, InvalidRequest
from ashore.data.text import TextModel
from ashore.kit.store import ModelStore, StoredModel, made_name
from ashore.kit.textfile import read_text_file
from ashore.lab.optimize.distilling.model import DistilPlan, DistilWish
from ashore.lab.optimize.distilling.settings import DistilSettings
from ashore.lab.optimize.distilling.sizes import half_sizes, require_memory, student_sizes
from ashore.lab.optimize.distilling.teaching import vocabulary_digest
from ashore.lab.optimize.surgery import Anatomy, anatomy_of
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


def plan_distilling(store: ModelStore, wish: DistilWish, *, free_bytes: int) -> DistilPlan:
    """Check a request against models, data and memory, and return the plan. Makes nothing.

    Raises:
        InvalidRequest: parts of the request contradict each other, or there is nothing to learn from.
        BrokenData: a line of the data is not of a known form.
        UnknownModel, UnsupportedModel: teacher or student is missing, or of an unknown family.
        Conflict: the name is taken by another model.
        MemoryFull: training would not fit; the hint has settings that would.
    """
    _ = wish.settings.mix
    parent = parent_of(store, wish)
    teacher = store.resolve(wish.teacher)
    name = wish.name or made_name(wish.teacher, "distilled")
    _require_free_name(store, name, parent)
    text = TextModel.load(store.open(parent.reference).directory)
    if teacher.name != parent.name:
        _require_same_tokens(store, teacher, parent, text)
    samples = load_samples(wish.data, wish.text, text, window_tokens=wish.settings.window_tokens)
    with store.reading(parent.reference) as files:
        anatomy = anatomy_of(files, parent.shape.num_parameters)
    notes = []
    if not wish.student and not wish.settings.shape.changes:
        wish = replace(wish, settings=_halved(wish.settings, anatomy, parent.reference))
        notes.append("no size is set: the student gets at most half of the teacher's parameters")
    sizes = student_sizes(anatomy, wish.settings)
    tokens = round(wish.settings.epochs * samples.corpus.num_tokens)
    plan = DistilPlan(
        wish=wish,
        name=name,
        parent=parent,
        teacher=teacher,
        sizes=sizes,
        num_examples=samples.corpus.num_examples,
        num_tokens=samples.corpus.num_tokens,
        train_tokens=min(tokens, wish.settings.max_tokens or tokens),
        notes=tuple(notes),
    )
    require_memory(sizes, wish.settings, free_bytes, name=name)
    return plan


def parent_of(store: ModelStore, wish: DistilWish) -> StoredModel:
    """Return the model that the student starts from."""
    if wish.student and wish.settings.shape.changes:
        raise InvalidRequest(
            f"--student {wish.student} is a model, but --layers, --hidden, --intermediate cut one from the teacher",
            hint="use one or the other",
        )
    return store.resolve(wish.student or wish.teacher.partition("@")[0])


def _require_free_name(store: ModelStore, name: str, parent: StoredModel) -> None:
    """Refuse early a name that the store would refuse after all the work."""
    taken = next((model for model in store.list() if model.name == name and not model.variant), None)
    if taken is not None and taken.parent != parent.digest:
        raise Conflict(f"{name} already exists and comes from {taken.source}", hint="choose another name with --name")


def _require_same_tokens(store: ModelStore, teacher: StoredModel, parent: StoredModel, text: TextModel) -> None:
    theirs = TextModel.load(store.open(teacher.reference).directory)
    if vocabulary_digest(theirs) != vocabulary_digest(text):
        raise InvalidRequest(
            f"{teacher.reference} and {parent.reference} have different tokenizers ({theirs.vocab_size:,} and "
            f"{text.vocab_size:,} tokens), so their predictions cannot be compared",
            hint="generate answers with the teacher, then train on them: ashore train sft STUDENT --data FILE",
        )


def _halved(settings: DistilSettings, teacher: Anatomy, name: str) -> DistilSettings:
    sizes = half_sizes(teacher)
    if sizes is None:
        raise InvalidRequest(
            f"half of the {teacher.parameters():,} parameters of {name} are too few to choose from: "
            f"{teacher.vocabulary_parameters:,} are the vocabulary's",
            hint="set the size of the student: --layers, --hidden, --intermediate, or --student NAME",
        )
    return msgspec.structs.replace(settings, layers=sizes.layers, intermediate=sizes.channels)
