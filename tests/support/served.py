"""A running `ashore up` for tests."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import Forked, start_command

from ashore.kit.processes import python_command

STARTED = "Ctrl-C stops it"
"""`ashore up` says so when all of its models answer and its state has them. `/readyz` is 200 before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One running server."""

    process: subprocess.Popen[bytes] | Forked
    home: Path
    port: int
    grpc_port: int
    output: Path
    """What `ashore up` printed, both streams."""
    host: str = "127.0.0.1"
    """Where it is reached."""

    @property
    def base_url(self) -> str:
        """Address for OpenAI clients, with `/v1`."""
        return f"http://{self.host}:{self.port}/v1"

    @property
    def root_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def grpc_address(self) -> str:
        return f"{self.host}:{self.grpc_port}"

    @property
    def key(self) -> str:
        return (self.home / "first-key").read_text().strip()

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def ready(self) -> bool:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def wait_ready(self, timeout_s: float = 90) -> None:
        deadline = time.monotonic() + timeout_s
        while not (STARTED in self.said() and self.ready()):
            if self.process.poll() is not None:
                raise RuntimeError(f"ashore up ended with {self.process.returncode}:\n{self.everything_said()}")
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"ashore up was not ready after {timeout_s} s:\n{self.everything_said()}")
            time.sleep(0.05)

    def everything_said(self) -> str:
        """Return the output and the ends of all logs, for messages."""
        parts = [self.said()[-4000:]]
        for log in sorted((self.home / "logs").glob("*.log")):
            parts.append(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
        return "\n".join(parts)

    def stop(self, timeout_s: float = 40) -> int:
        """Stop it as Ctrl-C's grown-up sister SIGTERM does, and return the exit code. May be called twice."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        return self.process.returncode


def start_served(
    home: Path,
    models: Sequence[str],
    *,
    store: Path | None,
    port: int,
    grpc_port: int,
    options: Sequence[str] = (),
    env: dict[str, str] | None = None,
    config: str = "",
    wait: bool = True,
    prefix: Sequence[str] = (),
    host: str = "127.0.0.1",
    forked: bool = True,
) -> Served:
    """Start `ashore up` in `home` and wait until it is ready (unless `wait` is false).

    Its processes are forked from one that has imported what they run, which saves 3 s of computing. With `prefix`, or
    without `forked`, each is a Python that starts from nothing, as everywhere but in tests.
    """
    home.mkdir(parents=True, exist_ok=True)
    if store is not None and not (home / "store").exists():
        (home / "store").symlink_to(store)
    words = ["up", *models, "--port", str(port), "--grpc-port", str(grpc_port), *options]
    if config:
        (home / "ashore.toml").write_text(config)
        words += ["--config", str(home / "ashore.toml")]
    output = home / "up.out"
    with open(output, "wb") as sink:
        process: subprocess.Popen[bytes] | Forked
        if forked and not prefix:
            process = start_command(*words, home=home, env=env, printed=sink, told=sink, serves=True)
        else:
            process = subprocess.Popen(
                [*prefix, *python_command("ashore.cli.main", *words)],
                env={**os.environ, "ASHORE_HOME": str(home), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    one = Served(process=process, home=home, port=port, grpc_port=grpc_port, output=output, host=host)
    if wait:
        one.wait_ready()
    return one


def call(server: Served, method: str, path: str, key: str, body: object = None) -> dict[str, Any]:
    """Send one request to a server; raises where it does not answer 200."""
    request = urllib.request.Request(
        server.root_url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def owner_key(server: Served) -> str:
    """Make a security officer, who makes a model owner; return the owner's key."""
    return officer_and_owner(server)[1]


def approve_tools(server: Served, officer: str, name: str) -> None:
    """Approve every tool that a server of tools has now."""
    found = call(server, "POST", f"/admin/v1/mcp/servers/{name}/check", officer, {})
    wish = {"digest": found["digest"], "tools": [one["tool"] for one in found["tools"]]}
    call(server, "POST", f"/admin/v1/mcp/servers/{name}/approve", officer, wish)


def officer_and_owner(server: Served) -> tuple[str, str]:
    """Make a security officer, who makes a model owner; return their keys."""
    keys = [server.key]
    for user, role in (("sec", "security-officer"), ("owner", "model-owner")):
        made = call(server, "POST", "/admin/v1/users", keys[-1], {"id": user, "roles": [role], "key": {}})
        keys.append(made["key"]["key"])
    return keys[1], keys[2]


def host_of(server: Served, release: str) -> int:
    """Return the process of the host of a release."""
    topology = json.loads((server.home / "run" / "topology.json").read_text())
    for one in (*topology["models"], *topology["beside"]):
        if one["release"] == release:
            for folder in Path("/proc").iterdir():
                if folder.name.isdigit() and one["sockets"][0] in words_of(folder):
                    return int(folder.name)
    raise AssertionError(f"{release} has no host")


def words_of(process: Path) -> list[str]:
    """Return the command line of a process in `/proc`; empty where it is gone."""
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
