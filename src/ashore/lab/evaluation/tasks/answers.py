"""Judges written answers: exact match, extraction, JSON that satisfies a schema."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from ashore.lab.evaluation.ports import Subject, Told
from ashore.lab.evaluation.tasks.model import Item, Task
from ashore.lab.evaluation.tasks.prompts import check_length, prompt_ids
from ashore.lab.evaluation.tasks.results import ItemResult

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
