"""Judges that the operator supplies: what an answer must satisfy, or a command that says which of two is better."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from ashore.core import MOST_PATTERN_CHARS, compile_re2
from ashore.errors import InvalidSpec

MOST_JUDGES: Final = 8
MOST_JUDGE_S: Final = 60.0
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")


class JudgeSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of them. Exactly one of `schema`, `must_match`, `must_not_match` and `command` is given."""

    name: str
    alias: str = ""
    """Empty: answers of every alias."""
    schema: str = ""
    """JSON Schema that answers satisfy, as text."""
    must_match: str = ""
    """Expression in RE2's syntax that is found in answers."""
    must_not_match: str = ""
    command: tuple[str, ...] = ()
    """Program and arguments. It reads `{"prompt", "live", "candidate"}` as JSON on its standard input and prints how
    good the candidate's answer is beside the live one: 0.5 as good, less is worse, 0 to 1."""
    timeout_s: float = 5.0
    """Of a command."""


def check_judges(judges: Sequence[JudgeSpec], where: str) -> None:
    """Return when all of them can be used.

    Raises:
        InvalidSpec: one cannot; the message says which and why.
    """
    if len(judges) > MOST_JUDGES:
        raise InvalidSpec(f"{where} has {len(judges)} judges; at most {MOST_JUDGES} are allowed", hint="leave some out")
    names = [judge.name for judge in judges]
    for judge in judges:
        at = f"{where} judge {judge.name!r}"
        if not _NAME.fullmatch(judge.name):
            raise InvalidSpec(f"{at} has no usable name", hint="lower-case letters, digits and -, at most 32")
        if names.count(judge.name) > 1:
            raise InvalidSpec(f"{where} has two judges named {judge.name!r}", hint="names must differ")
        given = [key for key in ("schema", "must_match", "must_not_match", "command") if getattr(judge, key)]
        if len(given) != 1:
            raise InvalidSpec(
                f"{at} has {' and '.join(given) or 'nothing to judge by'}",
                hint="give exactly one of schema, must_match, must_not_match, command",
            )
        if not 0 < judge.timeout_s <= MOST_JUDGE_S:
            raise InvalidSpec(f"{at} timeout_s = {judge.timeout_s:g}", hint=f"above 0, at most {MOST_JUDGE_S:g} s")
        if judge.schema:
            compile_schema(judge)
        elif judge.command:
            _check_command(judge, at)
        else:
            compile_pattern(judge)


def compile_schema(judge: JudgeSpec) -> Any:
    """Return the validator of a schema. It fetches nothing, and its expressions are RE2's, which cannot hang.

    Raises:
        InvalidSpec: it is no JSON Schema, or has what is not taken here.
    """
    from jsonschema import SchemaError, ValidationError
    from jsonschema.validators import extend, validator_for

    where = f"the schema of judge {judge.name!r}"
    try:
        schema = msgspec.json.decode(judge.schema)
        kind = validator_for(schema)
        kind.check_schema(schema)
        patterns = {text: _compiled(text, where) for text in _patterns(schema, where)}
    except (msgspec.DecodeError, RecursionError) as fault:
        raise InvalidSpec(f"{where} is no JSON: {fault}", hint="correct the file") from fault
    except SchemaError as fault:
        raise InvalidSpec(f"{where} is no JSON Schema: {fault.message}", hint="correct the file") from fault

    def matches(validator: Any, pattern: str, instance: object, _: object) -> Iterator[Exception]:
        if isinstance(instance, str) and patterns[pattern].search(instance) is None:
            yield ValidationError(f"{instance!r} does not match {pattern!r}")

    return extend(kind, {"pattern": matches})(schema)


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
            raise InvalidSpec(f"{where} refers to {value[:80]!r}", hint="nothing is fetched: put it under $defs")
        if key == "patternProperties":
            raise InvalidSpec(f"{where} has patternProperties, which are not judged", hint="leave them out")
        if key == "pattern" and isinstance(value, str):
            yield value
        else:
            yield from _patterns(value, where)


def compile_pattern(judge: JudgeSpec) -> Any:
    """Return the expression of a judge, compiled.

    Raises:
        InvalidSpec: RE2 does not take it.
    """
    return _compiled(judge.must_match or judge.must_not_match, f"judge {judge.name!r}")


def _compiled(text: str, where: str) -> Any:
    """Return an expression, compiled.

    Raises:
        InvalidSpec: it is too long, or RE2 does not take it.
    """
    if len(text) > MOST_PATTERN_CHARS:
        raise InvalidSpec(
            f"{where} has an expression of {len(text)} characters; at most {MOST_PATTERN_CHARS} are read",
            hint="judge by several",
        )
    return compile_re2(text, f"{where} has the expression {text[:80]!r}, which")


def _check_command(judge: JudgeSpec, at: str) -> None:
    program = judge.command[0]
    if not os.path.isabs(program):
        raise InvalidSpec(f"{at} runs {program!r}", hint="give an absolute path, or one beside ashore.toml with a /")
    if not os.access(program, os.X_OK) or os.path.isdir(program):
        seen = "is not there" if not os.path.exists(program) else "cannot be executed"
        raise InvalidSpec(f"{at} runs {program}, which {seen}", hint="`chmod +x`, or correct the path")
