"""The command line of declared calls: options from what a call takes, help from its docstrings, answers as tables.

A noun is one `cyclopts.App` made by `noun_of`. A view is how people see an answer; without one it is a table.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import io
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import quote, urlencode

import msgspec
from cyclopts import App, Parameter

from ashore.cli.columns import in_a_cell, laid_out, say
from ashore.cli.recorded import owner
from ashore.cli.said import said
from ashore.core.errors import AshoreError, InvalidRequest, NotReady, RemoteRefused, SourceUnreachable
from ashore.core.foreign import foreign_errors
from ashore.core.timespan import human_moment, human_seconds, seconds_in, written_span
from ashore.core.visible import on_a_screen
from ashore.kit.call import ADMIN, Call, Download, field_docs, perform
from ashore.kit.consents import Consented
from ashore.kit.decode import convert
from ashore.kit.fieldmarks import (
    BARE,
    COMMAS,
    FILE,
    FILLED,
    FLAG,
    PAGE,
    POSITIONAL,
    READS,
    SEVERAL,
    SPAN,
    SWITCH,
    WORDS,
    bare_of,
    extra_of,
    scalar,
)
from ashore.kit.settings import read_settings

if TYPE_CHECKING:
    from ashore.cli.target import ServerTarget

SLOW_S: Final = 75.0
"""Longest wait for the answer to a slow call; the doctor of a server gives up after a minute."""
FILE_WAIT_S: Final = 900.0
"""Longest wait for the first byte of a file. The server makes the file first: an export of millions of records."""

_LIMIT_S: Final = re.compile(r"a whole number of at (most|least) (\d+)$")
"""The limit of a duration in seconds, as `convert` says it."""

S = TypeVar("S", bound=msgspec.Struct)
R = TypeVar("R")
View = Callable[[Any], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server that a command asks.

    Args:
        url: Address of the server; default: the server of this home.
        key: API key; default: ASHORE_API_KEY, or the home's first key.
    """

    url: str | None = None
    key: str | None = None

    def send(self, call: Call, asked: msgspec.Struct) -> bytes:
        """Send a call and return the body of the answer.

        Raises:
            AshoreError: the server refused, in its own words, or does not answer.
        """
        from ashore.cli.target import ask_server

        target, method, path, body = self._request(call, asked)
        return ask_server(target, method, path, body=body)

    def save(self, call: Call, asked: msgspec.Struct, into: BinaryIO) -> None:
        """Send a call whose answer is a file, and write that as it comes.

        Raises:
            AshoreError: as `send`; then a part may be written.
        """
        from ashore.cli.target import save_answer

        target, method, path, body = self._request(call, asked)
        save_answer(dataclasses.replace(target, wait_s=FILE_WAIT_S), method, path, into, body=body)

    def _request(self, call: Call, asked: msgspec.Struct) -> tuple[ServerTarget, str, str, bytes | None]:
        """Return whom a call goes to, with method, path and body."""
        from ashore.cli.target import find_target, operator_target

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
        target = (operator_target if call.operator else find_target)(self.url, key=self.key)
        if call.slow:
            target = dataclasses.replace(target, wait_s=SLOW_S)
        return target, call.method, path, body

    def ask(self, call: Call, asked: msgspec.Struct) -> Any:
        """Return the answer to a call; every item where it comes in pages.

        Raises:
            AshoreError: as `send`.
            RemoteRefused: the answer is none of ashore, or its pages never end.
        """
        asked = msgspec.structs.replace(asked, **_longest_page(call.takes))
        answer: Any = self._decoded(call, asked)
        seen: set[str] = set()
        while getattr(answer, "next", None) and hasattr(asked, "after"):
            if answer.next in seen:
                raise RemoteRefused(
                    f"{self.url or 'the server'} sends the page after {answer.next!r} again and again",
                    hint="check the address, and that both run the same version of ashore",
                )
            seen.add(answer.next)
            asked = msgspec.structs.replace(asked, after=answer.next)
            more: Any = self._decoded(call, asked)
            answer = msgspec.structs.replace(more, items=[*answer.items, *more.items])
        return answer

    def _decoded(self, call: Call, asked: msgspec.Struct) -> Any:
        body = self.send(call, asked)
        with foreign_errors(
            f"{self.url or 'the server'} answered with what is no answer of ashore",
            RemoteRefused,
            hint="check the address, and that both run the same version of ashore",
        ):
            return msgspec.json.decode(body, type=call.gives)


HERE: Final = Server()
AtHome = Callable[[], AbstractContextManager[object]]
"""Opens what does the calls of a room on the state of this home, for its owner."""


