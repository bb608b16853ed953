"""Unknown fields of a request: ignored, reported or refused.

A body that fits its type is decoded in one step. Any other is checked against the list of its route: fields that
identify a client and change no answer are dropped and reported; fields that would change the answer are refused;
unknown ones follow `[http] unknown_fields`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec
from msgspec import inspect

from ashore.core.errors import InvalidRequest, UnknownField
from ashore.core.nearest import did_you_mean
from ashore.data.authority import Principal
from ashore.data.http.exchange import Exchange
from ashore.data.path import UnknownFields
from ashore.kit.decode import MAX_NAME_CHARS, UNDECODABLE, check_parts, convert, decode, without_texts

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp
    from ashore.data.http.face import Face

T = TypeVar("T", bound=msgspec.Struct)
R = TypeVar("R")
Json = dict[str, Any]

REPORT_ALL: Final = convert(dict.fromkeys(UnknownFields.__struct_fields__, "report"), UnknownFields)
SHORT_BYTES: Final = 64 << 10
"""A longer body is read on a thread: no other request waits until it is."""
VALUE_BYTES: Final = 100
"""Memory of one value of a body once it is read, on average; `"ab",` takes 64, an entry of an object 130."""
MOST_OBJECTS: Final = 50_000
"""Objects of a body that are looked at one by one; one with more must fit its type at once."""
MOST_LEFT_OUT: Final = 64
"""Fields that a request may have beside what its route knows, each path once. The audit log has all of them; clients
send a dozen."""


class Said:
    """The fields dropped from one body, each path once, and how much of it was inspected."""

    def __init__(self) -> None:
        self._paths: dict[str, None] = {}
        self._objects = 0

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self._paths)

    def append(self, path: str) -> None:
        """Add a field.

        Raises:
            InvalidRequest: there are too many of them.
        """
        self._paths[path[:MAX_NAME_CHARS]] = None
        self.check(len(self._paths))

    def extend(self, paths: Iterable[str]) -> None:
        """Add several fields."""
        for path in paths:
            self.append(path)

    @staticmethod
    def check(num_fields: int) -> None:
        """Check that this many fields may be dropped.

        Raises:
            InvalidRequest: they may not.
        """
        if num_fields > MOST_LEFT_OUT:
            raise InvalidRequest(
                f"the body has more than {MOST_LEFT_OUT} unknown fields",
                hint="send only the fields listed in /openapi.json",
            )

    def count_object(self) -> None:
        """Count an object, or another part of the body that is inspected by itself.

        Raises:
            InvalidRequest: there are too many of them.
        """
        self._objects += 1
        if self._objects > MOST_OBJECTS:
            raise InvalidRequest(
                f"the body has unknown fields and more than {MOST_OBJECTS:,} objects, too many to check",
                hint="send only the fields listed in /openapi.json",
            )


def _bytes_of_values(body: bytes) -> int:
    """Return the memory that the values of a body take beside its bytes; 0 if that is little.

    Raises:
        InvalidRequest: they are too many.
    """
    check_parts(body)
    num_bytes = without_texts(body).count(b",") * VALUE_BYTES
    return num_bytes if num_bytes > len(body) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a route does with fields that its type lacks. A path has `[]` for every place of a list; `*.name` is
    anywhere."""

    name: str
    """Key in `[http.unknown_fields]`."""
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Fields that change no answer, and who sends them."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Fields that would change the answer and are not supported here, with the alternative."""
    adapt: Callable[[Json, Said], None] = lambda body, said: None
    """Converts other servers' forms, and reports dropped fields."""
    is_loose: Callable[[Any], bool] = lambda request: False
    """Whether a request has parts that its type does not describe, so that `adapt` must see them in any case."""


async def plain_body(app: Face, exchange: Exchange, principal: Principal, decoder: msgspec.json.Decoder[T]) -> T:
    """Return the body of a request as the decoder's type; an empty one as an object without fields. A long one is read
    on a thread.

    Raises:
        As `decode` does, and as `Exchange.body`.
    """
    body = await exchange.body(app.limits) or b"{}"
    return await app.path.at_length(len(body), lambda: decode(body, decoder), principal)


