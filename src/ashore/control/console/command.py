"""The command that does what a form does: `ashore access key create alice --title laptop`.

Derived from the declaration, as the command line is. `ELSEWHERE` lists calls whose command is spelled differently, and
`NO_COMMAND` those that have none, each with its reason.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ashore.control.console.forms import unsaid
from ashore.core.timespan import written_span
from ashore.data.jobs.operations import NAMES
from ashore.kit.call import Call, struct_fields
from ashore.kit.fieldmarks import COMMAS, FILLED, FLAG, POSITIONAL, READS, SEVERAL, SPAN, SWITCH, WORDS, extra_of

Values = Mapping[str, Any]
Spell = Callable[[Call, Values], Sequence[str]]


def _disable(call: Call, values: Values) -> Sequence[str]:
    name = values.get("tenant") or values.get("account") or "NAME"
    return (*_begin(call), "enable" if values.get("disabled") is False else "disable", str(name))


def _members(call: Call, values: Values) -> Sequence[str]:
    word = "drop" if values.get("remove") and not values.get("add") else "add"
    names = [*values.get("add", ()), *values.get("remove", ())] or ["ACCOUNT"]
    return (*_begin(call), word, str(values.get("group", "GROUP")), *names)


def _bind(call: Call, values: Values) -> Sequence[str]:
    word = "revoke" if values.get("revoke") and not values.get("grant") else "grant"
    first = next(iter([*values.get("grant", ()), *values.get("revoke", ())]), {"subject": "SUBJECT", "role": "ROLE"})
    return (*_begin(call), word, str(first["subject"]), str(first["role"]))


def _apply_policy(call: Call, values: Values) -> Sequence[str]:
    comment = ("--comment", str(values["comment"])) if values.get("comment") else ()
    return (*_begin(call), "apply", "policy.toml", *comment, *_dry(values))


def _made_with_key(call: Call, values: Values) -> Sequence[str]:
    """Accounts: the command creates a key unless `--no-key` style options turn that off."""
    rest = {name: value for name, value in values.items() if name != "key"}
    no_key = () if values.get("key") is not None or "service" in call.noun else ("--no-key",)
    return (*_plain(call, rest), *no_key)


def _can(call: Call, values: Values) -> Sequence[str]:
    names = ("subject", "action", "resource")
    return ("ashore", "access", "can", *(str(values.get(name) or name.upper()) for name in names), "--explain")


def _detect(call: Call, values: Values) -> Sequence[str]:
    options = [word for name in ("tenant", "model") if values.get(name) for word in (f"--{name}", str(values[name]))]
    return ("ashore", "privacy", "detect", "text.txt", *options)


def _set_privacy(call: Call, values: Values) -> Sequence[str]:
    replaces = ("--replaces", str(values.get("replaces", 0)))
    return ("ashore", "privacy", "policy", "set", "policy.toml", *replaces, *_dry(values))


def _dry(values: Values) -> Sequence[str]:
    return ("--dry-run",) if values.get("dry_run") else ()


def _export(call: Call, values: Values) -> Sequence[str]:
    form = str(values.get("form") or "jsonl")
    rest = {name: value for name, value in values.items() if name != "form"}
    return (*_plain(call, rest), "audit-export", "--form", form)


def _noun_alone(call: Call, values: Values) -> Sequence[str]:
    return (*_begin(call), *_plain(call, values)[len(_begin(call)) + 1 :])


def _as_job(call: Call, values: Values) -> Sequence[str]:
    """Operations: the command runs locally unless an option sends it to the server."""
    return (*_plain(call, values), "--job")


ELSEWHERE: Final[Mapping[str, Spell]] = {
    "access tenant change": _disable,
    "access user change": _disable,
    "access service change": _disable,
    "access user create": _made_with_key,
    "access group members": _members,
    "access role bind": _bind,
    "access policy apply": _apply_policy,
    "access can": _can,
    "privacy detect": _detect,
    "privacy policy set": _set_privacy,
    "audit export": _export,
    "doctor findings": _noun_alone,
    "events list": _noun_alone,
    **dict.fromkeys(NAMES, _as_job),
}
"""Calls whose command is not that of the declaration, by noun and word."""


def command_for(call: Call, asked: msgspec.Struct | None) -> str:
    """Return the command that does a call.

    Args:
        call: The call.
        asked: Its input; None while the form is incomplete: then the command shows argument names.
    """
    values = {} if asked is None else unsaid(call, asked)
    spell = ELSEWHERE.get(f"{call.noun} {call.word}", _plain)
    return shlex.join(spell(call, values))


def _begin(call: Call) -> tuple[str, ...]:
    return ("ashore", *call.noun.split())


def _plain(call: Call, values: Values) -> Sequence[str]:
    places: list[str] = []
    rest: list[str] = []
    options: list[str] = []
    for one in struct_fields(call.takes):
        extra, value = extra_of(one.type), values.get(one.name)
        positional = one.name in call.in_path or POSITIONAL in extra
        if positional and value is None and one.required:
            value = str(extra.get(FLAG) or one.name).upper()
            places.append(value)
        elif value is None or FILLED in extra:
            continue
        elif WORDS in extra:
            rest = str(value).split()
        elif positional:
            places += _items(extra, value)
        else:
            options += _option(one, extra, value)
    return (*_begin(call), call.word, *places, *options, *rest)


def _items(extra: Mapping[str, Any], value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{name}={_text(one)}" for name, one in value.items()]
    return [_text(one) for one in value] if isinstance(value, list | tuple) else [_text(value)]


def _option(one: Any, extra: Mapping[str, Any], value: Any) -> list[str]:
    if SWITCH in extra:
        return [f"--{extra[SWITCH]}"]
    flag = f"--{extra.get(FLAG) or one.name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if SPAN in extra:
        return [flag, written_span(value)]
    if READS in extra:
        return [flag, _as_read(extra[READS], value)]
    if isinstance(value, list | tuple) and COMMAS in extra:
        return [flag, ",".join(map(_text, value))]
    if isinstance(value, list | tuple) and SEVERAL in extra:
        return [flag, *map(_text, value)] if value else []
    if isinstance(value, list | tuple | dict):
        return [word for item in _items(extra, value) for word in (flag, item)]
    return [flag, _text(value)]


def _as_read(read: Callable[[str], Any], value: Any) -> str:
    """Return a value in the form that its option parses."""
    if isinstance(value, list):  # the option names a file that has them
        return "FILE"
    if isinstance(value, int):  # an offset from UTC
        sign, minutes = ("-" if value < 0 else "+"), abs(value)
        text = f"{sign}{minutes // 60:02}:{minutes % 60:02}"
        if read(text) == value:
            return text
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
