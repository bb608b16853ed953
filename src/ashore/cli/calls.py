"""The command line of declared calls: options from what a call takes, help from its docstrings, answers as tables.

A noun is one `cyclopts.App` made by `noun_of`. A view is how people see an answer; without one it is a table.
"""

from __future__ import annotations

import datetime
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin
from urllib.parse import quote, urlencode

import msgspec
from cyclopts import App, Parameter

from ashore.core import ADMIN, Call, field_docs
from ashore.core.decode import convert

S = TypeVar("S", bound=msgspec.Struct)
R = TypeVar("R")
View = Callable[[Any], None]

POSITIONAL: Final = "positional"
"""Key of `msgspec.Meta(extra=...)` for a field that is an argument and no option."""
FLAG: Final = "flag"
"""Key for the name of the option, where it is not that of the field: `of-key`."""
WORDS: Final = "words"
"""Key for a text that is all the arguments that are left, with spaces between."""
READS: Final = "reads"
"""Key for the function that reads the text of an option, where people write a value differently from JSON."""
SWITCH: Final = "switch"
"""Key for the one value that an option without a value stands for: `csv`, given as `--csv`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server that a command asks.

    Args:
        url: Address of the server; default: the one that runs from this home.
        key: API key; default: ASHORE_API_KEY, or the home's first key.
    """

    url: str | None = None
    key: str | None = None

    def send(self, call: Call, asked: msgspec.Struct) -> bytes:
        """Send a call and return the body of the answer.

        Raises:
            AshoreError: the server refused, in its own words, or does not answer.
        """
        from ashore.cli.target import ask_server, find_target, operator_target

        fields: dict[str, Any] = msgspec.to_builtins(asked)
        path = ADMIN + call.path
        for name in call.in_path:
            path = path.replace(f"{{{name}}}", quote(str(fields.pop(name)), safe=""))
        body = None
        if call.has_body:
            body = msgspec.json.encode(fields)
        elif given := {name: _in_query(value) for name, value in fields.items() if value not in (None, "")}:
            path += "?" + urlencode(given)
        find = operator_target if call.operator else find_target
        return ask_server(find(self.url, key=self.key), call.method, path, body=body)

    def ask(self, call: Call, asked: msgspec.Struct) -> Any:
        """Return the answer to a call; every item where it comes in pages."""
        answer: Any = msgspec.json.decode(self.send(call, asked), type=call.gives)
        while getattr(answer, "next", None) and hasattr(asked, "after"):
            asked = msgspec.structs.replace(asked, after=answer.next)
            more: Any = msgspec.json.decode(self.send(call, asked), type=call.gives)
            answer = msgspec.structs.replace(more, items=[*answer.items, *more.items])
        return answer


HERE: Final = Server()


def _in_query(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def noun_of(name: str, help_text: str, calls: Iterable[Call], views: Mapping[str, View] | None = None) -> App:
    """Return the commands of one noun. `views`: by the word of the call."""
    app = App(name=name.rpartition(" ")[2], help=help_text)
    for call in calls:
        if call.noun == name:
            app.command(command_of(call, (views or {}).get(call.word, show)), name=call.word)
    return app


def command_of(call: Call, view: View) -> Callable[..., None]:
    """Return the function behind one command, with a signature that cyclopts reads."""

    def command(
        *args: Any, server: Server = Server(), as_json: bool = False, yes: bool = False, **options: Any
    ) -> None:
        asked = _asked(call.takes, parameters, args, options)
        if call.sure:
            from ashore.cli.sure import go_ahead

            go_ahead(call.sure.format(**msgspec.to_builtins(asked)), yes=yes)
        if getattr(asked, "format", "json") != "json":  # a file, as it comes
            sys.stdout.buffer.write(server.send(call, asked))
        elif as_json:
            print(msgspec.json.encode(server.ask(call, asked)).decode())
        else:
            view(server.ask(call, asked))

    parameters = _parameters(call)
    return _signed(
        command, parameters, call.word, f"{call.summary}\n\n{call.details}" if call.details else call.summary
    )


def taking(takes: type[S]) -> Callable[[Callable[[S, bool], R]], Callable[..., R]]:
    """Give a function of what a struct holds, and of whether to print JSON, the options of the struct: for commands
    that work in the home itself, and ask no server."""

    def wrap(run: Callable[[S, bool], R]) -> Callable[..., R]:
        def command(*args: Any, as_json: bool = False, **options: Any) -> R:
            return run(_asked(takes, parameters, args, options), as_json)

        parameters = [*_parameters_of(takes), _switch("as_json", AS_JSON)]
        return _signed(command, parameters, run.__name__, run.__doc__ or "")

    return wrap


def _signed(
    command: Callable[..., R], parameters: list[inspect.Parameter], name: str, help_text: str
) -> Callable[..., R]:
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = help_text
    command.__name__ = name.replace("-", "_")
    return command


def _asked(takes: type[S], parameters: list[inspect.Parameter], args: tuple[Any, ...], options: dict[str, Any]) -> S:
    """Return what was given on the command line as the struct that it fills."""
    names = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_ONLY]
    given = {**dict(zip(names, args, strict=False)), **options}
    extras = {field.name: _extra(field.type) for field in msgspec.structs.fields(takes)}
    return convert({name: _plain(extras[name], value) for name, value in given.items() if value is not None}, takes)


