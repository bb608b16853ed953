"""Checks answers against a JSON Schema, of an operator's judge or of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from ashore.core import MOST_PATTERN_CHARS, UNDECODABLE, compile_re2
from ashore.errors import InvalidSpec

_Keyword = Callable[[Any, Any, Any, Any], Iterator[Exception] | None]
UNBOUNDED: Final = 0


class _Enough(Exception):
    """Checking a text took more steps than allowed."""


class AnswerSchema:
    """A compiled JSON Schema. It fetches nothing, and uses RE2 for its expressions, which cannot hang."""

    def __init__(self, source: str, where: str, *, most_steps: int = UNBOUNDED) -> None:
        """Compile it: a millisecond for five fields, 30 for eighty.

        Args:
            source: The schema, as text.
            where: Source of the schema, for messages.
            most_steps: Most keywords evaluated for one text, against hostile schemas: nested alternatives double the
                time with each level. 0: no limit.

        Raises:
            InvalidSpec: it is not a JSON Schema, or uses an unsupported feature.
        """
        from jsonschema import SchemaError
        from jsonschema.validators import extend, validator_for

        try:
            schema = msgspec.json.decode(source)
            kind = validator_for(schema)
            kind.check_schema(schema)
            patterns = {text: compiled(text, where) for text in _patterns(schema, where)}
        except UNDECODABLE as fault:
            raise InvalidSpec(f"{where} is not JSON: {fault}", hint="correct it") from fault
        except SchemaError as fault:
            raise InvalidSpec(f"{where} is not a JSON Schema: {fault.message}", hint="correct it") from fault
        keywords = {**kind.VALIDATORS, "pattern": _matches(patterns), "uniqueItems": _unique}
        if most_steps:
            keywords = {name: self._counted(work) for name, work in keywords.items()}
        self._validator = extend(kind, keywords)(schema)
        self._most_steps, self._steps = most_steps, 0

    def allows(self, text: str) -> bool:
        """Return whether a text is JSON that the schema allows. A text that exceeds the limit of steps counts as
        allowed.
        """
        self._steps = 0
        try:
            return bool(self._validator.is_valid(json_in(text)))
        except UNDECODABLE:
            return False
        except _Enough:
            return True

    def _counted(self, work: _Keyword) -> _Keyword:
        def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Exception]:
            self._steps += 1
            if self._steps > self._most_steps:
                raise _Enough
            yield from work(validator, value, instance, schema) or ()

        return keyword


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


def _unique(validator: Any, wanted: bool, instance: object, _: object) -> Iterator[Exception]:
    """Compare by what is written, in time in proportion: 1 and 1.0 are two."""
    from jsonschema import ValidationError

    if wanted and isinstance(instance, list):
        written = {msgspec.json.encode(one, order="sorted") for one in instance}
        if len(written) < len(instance):
            yield ValidationError(f"{len(instance) - len(written)} entries stand there twice")


def _patterns(schema: object, where: str) -> Iterator[str]:
    """Yield every expression of a schema.

    Raises:
        InvalidSpec: it refers to something outside, or has expressions for names.
    """
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
