"""An ashore of the example's own, on a free port of 127.0.0.1, started and asked as anybody else would."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

READY_S = 600
"""The first start of all pulls the demo model and prepares it."""
SAY_S = 10
"""Between two lines about a start that takes its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that answers."""

    url: str
    """Base URL without `/v1`."""
    key: str
    grpc_port: int
    home: Path
    """Its home: audit log, cache, logs, state. Deleted when the example is over."""
    client: httpx.Client
    """Sends the key."""

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send one request and return the answer; an error answer is raised with its text."""
        answer = self.client.post(path, json=body)
        if answer.is_error:
            raise RuntimeError(f"POST {path} was answered {answer.status_code}: {answer.text}")
        found: dict[str, Any] = answer.json()
        return found

    def ashore(self, *words: str) -> str:
        """Run `ashore WORDS` on this server's home, and return what it prints."""
        command = [sys.executable, "-P", "-m", "ashore.cli.main", *words]
        environ = {**os.environ, "ASHORE_HOME": str(self.home)}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"`ashore {' '.join(words)}` ended with {done.returncode}: {done.stderr}")
        return done.stdout


def own_home() -> Path:
    """Return the home of the person who runs the example; its store is the one that the example's server reads."""
    return Path(os.environ.get("ASHORE_HOME") or "~/.ashore").expanduser()


def kept_folder(name: str) -> Path:
    """Create the directory of a model that an example makes, in the same place each time: a name in the store keeps to
    its source."""
    folder = own_home() / "examples" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def serving(*models: str, toml: str = "", options: Sequence[str] = ()) -> Iterator[Server]:
    """Start `ashore up` and yield the server once it is ready; stop it and delete its home at the end.

    Args:
        models: As `ashore up` takes them, such as `smollm2`; models of the toml if there are none.
        toml: Text of its ashore.toml.
        options: More options of `ashore up`.
    """
    home = Path(tempfile.mkdtemp(prefix="ashore-example-"))
    store = own_home() / "store"
    store.mkdir(parents=True, exist_ok=True)
    (home / "store").symlink_to(store)
    (home / "ashore.toml").write_text(toml, encoding="utf-8")
    port, grpc_port = _free_ports(2)
    command = [sys.executable, "-P", "-m", "ashore.cli.main", "up", *models, "--config", str(home / "ashore.toml")]
    command += ["--port", str(port), "--grpc-port", str(grpc_port), *options]
    signal.signal(signal.SIGTERM, _end)  # so that a killed example stops its server too
    with open(home / "up.out", "wb") as said:
        process = subprocess.Popen(command, env={**os.environ, "ASHORE_HOME": str(home)}, stdout=said, stderr=said)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_ready(url, process, home / "up.out")
        key = (home / "first-key").read_text().strip()
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=headers, timeout=300, trust_env=False) as client:
            yield Server(url=url, key=key, grpc_port=grpc_port, home=home, client=client)
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(home)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_ready(url: str, process: subprocess.Popen[bytes], said: Path) -> None:
    began = said_s = time.monotonic()
    while True:
        try:
            if httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        now = time.monotonic()
        if now - said_s > SAY_S:
            lines = said.read_text(errors="replace").strip().splitlines() or [""]
            print(f"starting, {now - began:.0f} s: {lines[-1]}", flush=True)
            said_s = now
        if process.poll() is not None or now - began > READY_S:
            raise RuntimeError(f"`ashore up` did not become ready:\n{said.read_text(errors='replace')[-4000:]}")
        time.sleep(0.1)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
