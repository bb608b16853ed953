"""One server of tools, as this process calls it: bounded in bytes and time, without redirects, proxies and cookies.

The older era of the protocol keeps a session; each principal has one of its own, so that what a server remembers of one
reaches no other. Nothing of a client's request goes there but the name of the tool and its arguments.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from ashore.core.errors import AshoreError, InvalidRequest, PermissionDenied, RemoteRefused, SourceUnreachable
from ashore.core.serversent import ServerSent
from ashore.data.mcp.pins import MOST_TOOLS, Pin, State, Tool, state_of, tools_of
from ashore.data.mcp.section import McpServer
from ashore.data.mcp.wire import (
    CAPABILITIES_KEY,
    CLIENT_KEY,
    HANDSHAKE,
    NO_METHOD,
    STATELESS,
    UNSUPPORTED_VERSION,
    VERSION_KEY,
    failed,
)
from ashore.kit.decode import UNDECODABLE, check_parts
from ashore.kit.egress import Allowed, resolve

if TYPE_CHECKING:
    from ashore.kit.lines import Line

MOST_SESSIONS: Final = 1_024
MOST_PAGES: Final = 20
MOST_LIST_BYTES: Final = 1 << 20
"""Of each page of a list, and of all of them."""
PIECE_BYTES: Final = 64
"""What a piece of an answer counts beside its bytes: thousands of pieces of one byte cost as much as long ones."""
FRAMING_BYTES: Final = 1 << 20
"""Of chunks and their extensions beside eight times the longest answer."""
LIST_S: Final = 10.0
"""Longest time of a list, with all its pages."""
LOOK_S: Final = 2.0
"""Longest time of one that an operator waits for."""
NAME_S: Final = 30.0
"""How long the address of a host name is used before it is looked up again."""
CLIENT: Final = {"name": "ashore", "version": "1"}
_SESSION_ID: Final = frozenset(map(chr, range(0x21, 0x7F)))


class _Said(msgspec.Struct):
    """A message of a server; what it carries is read later."""

    id: Any = None
    method: str = ""
    result: msgspec.Raw = msgspec.Raw()
    error: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    version: str
    id: str = ""


class _Gone(Exception):
    """The server knows the session no more; the request was not carried out."""


class _Refused(Exception):
    """The server answered with an error of the protocol."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


_decoder = msgspec.json.Decoder(_Said)
_encode = msgspec.json.Encoder().encode


