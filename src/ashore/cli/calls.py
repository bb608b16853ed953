"""The command line of declared calls: options from what a call takes, help from its docstrings, answers as tables.

A noun is one `cyclopts.App` made by `noun_of`. A view is how people see an answer; without one it is a table.
"""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import quote, urlencode

import msgspec
from cyclopts import App, Parameter

from ashore.core import ADMIN, Call, field_docs, seconds_in, written_span
from ashore.core.decode import convert

S = TypeVar("S", bound=msgspec.Struct)
View = Callable[[Any], None]

POSITIONAL: Final = "positional"
"""Key of `msgspec.Meta(extra=...)` for a field that is an argument and no option."""
FLAG: Final = "flag"
"""Key for the name of the option, where it is not that of the field: `of-key`."""
SPAN: Final = "span"
"""Key for seconds that people write as 90s, 15m, 2h or 1d."""
FILLED: Final = "filled"
"""Key for a field that the command fills in, and that has no option."""
SEVERAL: Final = "several"
"""Key for a list whose option takes all words that follow: `--role a b`."""
FILE: Final = "file"
"""Key for a text that is the name of a file."""
PAGE: Final = "page"
"""Key for how many items a page has: the command line asks for all pages, each as long as may be."""


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
        from ashore.cli.target import ask_server, find_target

        if isinstance(call, Reworded):
            asked, call = asked if call.make is None else call.make(asked), call.of
        fields: dict[str, Any] = msgspec.to_builtins(asked)
        path = ADMIN + call.path
        for name in call.in_path:
            path = path.replace(f"{{{name}}}", quote(str(fields.pop(name)), safe=""))
        body = None
        if call.has_body:
            body = msgspec.json.encode(fields)
        elif given := {name: _in_query(value) for name, value in fields.items() if value not in (None, "")}:
            path += "?" + urlencode(given)
        return ask_server(find_target(self.url, key=self.key), call.method, path, body=body)

    def ask(self, call: Call, asked: msgspec.Struct) -> Any:
        """Return the answer to a call; every item where it comes in pages."""
        asked = msgspec.structs.replace(asked, **_longest_page(call.takes))
        answer: Any = msgspec.json.decode(self.send(call, asked), type=call.gives)
        while getattr(answer, "next", None) and hasattr(asked, "after"):
            asked = msgspec.structs.replace(asked, after=answer.next)
            more: Any = msgspec.json.decode(self.send(call, asked), type=call.gives)
            answer = msgspec.structs.replace(more, items=[*answer.items, *more.items])
        return answer


