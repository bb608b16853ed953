"""The use case of distillation: create, train and store a student. The same call resumes after any interruption.

The loss of a student that learns from a teacher, and the source of the teacher's outputs.

Shapes in names: T tokens of a row, N predicted tokens among them, K tokens reported by the teacher.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from ashore.core.clock import Clock, SystemClock
from ashore.core.errors import CorruptBlob
from ashore.core.kinds import EngineKind
from ashore.data.engines import torch_libraries
from ashore.data.text import TextModel
from ashore.kit.store import ModelStore, VariantRecipe, data_used, versions_of
from ashore.lab.evaluation import Subject, Told
from ashore.lab.optimize.distilling.logitstore import LogitStore
from ashore.lab.optimize.distilling.model import DistilPlan, DistilReport, DistilWish
from ashore.lab.optimize.distilling.planning import Samples, load_samples, plan_distilling
from ashore.lab.optimize.distilling.settings import DistilSettings
from ashore.lab.optimize.distilling.sizes import StudentSizes
from ashore.lab.optimize.distilling.teaching import logits_key, vocabulary_digest, write_logits
from ashore.lab.optimize.distilling.toprows import NOTHING, TopRows, join_rows
from ashore.lab.optimize.surgery import (
    Lesson,
    LossMix,
    cut_student,
    freeze_vocabulary,
    lesson_loss,
    measure_teacher,
    plan_student,
    refit,
)
from ashore.lab.training import (
    Batch,
    Corpus,
    LoopOptions,
    LoopResult,
    LoraOptions,
    PackedBatches,
    RunState,
    StepReport,
    add_lora,
    hidden_states,
    load_checkpoint,
    save_checkpoint,
    train,
)

MAKER: Final = "distill"
MEASURED_EXAMPLES: Final = 64
"""Examples that the teacher's parts are measured on before a student is cut out of it."""
FITTED_SAMPLES, FITTED_TOKENS = 32, 256
"""Pieces, and tokens of each, that a student's matrices are refitted on."""


@dataclass(frozen=True, slots=True)
class StoredTeacher:
    """Stored outputs of a teacher, for every position but the first of each example."""

    store: LogitStore

    def rows(self, batch: Batch) -> TopRows:
        parts = [self.store.rows(example) for example in batch.examples]
        for part, length, example in zip(parts, batch.lengths, batch.examples, strict=True):
            if len(part) != length - 1:
                raise CorruptBlob(f"the teacher returned {len(part)} rows for example {example}; expected {length - 1}")
        return join_rows(parts)


def _within(told: TopRows, num_tokens: int) -> TopRows:
    """Return rows without tokens outside the student's vocabulary: a teacher's table may be padded longer."""
    known_NK = told.ids_NK < num_tokens
    if known_NK.all():
        return told
    return TopRows(
        np.where(known_NK, told.ids_NK, 0),
        np.where(known_NK, told.logprobs_NK, NOTHING).astype(np.float32),
        told.rest_N,
    )


def position_weights(corpus: Corpus, answers_T: NDArray[np.bool_], *, input_share: float) -> NDArray[np.float32]:
    """Return the loss weight of each token of `corpus`; the mean over its targets is 1.

    Answers are few but matter to the user, inputs are many and carry the language: each kind gets a fixed share of the
    total, whatever their numbers. If there is only one kind, it gets all.

    Args:
        corpus: Its targets are answers and inputs.
        answers_T: Which of its tokens are answers.
        input_share: 0 to 1.
    """
    weights_T = np.zeros(corpus.num_tokens, np.float32)
    kinds = ((corpus.targets & answers_T, 1 - input_share), (corpus.targets & ~answers_T, input_share))
    there = [(where, share) for where, share in kinds if where.any()]
    for where, share in there:
        weights_T[where] = (share if len(there) == 2 else 1.0) * corpus.num_targets / where.sum()
    return weights_T


