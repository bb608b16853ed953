"""Task files: JSON lines, the header first. Errors name the line."""

from __future__ import annotations

import hashlib
import json
import os
from importlib import resources
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from ashore.core.errors import InvalidRequest, NotFound
from ashore.core.foreign import foreign_errors
from ashore.core.nearest import did_you_mean
from ashore.kit.folders import CHILD_FOLDERS, open_given
from ashore.lab.evaluation.tasks.model import Item, Kind, Task, TaskHeader

MOST_BYTES: Final = 256 << 20
_HINT: Final = "see docs/how-to/evaluate-a-model.md for the format"


def shipped_tasks() -> tuple[str, ...]:
    """Return the names of the tasks that ship, sorted."""
    sets = resources.files("ashore.lab.evaluation.tasks") / "sets"
    return tuple(sorted(p.name.removesuffix(".jsonl") for p in sets.iterdir() if p.name.endswith(".jsonl")))


def open_task(place: str) -> Task:
    """Return the task of a file, or of a name that ships.

    Raises:
        NotFound: neither; the nearest names are in the hint.
        InvalidRequest: a line is malformed; the message names it.
    """
    if place in shipped_tasks():
        data = (resources.files("ashore.lab.evaluation.tasks") / "sets" / f"{place}.jsonl").read_bytes()
        return parse_task(data, place)
    path = Path(place)
    if not path.is_file() or (CHILD_FOLDERS in os.environ and not path.is_absolute()):  # a request names no file here
        hint = did_you_mean(place, shipped_tasks())
        raise NotFound(f"there is no task file and no built-in task {place!r}", hint=hint)
    if path.stat().st_size > MOST_BYTES:
        raise InvalidRequest(f"{place} has {path.stat().st_size} bytes; the limit is {MOST_BYTES}")
    with open_given(path) as file:
        return parse_task(file.read(), place)


def parse_task(data: bytes, place: str) -> Task:
    """Return the task in `data`; `place` names it in messages. Raises as `open_task`."""
    lines = [(n, line) for n, line in enumerate(data.splitlines(), start=1) if line.strip()]
    if not lines:
        raise InvalidRequest(f"{place} is empty; expected a header and items, one JSON object per line", hint=_HINT)
    header = _convert(lines[0][1], TaskHeader, f"{place}, line {lines[0][0]}")
    if "{prompt}" not in header.template:
        raise InvalidRequest(f"{place}, line 1: the template does not contain {{prompt}}", hint=_HINT)
    items, numbers = [], []
    for number, line in lines[1:]:
        item = _convert(line, Item, f"{place}, line {number}")
        _check(header, item, f"{place}, line {number}")
        items.append(item)
        numbers.append(number)
    if not items:
        raise InvalidRequest(f"{place} has a header and no items", hint=_HINT)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return Task(header=header, items=tuple(items), lines=tuple(numbers), digest=digest)


def _convert(line: bytes, wanted: type[Any], where: str) -> Any:
    with foreign_errors(f"{where} is not JSON", InvalidRequest, hint=_HINT):
        document = json.loads(line)
    if not isinstance(document, dict):
        raise InvalidRequest(f"{where} is a {type(document).__name__}; expected an object", hint=_HINT)
    known = wanted.__struct_fields__
    for name in document:
        if name not in known:
            raise InvalidRequest(f"{where} has the unknown field {name!r}", hint=did_you_mean(name, known), param=name)
    if wanted is TaskHeader and document.get("kind") not in get_args(Kind) and "kind" in document:
        kind = str(document["kind"])
        raise InvalidRequest(f"{where}: unknown task kind {kind!r}", hint=did_you_mean(kind, get_args(Kind)))
    with foreign_errors(where, InvalidRequest, hint=_HINT):
        return msgspec.convert(document, wanted)


def _check(header: TaskHeader, item: Item, where: str) -> None:
    """Refuse an item that lacks a field of its kind."""
    if not item.prompt:
        raise InvalidRequest(f"{where}: the prompt is empty", hint=_HINT)
    answer = item.answer
    match header.kind:
        case "choice":
            if len(item.choices) < 2 or not all(item.choices):
                raise InvalidRequest(f"{where} has {len(item.choices)} choices; expected at least two, none empty")
            if not isinstance(answer, int) or not 0 <= answer < len(item.choices):
                raise InvalidRequest(
                    f"{where}: the answer is {answer!r}; expected the number of a choice, 0 to {len(item.choices) - 1}"
                )
        case "classify":
            if len(header.labels) < 2:
                raise InvalidRequest(f"{where}: the header has {len(header.labels)} labels; expected at least two")
            if answer not in header.labels:
                raise InvalidRequest(
                    f"{where}: the label {answer!r} is not in the header",
                    hint=did_you_mean(str(answer), header.labels),
                )
        case "exact":
            if not answer or isinstance(answer, int):
                raise InvalidRequest(f"{where}: the answer is {answer!r}; expected a text, or a list of texts")
        case "extract":
            if not isinstance(answer, tuple):
                raise InvalidRequest(f"{where}: the answer is {answer!r}; expected a list of texts, which may be empty")
        case "schema":
            _check_schema(header.schema if item.schema is None else item.schema, where)


def _check_schema(schema: dict[str, Any] | None, where: str) -> None:
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    if schema is None:
        raise InvalidRequest(f"{where}: neither the item nor the header has a schema", hint=_HINT)
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        raise InvalidRequest(f"{where}: the schema is not valid: {error.message}", hint=_HINT) from error
