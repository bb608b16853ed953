"""Origin of a console request, and its session."""

from __future__ import annotations

import re
from typing import Final

from ashore.control.console import Console
from ashore.control.sessions import Session, Visit
from ashore.core.errors import NotReady, Unauthenticated
from ashore.data.http import Exchange
from ashore.data.http.face import FORWARDED
from ashore.data.http.routes import HOST
from ashore.kit.processes.ports import is_own_address

LOOPBACK: Final = "127.0.0.1"
PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~-]{1,64}){1,8}")
"""A path that a proxy may say it offers this server under. A browser cannot be made to send that header to another
site, so nobody but the caller is led anywhere by it."""


def visit_of(exchange: Exchange, origin: str, *, behind_tls: bool) -> Visit:
    """Return the origin of a request, as far as a session depends on it.

    Args:
        exchange: The request.
        origin: Address of the client.
        behind_tls: Whether a trusted edge reports that the browser uses TLS.
    """

    def said(name: bytes) -> str:
        return exchange.headers.get(name, b"").decode("latin-1")

    host = said(b"host")
    peer = exchange.client_host
    by_socket = not peer or peer.startswith(("/", "unix:"))
    is_secure = behind_tls or exchange.scope.get("scheme") == "https"
    prefix = said(b"x-forwarded-prefix").rstrip("/")
    return Visit(
        origin=LOOPBACK if by_socket and is_own_address(origin) else origin,
        request_id=exchange.request_id,
        base=f"{'https' if is_secure else 'http'}://{host if HOST.fullmatch(host) else '127.0.0.1'}",
        passed_on=any(name in exchange.headers for name in FORWARDED if not (by_socket and name == FORWARDED[0]))
        or (by_socket and "," in said(FORWARDED[0])),  # the edge reports one address, that of a proxy that listed more
        prefix=prefix if PREFIX.fullmatch(prefix) else "",
        cookie=said(b"cookie"),
        agent=said(b"user-agent")[:300],
        fetch_site=said(b"sec-fetch-site"),
        origin_said=said(b"origin"),
        purpose=said(b"sec-purpose"),
        language=said(b"accept-language")[:200],
    )


async def session_of(console: Console, visit: Visit, token: str) -> Session:
    """Return the session of a request from a console script.

    Raises:
        Unauthenticated: there is none.
        PermissionDenied: the request came from another site, or from a page of another session.
        NotReady: this server has no console.
    """
    if console.sessions is None:
        raise NotReady("this server has no console", hint="start the server with `ashore up`")
    session = await console.sessions.session_of(visit)
    if session is None:
        raise Unauthenticated("the session has ended", hint="log in again")
    console.sessions.check_post(visit, session, {}, token=token)
    return session
