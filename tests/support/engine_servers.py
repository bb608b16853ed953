"""A running `ashore engine serve` for tests."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from waiting import eventually

from ashore.kit.identity import Identity


class Server:
    """A running `ashore engine serve`."""

    def __init__(self, process: subprocess.Popen[str], url: str, trust: ssl.SSLContext | None = None) -> None:
        self.process = process
        self.url = url
        self._trust = trust

    def ask(self, path: str, body: object = None, key: str = "") -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"authorization": f"Bearer {key}"} if key else {})
        with urllib.request.urlopen(request, timeout=30, context=self._trust) as answer:
            text = answer.read().decode()
        return json.loads(text) if text.startswith("{") else text

    def metric(self, name: str) -> float:
        lines = self.ask("/metrics").splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))


@contextmanager
def engine_server(home: Path, port: int, *words: str) -> Iterator[Server]:
    """Run `ashore engine serve` until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ashore.cli.main", "engine", "serve", *words, "--port", str(port)],
        env={**os.environ, "ASHORE_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        tls = "--tls" in words
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        assert f"on {url}" in process.stdout.readline()
        server = Server(process, url, Identity(folder=home / "fleet").context(server=False) if tls else None)

        def answers() -> bool:
            try:
                return bool(server.ask("/health"))
            except OSError:
                return False

        eventually(answers, limit_s=30)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        with process:
            assert process.wait(40) == 0