class Reader(Generic[T]):
    """Reads the bodies of one route."""

    def __init__(self, kind: type[T], dialect: Dialect) -> None:
        self._kind = kind
        self._dialect = dialect
        self._decoder = msgspec.json.Decoder(kind)

    async def body_of(self, app: HttpApp, exchange: Exchange, principal: Principal) -> T:
        """Return the body of a request. Dropped fields are stored in `exchange.ignored` and counted.

        A body that does not fit is inspected object by object: a long one on a thread, as long prompts are read.

        Raises:
            As `read` does, and as `Exchange.body`.
        """
        return (await self.made_of(app, exchange, principal, lambda request: None))[0]

    async def made_of(
        self, app: HttpApp, exchange: Exchange, principal: Principal, make: Callable[[T], R]
    ) -> tuple[T, R]:
        """Return the body of a request as `body_of` does, and the result of `make` on it: both on a thread if the
        body is long."""
        body = await exchange.body(app.limits)
        if len(body) <= SHORT_BYTES and (request := self._fitting(body)) is not None:
            return request, make(request)

        if len(body) > SHORT_BYTES and body.count(b",") * VALUE_BYTES > len(body):
            num_bytes = await app.serving.at_length(len(body), lambda: _bytes_of_values(body), principal)
            exchange.hold.grow_read(num_bytes)

        def work() -> tuple[T, R]:
            fitting = self._fitting(body) if len(body) > SHORT_BYTES else None
            found, exchange.ignored = self.read(body, app.limits.unknown_fields) if fitting is None else (fitting, ())
            return found, make(found)

        read = await app.serving.at_length(len(body), work, principal)
        for path in exchange.ignored:
            app.metrics.add("ashore_ignored_fields", 1, exchange.route, _key_of(self._dialect.ignored, path) or "other")
        return read

    def _fitting(self, body: bytes) -> T | None:
        """Return the body if it fits the type of the route directly; None: it must be inspected.

        Raises:
            InvalidRequest: it has too many parts.
        """
        check_parts(body)
        try:
            request = self._decoder.decode(body)
        except UNDECODABLE:
            return None
        return None if self._dialect.is_loose(request) else request

    def read(self, body: bytes, unknown: UnknownFields) -> tuple[T, tuple[str, ...]]:
        """Return `body` as the type of the route, and the paths of dropped fields.

        Raises:
            UnknownField: it has a field that is neither known nor to be ignored.
            InvalidRequest: it is not JSON, or a value has the wrong type, is out of range, or is not supported.
        """
        try:
            given = msgspec.json.decode(body)
        except UNDECODABLE:
            given = None
        if not isinstance(given, dict):
            return decode(body, self._decoder), ()  # raises with the reason
        said = Said()
        self._dialect.adapt(given, said)
        for left in taken_out(given, self._kind, said):
            self._judge(left, unknown)
            said.append(left.path)
        return convert(given, self._kind), said.paths

    def again(self, body: bytes) -> T:
        """Return a body that was accepted before, whatever the current rule for unknown fields."""
        return self.read(body, REPORT_ALL)[0]

    def _judge(self, left: LeftOut, unknown: UnknownFields) -> None:
        shown, name = left.where[-MAX_NAME_CHARS:], left.path.rpartition(".")[2][:MAX_NAME_CHARS]
        if (key := _key_of(self._dialect.refused, left.path)) is not None:
            raise UnknownField(f"the field {shown!r} is not supported", hint=self._dialect.refused[key], param=shown)
        if _key_of(self._dialect.ignored, left.path) is None and getattr(unknown, self._dialect.name) == "refuse":
            raise UnknownField(f"unknown field {shown!r}", hint=did_you_mean(name, left.known), param=shown)


def _key_of(table: Mapping[str, str], path: str) -> str | None:
    """Return the key of a table that matches a path, None if there is none."""
    anywhere = "*." + path.rpartition(".")[2]
    return path if path in table else anywhere if anywhere in table else None


def _step(name: str) -> str:
    """Return a name as a step of a path: quoted if it could be taken for several."""
    return json.dumps(name, ensure_ascii=False) if any(char in name for char in '.[]*"') else name


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A field that a type does not have."""

    path: str
    """With `[]` for every place of a list."""
    where: str
    """The same with the places themselves."""
    known: frozenset[str]
    """The other known names."""


def taken_out(value: Json, kind: type[msgspec.Struct], said: Said, path: str = "") -> list[LeftOut]:
    """Remove from plain values what a type does not have: unknown fields, and null where null is not a value.

    Returns:
        The non-empty fields that the type lacks; each path once.

    Raises:
        InvalidRequest: they are too many, or there is too much to inspect, together with what is in `said`.
    """
    fitted = _Fitted(said)
    fitted.fit(value, inspect_type(kind), path, path)
    return list(fitted.left.values())


class _Fitted:
    def __init__(self, said: Said) -> None:
        self.left: dict[str, LeftOut] = {}
        self._said = said

    def fit(self, value: Any, kind: inspect.Type, path: str, where: str) -> None:
        if isinstance(value, list):
            for part in _parts(kind):
                if isinstance(part, inspect.ListType):
                    for number, one in enumerate(value):
                        self.fit(one, part.item_type, f"{path}[]", f"{where}[{number}]")
                    return
        elif isinstance(value, dict) and (struct := _struct_for(value, kind)) is not None:
            self._fit_struct(value, struct, path, where)

    def _fit_struct(self, value: Json, kind: inspect.StructType, path: str, where: str) -> None:
        self._said.count_object()
        fields = _fields(kind.cls)
        for name in list(value):
            step = name if name in fields else _step(name)
            at, here = (f"{so_far}.{step}" if so_far else step for so_far in (path, where))
            if name not in fields:
                if name != kind.tag_field and value.pop(name) is not None and at not in self.left:
                    self.left[at] = LeftOut(at, here, _names(kind.cls))
                    self._said.check(len(self.left))
            elif value[name] is None and not fields[name].required and not _takes_none(fields[name].type):
                del value[name]
            else:
                self.fit(value[name], fields[name].type, at, here)


@cache
def inspect_type(kind: type) -> inspect.Type:
    """Return what msgspec knows of a type."""
    return inspect.type_info(kind)


def _parts(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    if isinstance(kind, inspect.Metadata):
        return _parts(kind.type)
    return kind.types if isinstance(kind, inspect.UnionType) else (kind,)


def _takes_none(kind: inspect.Type) -> bool:
    return any(isinstance(part, inspect.NoneType | inspect.AnyType) for part in _parts(kind))


def _struct_for(value: Json, kind: inspect.Type) -> inspect.StructType | None:
    """Return the structure that an object is meant for: the one of its tag, or the only one without."""
    structs = [part for part in _parts(kind) if isinstance(part, inspect.StructType)]
    for one in structs:
        if one.tag_field is None or value.get(one.tag_field) == one.tag:
            return one
    return None


@cache
def _fields(kind: type) -> dict[str, inspect.Field]:
    return {one.encode_name: one for one in inspect.type_info(kind).fields}  # type: ignore[attr-defined]


@cache
def _names(kind: type) -> frozenset[str]:
    return frozenset(_fields(kind))