@dataclass(slots=True, kw_only=True)
class Errand:
    """One command under way: its call, whom it asks, and how it prints an answer."""

    call: Call
    server: Server
    view: View
    as_json: bool = False
    at_home: AtHome | None = None
    is_home: bool = False
    """Whether no server runs from this home, and its owner works on its state."""

    def ask(self, asked: msgspec.Struct, call: Call | None = None) -> Any:
        """Return the answer to the call of the command, or to another one. Where no server runs from this home, and the
        command works then, the owner of the home asks what the server would ask.

        Raises:
            AshoreError: it is refused, or no server answers.
        """
        call = call or self.call
        if not self.is_home:
            try:
                return self.server.ask(call, asked)
            except (SourceUnreachable, NotReady) as fault:
                if self.at_home is None or not self.call.at_home or not self._has_no_server(fault):
                    raise
            print(
                f"no server is running; working directly on the state in {read_settings().home.root}", file=sys.stderr
            )
            self.is_home = True
        assert self.at_home is not None
        with self.at_home() as desk:
            return asyncio.run(perform(call, desk, owner(), asked))

    def _has_no_server(self, fault: AshoreError) -> bool:
        """Return whether this home has a state, and no server: one that answers may say that it is not ready. Whoever
        gives a key asks with its rights, and not with those of the owner."""
        settings = read_settings()
        has_state = bool(settings.state_url) or settings.home.state_db.is_file()
        gone = isinstance(fault, SourceUnreachable) or not settings.home.topology.is_file()
        return self.server == HERE and has_state and gone

    def tell(self, answer: Any) -> None:
        """Print an answer."""
        if self.as_json:
            print(msgspec.json.encode(answer).decode(), flush=True)
        else:
            said = _Said()
            with contextlib.redirect_stdout(said):
                self.view(answer)
            text = said.getvalue()
            print(on_a_screen(text) if sys.stdout.isatty() else text, end="", flush=True)

    def ask_here_first(self, asked: msgspec.Struct) -> Any:
        """Return the answer of the home itself, which needs neither a server nor a key, unless --url names a server."""
        self.is_home = reads_home(self.server)
        return self.ask(asked)


class _Said(io.StringIO):
    """What a view prints. Tables fit the terminal that stdout is."""

    def __init__(self) -> None:
        super().__init__()
        self.isatty = sys.stdout.isatty  # type: ignore[method-assign]


def reads_home(server: Server, *, hint: str = "name the server with --url, or leave --key out") -> bool:
    """Return whether a command reads this home, because no --url names a server.

    Raises:
        InvalidRequest: a --key was given for that. ASHORE_API_KEY may be set for other commands, and gets a note.
    """
    if server.url:
        return False
    if server.key is not None:
        raise InvalidRequest("--key is the API key for a server, and without --url no server is asked", hint=hint)
    return True


def refuse_elsewhere(server: Server, given: Mapping[str, object]) -> None:
    """Return where a command goes to this home, or has no option that only this home knows.

    Raises:
        InvalidRequest: `--url` names a server, and an option in `given` was given.
    """
    for option, value in given.items():
        if server.url and value:
            raise InvalidRequest(
                f"{option} is about this home or machine, and --url names a server", hint="leave one of them out"
            )


Conduct = Callable[..., int | None]
"""`conduct(errand, asked, **own)`: how a command goes about its call, where it does more than ask and print. Its
keyword parameters are options of the command. It returns an exit code; None is 0."""


def _ask_and_tell(errand: Errand, asked: msgspec.Struct) -> None:
    if errand.call.gives is Download or getattr(asked, "format", "json") != "json":  # a file, as it comes
        sys.stdout.buffer.write(errand.server.send(errand.call, asked))
    else:
        errand.tell(errand.ask(asked))


def here_first(errand: Errand, asked: msgspec.Struct) -> None:
    """Print what the home itself says, unless --url names a server."""
    errand.tell(errand.ask_here_first(asked))


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
        call.noun, word or call.word, call.method, call.path, call.action, call.do, own=call.own, of=call, make=make,
        help=inspect.getdoc(make) or "" if make else f"{call.summary}\n\n{call.details}", sure=sure or call.sure,
        look=look,
    )  # fmt: skip


def _longest_page(takes: type[msgspec.Struct]) -> Mapping[str, int]:
    return {
        field.name: next(one.le for one in get_args(field.type)[1:] if getattr(one, "le", None))
        for field in msgspec.structs.fields(takes)
        if PAGE in extra_of(field.type)
    }


