"""Running one task on one model."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from ashore.data.engines import ScoreText
from ashore.lab.evaluation.ports import Subject, Told, untold
from ashore.lab.evaluation.tasks.answers import run_answers
from ashore.lab.evaluation.tasks.model import LIKELIHOOD_KINDS, Item, Task
from ashore.lab.evaluation.tasks.prompts import answer_ids, check_length, prompt_ids, style_of
from ashore.lab.evaluation.tasks.results import ItemResult, TaskResult, result_of


def run_task(subject: Subject, task: Task, *, told: Told = untold) -> TaskResult:
    """Return the result of `subject` in `task`.

    Args:
        subject: The model.
        task: From `open_task`.
        told: Called with items done.

    Raises:
        ContextTooLong: an item does not fit the model's context; names its line, and nothing was computed.
        InvalidRequest: the task needs a chat and the model has no template.
        UnsupportedByEngine: the engine does not score.
    """
    begun_s = time.perf_counter()
    if task.header.kind in LIKELIHOOD_KINDS:
        items = run_likelihood(subject, task, told)
    else:
        items = run_answers(subject, task, told)
    style = style_of(task, subject.text)
    return result_of(task.name, task.header.kind, style, task.digest, items, time.perf_counter() - begun_s)


def run_likelihood(subject: Subject, task: Task, told: Told) -> tuple[ItemResult, ...]:
    """Return a result for each item of a `choice` or `classify` task. Raises as `run_task` does."""
    texts: list[ScoreText] = []
    for item, line in zip(task.items, task.lines, strict=True):
        given = prompt_ids(task, item, subject.text)
        for answer in answers_of(task, item):
            ids = answer_ids(task, item, given, answer, subject.text)
            check_length(ids, 0, subject, task, line)
            texts.append(ScoreText(ids, max(1, len(given))))
    width = [len(answers_of(task, item)) for item in task.items]

    def counted(done: int, total: int) -> None:
        told(done * len(task.items) // total, len(task.items))

    scored = iter(subject.score(texts, told=counted))
    results = []
    for item, line, count in zip(task.items, task.lines, width, strict=True):
        sums = [math.fsum(row[0].logprob for row in next(scored)) for _ in range(count)]
        results.append(_judged(task, item, line, sums))
    return tuple(results)


def answers_of(task: Task, item: Item) -> Sequence[str]:
    """Return the possible answers of an item."""
    return item.choices if task.header.kind == "choice" else task.header.labels


def _judged(task: Task, item: Item, line: int, sums: Sequence[float]) -> ItemResult:
    answers = answers_of(task, item)
    right = item.answer if isinstance(item.answer, int) else answers.index(str(item.answer))
    by_byte = [total / len(answer.encode()) for total, answer in zip(sums, answers, strict=True)]
    chosen, by_length = _best(sums), _best(by_byte)
    picked = by_length if task.header.normalise else chosen
    return ItemResult(
        line=line,
        score=float(picked == right),
        confidence=_share(by_byte if task.header.normalise else sums, picked),
        plain=float(chosen == right),
        normalised=float(by_length == right),
        picked=picked,
        right=right,
    )


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda place: values[place])


def _share(logs: Sequence[float], place: int) -> float:
    """Return the probability of one answer, given that one of them is chosen."""
    best = max(logs)
    weights = [math.exp(value - best) for value in logs]
    return weights[place] / math.fsum(weights)