AS_JSON: Final = Parameter(name="--json", negative=(), help="Print JSON.")
UNSAID: Final = (msgspec.NODEFAULT, None, "", False, 0, ())
"""Defaults that the help does not print: the text of the field says what they mean."""


def _parameters_of(takes: type[msgspec.Struct], in_path: Iterable[str] = ()) -> list[inspect.Parameter]:
    docs = field_docs(takes)
    found = []
    for field in msgspec.structs.fields(takes):
        extra = _extra(field.type)
        positional = field.name in in_path or POSITIONAL in extra or WORDS in extra
        kind: Any = _option_type(field.type)
        if READS in extra:
            kind = str
        elif SWITCH in extra:
            kind = bool
        elif WORDS in extra:
            kind = tuple[str, ...]
        help_text = docs.get(field.name, "")
        if field.default not in UNSAID and SWITCH not in extra:
            help_text += f" [default: {field.default}]"
        parameter = Parameter(
            name=f"--{flag}" if (flag := extra.get(FLAG) or extra.get(SWITCH)) else None,
            help=help_text,
            negative=() if field.default is not True else None,
            consume_multiple=False,
        )
        found.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.POSITIONAL_ONLY if positional else inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.required else None,
                annotation=Annotated[kind if field.required else Union[kind, None], parameter],  # noqa: UP007 - a value
            )
        )
    found.sort(key=lambda p: (p.kind, p.kind == p.POSITIONAL_ONLY and p.default is not p.empty))
    return found


def _parameters(call: Call) -> list[inspect.Parameter]:
    found = _parameters_of(call.takes, call.in_path)
    if hasattr(call.gives, "next"):  # every page is fetched
        found = [one for one in found if one.name != "after"]
    found.append(_switch("as_json", AS_JSON))
    if call.sure:
        found.append(_switch("yes", Parameter(negative=(), help="Do not ask whether it is meant.")))
    server = Annotated[Server, Parameter(name="*")]
    found.append(inspect.Parameter("server", inspect.Parameter.KEYWORD_ONLY, default=Server(), annotation=server))
    return found


def _switch(name: str, parameter: Parameter) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, parameter])


def _extra(kind: Any) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    if get_origin(kind) is Annotated:
        for one in get_args(kind)[1:]:
            found |= getattr(one, "extra", None) or {}
    return found


def _option_type(kind: Any) -> Any:
    """Return the type of an option: a map is given as NAME=VALUE, a list by repeating the option."""
    if get_origin(kind) is Annotated:
        return _option_type(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return _option_type(next(one for one in get_args(kind) if one is not NoneType))
    if get_origin(kind) in (list, tuple, frozenset):
        return tuple[_option_type(get_args(kind)[0]), ...]  # type: ignore[misc]
    if get_origin(kind) is dict:
        return tuple[str, ...]
    return kind


def _plain(extra: Mapping[str, Any], value: Any) -> Any:
    if WORDS in extra:
        return " ".join(value)
    if READS in extra:
        return extra[READS](value)
    if SWITCH in extra:
        return extra[SWITCH]
    return list(value) if isinstance(value, tuple) else value


# --- what people see


def show(answer: Any) -> None:
    """Print any answer: a list as a table, anything else as a line for each field that says something."""
    items = getattr(answer, "items", None)
    if isinstance(items, list):
        print(table(items) if items else "none")
        return
    facts = {name: value for name, value in msgspec.to_builtins(answer).items() if value not in (None, "", {}, [])}
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        print(f"{name.ljust(width)}  {cell(name, value)}")


def table(items: list[Any], columns: Iterable[str] = ()) -> str:
    """Return rows of structs as a table with a heading; default columns: every field."""
    rows = [msgspec.to_builtins(one) for one in items]
    heads = list(columns) or list(rows[0])
    cells = [heads, *([cell(head, row[head]) for head in heads] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(heads))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def cell(name: str, value: Any) -> str:
    """Return one value for people."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith(("_at", "_at_s")):
        return datetime.datetime.fromtimestamp(value, datetime.UTC).strftime("%Y-%m-%d %H:%MZ")
    if isinstance(value, dict):
        return ", ".join(f"{key} {cell(key, one)}" for key, one in value.items() if one not in (None, ""))
    if isinstance(value, list):
        return ", ".join(cell(name, one) for one in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
