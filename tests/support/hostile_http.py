"""Raw and hostile requests to a worker."""

from __future__ import annotations

import json
import socket
from typing import Any

from http_worker import Worker

CHAT = "/v1/chat/completions"


def ask(model: str = "echo", text: str = "hi", **fields: Any) -> str:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **fields})


def head(worker: Worker, *lines: str, path: str = CHAT, method: str = "POST") -> bytes:
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", "host: x", f"authorization: Bearer {worker.key}", *lines, "", ""]
    ).encode()


def read_all(sock: socket.socket, timeout_s: float = 10) -> bytes:
    sock.settimeout(timeout_s)
    parts = []
    try:
        while part := sock.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def read_until(sock: socket.socket, mark: bytes, timeout_s: float = 10) -> bytes:
    sock.settimeout(timeout_s)
    seen = b""
    while mark not in seen:
        part = sock.recv(65536)
        if not part:
            raise AssertionError(f"closed before {mark!r}: {seen!r}")
        seen += part
    return seen


def still_answers(worker: Worker) -> bool:
    status, _, body = worker.request("POST", CHAT, ask())
    return status == 200 and b'"hi"' in body


def ready_status(worker: Worker) -> int:
    try:
        return worker.request("GET", "/readyz")[0]
    except OSError:
        return 0
