"""Servers of tools for tests: a real one of the `mcp` library, and one that answers whatever a test says."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import uvicorn
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer

Answer = Callable[[BaseHTTPRequestHandler, dict[str, Any]], object]


class ToolServer:
    """A real server of tools, with what came to it over HTTP. Its tools may be changed while it runs."""

    def __init__(self, server: MCPServer) -> None:
        self.server = server
        self.url = ""
        self.headers: list[dict[str, str]] = []
        self._app = server.streamable_http_app()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.headers.append({name.decode(): value.decode("latin-1") for name, value in scope["headers"]})
        await self._app(scope, receive, send)

    def describe(self, tool: str, text: str) -> None:
        """Change the description of a tool."""
        self.server._tool_manager._tools[tool].description = text


@contextmanager
def tool_server(server: MCPServer) -> Iterator[ToolServer]:
    """Run a server on a thread."""
    one = ToolServer(server)
    running = uvicorn.Server(
        uvicorn.Config(one, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=2)
    )
    started, running_startup = threading.Event(), running.startup

    async def startup(sockets: Any = None) -> None:
        await running_startup(sockets)
        started.set()

    running.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    assert started.wait(60)
    one.url = f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/mcp"
    try:
        yield one
    finally:
        running.should_exit = True
        thread.join(30)


@contextmanager
def odd_server() -> Iterator[OddServer]:
    """Run a server that answers as a test says."""
    odd = OddServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["content-length"])))
            odd.came.append(message)
            if message["method"] == "initialize":
                send_result(self, message, {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}})
            elif "id" not in message:
                send(self, 202, b"")
            elif message["method"] == "tools/list":
                odd.listing()
                send_result(self, message, {"tools": odd.tools})
            else:
                odd.answer(self, message)

        def log_message(self, format: str, *args: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    odd.url = f"http://127.0.0.1:{server.server_address[1]}/mcp"
    try:
        yield odd
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class OddServer:
    """What it lists and answers, and what came."""

    def __init__(self) -> None:
        self.url = ""
        self.tools: list[dict[str, Any]] = []
        self.answer: Answer = lambda handler, message: send_result(handler, message, text_result("ok"))
        self.listing: Callable[[], object] = lambda: None
        """Called before tools are listed."""
        self.came: list[dict[str, Any]] = []


def tool(name: str, description: str = "A tool.", **more: Any) -> dict[str, Any]:
    """Return a definition."""
    return {"name": name, "description": description, "inputSchema": {"type": "object"}, **more}


def text_result(text: str) -> dict[str, Any]:
    """Return a result with one text."""
    return {"content": [{"type": "text", "text": text}]}


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, *headers: tuple[str, str]) -> None:
    """Send an answer."""
    handler.send_response(status)
    for name, value in (("content-type", "application/json"), ("content-length", str(len(body))), *headers):
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def send_result(handler: BaseHTTPRequestHandler, message: dict[str, Any], result: Any) -> None:
    """Answer a message with a result."""
    send(handler, 200, json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode())


def send_events(handler: BaseHTTPRequestHandler, pieces: Iterator[bytes]) -> None:
    """Answer with a stream of pieces, each sent at once, until the other side goes."""
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("connection", "close")
    handler.end_headers()
    handler.close_connection = True
    try:
        for piece in pieces:
            handler.wfile.write(piece)
            handler.wfile.flush()
    except OSError:
        return


@asynccontextmanager
async def agent(url: str, key: str, mode: Any = "auto", **headers: str) -> AsyncIterator[Client]:
    """Yield the client of the `mcp` library. `mode`: `auto` speaks the newest era, `legacy` the one before."""
    said = {"authorization": f"Bearer {key}", **headers}
    async with (
        httpx2.AsyncClient(headers=said, timeout=60, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


def ask(url: str, key: str, tool: str, arguments: dict[str, Any], mode: Any = "auto") -> Any:
    """Call one tool, and return its result."""

    async def call() -> Any:
        async with agent(url, key, mode) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(call())


def names(url: str, key: str, mode: Any = "auto") -> list[str]:
    """Return the names of the tools that a key is shown."""

    async def listed() -> list[str]:
        async with agent(url, key, mode) as client:
            return [one.name for one in (await client.list_tools()).tools]

    return asyncio.run(listed())
