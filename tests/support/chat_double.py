"""A server in OpenAI's chat form on a loopback port, which answers as a script says; and a service over its engine."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from host_in_thread import host_running
from node_lists import nodes_at

from ashore.core.clock import SystemClock
from ashore.data.cache import AnswerCache
from ashore.data.engines import EngineOptions, HostClient
from ashore.data.engines.textonly.engine import TextOnlyEngine, chat_model_files
from ashore.data.path import Guards, ServedModel, ServingService, Topology
from ashore.data.text import TextOnly
from ashore.kit.metrics import Metrics

Item = dict[str, Any] | str | bytes | float
"""An event, or the text of one; bytes as they are; or seconds to wait."""
RESET = b"reset"
"""Item that breaks the connection off, as the kernel does for a process that was killed."""
Script = Callable[[dict[str, Any]], Iterable[Item]]


def piece(text: str = "", *, end: str | None = None, **delta: Any) -> dict[str, Any]:
    """Return one event of a stream."""
    return {"id": "c1", "choices": [{"index": 0, "delta": {"content": text, **delta}, "finish_reason": end}]}


def usage(prompt: Any, completion: Any, **more: Any) -> dict[str, Any]:
    """Return the event with what an answer cost."""
    return {"id": "c1", "choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion, **more}}


def whole(text: str, *, end: str = "stop", prompt: int = 9, step: int = 1) -> list[Item]:
    """Return a whole answer, `step` characters in an event."""
    pieces = [text[at : at + step] for at in range(0, len(text), step)]
    return [*map(piece, pieces), piece(end=end), usage(prompt, len(pieces)), "[DONE]"]


def echo(body: dict[str, Any]) -> Iterable[Item]:
    """Answer with the last message, one character in an event."""
    return whole(body["messages"][-1]["content"])


class ChatDouble:
    """Listens until closed. `bodies` and `headers` are what it was asked; `aborted` counts streams that were closed."""

    def __init__(self, script: Script = echo) -> None:
        self.script = script
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refuses: list[tuple[int, dict[str, str], bytes]] = []
        """Status, headers and body of the next answers, instead of the script's."""
        self.models = json.dumps({"data": [{"id": "the-model", "owned_by": "double"}]}).encode()
        """What it says that it serves."""
        self.aborted = 0
        self.aborted_at = 0.0
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> ChatDouble:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128


def _handler(double: ChatDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

        def _send(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # whoever asked may be gone
                self.wfile.write(data)

        def do_GET(self) -> None:
            self._send(200, {}, double.models)

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if not data:
                return  # whoever asked is gone
            body = json.loads(data)
            double.bodies.append(body)
            double.headers.append({name.lower(): value for name, value in self.headers.items()})
            if double.refuses:
                self._send(*double.refuses.pop(0))
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for item in double.script(body):
                if isinstance(item, float):
                    gone, _, _ = select.select([self.connection], [], [], item)
                    if gone:
                        double.aborted += 1
                        double.aborted_at = time.monotonic()
                        return
                    continue
                if item is RESET:
                    self.wfile.flush()
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.connection.close()
                    return
                data = item if isinstance(item, bytes) else _event(item)
                try:
                    self.wfile.write(data)
                except OSError:
                    double.aborted += 1
                    double.aborted_at = time.monotonic()
                    return

    return Handler


def _event(item: dict[str, Any] | str) -> bytes:
    return b"data: " + (item if isinstance(item, str) else json.dumps(item)).encode() + b"\n\n"


@contextlib.contextmanager
def chat_host(folder: Path, *urls: str, context: int = 4096, **extra: Any) -> Iterator[Path]:
    """Run an engine host over servers in chat form, and yield its socket."""
    options = EngineOptions(kind="textonly", context_tokens=context, extra={**nodes_at(*urls), **extra})
    files = chat_model_files("chat:the-model", folder / "files")
    with host_running(folder, TextOnlyEngine(), files, options=options) as socket:
        yield socket


@contextlib.asynccontextmanager
async def chat_service(
    socket: Path, *, guards: Guards | None = None, cache: AnswerCache | None = None, metrics: Metrics | None = None
) -> AsyncIterator[ServingService]:
    """Serve the model `chat` of such a host."""
    service = ServingService(
        Topology(models=(ServedModel(alias="chat", release="chat-1", kind="textonly", sockets=(str(socket),)),)),
        make_replica=lambda path: HostClient(Path(path)),
        load_text=lambda served: TextOnly(),
        check_grammar=lambda grammar: None,
        clock=SystemClock(),
        metrics=metrics or Metrics(),
        guards=guards,
        cache=cache,
    )
    await service.start()
    assert await service.connected(20)
    try:
        yield service
    finally:
        await service.close()
