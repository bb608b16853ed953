"""The use case: judge a model, and another beside it, by texts, tasks and the clock."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from ashore import __version__
from ashore.core.clock import Clock
from ashore.core.errors import InvalidRequest
from ashore.core.timespan import written_moment
from ashore.data.engines import read_inventory
from ashore.lab.evaluation.compare import compare
from ashore.lab.evaluation.divergence import divergence
from ashore.lab.evaluation.model import Conditions, Judged, Report, TextResult
from ashore.lab.evaluation.perplexity import WINDOW_TOKENS, perplexity
from ashore.lab.evaluation.ports import Subject
from ashore.lab.evaluation.speed import measure_speed
from ashore.lab.evaluation.tasks import Task, run_task

_SECRET: Final = re.compile("key|token|secret|password", re.IGNORECASE)
_HIDDEN: Final = "(given)"

Stage = Callable[[str, int, int], None]
"""Hears of what is being done, and how much of it is behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedText:
    """A text that models are judged by."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model under judgement: the open subject and what is known about it."""

    subject: Subject
    judged: Judged
    options: Mapping[str, str | int | float | bool]


def evaluate(
    candidate: Candidate,
    *,
    against: Candidate | None = None,
    texts: Sequence[NamedText] = (),
    tasks: Sequence[Task] = (),
    speed: bool = True,
    clock: Clock,
    told: Stage = lambda stage, done, total: None,
) -> tuple[Report, Report | None]:
    """Return the report on a model, and that on the other one if given. Writes nothing.

    Args:
        candidate: The model to judge.
        against: The model to compare with, on the same texts and tasks.
        texts: For perplexity and divergence.
        tasks: For accuracy.
        speed: Measure speed and memory too.
        clock: Dates the report.
        told: Called with the progress.

    Raises:
        InvalidRequest: nothing to judge by, a text or a task is named twice, or a text is empty.
        AshoreError: as texts and tasks raise.
    """
    names = [text.name for text in texts] + [task.name for task in tasks]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        hint = "give every text and task a unique name"
        raise InvalidRequest(f"{', '.join(sorted(twice))} is given twice", hint=hint)
    if not names and not speed:
        raise InvalidRequest("there is nothing to evaluate on", hint="give --text FILE or --task NAME")
    base = None
    # Only the same windows can be compared, so the shorter context decides.
    contexts = [one.subject.info.context_tokens for one in (candidate, against) if one is not None]
    window = min(WINDOW_TOKENS, *(context - 1 for context in contexts))
    if against is not None:
        base = _judge(against, texts, tasks, window=window, speed=speed, clock=clock, told=told)
    report = _judge(candidate, texts, tasks, window=window, speed=speed, clock=clock, told=told)
    if base is None or against is None:
        return report, None
    found, refused = {}, {}
    for text in texts:
        try:
            stage = f"divergence on {text.name}"
            found[text.name] = divergence(
                candidate.subject, against.subject, [text.text], told=lambda *n, stage=stage: told(stage, *n)
            )
        except InvalidRequest as error:  # different tokens: compared by bits per byte and by tasks
            refused[text.name] = error.message
    comparison = compare(base, report, found)
    comparison = replace(comparison, not_compared={**refused, **comparison.not_compared})
    return replace(report, comparison=comparison), base


def _judge(
    candidate: Candidate,
    texts: Sequence[NamedText],
    tasks: Sequence[Task],
    *,
    window: int,
    speed: bool,
    clock: Clock,
    told: Stage,
) -> Report:
    subject = candidate.subject

    def stage(what: str) -> Callable[[int, int], None]:
        return lambda done, total: told(f"{subject.name}: {what}", done, total)

    measured = measure_speed(subject, told=stage("speed")) if speed else None
    judged_texts = tuple(
        TextResult(
            text=text.name,
            digest=f"sha256:{hashlib.sha256(text.text.encode()).hexdigest()}",
            perplexity=perplexity(subject, [text.text], window=window, told=stage(text.name)),
        )
        for text in texts
    )
    judged_tasks = tuple(run_task(subject, task, told=stage(task.name)) for task in tasks)
    return Report(
        model=candidate.judged,
        conditions=_conditions(candidate, clock),
        texts=judged_texts,
        tasks=judged_tasks,
        speed=measured,
    )


def _conditions(candidate: Candidate, clock: Clock) -> Conditions:
    info, machine = candidate.subject.info, read_inventory()
    return Conditions(
        ashore=__version__,
        engine=info.kind,
        engine_version=info.version,
        precision=info.precision,
        options={name: _HIDDEN if _SECRET.search(name) else value for name, value in candidate.options.items()},
        machine=" ".join(filter(None, (machine.cpu, platform.system(), platform.machine()))),
        cores=machine.cores,
        created=written_moment(clock.now_s()),
    )