def _in_query(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def noun_of(
    name: str,
    help_text: str,
    calls: Iterable[Call],
    views: Mapping[str, View] | None = None,
    conducts: Mapping[str, Conduct] | None = None,
    at_home: AtHome | None = None,
) -> App:
    """Return the commands of one noun.

    Args:
        name: The noun, `access key`.
        help_text: Its help.
        calls: The calls of the room; those of other nouns are left out.
        views: By the word of the call.
        conducts: By the word of the call; default: ask and print.
        at_home: For the calls that can be done where no server runs.
    """
    app = App(name=name.rpartition(" ")[2], help=help_text)
    for call in calls:
        if call.noun == name:
            view = (views or {}).get(call.word, show)
            conduct = (conducts or {}).get(call.word, _ask_and_tell)
            app.command(command_of(call, view, conduct, at_home), name=call.word)
    return app


def command_of(
    call: Call, view: View, conduct: Conduct = _ask_and_tell, at_home: AtHome | None = None
) -> Callable[..., int | None]:
    """Return the function behind one command, with a signature that cyclopts reads."""
    own = [p for p in inspect.signature(conduct, eval_str=True).parameters.values() if p.kind is p.KEYWORD_ONLY]

    def command(*args: Any, server: Server = Server(), as_json: bool = False, **options: Any) -> int | None:
        yes, dry_run = (name in switches and options.pop(name, False) for name in ("yes", "dry_run"))
        owned = {p.name: options.pop(p.name) for p in own if p.name in options}
        asked = asked_of(call.takes, parameters, args, options)
        if call.sure and not getattr(asked, "dry_run", False):
            from ashore.cli.sure import go_ahead

            what = call.sure.format(**msgspec.to_builtins(asked))
            if dry_run and isinstance(call, Reworded) and call.look is not None:
                what += call.look(server, asked)
            if not go_ahead(what, yes=yes, dry_run=dry_run, as_json=as_json):
                return None
        return conduct(Errand(call=call, server=server, view=view, as_json=as_json, at_home=at_home), asked, **owned)

    parameters, switches = _parameters(call, own), _switches(call)
    help_text = f"{call.summary}\n\n{call.details}" if call.details else call.summary
    return signed(command, parameters, call.word, help_text)


def signed(
    command: Callable[..., R], parameters: list[inspect.Parameter], name: str, help_text: str
) -> Callable[..., R]:
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = help_text
    command.__name__ = name.replace("-", "_")
    return command


def asked_of(takes: type[S], parameters: list[inspect.Parameter], args: tuple[Any, ...], options: dict[str, Any]) -> S:
    """Return what was given on the command line as the struct that it fills."""
    names = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_ONLY]
    given = {**dict(zip(names, args, strict=False)), **options}
    types = {field.name: field.type for field in msgspec.structs.fields(takes)}
    values = {name: _plain(types[name], value) for name, value in given.items() if value is not None}
    try:
        return convert(values, takes)
    except InvalidRequest as fault:
        field = (fault.param or "").partition("[")[0].partition(".")[0]
        if field not in types or not fault.param or not fault.message.startswith(fault.param):
            raise
        said = _written_name(field, types[field], positional=field in names)
        reason = fault.message[len(fault.param) :]
        if SPAN in extra_of(types[field]):
            reason = _LIMIT_S.sub(lambda found: f"at {found[1]} {written_span(int(found[2]))}", reason)
        raise InvalidRequest(said + reason, hint=fault.hint, param=fault.param) from fault


def _written_name(field: str, kind: Any, *, positional: bool) -> str:
    """Return the name of an option or argument as people write it: `--share`, `NAME`."""
    extra = extra_of(kind)
    name = str(extra.get(FLAG) or extra.get(SWITCH) or field.replace("_", "-"))
    return name.upper() if positional else f"--{name}"


AS_JSON: Final = Parameter(name="--json", negative=(), help="Print JSON.")
UNSAID: Final = (msgspec.NODEFAULT, None, "", False, 0, ())
"""Defaults that the help does not print: the text of the field says what they mean."""


SWITCHES: Final = {
    "yes": "Do not ask for confirmation. Required without a terminal.",
    "dry_run": "Show what would be done, and change nothing.",
}


def _switches(call: Call) -> tuple[str, ...]:
    """Return the switches of a command that asks before it sends; a field of that name is the call's own."""
    return tuple(name for name in SWITCHES if call.sure and name not in call.takes.__struct_fields__)


def parameters_of(takes: type[msgspec.Struct], in_path: Iterable[str] = ()) -> list[inspect.Parameter]:
    docs = field_docs(takes)
    found = []
    for field in msgspec.structs.fields(takes):
        extra = extra_of(field.type)
        if PAGE in extra or FILLED in extra:
            continue
        positional = field.name in in_path or POSITIONAL in extra or WORDS in extra
        help_text = docs.get(field.name, "")
        if field.default not in UNSAID and SWITCH not in extra:
            default = written_span(field.default) if SPAN in extra else field.default
            help_text += f" [default: {default}]"
        flag = extra.get(FLAG) or extra.get(SWITCH) or ""
        parameter = Parameter(
            name=None if not flag else flag.upper() if positional else f"--{flag}",
            help=help_text,
            negative=None if field.default is True or (bare_of(field.type) is bool and field.default is None) else (),
            consume_multiple=SEVERAL in extra,
        )
        kind: Any = _option_type(field.type)
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


