"""Judges that the operator supplies: conditions on an answer, or a command that compares two."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

from msgspec import Meta

from ashore.core.errors import InvalidSpec
from ashore.data.releases.schemas import AnswerSchema, compiled
from ashore.kit.section import AFile, Section

MOST_JUDGES: Final = 8
MOST_JUDGE_S: Final = 60.0
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")


class JudgeSpec(Section, frozen=True, kw_only=True):
    """One of them. Exactly one of `schema`, `must_match`, `must_not_match` and `command` is given."""

    name: str = ""
    """Name in reports: lower-case letters, digits and -."""
    alias: str = ""
    """Alias whose answers it judges; empty: every one."""
    schema: AFile = ""
    """File with a JSON Schema that answers satisfy; once read, its text."""
    must_match: str = ""
    """Expression in RE2's syntax that is found in answers."""
    must_not_match: str = ""
    """Expression that is not."""
    command: tuple[str, ...] = ()
    """Program and arguments. It reads `{"prompt", "live", "candidate"}` as JSON on its standard input and prints how
    good the candidate's answer is beside the live one: 0.5 as good, less is worse, 0 to 1."""
    timeout_s: Annotated[float, Meta(gt=0, le=MOST_JUDGE_S)] = 5.0
    """Longest run of a command."""


def check_judges(judges: Sequence[JudgeSpec], where: str) -> None:
    """Check that all judges can be used.

    Raises:
        InvalidSpec: one cannot; the message says which and why.
    """
    if len(judges) > MOST_JUDGES:
        raise InvalidSpec(f"{where} has {len(judges)} judges; at most {MOST_JUDGES} are allowed", hint="remove some")
    names = [judge.name for judge in judges]
    for judge in judges:
        at = f"{where} judge {judge.name!r}"
        if not _NAME.fullmatch(judge.name):
            raise InvalidSpec(f"{at} has no valid name", hint="use at most 32 lower-case letters, digits and -")
        if names.count(judge.name) > 1:
            raise InvalidSpec(f"{where} has two judges named {judge.name!r}", hint="give each judge its own name")
        given = [key for key in ("schema", "must_match", "must_not_match", "command") if getattr(judge, key)]
        if len(given) != 1:
            raise InvalidSpec(
                f"{at} has {' and '.join(given) or 'no criterion'}",
                hint="give exactly one of schema, must_match, must_not_match, command",
            )
        if not 0 < judge.timeout_s <= MOST_JUDGE_S:
            raise InvalidSpec(
                f"{at} timeout_s = {judge.timeout_s:g}", hint=f"use more than 0 and at most {MOST_JUDGE_S:g} s"
            )
        if judge.schema:
            compile_schema(judge)
        elif judge.command:
            _check_command(judge, at)
        else:
            compile_pattern(judge)


def compile_schema(judge: JudgeSpec) -> AnswerSchema:
    """Return the schema of a judge, compiled.

    Raises:
        InvalidSpec: it is not a JSON Schema, or uses an unsupported feature.
    """
    return AnswerSchema(judge.schema, f"the schema of judge {judge.name!r}")


def compile_pattern(judge: JudgeSpec) -> Any:
    """Return the expression of a judge, compiled.

    Raises:
        InvalidSpec: RE2 rejects it.
    """
    return compiled(judge.must_match or judge.must_not_match, f"judge {judge.name!r}")


def _check_command(judge: JudgeSpec, at: str) -> None:
    program = judge.command[0]
    if not os.path.isabs(program):
        raise InvalidSpec(
            f"{at} runs {program!r}", hint="give an absolute path, or a path with a / relative to ashore.toml"
        )
    if not os.access(program, os.X_OK) or os.path.isdir(program):
        seen = "does not exist" if not os.path.exists(program) else "is not executable"
        raise InvalidSpec(
            f"{at} runs {program}, which {seen}", hint="correct the path, or make it executable: `chmod +x`"
        )
