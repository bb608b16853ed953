"""The wire of the Model Context Protocol towards clients: JSON-RPC over HTTP, one request and one answer each.

Two eras are served from one handler. Until 2025-11-25 a client begins with `initialize`; it gets no session, which the
protocol allows, so any worker answers the next request. Since 2026-07-28 every request says its version in `_meta`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from ashore.core.errors import AshoreError, InvalidRequest
from ashore.core.hints import with_hint
from ashore.core.outward import outward
from ashore.kit.decode import decode

HANDSHAKE: Final = ("2025-03-26", "2025-06-18", "2025-11-25")
"""Versions that begin with `initialize`."""
STATELESS: Final = "2026-07-28"
VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY: Final = "io.modelcontextprotocol/clientCapabilities"
CLIENT_KEY: Final = "io.modelcontextprotocol/clientInfo"
INVALID_REQUEST, NO_METHOD, INVALID_PARAMS, INTERNAL = -32600, -32601, -32602, -32603
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022
LIST_TTL_MS: Final = 5_000
"""How long a client of the newer era may keep a list of tools."""
ASK: Final = "it is not there, not approved now, or your roles do not allow it: ask a security officer of ashore"
"""Said of what a caller cannot reach, whatever the reason is."""
_BY_CODE: Final = {NO_METHOD: 404, INTERNAL: 200}
"""HTTP status of errors in the newer era; any other code is 400."""
_encode = msgspec.json.Encoder().encode


class Tools(Protocol):
    """What one caller may call at one address."""

    async def list(self) -> Sequence[Mapping[str, Any]]:
        """Return the definitions of the tools."""
        ...

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any] | msgspec.Raw:
        """Return the result of a call.

        Raises:
            UnknownTool: there is none of this name for this caller.
            AshoreError: it failed; the client gets a result that says so.
        """
        ...


class Fault(Exception):
    """An error of the protocol."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


class UnknownTool(Fault):
    """No such tool for this caller. One that is hidden, changed or absent sounds the same."""

    def __init__(self, name: str) -> None:
        super().__init__(INVALID_PARAMS, f"unknown tool: {name[:100]}; {ASK}")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A request, or without an id a notification."""

    jsonrpc: str
    method: str
    id: int | str | msgspec.UnsetType = msgspec.UNSET
    params: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What goes back over HTTP."""

    status: int
    body: bytes = b""
    method: str = ""


_decoder = msgspec.json.Decoder(Message)


async def answer(body: bytes, headers: Mapping[bytes, bytes], tools: Tools, *, server: Mapping[str, str]) -> Reply:
    """Answer one message of a client. `server`: name and version of this one."""
    try:
        message = decode(body, _decoder)
        if message.jsonrpc != "2.0":
            raise InvalidRequest(f"jsonrpc is {message.jsonrpc[:20]!r}; expected '2.0'")
    except InvalidRequest as fault:
        return _failed(None, Fault(INVALID_REQUEST, with_hint(fault.message, fault.hint)), 400)
    if message.id is msgspec.UNSET:
        return Reply(status=202)
    version = _said(message.params.get("_meta"), VERSION_KEY) or headers.get(b"mcp-protocol-version", b"").decode(
        "latin-1"
    )
    stateless = version not in ("", *HANDSHAKE)
    try:
        _check_headers(message, headers, version, stateless=stateless)
        result = await _result(message, tools, server)
    except Fault as fault:
        status = _BY_CODE.get(fault.code, 400) if stateless else 400 if fault.code == HEADER_MISMATCH else 200
        return _failed(message.id, fault, status, message.method)
    if isinstance(result, dict) and stateless:
        result = {"resultType": "complete", **result}
    whole = {"jsonrpc": "2.0", "id": message.id, "result": result}
    return Reply(status=200, body=_encode(whole), method=message.method)


def _check_headers(message: Message, headers: Mapping[bytes, bytes], version: str, *, stateless: bool) -> None:
    """Check that what a proxy reads of the headers is what the body says."""
    said = headers.get(b"mcp-protocol-version", b"").decode("latin-1")
    if said and said != version:
        raise Fault(HEADER_MISMATCH, "MCP-Protocol-Version is not the version of the body")
    if version and version not in (*HANDSHAKE, STATELESS):
        raise Fault(
            UNSUPPORTED_VERSION, "Unsupported protocol version",
            {"supported": [STATELESS, *HANDSHAKE[::-1]], "requested": version[:40]},
        )  # fmt: skip
    named = message.params.get("name") if message.method == "tools/call" else None
    for header, value in ((b"mcp-method", message.method), (b"mcp-name", named)):
        given = headers.get(header)
        if value is None or (given is None and not stateless):
            continue
        if given is None or given.decode("latin-1") != value:
            raise Fault(HEADER_MISMATCH, f"the header {header.decode()} is not the {header[4:].decode()} of the body")


async def _result(message: Message, tools: Tools, server: Mapping[str, str]) -> Mapping[str, Any] | msgspec.Raw:
    asked = message.params
    match message.method:
        case "initialize":
            wanted = asked.get("protocolVersion")
            version = wanted if wanted in HANDSHAKE else HANDSHAKE[-1]
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": dict(server)}
        case "server/discover":
            return {
                "supportedVersions": [STATELESS, *HANDSHAKE[::-1]], "capabilities": {"tools": {}},
                "serverInfo": dict(server), "ttlMs": LIST_TTL_MS, "cacheScope": "private",
            }  # fmt: skip
        case "ping":
            return {}
        case "tools/list":
            return {"tools": await tools.list(), "ttlMs": LIST_TTL_MS, "cacheScope": "private"}
        case "tools/call":
            name, arguments = asked.get("name"), asked.get("arguments") or {}
            if not isinstance(name, str) or not isinstance(arguments, dict):
                raise Fault(INVALID_PARAMS, "tools/call takes name, a text, and arguments, an object")
            try:
                return await tools.call(name, arguments)
            except AshoreError as fault:
                return failed(with_hint(*outward(fault)))
    raise Fault(NO_METHOD, f"no such method: {message.method[:100]}")


def failed(text: str) -> dict[str, Any]:
    """Return the result of a call that failed, which the model reads."""
    return {"content": [{"type": "text", "text": text}], "isError": True}


def _failed(id: int | str | msgspec.UnsetType | None, fault: Fault, status: int, method: str = "") -> Reply:
    error = {"code": fault.code, "message": fault.message} | ({} if fault.data is None else {"data": fault.data})
    return Reply(status=status, body=_encode({"jsonrpc": "2.0", "id": id, "error": error}), method=method)


def _said(meta: Any, key: str) -> str:
    value = meta.get(key) if isinstance(meta, dict) else None
    return value if isinstance(value, str) else ""