def _parameters(call: Call, own: Iterable[inspect.Parameter] = ()) -> list[inspect.Parameter]:
    found = parameters_of(call.takes, call.in_path)
    if hasattr(call.gives, "next"):  # every page is fetched
        found = [one for one in found if one.name != "after"]
    found += own
    found.append(switch("as_json", AS_JSON))
    for name in _switches(call):
        found.append(switch(name, Parameter(negative=(), help=SWITCHES[name])))
    server = Annotated[Server, Parameter(name="*")]
    found.append(inspect.Parameter("server", inspect.Parameter.KEYWORD_ONLY, default=Server(), annotation=server))
    return found


def switch(name: str, parameter: Parameter) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, parameter])


def _option_type(kind: Any) -> Any:
    """Return the type of an option: a map is given as NAME=VALUE, a list by repeating the option."""
    extra = extra_of(kind)
    if SPAN in extra or READS in extra:
        return str
    if FILE in extra:
        return Path
    if SWITCH in extra:
        return bool
    if COMMAS in extra or WORDS in extra:
        return tuple[str, ...]
    kind = bare_of(kind)
    if get_origin(kind) in (Union, UnionType):
        return _option_type(next(one for one in get_args(kind) if one is not NoneType))
    if get_origin(kind) in (list, tuple, frozenset):
        return tuple[_option_type(get_args(kind)[0]), ...]  # type: ignore[misc]
    if get_origin(kind) is dict:
        return tuple[str, ...]
    return kind


def _plain(kind: Any, value: Any) -> Any:
    """Return what was given for a field of a kind, as its struct takes it."""
    extra = extra_of(kind)
    if SPAN in extra:
        return seconds_in(value)
    if WORDS in extra:
        return " ".join(value)
    if READS in extra:
        return extra[READS](value)
    if SWITCH in extra:
        return extra[SWITCH]
    if not isinstance(value, tuple):
        return str(value) if isinstance(value, Path) else value
    bare = bare_of(kind)
    if get_origin(bare) is dict:
        of = get_args(bare)[1]
        return {name: scalar(text, of) for name, text in (_name_value(word, extra.get(BARE)) for word in value)}
    if COMMAS in extra:
        if bare is str:
            return ",".join(value)
        of = get_args(bare)[0]
        return [scalar(word.strip(), of) for words in value for word in words.split(",") if word.strip()]
    return list(value)


def _name_value(word: str, alone: str | None) -> tuple[str, str]:
    name, equals, text = word.partition("=")
    if not equals and alone is not None:
        return word, alone
    if not name or not text:
        raise InvalidRequest(f"{word!r} is not NAME=VALUE")
    return name, text


# --- what people see


def show_consent(done: Consented) -> None:
    """Print what was consented to, and for how long."""
    print(f"consented to {done.consented_to}, for {human_seconds(done.holds_for_s)}")


def show(answer: Any) -> None:
    """Print any answer: a list as a table, anything else as a line for each field that says something, and one for each
    part of a field that has several."""
    items = getattr(answer, "items", None)
    if isinstance(items, list | tuple):
        structs = bool(items) and isinstance(items[0], msgspec.Struct)
        print(table(items) if structs else "\n".join(map(str, items)) or "none")
        return
    facts = {name: value for name, value in msgspec.to_builtins(answer).items() if value not in (None, "", {}, [], ())}
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        several = isinstance(value, list | tuple) and isinstance(value[0], dict)
        for at, part in enumerate(value if several else (value,)):
            text = cell(name, part) if isinstance(part, str) else in_a_cell(cell(name, part))
            say(text, first=f"{(name if not at else '').ljust(width)}  ")


def table(items: Sequence[Any], columns: Iterable[str] = ()) -> str:
    """Return rows of structs as a table with a heading; default columns: every field."""
    rows = [msgspec.to_builtins(one) for one in items]
    heads = list(columns) or list(rows[0])
    return laid_out(heads, ([cell(head, row[head]) for head in heads] for row in rows))


def cell(name: str, value: Any) -> str:
    """Return one value for people."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and name.endswith(("_at", "_at_s", "began_s")):
        return human_moment(value) if value else "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {cell(key, one)}" for key, one in value.items() if one not in (None, "", {}, [], ()))
    if isinstance(value, list | tuple):
        return ", ".join(cell(name, one) for one in value)
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"
    if isinstance(value, int) and name not in ("sequence", "trusts", "version"):
        return f"{value:,}"
    text = said(value) if isinstance(value, str) and " " in value else str(value)
    return on_a_screen(text)  # another machine may have sent it
