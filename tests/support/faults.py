"""What tests of the doctor make faults with."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
from served import Served


def chat(
    server: Served, alias: str, text: str, *, key: str = "", timeout_s: float = 60, **fields: Any
) -> httpx.Response:
    body = {"model": alias, "messages": [{"role": "user", "content": text}], "max_tokens": 2, **fields}
    headers = {"authorization": f"Bearer {key or server.key}"}
    with httpx.Client(trust_env=False, timeout=timeout_s) as client:
        return client.post(f"{server.base_url}/chat/completions", json=body, headers=headers)


def many(number: int, ask: Callable[[int], Any], at_once: int = 8) -> list[Any]:
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(ask, range(number)))


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
