"""Clients that keep asking a server for streams, for tests and benchmarks of what happens to them."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


class Listening(Protocol):
    """A server on this machine."""

    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request of the load. Times are seconds of the monotonic clock."""

    began_s: float
    first_s: float
    """Of the first token; 0: it had none."""
    ended_s: float
    status: int
    """Of HTTP; 0: nobody answered."""
    release: str
    whole: bool


def ask(
    server: Listening, key: str, model: str, text: str, *, tokens: int = 12, timeout_s: float = 60.0, **more: object
) -> Asked:
    """Stream one answer to its end. `more` are further fields of the request."""
    began_s, first_s, status, release, whole = time.monotonic(), 0.0, 0, "", False
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout_s)
    messages = [{"role": "user", "content": text}]
    body = {"model": model, "stream": True, "max_tokens": tokens, "messages": messages, **more}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        status, release = answer.status, answer.getheader("x-ashore-release") or ""
        for line in answer:
            if status == 200 and not first_s and line.startswith(b"data: {"):
                first_s = time.monotonic()  # nothing goes out before the first token
            whole = line.startswith(b"data: [DONE]") or whole
    except (OSError, http.client.HTTPException):
        whole = False
    finally:
        connection.close()
    return Asked(
        began_s=began_s, first_s=first_s, ended_s=time.monotonic(), status=status, release=release, whole=whole
    )


@contextmanager
def clients(server: Listening, key: str, model: str, *, streams: int) -> Iterator[list[Asked]]:
    """Keep so many clients asking, each the next question when it has its answer. The list grows until all are done."""
    asked: list[Asked] = []
    stop = threading.Event()

    def load(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            asked.append(ask(server, key, model, f"client {number}, question {turn}"))

    threads = [threading.Thread(target=load, args=(number,)) for number in range(streams)]
    try:
        for number, thread in enumerate(threads):
            thread.start()
            time.sleep(0.05 if number < 8 else 0)  # so that some are before their first token at any moment
        yield asked
    finally:
        stop.set()
        for thread in threads:
            thread.join()
