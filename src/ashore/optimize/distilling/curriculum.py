"""What a student is taught in a run: asked of the teacher before, or while it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, assert_never

from ashore.core import EngineKind
from ashore.errors import InvalidRequest
from ashore.evaluation import Subject
from ashore.optimize.distilling.answers import (
    STOPPED,
    AnswerKey,
    SubjectAnswerer,
    gather_answers,
    questions_digest,
)
from ashore.optimize.distilling.apiteacher import open_api
from ashore.optimize.distilling.lessons import DistilLoss, LiveTeacher, StoredTeacher, position_weights
from ashore.optimize.distilling.logitstore import LogitReader, StoreKey
from ashore.optimize.distilling.model import DistilPlan
from ashore.optimize.distilling.onpolicy import OnPolicyBatches
from ashore.optimize.distilling.samples import (
    Samples,
    encode_question,
    load_samples,
    read_questions,
    write_answered,
)
from ashore.optimize.distilling.settings import DistilSettings
from ashore.optimize.distilling.teaching import logits_key, vocabulary_digest, write_logits
from ashore.store import ModelStore
from ashore.text import TextModel
from ashore.training import BatchSource, Corpus, Loss, PackedBatches, answer_loss, load_checkpoint

Stage = Callable[[str, int, int], None]
"""Hears how many of how many parts of a stage are done."""


class TeacherOpener(Protocol):
    """Opens a teacher behind its engine."""

    def __call__(self, reference: str, *, kind: EngineKind | None) -> AbstractContextManager[Subject]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a teacher said before training began."""

    folder: Path | None = None
    key: StoreKey | None = None
    answers: Samples | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What the student is given: a source of batches, what is minimised, and what it took to have them."""

    source: BatchSource
    loss: Loss
    facts: dict[str, str]
    close: Callable[[], None] = lambda: None


def ask_teacher(
    plan: DistilPlan, samples: Samples, text: TextModel, work: Path, open_teacher: TeacherOpener, stage: Stage
) -> Kept:
    """Let the teacher say what it must say before training begins."""
    settings, wish = plan.wish.settings, plan.wish
    match settings.way:
        case "on_policy":
            return Kept()
        case "sequence":
            return _ask_answers(plan, text, work, open_teacher, stage)
        case "offline":
            assert plan.teacher is not None
            with open_teacher(plan.teacher.reference, kind=wish.teacher_engine) as subject:
                key = logits_key(
                    subject,
                    plan.teacher.digest,
                    samples.corpus,
                    most=settings.most,
                    tail=settings.tail,
                    tokenizer=vocabulary_digest(text),
                )
                folder = work / f"logits-{key.folder_name}"
                write_logits(folder, key, subject, samples.corpus, told=partial(stage, "teacher reads"))
            return Kept(folder=folder, key=key)
        case _:
            assert_never(settings.way)


def _ask_answers(plan: DistilPlan, text: TextModel, work: Path, open_teacher: TeacherOpener, stage: Stage) -> Kept:
    """Return examples that end in the teacher's own answers; answers that were cut or are empty are left out."""
    wish, settings = plan.wish, plan.wish.settings
    questions = read_questions(wish.data)
    name = f"{wish.api.model} at {wish.api.url}" if wish.api else str(plan.teacher and plan.teacher.digest)
    key = AnswerKey(teacher=name, questions=questions_digest(questions), max_answer_tokens=settings.answer_tokens)
    folder, told = work / f"answers-{key.folder_name}", partial(stage, "teacher answers")
    if wish.api:
        answers = gather_answers(folder, key, questions, open_api(wish.api), told=told)
    else:
        with open_teacher(wish.teacher, kind=wish.teacher_engine) as subject:
            answers = gather_answers(folder, key, questions, SubjectAnswerer(subject), told=told)
    good = [n for n, one in enumerate(answers) if one.reason == STOPPED and one.answer.strip()]
    if not good:
        raise InvalidRequest(
            f"none of {len(answers)} answers of {plan.wish.teacher} can be learned from: they are empty, or were "
            f"cut at {settings.answer_tokens} tokens",
            hint="allow longer ones: --answer-tokens",
        )
    file = write_answered(folder / "train.jsonl", [questions[n] for n in good], [answers[n].answer for n in good])
    samples = load_samples((file,), (), text, window_tokens=settings.window_tokens)
    facts = {"answers": str(len(good)), "answers_left_out": str(len(answers) - len(good))}
    return Kept(answers=samples, facts=facts)


def make_lessons(
    store: ModelStore, plan: DistilPlan, samples: Samples, student: Any, text: TextModel, kept: Kept
) -> Lessons:
    """Return what `student` is taught in a run."""
    settings = plan.wish.settings
    if settings.way == "on_policy":
        return _live_lessons(store, plan, student, text)
    if kept.answers is not None:
        source = batches_of(kept.answers.only_answers, settings)
        return Lessons(source=source, loss=answer_loss, facts=dict(kept.facts))
    assert kept.folder is not None and kept.key is not None
    reader = LogitReader(kept.folder, kept.key)
    weights_T = position_weights(samples.corpus, samples.answers_T, input_share=settings.input_share)
    per_token = reader.num_bytes / samples.corpus.num_targets
    return Lessons(
        source=batches_of(samples.corpus, settings),
        loss=DistilLoss(StoredTeacher(reader), settings.mix, corpus=samples.corpus, weights_T=weights_T),
        facts={"logit_bytes_per_token": f"{per_token:.1f}", "teacher_engine_used": kept.key.engine},
        close=reader.close,
    )


def _live_lessons(store: ModelStore, plan: DistilPlan, student: Any, text: TextModel) -> Lessons:
    settings = plan.wish.settings
    assert plan.teacher is not None
    with store.reading(plan.teacher.reference) as files:
        teacher = load_checkpoint(files)
    questions = read_questions(plan.wish.data)
    prompts = [encode_question(question, text)[-settings.window_tokens :] for question in questions]
    longest = max(map(len, prompts)) + settings.answer_tokens
    source = OnPolicyBatches(
        student,
        prompts,
        max_tokens=settings.max_tokens or round(settings.epochs * len(prompts) * longest),
        batch_tokens=settings.batch_tokens,
        answer_tokens=settings.answer_tokens,
        temperature=settings.draw_temperature,
        stop_ids=text.eos_token_ids,
        seed=settings.seed,
    )
    return Lessons(
        source=source, loss=DistilLoss(LiveTeacher(teacher, settings.most, settings.tail), settings.mix), facts={}
    )


def batches_of(corpus: Corpus, settings: DistilSettings) -> PackedBatches:
    """Return the steps of a run over `corpus`."""
    row = max(int(corpus.lengths.max()), min(settings.batch_tokens, settings.row_tokens))
    return PackedBatches(
        corpus,
        row_tokens=row,
        batch_tokens=settings.batch_tokens,
        seed=settings.seed,
        epochs=settings.epochs,
        max_tokens=settings.max_tokens,
    )