class Upstream:
    """Calls one server. Made and used on one event loop."""

    def __init__(self, server: McpServer, allow: Sequence[Allowed]) -> None:
        from ashore.kit.lines import Lines

        self.server: Final = server
        self._lines = Lines(allow, server.at_once)
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        """By whom they are for; of the newer era without an id."""
        self._ids = count(1)
        self._addresses: tuple[float, Sequence[str]] = (0.0, ())

    async def tools(self) -> dict[str, Tool]:
        """Return what the server lists now, by name.

        Raises:
            SourceUnreachable, RemoteRefused: it does not answer, or not with a list.
        """
        listed: list[Any] = []
        params: dict[str, Any] = {}
        room, until_s = MOST_LIST_BYTES, time.monotonic() + min(LIST_S, self.server.timeout_s)
        for _ in range(MOST_PAGES):
            try:
                page = await self._ask("", "tools/list", params, room, max(0.0, until_s - time.monotonic()))
            except _Refused as fault:
                raise self._odd(f"refused tools/list: {fault.code} {fault.message}") from fault
            room, found = room - len(bytes(page)), self._value(page)
            tools = found.get("tools") if isinstance(found, dict) else None
            if not isinstance(tools, list):
                raise self._odd("answered tools/list without a list")
            listed += tools
            cursor = found.get("nextCursor")
            if not isinstance(cursor, str) or len(listed) > MOST_TOOLS:
                break
            params = {"cursor": cursor}
        if len(listed) > MOST_TOOLS:
            raise self._odd(f"lists more than {MOST_TOOLS:,} tools")
        return tools_of(listed)

    async def call(self, who: str, name: str, arguments: Mapping[str, Any]) -> msgspec.Raw:
        """Return the result of a tool as the server sent it. `who`: whose session it is.

        Raises:
            SourceUnreachable, RemoteRefused: there is none, it is too long, or it asks something back.
        """
        params = {"name": name, "arguments": arguments}
        try:
            return await self._ask(who, "tools/call", params, self.server.result_bytes, self.server.timeout_s)
        except _Refused as fault:  # its words are the tool's, and are masked as those
            return msgspec.Raw(_encode(failed(f"{fault.code} {fault.message}")))

    async def close(self) -> None:
        """Close the connections."""
        self._lines.close()

    async def _ask(self, who: str, method: str, params: Mapping[str, Any], most: int, timeout_s: float) -> msgspec.Raw:
        """Make a request in the session of somebody, which is opened first where there is none."""
        name = self.server.name
        try:
            async with asyncio.timeout(timeout_s):
                for is_last in (False, True):
                    session = self._sessions.get(who) or await self._open(who)
                    self._sessions.move_to_end(who)
                    try:
                        return (await self._post(session, method, params, most))[0]
                    except _Gone:
                        self._sessions.pop(who, None)
                        if is_last:
                            raise self._odd("ended the session twice") from None
            raise AssertionError
        except TimeoutError as fault:
            raise SourceUnreachable(
                f"the tool server {name} did not answer within {timeout_s:.2g} s",
                hint="ask its operator, or raise timeout_s of its [[mcp.server]]",
            ) from fault
        except PermissionDenied as fault:  # of [egress]: a matter of the operator, not of the caller
            raise SourceUnreachable(
                f"the tool server {name} may not be called: {fault.message}", hint=fault.hint
            ) from fault
        except OSError as fault:
            why = str(fault) if type(fault) is ConnectionError else type(fault).__name__
            raise SourceUnreachable(
                f"the tool server {name} cannot be reached: {why}", hint="see whether it runs"
            ) from fault

    async def _open(self, who: str) -> _Session:
        """Begin a session in the older era; where the server knows only the newer one, there is nothing to begin."""
        hello = {"protocolVersion": HANDSHAKE[-1], "capabilities": {}, "clientInfo": CLIENT}
        try:
            raw, given = await self._post(None, "initialize", hello, MOST_LIST_BYTES)
        except _Refused as fault:
            if fault.code not in (NO_METHOD, UNSUPPORTED_VERSION):
                raise
            session = _Session(version=STATELESS)
        else:
            said = self._value(raw)
            version = said.get("protocolVersion") if isinstance(said, dict) else None
            if version not in ("2024-11-05", *HANDSHAKE):
                raise self._odd("speaks no version of the protocol that ashore knows")
            session = _Session(version=str(version), id=given)
            await self._post(session, "notifications/initialized", None, 4_096)
        self._sessions[who] = session
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return session

    async def _post(
        self, session: _Session | None, method: str, params: Mapping[str, Any] | None, most: int
    ) -> tuple[msgspec.Raw, str]:
        """Send one message; return the result, and the id of the session that the answer gave."""
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        if self.server.token:
            headers["authorization"] = f"Bearer {self.server.token}"
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message |= {"id": next(self._ids), "params": params}
        if session is not None:
            headers["mcp-protocol-version"] = session.version
            if session.id:
                headers["mcp-session-id"] = session.id
            if session.version == STATELESS and params is not None:
                headers |= {"mcp-method": method} | ({"mcp-name": params["name"]} if "name" in params else {})
                meta = {VERSION_KEY: STATELESS, CAPABILITIES_KEY: {}, CLIENT_KEY: CLIENT}
                message["params"] = {**params, "_meta": meta}
        content, most_bytes = _encode(message), 8 * most + FRAMING_BYTES
        async with self._lines.post(
            self.server.url, headers, content, resolver=self._address_of, most_bytes=most_bytes
        ) as answer:
            status = answer.status
            if status == 404 and session is not None and session.id:
                raise _Gone
            if 300 <= status < 400:
                raise self._odd("redirects, which is not followed")
            if params is None:
                return msgspec.Raw(b"null"), ""
            sent = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
            if sent not in ("application/json", "text/event-stream") or (status >= 400 and sent != "application/json"):
                raise self._odd(f"answered with the status {status} and {sent[:50] or 'no type'}")
            said = await self._read(answer, message["id"], most, is_stream=sent == "text/event-stream")
            if not bytes(said.result):
                raise _refusal(said.error)
            given = answer.headers.get("mcp-session-id", "")
            if len(given) > 512 or not _SESSION_ID.issuperset(given):
                raise self._odd("gave a session an unusable id")
            return said.result.copy(), given

    async def _read(self, answer: Line, id: int, most: int, *, is_stream: bool) -> _Said:
        """Return the answer to a request. What else a stream carries, such as progress, is left out.

        Raises:
            AshoreError: it is longer than `most`, is not JSON, never comes, or the server asks something itself.
        """
        events, body, num_bytes = ServerSent(self.server.name), bytearray(), 0
        num_pieces = 0
        async for piece in answer.pieces():
            await asyncio.sleep(0)  # others have their turn between the pieces that came together
            num_bytes += len(piece)
            num_pieces += 1
            if num_bytes + PIECE_BYTES * num_pieces > most + 64 * PIECE_BYTES:
                raise self._odd(f"sent more than {most:,} bytes", "raise result_bytes of its [[mcp.server]]")
            if not is_stream:
                body += piece
                continue
            for data in events.take(piece):
                said = self._message(data) if data else _Said()
                if said.method and said.id is not None:
                    raise self._odd(f"asks for {said.method[:50]} before it answers, which ashore does not pass on")
                if said.id == id and not said.method:
                    return said
        if is_stream:
            raise self._odd("ended its answer before the result")
        said = self._message(bytes(body))
        if said.id != id and said.error is None:
            raise self._odd("answered another request")
        return said

    def _message(self, data: bytes) -> _Said:
        try:
            check_parts(data)
            return _decoder.decode(data)
        except (*UNDECODABLE, InvalidRequest) as fault:
            raise self._odd("sent what is not a message of the protocol") from fault

    def _value(self, raw: msgspec.Raw) -> Any:
        try:
            return msgspec.json.decode(raw)
        except UNDECODABLE as fault:
            raise self._odd("sent what cannot be read") from fault

    async def _address_of(self, host: str, port: int) -> Sequence[str]:
        until_s, found = self._addresses
        if time.monotonic() >= until_s:
            found = await resolve(host, port)
            self._addresses = time.monotonic() + NAME_S, found
        return found

    def _odd(self, what: str, hint: str = "") -> AshoreError:
        return RemoteRefused(
            f"the tool server {self.server.name} {what}", hint=hint or "ask the operator of that server"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the approved tools of a server stand now."""

    server: str
    withheld: Mapping[str, State]
    """Approved tools that agents do not get: changed, unusable or gone."""
    fault: str = ""
    """Why the server cannot be asked."""


async def standing_of(server: McpServer, allow: Sequence[Allowed], pins: Mapping[str, Pin]) -> Standing:
    """Ask a server how its approved tools stand. Takes at most `LOOK_S`; raises nothing of the server."""
    upstream = Upstream(replace(server, timeout_s=min(LOOK_S, server.timeout_s)), allow)
    try:
        listed = await upstream.tools()
    except AshoreError as fault:
        return Standing(server=server.name, withheld={}, fault=fault.message)
    finally:
        await upstream.close()
    states = {name: state_of(pin.tool, listed.get(name)) for name, pin in sorted(pins.items())}
    return Standing(server=server.name, withheld={name: one for name, one in states.items() if one != "approved"})


def _refusal(error: Any) -> _Refused:
    code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else (0, "")
    return _Refused(code if isinstance(code, int) else 0, str(message)[:200])
