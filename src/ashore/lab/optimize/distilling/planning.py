"""From a request to a plan: validates compatibility, presence and resources. Makes nothing."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from ashore.core.errors import Conflict, InvalidRequest
from ashore.data.text import TextModel
from ashore.kit.store import ModelStore, StoredModel, made_name
from ashore.lab.optimize.distilling.model import DistilPlan, DistilWish
from ashore.lab.optimize.distilling.samples import load_samples
from ashore.lab.optimize.distilling.settings import DistilSettings
from ashore.lab.optimize.distilling.sizes import half_sizes, require_memory, student_sizes
from ashore.lab.optimize.distilling.teaching import vocabulary_digest
from ashore.lab.optimize.surgery import Anatomy, anatomy_of


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
