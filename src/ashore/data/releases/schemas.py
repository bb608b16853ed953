"""Checks answers against a JSON Schema, of an operator's judge or of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from ashore.core.errors import InvalidSpec
from ashore.core.expressions import MOST_PATTERN_CHARS, compile_re2
from ashore.kit.decode import UNDECODABLE

_Keyword = Callable[[Any, Any, Any, Any], Iterator[Exception] | None]
UNBOUNDED: Final = 0
STEP_CHARS: Final = 64
"""Characters that are read in the time of one step."""
COMPARED: Final = frozenset(("enum", "const", "dependentRequired", "dependencies"))
"""Keywords that look at all that is inside their value, however deep."""


class _Enough(Exception):
    """Checking a text took more steps than allowed."""


class AnswerSchema:
    """A compiled JSON Schema. It fetches nothing, and uses RE2 for its expressions, which cannot hang."""

    def __init__(self, source: str, where: str, *, most_steps: int = UNBOUNDED) -> None:
        """Compile it: a millisecond for five fields, 30 for eighty.

        Args:
            source: The schema, as text.
            where: Source of the schema, for messages.
            most_steps: Most keywords evaluated for one text, and entries looked at, against hostile schemas: nested
                alternatives double the time with each level. 0: no limit.

        Raises:
            InvalidSpec: it is not a JSON Schema, or uses an unsupported feature.
        """
        from jsonschema import SchemaError
        from jsonschema.validators import extend, validator_for

        try:
            schema = msgspec.json.decode(source)
            if not isinstance(schema, dict | bool):
                raise InvalidSpec(f"{where} is not a JSON Schema", hint="expected an object, true or false")
            kind = validator_for(schema)
            kind.check_schema(schema)
            patterns = {text: compiled(text, where) for text in _patterns(schema, where)}
        except UNDECODABLE as fault:
            raise InvalidSpec(f"{where} is not JSON: {fault}", hint="correct it") from fault
        except SchemaError as fault:
            raise InvalidSpec(f"{where} is not a JSON Schema: {fault.message}", hint="correct it") from fault
        keywords = {**kind.VALIDATORS, "pattern": _matches(patterns), "uniqueItems": self._unique}
        if most_steps:
            keywords = {name: self._counted(name, work) for name, work in keywords.items()}
        self._validator = extend(kind, keywords)(schema)
        self._most_steps, self._steps = most_steps, 0

    def allows(self, text: str) -> bool:
        """Return whether a text is JSON that the schema allows. A text that exceeds the limit of steps, or meets a
        reference to what is not in the schema, counts as allowed.
        """
        from referencing.exceptions import Unresolvable

        self._steps = 0
        try:
            return bool(self._validator.is_valid(json_in(text)))
        except UNDECODABLE:
            return False
        except (_Enough, Unresolvable):
            return True

    def _counted(self, name: str, work: _Keyword) -> _Keyword:
        sizes: dict[int, int] = {}
        """By the values that the schema has for this keyword."""

        def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Exception]:
            size = sizes.get(id(value))
            if size is None:
                size = sizes[id(value)] = _entries(value) if name in COMPARED else _width(value)
            self._take(1 + size + _width(instance))
            yield from work(validator, value, instance, schema) or ()

        return keyword

    def _take(self, num_steps: int) -> None:
        self._steps += num_steps
        if self._most_steps and self._steps > self._most_steps:
            raise _Enough

    def _unique(self, validator: Any, wanted: bool, instance: object, _: object) -> Iterator[Exception]:
        """Compare by what is written, in time in proportion: 1 and 1.0 are two."""
        from jsonschema import ValidationError

        if wanted and isinstance(instance, list):
            written = {msgspec.json.encode(one, order="sorted") for one in instance}
            self._take(sum(map(len, written)) // STEP_CHARS)
            if len(written) < len(instance):
                yield ValidationError(f"{len(instance) - len(written)} entries stand there twice")


def _width(value: object) -> int:
    """Return the steps that looking at each entry of a value takes."""
    return len(value) if isinstance(value, list | dict) else len(value) // STEP_CHARS if isinstance(value, str) else 0


def _entries(value: object) -> int:
    """Return the number of all values inside a value, itself included."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_entries, inside))


def json_in(text: str) -> Any:
    """Return a text parsed as JSON.

    Raises:
        msgspec.DecodeError, RecursionError: it is not JSON.
    """
    return msgspec.json.decode(text.strip().encode("utf-8", "replace"))


def compiled(text: str, where: str) -> Any:
    """Return an expression, compiled.

    Raises:
        InvalidSpec: it is too long, or RE2 rejects it.
    """
    if len(text) > MOST_PATTERN_CHARS:
        raise InvalidSpec(
            f"{where} has an expression of {len(text)} characters; expected at most {MOST_PATTERN_CHARS}",
            hint="split it into several judges",
        )
    return compile_re2(text, f"{where} has the expression {text[:80]!r}, which")


def _matches(patterns: dict[str, Any]) -> _Keyword:
    from jsonschema import ValidationError

    def matches(validator: Any, pattern: str, instance: object, _: object) -> Iterator[Exception]:
        if isinstance(instance, str) and patterns[pattern].search(instance) is None:
            yield ValidationError(f"{instance!r} does not match {pattern!r}")

    return matches


def _patterns(schema: object, where: str) -> Iterator[str]:
    """Yield every expression of a schema."""
    if isinstance(schema, list):
        for one in schema:
            yield from _patterns(one, where)
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key in ("$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith("#"):
            raise InvalidSpec(
                f"{where} refers to {value[:80]!r}, which is outside the schema",
                hint="put the definition under $defs; nothing is fetched",
            )
        if key == "patternProperties":
            raise InvalidSpec(f"{where} has patternProperties, which are not supported", hint="remove them")
        if key == "pattern" and isinstance(value, str):
            yield value
        else:
            yield from _patterns(value, where)