HERE: Final = Server()
Look = Callable[[Server, Any], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reworded(Call):
    """A call in words of the command line's own: `disable NAME` for a change with `disabled` set."""

    of: Call
    make: Callable[[Any], msgspec.Struct] | None = None
    """Turns what the command takes into what the call takes; None: they are the same."""
    look: Look | None = None

    @property
    def takes(self) -> type[msgspec.Struct]:
        """What the command takes: what `make` does."""
        if self.make is None:
            return self.of.takes
        hints: dict[str, type[msgspec.Struct]] = get_type_hints(self.make)
        return hints[next(iter(inspect.signature(self.make).parameters))]

    @property
    def gives(self) -> type[msgspec.Struct]:
        """The answer of the call."""
        return self.of.gives


def reworded(
    call: Call,
    word: str = "",
    make: Callable[[Any], msgspec.Struct] | None = None,
    *,
    sure: str = "",
    look: Look | None = None,
) -> Reworded:
    """Return a call in other words.

    Args:
        call: The call.
        word: Another verb; default: that of the call.
        make: Turns what the command takes into what the call takes. Its docstring is the help.
        sure: What is asked before anything is sent; default: what the call says.
        look: What `--dry-run` asks the server before it says what would be done. It raises where that cannot be, and
            what it returns is added.
    """
    return Reworded(
        call.noun, word or call.word, call.method, call.path, call.action, call.do, sure=sure or call.sure,
        help=inspect.getdoc(make) or "" if make else f"{call.summary}\n\n{call.details}", of=call, make=make, look=look,
    )  # fmt: skip


def _longest_page(takes: type[msgspec.Struct]) -> Mapping[str, int]:
    return {
        field.name: next(one.le for one in get_args(field.type)[1:] if getattr(one, "le", None))
        for field in msgspec.structs.fields(takes)
        if PAGE in _extra(field.type)
    }


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

    def command(*args: Any, server: Server = Server(), as_json: bool = False, **options: Any) -> None:
        yes, dry_run = (name in switches and options.pop(name, False) for name in ("yes", "dry_run"))
        names = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_ONLY]
        given = {**dict(zip(names, args, strict=False)), **options}
        kinds = {field.name: field.type for field in msgspec.structs.fields(call.takes)}
        asked = convert(
            {name: _plain(kinds[name], value) for name, value in given.items() if value is not None}, call.takes
        )
        if call.sure and not getattr(asked, "dry_run", False):
            from ashore.cli.sure import go_ahead

            what = call.sure.format(**msgspec.to_builtins(asked))
            if dry_run and isinstance(call, Reworded) and call.look is not None:
                what += call.look(server, asked)
            if not go_ahead(what, yes=yes, dry_run=dry_run, as_json=as_json):
                return
        if as_json:
            print(msgspec.json.encode(server.ask(call, asked)).decode())
        else:
            view(server.ask(call, asked))

    parameters, switches = _parameters(call), _switches(call)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = f"{call.summary}\n\n{call.details}" if call.details else call.summary
    command.__name__ = call.word.replace("-", "_")
    return command


UNSAID: Final = (msgspec.NODEFAULT, None, "", False, 0, ())
"""Defaults that the help does not print: the text of the field says what they mean."""


SWITCHES: Final = {
    "yes": "Do not ask. Needed where there is no terminal.",
    "dry_run": "Say what would be done, and do nothing.",
}


def _switches(call: Call) -> tuple[str, ...]:
    """Return the switches of a command that asks before it sends; a field of that name is the call's own."""
    return tuple(name for name in SWITCHES if call.sure and name not in call.takes.__struct_fields__)


def _parameters(call: Call) -> list[inspect.Parameter]:
    docs = field_docs(call.takes)
    found = []
    for field in msgspec.structs.fields(call.takes):
        if field.name == "after" and hasattr(call.gives, "next"):
            continue  # every page is fetched
        extra = _extra(field.type)
        if PAGE in extra or FILLED in extra:
            continue
        positional = field.name in call.in_path or extra.get(POSITIONAL, False)
        kind: Any = Path if FILE in extra else str if SPAN in extra else _option_type(field.type)
        help_text = docs.get(field.name, "")
        if field.default not in UNSAID:
            help_text += f" [default: {written_span(field.default) if SPAN in extra else field.default}]"
        parameter = Parameter(
            name=f"--{extra[FLAG]}" if FLAG in extra else None,
            help=help_text,
            negative=() if field.default is not True else None,
            consume_multiple=SEVERAL in extra,
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
    switch = Parameter(name="--json", negative=(), help="Print JSON.")
    found.append(_switch("as_json", switch))
    for name in _switches(call):
        found.append(_switch(name, Parameter(negative=(), help=SWITCHES[name])))
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


def _plain(kind: Any, value: Any) -> Any:
    if SPAN in _extra(kind):
        return seconds_in(value)
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value


# --- what people see


def show(answer: Any) -> None:
    """Print any answer: a list as a table, anything else as a line for each field that says something."""
    items = getattr(answer, "items", None)
    if isinstance(items, list):
        structs = bool(items) and isinstance(items[0], msgspec.Struct)
        print(table(items) if structs else "\n".join(map(str, items)) or "none")
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
