"""One administrative act, declared once: HTTP, OpenAPI, the command line and the reference are derived from it.

A room lists its calls in `ROOM/calls.py`. Parameters and result of a call are the annotations of its function; the help
is that function's docstring and those of the fields.

What a call takes and gives is a struct. Two of them need not be written. A call that takes one value has it as its
third parameter, whose type has the help: `Meta(description=...)`. A call that only lists things returns the list, which
is sent as `{"items": [...]}`.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    Protocol,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from ashore.core.principal import Principal
from ashore.kit.recorder import Act, ActOutcome, Recorder

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
ADMIN: Final = "/admin/v1"
CONTROL_PATHS: Final = (
    "/admin",
    "/console",
    "/v1/feedback",
    "/api/public",
    "/site/v1",
    "/scim/v2",
    "/docs",
    "/openapi.json",
)
"""What the control process answers, and everything below it: the edge sends it there, or a worker passes it on."""
CLIENT: Final = "x-ashore-internal-client"
"""Header with the SHA-256 of the certificate that a client showed to the edge, which removes what a client claims."""
SETTLE_S: Final = 5.0
"""Longest wait for the record of a change."""
EVENT_STREAM: Final = "text/event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The acting principal, with origin and request."""

    principal: Principal
    origin: str = ""
    request_id: str = ""

    def record(
        self,
        recorder: Recorder,
        action: str,
        resource: str,
        *,
        outcome: ActOutcome = "done",
        reason: str = "",
        detail: Mapping[str, str | int] | None = None,
        on: Any = None,
    ) -> None:
        """Audit an act of this actor; `on` is its transaction (see `Recorder.record`)."""
        recorder.record(
            Act(
                action=action,
                actor=self.principal.id,
                tenant=self.principal.tenant,
                resource=resource,
                outcome=outcome,
                reason=reason,
                origin=self.origin,
                request_id=self.request_id,
                detail=detail or {},
            ),
            on=on,
        )


class Verdict(Protocol):
    """The authority's answer to one check."""

    @property
    def allowed(self) -> bool: ...
    @property
    def rule(self) -> str: ...


class Rights(Protocol):
    """Decides what a principal may do; the access room's `Authority` is one. No I/O, thread-safe."""

    def decide(self, principal: Principal, action: str, resource: str) -> Verdict:
        """Return the verdict on one resource, `kind/name`."""
        ...

    def holds(self, principal: Principal, action: str) -> bool:
        """Return whether the principal may do the action on any resource at all."""
        ...

    def require(self, principal: Principal, action: str, resource: str) -> None:
        """Check that it is allowed.

        Raises:
            PermissionDenied: it is not.
        """
        ...


class Nothing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a call takes that needs nothing."""


class Items(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What a call gives that returns a list."""

    items: list[T]


