"""Running one task on one model."""

from __future__ import annotations

import json
import math
import re
import time
import unicodedata
from collections.abc import Sequence
from typing import Any

from ashore.data.engines import ScoreText
from ashore.lab.evaluation.ports import Subject, Told, untold
from ashore.lab.evaluation.tasks.model import LIKELIHOOD_KINDS, Item, Task
from ashore.lab.evaluation.tasks.prompts import answer_ids, check_length, prompt_ids, style_of
from ashore.lab.evaluation.tasks.results import ItemResult, TaskResult, result_of

_FENCE = re.compile(r"```[\w+-]*\n(.*?)(?:```|\Z)", re.DOTALL)
_PARTS = re.compile(r"[\n,;、，；]+")
_EDGES = " \t\n.,;:!?\"'`*。，；：！？「」“”‘’-"
_THOUGHT = "</think>"


def run_answers(subject: Subject, task: Task, told: Told) -> tuple[ItemResult, ...]:
    """Return a result for each item of a task with written answers. Raises as `run_task`."""
    prompts = []
    for item, line in zip(task.items, task.lines, strict=True):
        ids = prompt_ids(task, item, subject.text)
        check_length(ids, task.header.max_new_tokens, subject, task, line)
        prompts.append(ids)
    answers = subject.generate(prompts, max_new_tokens=task.header.max_new_tokens, told=told)
    said = [cut(subject.text.decode(answer.ids), task.header.stop) for answer in answers]
    scores = [judge(task, item, text) for item, text in zip(task.items, said, strict=True)]
    return tuple(ItemResult(line=line, score=score) for line, score in zip(task.lines, scores, strict=True))


def cut(text: str, stops: Sequence[str]) -> str:
    """Return an answer without its reasoning and without the text after a stop string."""
    text = text.rpartition(_THOUGHT)[2]
    ends = [place for place in (text.find(stop) for stop in stops) if place >= 0]
    return text[: min(ends)] if ends else text


def judge(task: Task, item: Item, said: str) -> float:
    """Return the score of one answer, 0 to 1."""
    match task.header.kind:
        case "exact":
            accepted = (item.answer,) if isinstance(item.answer, str) else item.answer
            assert isinstance(accepted, tuple), "checked when the file was read"
            return float(normal(said) in {normal(one) for one in accepted})
        case "extract":
            assert isinstance(item.answer, tuple), "checked when the file was read"
            return f1(extracted(said), {normal(one) for one in item.answer})
        case "schema":
            schema = task.header.schema if item.schema is None else item.schema
            assert schema is not None, "checked when the file was read"
            return float(satisfies(said, schema))
        case _:
            raise AssertionError(f"{task.header.kind} is judged elsewhere")


def normal(text: str) -> str:
    """Return a text normalised for comparison: width, case, spaces and outer marks do not count."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_EDGES)


def extracted(said: str) -> set[str]:
    """Return the items named in an answer: the leaves of JSON if it has some, else the parts of its text."""
    document = json_of(said)
    parts = [str(leaf) for leaf in _leaves(document)] if document is not None else _PARTS.split(said)
    return {part for part in map(normal, parts) if part}


def f1(found: set[str], wanted: set[str]) -> float:
    """Return the harmonic mean of precision and recall; 1 if there is nothing to find and nothing was found."""
    if not found and not wanted:
        return 1.0
    return 2 * len(found & wanted) / (len(found) + len(wanted))


def satisfies(said: str, schema: dict[str, Any]) -> bool:
    """Return whether an answer is JSON, in a code fence or bare, that the schema allows."""
    from jsonschema.validators import validator_for

    try:
        document = json.loads(_unfenced(said))
    except (ValueError, RecursionError):
        return False
    return bool(validator_for(schema)(schema).is_valid(document))


def json_of(said: str) -> Any:
    """Return the JSON object or array of an answer; None if there is none."""
    try:
        document = json.loads(_unfenced(said))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict | list) else None


def _unfenced(said: str) -> str:
    fenced = _FENCE.search(said)
    return fenced[1] if fenced else said


def _leaves(document: Any) -> list[Any]:
    match document:
        case dict():
            return [leaf for value in document.values() for leaf in _leaves(value)]
        case list():
            return [leaf for value in document for leaf in _leaves(value)]
        case None:
            return []
        case _:
            return [document]


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
