"""Requests to the console and its responses. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ashore.control.sessions import Visit

Pairs = Sequence[tuple[str, str]]
"""Fields of a query or a form, in their order; a name may come several times."""
Part = Literal["page", "main", "command"]
"""What of a page is asked for: all of it, what stands between navigation and foot, or the command that a form stands
for."""

PAGE_HEADERS: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"cache-control", b"no-store"),
    (b"vary", b"cookie, accept-language"),
)
"""Of every page. Pages are never compressed: one that repeats what a caller sends beside a token of the session would
tell that token by its length (BREACH). What is large, `static`, is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request below `/console`."""

    method: str
    path: str
    """Behind `/console/`, `call/access-key/create`; empty for Home."""
    depth: int = 0
    """Directories that the browser's address stands below `/console/`; -1: it has no slash behind `console`."""
    query: Pairs = ()
    form: Pairs = ()
    visit: Visit
    part: Part = "page"
    polls: bool = False
    """Whether a page asks by itself; that keeps no session alive."""
    etag: str = ""
    """What the browser has, `If-None-Match`."""
    token: str = ""
    """The header `X-CSRF-Token`."""

    @property
    def fields(self) -> dict[str, str]:
        """The form of a POST, else the query: the last value of each name."""
        return dict(self.form if self.method == "POST" else self.query)

    @property
    def root(self) -> str:
        """What a relative address begins with that leads to `/console/`. All addresses are relative, so that a proxy
        may offer this server under any path."""
        return "console/" if self.depth < 0 else "../" * self.depth or "./"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response."""

    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = PAGE_HEADERS
    body: bytes = b""
    file: object | None = None
    """A `Download`, in place of a body."""