class Download(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is a file and not JSON."""

    content: Any
    """Bytes; a file, which is sent in pieces from where it stands, and closed; or an asynchronous iterator, whose
    pieces are sent as they come, for as long as the caller listens and may."""
    content_type: str
    file_name: str


@dataclass(frozen=True, slots=True)
class Call:
    """One act of administration."""

    noun: str
    """On the command line, `job` or `access key`; also the tag in the OpenAPI document."""
    word: str
    """The verb on the command line, `list`."""
    method: Method
    path: str
    """Below `/admin/v1`. Each `{name}` is a field of what the call takes."""
    action: str
    """What the caller must be allowed to do, on something; `do` asks on what. Empty: every caller with a key."""
    do: Callable[..., Any]
    """`do(desk, actor, asked)`, where `desk` is what the room opened. A plain function runs on a thread; a coroutine
    function runs in the loop. Its annotations say what the call takes and gives, its docstring is the help."""
    own: str = ""
    """An action that lets a caller in as well, for what is their own: `key:create-own`. `do` asks which it is."""
    on_server: bool = False
    """Whether the action is asked on the server as a whole before `do` runs, which then asks nothing."""
    operator: bool = False
    """Whether this machine may ask without a key, as it may for `/metrics`; `do` decides what it sees. Its action is
    `metrics:read`."""
    by_query: bool = False
    """Whether the fields travel as a query although the method has a body."""
    content_type: str = "application/json"
    """Of the answer, where it is always a `Download`."""
    sure: str = ""
    """What the command line asks about before it sends anything: `destroy the keys of {person}`. Empty: nothing."""
    at_home: bool = False
    """Whether its command works on the state of the home where no server runs from there."""
    reads_text: bool = False
    """Whether everybody may have it read a long text: their own, or the audit log. A server then does it where prompts
    are read, in the line of the caller's tenant, and not on the threads that everything else shares."""
    slow: bool = False
    """Whether its answer may take a minute; a command waits that long, and few run at a time (`perform`)."""
    help: str = ""
    """In place of the docstring of `do`, where one function serves several nouns (`partial(do, kind=...)`)."""

    @property
    def takes(self) -> type[msgspec.Struct]:
        """The request struct."""
        return _signature(self.do)[0]

    @property
    def gives(self) -> type[msgspec.Struct]:
        """The response struct; a call that may also return a `Download` names both, or `Download` alone."""
        return _signature(self.do)[1]

    @property
    def summary(self) -> str:
        """First paragraph of the help, on one line."""
        return " ".join((self.help or _help(self.do)).partition("\n\n")[0].split())

    @property
    def details(self) -> str:
        """The other paragraphs of the help."""
        return (self.help or _help(self.do)).partition("\n\n")[2]

    @property
    def act(self) -> str:
        """Its name in the audit log, where its room records it by noun and verb: `key:create`."""
        return f"{self.noun.rpartition(' ')[2]}:{self.word}"

    @property
    def in_path(self) -> tuple[str, ...]:
        """Fields in the path."""
        return tuple(part.partition("}")[0] for part in self.path.split("{")[1:])

    @property
    def has_body(self) -> bool:
        """Whether the fields outside the path are sent as a JSON body, not as a query."""
        return self.method in ("POST", "PUT", "PATCH") and not self.by_query

    @property
    def streams(self) -> bool:
        """Whether its answer continues for as long as the caller listens."""
        return self.content_type == EVENT_STREAM

    @property
    def changes(self) -> bool:
        """Whether it may change something."""
        return self.method != "GET"


@cache
def _signature(do: Callable[..., Any]) -> tuple[type[msgspec.Struct], type[msgspec.Struct]]:
    do = do.func if isinstance(do, partial) else do
    asked = list(inspect.signature(do).parameters.values())[2]
    hints = get_type_hints(_Annotated(do, (asked.name, "return")), include_extras=True)
    taken, given = hints[asked.name], hints["return"]
    if not (isinstance(taken, type) and issubclass(taken, msgspec.Struct)):
        taken = _one_value(do.__module__, asked.name, taken, asked.default is asked.empty, asked.default)
    parts = get_args(given) if isinstance(given, UnionType) else (given,)
    gives = next((one for one in parts if one is not Download), Download)
    return taken, _items(*get_args(gives)) if get_origin(gives) is list else gives


class _OneValue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a call takes that takes one value, and no struct of its own."""


@cache
def _one_value(module: str, name: str, kind: Any, required: bool, default: Any) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        f"One{name.capitalize()}",
        [(name, kind) if required else (name, kind, default)],
        bases=(_OneValue,),
        module=module,
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )


@cache
def _items(kind: Any) -> type[msgspec.Struct]:
    fields = [("items", list[kind])]
    return msgspec.defstruct(
        f"{kind.__name__}List", fields, bases=(Items,), module=kind.__module__, frozen=True, kw_only=True
    )


class _Annotated:
    """The annotations of a function that a face needs. The type of its desk may be known to the type checker alone."""

    def __init__(self, do: Callable[..., Any], names: tuple[str, ...]) -> None:
        self.__annotations__ = {name: do.__annotations__[name] for name in names}
        self.__globals__ = inspect.unwrap(do).__globals__


def _help(do: Callable[..., Any]) -> str:
    text = inspect.getdoc(do) or ""
    return text.partition("\n\nRaises:")[0].strip()


@cache
def struct_fields(struct: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Return the fields of a struct; msgspec evaluates its annotations anew at each question."""
    return msgspec.structs.fields(struct)


@cache
def field_docs(struct: type[msgspec.Struct]) -> Mapping[str, str]:
    """Return the docstring of each field of a struct, on one line, by the field's name."""
    found: dict[str, str] = {}
    if issubclass(struct, _OneValue):
        (field,) = msgspec.structs.fields(struct)
        return {field.name: next((one.description for one in field.type.__metadata__ if one.description), "")}
    for base in reversed(struct.__mro__):
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            found |= docs_under(base)
    return found


@cache
def absences(struct: type[msgspec.Struct]) -> Mapping[str, str]:
    """Return the meaning of a missing value, by field: the word of `Meta(extra={"absent": "all"})` in its type.
    Without one it just means no value. The console translates each of these words, below `absent`."""
    found = {}
    for field in msgspec.structs.fields(struct):
        for meta in get_args(field.type)[1:] if get_origin(field.type) is Annotated else ():
            if isinstance(meta, msgspec.Meta) and meta.extra and "absent" in meta.extra:
                found[field.name] = str(meta.extra["absent"])
    return found


@cache
def docs_under(struct: type) -> Mapping[str, str]:
    """Return the docstring of each field that a class itself declares, on one line, by the field's name."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(struct))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, doc in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(doc, ast.Expr)
            and isinstance(doc.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(doc.value.value).split())
    return found


def call_named(word: str, calls: Iterable[Call]) -> Call:
    """Return the call of a room with this verb; the first, if several nouns have it."""
    return next(call for call in calls if call.word == word)


def in_loop(call: Call) -> bool:
    """Return whether `do` is a coroutine function, to be awaited in the loop."""
    return inspect.iscoroutinefunction(call.do)


class Aside(Protocol):
    """Runs work that reads a long text without blocking other requests."""

    async def __call__(self, principal: Principal, work: Callable[[], Any], /) -> Any:
        """Run `work` for a principal on a thread, and return its result."""
        ...


def is_for_control(path: str) -> bool:
    """Return whether the control process answers a path."""
    return any(path == one or path.startswith(f"{one}/") for one in CONTROL_PATHS)


async def perform(
    call: Call,
    desk: object,
    actor: Actor,
    asked: msgspec.Struct,
    *,
    aside: Aside | None = None,
    recorder: Recorder | None = None,
    settle: Callable[[], Awaitable[None]] | None = None,
    slow: asyncio.Semaphore | None = None,
) -> Any:
    """Run a call, on a thread unless it is a coroutine function. A change is in force and audited when this returns.

    Args:
        call: The call.
        desk: Desk of its room.
        actor: The acting principal.
        asked: Its request.
        aside: Runs calls that read a long text; None: on a thread like any other.
        recorder: Makes the audit record of a change durable before this returns; None: the caller does.
        settle: Returns when every process goes by a change; None: no other process does.
        slow: How many slow calls may have a thread at a time, so that quick ones find one; None: any number.

    Raises:
        AuditUnavailable: nothing can be audited, so nothing was done; or the record is not on disk yet.
    """
    import asyncio

    if call.changes and recorder is not None:
        recorder.check_acts()

    if isinstance(asked, _OneValue):
        (asked,) = msgspec.structs.astuple(asked)
    if in_loop(call):
        awaited: Awaitable[Any] = call.do(desk, actor, asked)
        answer = await awaited
    elif call.reads_text and aside is not None:
        answer = await aside(actor.principal, partial(call.do, desk, actor, asked))
    else:
        async with slow if call.slow and slow is not None else nullcontext():
            answer = await asyncio.to_thread(call.do, desk, actor, asked)
    if call.changes and settle is not None:
        await settle()
    if call.changes and recorder is not None:
        await asyncio.to_thread(recorder.settle, SETTLE_S)
    return call.gives(items=answer) if isinstance(answer, list) else answer
