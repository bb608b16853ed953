"""The command that a form shows does what the form does: both send the same request."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
import pytest

from ashore.cli.calls import Server
from ashore.cli.main import build_app
from ashore.cli.target import ServerTarget
from ashore.control.console.command import command_for
from ashore.kit.call import ADMIN, Call
from ashore.kit.fieldmarks import FILLED, PAGE, SWITCH, bare_of, extra_of
from ashore.kit.rooms import rooms

CALLS = [call for room in rooms() for call in room.calls if not call.streams]
"""Those that have a form: a stream has none, and `ashore events --follow`."""
OTHERWISE = {
    "access policy apply": "the command reads the policy from a file",
    "privacy policy set": "the command reads the policy from a file",
    "guard put": "the command reads the words from a file",
    "privacy detect": "the command reads the text from a file, and needs no server",
    "audit export": "the command writes a folder of its home, with no server",
    "audit verify": "the command verifies the audit log of its home, with no server",
    "model list": "the command reads the store of its home, with no server",
    "model catalog": "the command reads the machine of its home, with no server",
    "backup list": "the command reads the nodes of its home, with no server",
    "backup status": "the command reads the nodes of its home, with no server",
    "release status": "the command asks for the alias, its releases and its history, and shows them together",
    "privacy policy show": "the command shows the policy of its home; with --toml it asks the server",
}
"""Calls whose command does the same in another way and sends nothing to compare. It takes what is shown."""
ONE_OF = {
    "access tenant change": ({"tenant": "acme", "disabled": True}, {"tenant": "acme", "disabled": False}),
    "access user change": ({"account": "alice", "disabled": True}, {"account": "alice", "disabled": False}),
    "access service change": ({"account": "app", "disabled": True}, {"account": "app", "disabled": False}),
    "access group members": ({"group": "g", "add": ["a", "b"]}, {"group": "g", "remove": ["a"]}),
    "access role bind": (
        {"grant": [{"subject": "user/a", "role": "developer"}]},
        {"revoke": [{"subject": "user/a", "role": "developer"}]},
    ),
    "access user create": ({"id": "alice", "roles": ["developer"]}, {"id": "alice", "key": {}}),
    "access service create": ({"id": "app", "groups": ["g"], "roles": ["developer"]},),
    "access can": ({"subject": "user/alice", "action": "infer", "resource": "model/chat"},),
    "cache purge": ({"all": True},),
    "release rollback": ({"alias": "chat", "why": "it is worse"},),
    "privacy budget grant": ({"dataset": "wards", "epsilon": 1.5, "delta": 1e-6},),
    "site assign": (
        {
            "site": "@offices",
            "serve": {"chat": "qwen"},
            "gate": "shadow",
            "offline_days": 30.0,
            "escalate": "overflow",
            "votes": True,
            "rate": 1000,
            "hours": "22:00-06:00",
        },
    ),
    "fleet join": ({"node": "n1", "address": "http://10.0.0.2:8101", "model": "chat"},),
}
"""Calls that need more than any values: what a command can say of them at once."""


EMPTY = (None, "", [], {}, False)


class Sent(Exception):
    """What a command asked a server."""


def asked_of(call: Call) -> list[msgspec.Struct]:
    """Return what a call may take, with every field that a command has filled in; and with only those that it must."""
    if (given := ONE_OF.get(f"{call.noun} {call.word}")) is not None:
        return [msgspec.convert(one, call.takes) for one in given]
    fields = [
        one
        for one in msgspec.structs.fields(call.takes)
        if not {PAGE, FILLED} & set(extra_of(one.type)) and one.name not in ("after", "limit")
    ]
    least = {one.name: value_of(one) for one in fields if one.required}
    most = {one.name: value_of(one) for one in fields if SWITCH not in extra_of(one.type)}
    return [msgspec.convert(one, call.takes) for one in (least, most)]


def value_of(one: Any) -> Any:
    bare, kind = bare_of(one.type), one.type
    if bare is bool:
        return one.default is not True
    if get_origin(bare) is Literal:
        return next(value for value in get_args(bare) if value != one.default)
    if bare is float and limits(kind, "lt", 99) <= 1:
        return 0.5
    if bare in (int, float):
        return bare(max(limits(kind, "ge", 0), 2) if limits(kind, "le", 99) >= 2 else 1)
    if get_origin(bare) in (list, tuple, frozenset):
        return [value_of_kind(get_args(bare)[0], at) for at in range(2)]
    if get_origin(bare) is dict:
        return {f"n{at}": value_of_kind(get_args(bare)[1], at) for at in range(2)}
    return "a b" if one.name in ("title", "why", "override", "comment") else "x1"


def value_of_kind(kind: Any, at: int) -> Any:
    bare = bare_of(kind)
    if get_origin(bare) is Literal:
        return get_args(bare)[at]
    return [2, 3][at] if int in (bare, *get_args(bare)) or bare is float else f"v{at}"


def limits(kind: Any, name: str, other: int) -> int:
    while hasattr(kind, "__metadata__"):
        for meta in kind.__metadata__:
            if getattr(meta, name, None) is not None:
                return int(getattr(meta, name))
        kind = get_args(kind)[0]
        if get_origin(kind) in (Union, UnionType):
            kind = next(one for one in get_args(kind) if one is not NoneType)
    return other


def pattern(call: Call) -> str:
    return ADMIN + re.sub(r"\{\w+\}", "[^/]+", call.path)


def sample_of(kind: Any) -> Any:
    """Return what an answer of a type may be, as a look-up before an act gets it."""
    bare = bare_of(kind)
    if inspect.isclass(bare) and issubclass(bare, msgspec.Struct):
        return {one.name: sample_of(one.type) for one in msgspec.structs.fields(bare) if one.required}
    if get_origin(bare) is Literal:
        return get_args(bare)[0]
    if get_origin(bare) in (list, tuple, frozenset):
        return []
    return {} if get_origin(bare) is dict else False if bare is bool else 1 if bare in (int, float) else "x1"


def as_sent(method: str, path: str, body: bytes | None) -> tuple[str, str, Any]:
    path, _, query = path.partition("?")
    pairs = [pair for pair in parse_qsl(query) if pair[0] not in ("limit", "after")]
    fields = json.loads(body) if body else dict(pairs)
    return method, path, {name: value for name, value in fields.items() if value not in EMPTY and name != "version"}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.noun} {call.word}")
def test_a_command_sends_what_its_form_sends(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[tuple[str, str, Any]] = []

    def ask_server(target: object, method: str, path: str, *, body: bytes | None = None) -> bytes:
        sent = as_sent(method, path, body)
        if not wanted or sent[:2] == wanted[0][:2]:
            raise Sent(sent)
        looked_up = next(one for one in CALLS if one.method == method and re.fullmatch(pattern(one), sent[1]))
        return msgspec.json.encode(sample_of(looked_up.gives))

    monkeypatch.setenv("ASHORE_API_KEY", "a key")
    monkeypatch.setattr("ashore.cli.target.ask_server", ask_server)
    monkeypatch.setattr("ashore.cli.target.find_target", lambda url, *, key=None: ServerTarget(url=url or ""))
    monkeypatch.setattr("ashore.cli.target.operator_target", lambda url, *, key=None: ServerTarget(url=url or ""))
    app, key = build_app(), f"{call.noun} {call.word}"
    if key in OTHERWISE:
        words = shlex.split(command_for(call, msgspec.convert({}, call.takes) if not required(call) else None))
        command, _, _ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
        assert command.__name__.strip("_").replace("_", "-") == call.word
        return
    for asked in asked_of(call):
        wanted.clear()
        with pytest.raises(Sent) as form:
            Server().send(call, asked)
        wanted.append(form.value.args[0])
        shown = command_for(call, asked)
        words = shlex.split(shown)[1:]
        words += ["--yes"] if "--yes" in options_of(app, words) else []
        words += ["--url", "http://ashore"] if call.at_home else []  # without it some read the home itself
        with pytest.raises(Sent) as command_line:
            app(words, exit_on_error=False, print_error=False, result_action="return_value")
        assert command_line.value.args[0] == wanted[0], shown


def required(call: Call) -> bool:
    return any(one.required for one in msgspec.structs.fields(call.takes))


def options_of(app: Any, words: list[str]) -> set[str]:
    for word in words:
        if word in app and not word.startswith("-"):
            app = app[word]
        else:
            break
    if app.default_command is None:
        return set()
    return {name for argument in app.assemble_argument_collection() for name in argument.names}


def test_what_has_no_command_that_sends_it_says_why() -> None:
    assert set(OTHERWISE) <= {f"{call.noun} {call.word}" for call in CALLS}
