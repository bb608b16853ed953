"""Running one task on one model."""

from __future__ import annotations

import time

from ashore.evaluation.ports import Subject, Told, untold
from ashore.evaluation.tasks.answers import run_answers
from ashore.evaluation.tasks.likelihood import run_likelihood
from ashore.evaluation.tasks.model import LIKELIHOOD_KINDS, Task
from ashore.evaluation.tasks.program import ConfinedRunner, Runner
from ashore.evaluation.tasks.prompts import style_of
from ashore.evaluation.tasks.results import TaskResult, result_of


def run_task(subject: Subject, task: Task, *, runner: Runner | None = None, told: Told = untold) -> TaskResult:
    """Return what `subject` makes of `task`.

    Args:
        subject: The model.
        task: From `open_task`.
        runner: Runs the programs of `code`; default: confined, on this machine.
        told: Hears of items.

    Raises:
        ContextTooLong: an item does not fit the model's context; names its line, and nothing was computed.
        InvalidRequest: the task wants a chat and the model has no template.
        UnsupportedByEngine: the engine does not score.
        EnvironmentFault: programs cannot be confined here.
    """
    begun_s = time.perf_counter()
    if task.header.kind in LIKELIHOOD_KINDS:
        items = run_likelihood(subject, task, told)
    else:
        items = run_answers(subject, task, runner or ConfinedRunner(), told)
    style = style_of(task, subject.text)
    return result_of(task.name, task.header.kind, style, task.digest, items, time.perf_counter() - begun_s)