class DistilLoss:
    """A `training.Loss`: distance between student and teacher, summed over the targets of a row."""

    def __init__(
        self, teacher: StoredTeacher, mix: LossMix, *, corpus: Corpus | None = None, weights_T: Any = None
    ) -> None:
        """Create it; without `corpus` and its `weights_T` every target has the same weight."""
        self._teacher, self._mix, self._corpus, self._weights_T = teacher, mix, corpus, weights_T

    def __call__(self, model: Any, batch: Batch) -> Any:
        torch, _ = torch_libraries()
        (at,) = np.nonzero(batch.targets_T)
        head_VH = model.get_output_embeddings().weight
        told = _within(self._teacher.rows(batch), len(head_VH))
        lesson = Lesson(
            torch.from_numpy(told.ids_NK),
            torch.from_numpy(told.logprobs_NK),
            torch.from_numpy(told.rest_N),
            torch.from_numpy(batch.ids_T[at]),
            torch.from_numpy(self._weights(batch)[at]),
        )
        hidden_NH = hidden_states(model, batch)[torch.from_numpy(at - 1)]
        return lesson_loss(hidden_NH, head_VH, lesson, self._mix)

    def _weights(self, batch: Batch) -> NDArray[np.float32]:
        if self._corpus is None:
            return np.ones(batch.num_tokens, np.float32)
        starts = self._corpus.starts
        return np.concatenate([self._weights_T[starts[i] : starts[i + 1]] for i in batch.examples])


class Watcher(Protocol):
    """Follows the progress."""

    def stage(self, name: str, done: int, total: int) -> None:
        """Called with the examples read by the teacher."""
        ...

    def step(self, report: StepReport) -> None:
        """Called after each training step."""
        ...


class TeacherOpener(Protocol):
    """Opens a teacher behind its engine."""

    def __call__(self, reference: str, *, kind: EngineKind | None) -> AbstractContextManager[Subject]: ...


