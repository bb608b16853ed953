"""`/site/v1`: what branch offices read of their centre, and hand in. Who asks shows by the certificate at the edge."""

from __future__ import annotations

import re
from asyncio import to_thread
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from ashore.control.sites import Office
from ashore.core.errors import InvalidRequest, NotFound, PermissionDenied, SwitchedOff, Unauthenticated
from ashore.core.wholenumber import whole_number
from ashore.data.authority import Principal
from ashore.data.http import Exchange
from ashore.data.http.exchange import JSON
from ashore.kit.call import CLIENT

if TYPE_CHECKING:
    from ashore.data.http import Face

PIECE_BYTES: Final = 256 << 10
MOST_BYTES: Final = 64_000
"""Of a report, or of a request to join."""
_PATH: Final = re.compile(r"(?:metadata|segments/[0-9a-f]{2}|targets/models|targets/wants/([a-z0-9-]+))/[\w.-]+", re.A)
_RANGE: Final = re.compile(rb"bytes=(\d{1,15})-")


async def join(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`POST /site/v1/join`: a site asks for its certificate, with a token in place of one."""
    office = _office(app)
    body = await exchange.body(replace(app.limits, max_body_bytes=MOST_BYTES))
    answer = await to_thread(office.join, body, app.origin_of(exchange))
    await exchange.respond(200, [JSON, (b"cache-control", b"no-store")], answer)


async def report(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`PUT /site/v1/reports/SITE/NUMBER.json`: once or again, it counts once."""
    office, site = await _reader(app, exchange)
    if exchange.arguments[0] != site:
        raise PermissionDenied(f"{site} may not report for {exchange.arguments[0][:63]}", hint="check its certificate")
    body = await exchange.body(replace(app.limits, max_body_bytes=MOST_BYTES))
    await to_thread(office.take, site, body)
    await exchange.respond(200, [JSON], b"{}")


async def read(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`GET /site/v1/PATH`: a file of the published tree, from `Range: bytes=N-` on."""
    office, site = await _reader(app, exchange)
    path = exchange.path.removeprefix("/site/v1/")
    found = _PATH.fullmatch(path)
    file = office.folder / "tree" / path
    if found is None or (found[1] or site) != site or ".." in path or not file.is_file():
        raise NotFound(f"nothing is published at {path[:200]!r}", hint="publish again at the centre")
    with file.open("rb") as opened:
        size = opened.seek(0, 2)
        tag = f'"{file.stat().st_mtime_ns:x}-{size:x}"'.encode()
        asked = _RANGE.fullmatch(exchange.headers.get(b"range", b""))
        start = whole_number(asked[1]) or 0 if asked and exchange.headers.get(b"if-range", tag) == tag else 0
        headers = [(b"content-type", b"application/octet-stream"), (b"etag", tag), (b"accept-ranges", b"bytes")]
        if exchange.headers.get(b"if-none-match") == tag:
            await exchange.respond(304, headers, b"")
            return
        if start >= size > 0:
            await exchange.respond(416, [*headers, (b"content-range", b"bytes */%d" % size)], b"")
            return
        if start:
            headers.append((b"content-range", b"bytes %d-%d/%d" % (start, size - 1, size)))
        headers.append((b"content-length", b"%d" % (size - start)))
        await exchange.pass_head(206 if start else 200, headers)
        opened.seek(start)
        left = size - start
        while left and (piece := await to_thread(opened.read, min(left, PIECE_BYTES))):
            left -= len(piece)
            await exchange.write(piece)
        await exchange.end_stream()


async def _reader(app: Face, exchange: Exchange) -> tuple[Office, str]:
    """Return the office, and the site whose certificate was shown."""
    office = _office(app)
    shown = exchange.headers.get(CLIENT.encode(), b"").decode("latin-1")
    if not shown:
        raise Unauthenticated(
            "no certificate was shown", hint="a site asks the centre's edge by HTTPS, after `ashore site join`"
        )
    site = await to_thread(office.reader, shown)
    exchange.principal_id = f"site/{site}"
    return office, site


def _office(app: Face) -> Office:
    found = app.rooms.find(Office)
    if found is None:
        raise SwitchedOff("this server is not a centre of sites", hint='set role = "centre" under [sites]')
    if found.section().publish != "https":
        raise InvalidRequest("this centre publishes elsewhere", hint=f"read {found.section().publish}")
    return found
