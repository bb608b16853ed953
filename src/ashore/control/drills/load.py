"""Clients that continuously send requests to a server, and record each outcome."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from ashore.control.drills.model import Outcome
from ashore.core.errors import EngineFailed
from ashore.core.serversent import DONE, ServerSent
from ashore.kit.identity import trust

PAUSE_S = 0.05
"""After a request that failed, so that a dead server is not flooded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Target of the load."""

    url: str
    key: str
    model: str
    ca_file: str = ""
    tokens: int = 12
    timeout_s: float = 30.0
    cached: bool = False
    """Whether answers are looked up and kept in the cache. No question is asked twice, so none is found there."""


class Load:
    """Streaming requests by several concurrent clients. No two are equal."""

    def __init__(self, asked: Asked, clients: int) -> None:
        """Create it; sends nothing yet."""
        self._asked = asked
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._outcomes: list[Outcome] = []
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(clients)]
        self._began_s = time.monotonic()

    def start(self, began_s: float) -> None:
        """Start sending. `began_s`: monotonic time from which outcomes count."""
        self._began_s = began_s
        for thread in self._threads:
            thread.start()

    def stop(self) -> tuple[Outcome, ...]:
        """Let each client finish its request, and return all outcomes."""
        self._stop.set()
        for thread in self._threads:
            thread.join(self._asked.timeout_s + 5)
        return self.outcomes()

    def outcomes(self) -> tuple[Outcome, ...]:
        with self._lock:
            return tuple(self._outcomes)

    def _run(self, client: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            outcome = ask_once(self._asked, f"drill {client} {number} {self._began_s}", self._began_s)
            with self._lock:
                self._outcomes.append(outcome)
            if not outcome.ok:
                self._stop.wait(PAUSE_S)


def ask_once(asked: Asked, text: str, began_s: float) -> Outcome:
    """Send one streaming request, and return its outcome. Never raises."""
    start_s = time.monotonic()
    first_s, status, code, ended, got = 0.0, 0, "", False, False
    parts = urlsplit(asked.url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = trust("the drill", asked.ca_file)
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, timeout=asked.timeout_s, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=asked.timeout_s)
    body = {
        "model": asked.model, "stream": True, "max_tokens": asked.tokens, "temperature": 0,
        "messages": [{"role": "user", "content": text}],
    }  # fmt: skip
    headers = {"authorization": f"Bearer {asked.key}", "content-type": "application/json"}
    if not asked.cached:
        headers["cache-control"] = "no-store"
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        status = answer.status
        if status != 200:
            code = code_of(answer.read(65_536))
        else:
            reader = ServerSent(asked.url)
            while piece := answer.read1(65_536):
                first_s = first_s or time.monotonic() - start_s
                for data in reader.take(piece):
                    if data == DONE:
                        ended = True
                    else:
                        got, code = True, code or code_of(data)
    except (OSError, http.client.HTTPException, EngineFailed) as fault:
        code = code or type(fault).__name__
    finally:
        connection.close()
    return Outcome(
        at_s=start_s - began_s,
        first_s=first_s,
        took_s=time.monotonic() - start_s,
        ok=status == 200 and ended and not code,
        status=status,
        code=code,
        silent_cut=status == 200 and got and not ended and not code,
    )


def code_of(data: bytes) -> str:
    """Return the code of an error; empty if these bytes are not one."""
    try:
        told = json.loads(data)
    except ValueError:
        return ""
    error = told.get("error") if isinstance(told, dict) else None
    if isinstance(error, dict):
        return str(error.get("code") or error.get("type") or "error")
    return ""


def quantile(values: Sequence[float], share: float) -> float:
    """Return the quantile `share` of the values; 0 if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