class Distiller:
    """Distils students."""

    def __init__(
        self,
        store: ModelStore,
        work: Path,
        open_teacher: TeacherOpener,
        *,
        free_memory: Callable[[], int],
        clock: Clock | None = None,
    ) -> None:
        """Create the object.

        Args:
            store: Source of models and destination of students.
            work: Folder for the teacher's outputs and for unfinished runs; all of it can be recreated.
            open_teacher: Opens teachers behind their engines.
            free_memory: Bytes that this process may still take.
            clock: Times checkpoints.
        """
        self._store, self._work, self._open_teacher, self._free_memory = store, work, open_teacher, free_memory
        self._clock = clock or SystemClock()

    def plan(self, wish: DistilWish) -> DistilPlan:
        """Return the validated plan of a request. Raises as `plan_distilling`."""
        return plan_distilling(self._store, wish, free_bytes=self._free_memory())

    def distil(self, plan: DistilPlan, watch: Watcher) -> DistilReport:
        """Make the student of `plan`, store it under its name, and return it.

        The same call resumes after any interruption: the teacher at the next example, training at its last checkpoint.
        The teacher's outputs are kept for the next student; other files of the run are deleted at its end.

        Raises:
            DiskFull: what was written so far is kept. TrainingDiverged. HostDied, EngineFailed: the teacher's engine.
        """
        wish = plan.wish
        data = (*(data_used(p, "train") for p in wish.data), *(data_used(p, "text") for p in wish.text))
        told = {"teacher": wish.teacher, "teacher_digest": plan.teacher.digest}
        parameters = {**wish.settings.to_parameters(), **told}
        if wish.teacher_engine:
            parameters["teacher_engine"] = wish.teacher_engine
        facts = {**parameters, "parent": plan.parent.digest, "data": " ".join(used.digest for used in data)}
        with self._store.scratch(plan.parent) as out:
            sealed = plan.parent.sealed or plan.teacher.sealed
            work = out / ".work" if sealed else self._work  # plaintext of a sealed model stays in memory
            run = work / f"run-{_short_digest(facts)}"
            result, found = self._make(plan, out / "model", work, RunState(folder=run, facts=facts), watch)
            recipe = VariantRecipe(
                maker=MAKER,
                parameters=parameters,
                data=data,
                versions=versions_of("torch", "transformers"),
                seed=wish.settings.seed,
                facts={
                    "parameters": str(plan.sizes.student_parameters),
                    "tokens": str(result.tokens),
                    "loss": f"{_last_loss(result):.4f}",
                    **found,
                },
            )
            student = self._store.add_derived(plan.parent, plan.name, out / "model", recipe=recipe.to_notes())
        shutil.rmtree(run, ignore_errors=True)
        return DistilReport(
            student=student,
            recipe=recipe,
            first_loss=_mean(result.losses[: max(1, len(result.losses) // 10)]),
            last_loss=_last_loss(result),
            tokens=result.tokens,
            seconds=result.seconds,
            logit_bytes_per_token=float(found["logit_bytes_per_token"]),
            resumed_at=result.resumed_at,
        )

    def _make(
        self, plan: DistilPlan, out: Path, work: Path, state: RunState, watch: Watcher
    ) -> tuple[LoopResult, dict[str, str]]:
        """Write the student's checkpoint to `out`, and return the results of training and notes."""
        settings, store = plan.wish.settings, self._store
        torch, _ = torch_libraries()
        text = TextModel.load(store.open(plan.parent.reference).directory)
        samples = load_samples(plan.wish.data, plan.wish.text, text, window_tokens=settings.window_tokens)
        told = self._ask_teacher(plan, samples, text, work, watch)
        with store.reading(plan.parent.reference) as files:
            torch.manual_seed(settings.seed)
            model = load_checkpoint(files)
            if plan.sizes.cut:
                student = _cut(model, samples, plan.sizes, partial(watch.stage, "cut the student"))
            else:
                student = model.requires_grad_(True)
            del model
            adapted = _adapted(student, settings) if settings.method == "lora" else None
            corpus = samples.corpus
            weights_T = position_weights(corpus, samples.answers_T, input_share=settings.input_share)
            result = train(
                student,
                batches_of(corpus, settings),
                DistilLoss(StoredTeacher(told), settings.mix, corpus=corpus, weights_T=weights_T),
                loop_options(settings),
                state=state,
                watch=watch.step,
                clock=self._clock,
            )
            save_checkpoint(adapted.merge_and_unload() if adapted else student, files, out)
            per_token = told.num_bytes / corpus.num_targets
            return result, {"logit_bytes_per_token": f"{per_token:.1f}", "teacher_engine_used": told.key.engine}

    def _ask_teacher(
        self, plan: DistilPlan, samples: Samples, text: TextModel, work: Path, watch: Watcher
    ) -> LogitStore:
        """Let the teacher read every unread example, and return its outputs."""
        settings, corpus = plan.wish.settings, samples.corpus
        with self._open_teacher(plan.teacher.reference, kind=plan.wish.teacher_engine) as subject:
            key = logits_key(
                subject,
                plan.teacher.digest,
                corpus,
                most=settings.most,
                tail=settings.tail,
                tokenizer=vocabulary_digest(text),
            )
            store = LogitStore(work, key)
            write_logits(store, subject, corpus, told=partial(watch.stage, "teacher reads"))
        return store


def _adapted(student: Any, settings: DistilSettings) -> Any:
    """Add adapters to `student`, so that only those are trained, and return peft's wrapper."""
    return add_lora(student, LoraOptions(rank=settings.rank, alpha=2 * settings.rank), seed=settings.seed)


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


def loop_options(settings: DistilSettings) -> LoopOptions:
    """Return the options of the training loop."""
    return LoopOptions(learning_rate=settings.learning_rate, seed=settings.seed, precision=settings.precision)


def _cut(teacher: Any, samples: Samples, sizes: StudentSizes, told: Told) -> Any:
    """Return the student, cut from its teacher by importance on evenly spread examples, and refitted.

    If it keeps the teacher's hidden size, the vocabulary stays frozen: it was not cut, and is the costliest to train.
    """
    corpus, after = samples.corpus, sizes.after
    chosen = np.unique(np.linspace(0, corpus.num_examples - 1, MEASURED_EXAMPLES).round().astype(int))
    measure = measure_teacher(teacher, [corpus.ids[corpus.starts[i] : corpus.starts[i + 1]].tolist() for i in chosen])
    plan = plan_student(
        measure,
        layers=after.sizes.layers,
        groups=after.sizes.groups,
        channels=after.sizes.channels,
        hidden=after.hidden_size,
    )
    student = cut_student(teacher, plan)
    student.requires_grad_(True)
    if after.hidden_size == sizes.before.hidden_size:
        refit(student, teacher, plan.layers, _fitting_samples(corpus), lambda stage, done: told(round(100 * done), 100))
        freeze_vocabulary(student)
    return student


def _fitting_samples(corpus: Corpus) -> tuple[tuple[int, ...], ...]:
    """Return pieces of one length from all over the corpus, which is treated as one sequence."""
    length = min(FITTED_TOKENS, corpus.num_tokens)
    starts = np.linspace(0, corpus.num_tokens - length, min(FITTED_SAMPLES, corpus.num_tokens // length)).astype(int)
    return tuple(tuple(corpus.ids[at : at + length].tolist()) for at in starts)


def _short_digest(facts: Mapping[str, str]) -> str:
    return blake3(msgspec.json.encode(dict(facts), order="sorted")).hexdigest()[:24]


def _last_loss(result: LoopResult) -> float:
    return _mean(result.losses[-max(1, len(result.losses) // 10) :])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
