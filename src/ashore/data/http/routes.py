"""Definition of a route: access, handler, request and response types; and the lookup of a request's route.

The routes themselves are in `table.py`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal

import msgspec

from ashore.core.errors import MethodNotAllowed, UnknownRoute
from ashore.core.nearest import nearest_names
from ashore.data.authority import Principal
from ashore.data.http.errors import ErrorForm
from ashore.data.http.exchange import Exchange
from ashore.kit.call import Call

NOT_HERE: Final = (
    (
        "/api",
        "Ollama's API is served where `[http] ollama = true`, and to read and ask only: pull and remove models with "
        "`ashore model`; or set the client to OpenAI with the base URL …/v1",
    ),
    ("/v1/audio", "ashore serves text models; it has no audio API"),
    ("/v1/images", "ashore serves text models; it has no image API"),
    ("/v1/videos", "ashore serves text models; it has no video API"),
    ("/v1/realtime", "ashore serves text models; it has no audio API"),
    ("/v1/moderations", "ashore has no moderation API"),
    ("/v1/fine_tuning", "ashore has no fine-tuning API; run `ashore train sft`"),
    ("/v1/assistants", "ashore has no assistants API; use /v1/responses"),
    ("/v1/threads", "ashore has no assistants API; use /v1/responses"),
    ("/v1/vector_stores", "ashore has no vector stores; use /v1/embeddings"),
    ("/v1beta", "ashore does not serve the Gemini API: set the client to OpenAI with the base URL …/v1"),
)
"""Paths of other servers and of parts of OpenAI's API that ashore does not have, and what to do instead."""

HOST: Final = re.compile(r"[A-Za-z0-9._\[\]:-]{1,255}")
"""A `Host` header that may stand in a command that people copy."""
_PARAMETER: Final = re.compile(r"\{(\w+)\}")

Guard = Literal["open", "key", "infer", "operator", "admin", "session", "ours"]
"""open: anybody. session: a person who is logged in to the console, whose page sent its token along. key: a principal.
infer: one that may ask some model, for what is kept of requests (`stored.py` says who sees what). operator:
loopback, or a principal that may do `metrics:read`. admin: a principal that may do the
route's `call`. ours: a process of this server, by a unix socket; for everybody else there is no such path."""

Handler = Callable[[Any, Exchange, Principal], Awaitable[None]]
"""Given the application, whose type would close a circle, the request and who asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    """As in OpenAPI: a last segment `{name}` takes the rest of the path; one before the last takes one segment."""
    guard: Guard
    handler: Handler
    summary: str
    tag: str
    call: Call | None = None
    """What a room declares it from; it says what a principal must be allowed to do."""
    request: type[msgspec.Struct] | None = None
    body_optional: bool = False
    """Whether a request without a body says as much as `{}`."""
    leaves_out: bool = False
    """Whether fields that the type lacks are left out and named, unless `[http.unknown_fields]` refuses them."""
    response: type[msgspec.Struct] | None = None
    streams: bool = False
    deferrable: bool = False
    """A request that cannot be served in time becomes a job where its client allows that."""
    errors: ErrorForm = "openai"
    """In whose form errors go out."""
    content_type: str = "application/json"
    query: tuple[str, ...] = ()
    """Parameters of the query, all of them texts that may be left out."""
    operation: str = ""
    """Name in the description of the interface, where that of the handler would not be the only one."""
    repeats: bool = False
    """The response depends on nothing but the key, the body and what the epochs tell, so that a repeated request may
    be answered by its bytes."""

    is_admitted: bool = field(init=False)
    """Whether it needs room at a model."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_admitted", self.repeats or self.deferrable)

    @property
    def prefix(self) -> str:
        """The fixed part before `{name}`; empty if the whole path is fixed."""
        return self.path[: self.path.index("{")] if "{" in self.path else ""

    @property
    def names(self) -> list[str]:
        """The path parameters in order."""
        return _PARAMETER.findall(self.path)

    def arguments(self, path: str) -> tuple[str, ...] | None:
        """Return the value of each `{name}` in `path`; None if the path does not match this route."""
        found = _pattern(self.path).fullmatch(path)
        return None if found is None else found.groups()


@cache
def _pattern(path: str) -> re.Pattern[str]:
    parts = _PARAMETER.split(path)  # fixed parts at even places, names between them
    ends = len(parts) - 2 if not parts[-1] else -1
    pieces = [re.escape(part) if at % 2 == 0 else "(.+)" if at == ends else "([^/]+)" for at, part in enumerate(parts)]
    return re.compile("".join(pieces), re.DOTALL)


class RouteTable:
    """Finds the route of a request."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._exact: Mapping[tuple[str, str], Route] = {(r.method, r.path): r for r in routes if not r.prefix}
        self._prefixed = tuple(
            sorted((r for r in routes if r.prefix), key=lambda r: r.path.endswith("}") and len(r.names) == 1)
        )

    def find(self, method: str, path: str) -> tuple[Route, tuple[str, ...]]:
        """Return the route, and the value of each `{name}` in the path.

        Raises:
            MethodNotAllowed: the path exists and takes another method.
            UnknownRoute: no such path; the error suggests the nearest ones.
        """
        route = self._exact.get((method, path))
        if route is not None:
            return route, ()
        if len(path) > 1 and path.endswith("/"):
            path = path.rstrip("/")
            route = self._exact.get((method, path))
            if route is not None:
                return route, ()
        for one in self._prefixed:
            if one.method == method and (arguments := one.arguments(path)) is not None:
                return one, arguments
        allowed = sorted(
            {r.method for r in self.routes if r.path == path or (r.prefix and r.arguments(path) is not None)}
        )
        if allowed:
            raise MethodNotAllowed(
                f"{path} accepts {', '.join(allowed)}, not {method[:16]}",
                hint=f"use {' or '.join(allowed)}",
                allowed=allowed,
            )
        shown = path if len(path) <= 100 else path[:100] + "…"
        raise UnknownRoute(f"no such path: {shown!r}", hint=self._hint_for(shown))

    def _hint_for(self, path: str) -> str:
        """Return a hint for an unknown path: a route of the same API, or another server."""
        for prefix, what in NOT_HERE:
            if path == prefix or path.startswith(f"{prefix}/"):
                return what
        is_admin = path.startswith("/admin")
        known = sorted({r.path for r in self.routes if r.path.startswith("/admin") == is_admin})
        near = nearest_names(path, known) if len(path) > 1 else ()
        if near:
            return "did you mean " + " or ".join(repr(one) for one in near) + "?"
        return "the base URL is …/v1 for OpenAI clients and … for Anthropic clients; /openapi.json lists every path"
