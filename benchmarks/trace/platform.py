"""`ashore up` as a subprocess with everything in front, its processes by role, and what came of them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

READY_S = 180.0
LEASE_S = 30.0
"""Of the job worker, as `JobsLaunch` has it."""


class Platform:
    """One home, and the server that runs on it now."""

    def __init__(self, home: Path, models: Sequence[str], *, port: int, config: str, offline: bool = True) -> None:
        self.home = home
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True, exist_ok=True)
        (home / "ashore.toml").write_text(config)
        self.words = ["up", *models, "--edge", "envoy", "--workers", "2", "--redis", "embedded"]
        self.words += ["--port", str(port), "--config", str(home / "ashore.toml"), *(["--offline"] if offline else [])]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return (self.home / "first-key").read_text().strip()

    @property
    def authority(self) -> Path:
        """Certificate that clients check the edge against."""
        return self.home / "edge" / "ca.pem"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start it, and return the seconds until it was ready.

        Raises:
            RuntimeError: it ended, or was not ready in time; the message holds the ends of the logs.
        """
        began = time.monotonic()
        with open(self.home / "up.out", "ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ashore.cli.main", *self.words],
                env={**os.environ, "ASHORE_HOME": str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() - began > READY_S:
                raise RuntimeError(f"`ashore up` is not ready ({self._process.poll()}):\n{self.said()}")
            time.sleep(0.1)
        return time.monotonic() - began

    def ready(self) -> bool:
        """Return whether the one port answers that it is ready, checked against the edge's own certificate."""
        if not self.authority.exists():
            return False
        return self.get("/readyz", timeout_s=2)[0] == 200

    def get(self, path: str, *, timeout_s: float = 10) -> tuple[int, bytes]:
        """Return status and body of a GET with the key; status 0 when nobody answers."""
        try:
            trust = ssl.create_default_context(cafile=str(self.authority))
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout_s, context=trust)
        except (OSError, ssl.SSLError):
            return 0, b""
        try:
            key = {"authorization": f"Bearer {self.key}"} if (self.home / "first-key").exists() else {}
            connection.request("GET", path, headers=key)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def models(self) -> list[str]:
        """Return the names that clients may ask for."""
        return [one["id"] for one in json.loads(self.get("/v1/models")[1])["data"]]

    def offers(self, method: str, path: str) -> bool:
        """Return whether the server's own description lists a route."""
        paths = json.loads(self.get("/openapi.json")[1])["paths"]
        return method in paths.get(path, {})

    def stop(self, timeout_s: float = 60) -> int:
        """Stop it with SIGTERM, and return its exit code. May be called twice."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return self._process.returncode

    def kill(self) -> None:
        """End the supervisor with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def said(self) -> str:
        """Return the ends of all that it wrote."""
        logs = [self.home / "up.out", *sorted((self.home / "logs").glob("*.log"))]
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs if log.exists())

    def processes(self) -> dict[int, str]:
        """Return every live process of this home, the supervisor included, with its command line."""
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                command = (folder / "cmdline").read_bytes()
                text = command + (folder / "environ").read_bytes()
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if str(self.home).encode() in text and state != "Z" and int(folder.name) != os.getpid():
                found[int(folder.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    def roles(self) -> dict[str, int]:
        """Return the processes that the supervisor has started, by role."""
        found = {}
        for pid, command in self.processes().items():
            role = role_of(command)
            if role and _parent(pid) == self.pid:
                found[role] = pid
        return found

    def jobs_taken(self, since_s: float) -> bool:
        """Return whether a job was leased, its lease renewed, or ended after a moment (seconds since the epoch)."""
        ms = since_s * 1000
        return self._has_job("finished_ms > ? OR (state = 'running' AND lease_until_ms > ?)", (ms, ms + LEASE_S * 1000))

    def runs_a_suspect(self) -> bool:
        """Return whether a job is under way under which a process has died before."""
        return self._has_job("state = 'running' AND deaths > 0")

    def _has_job(self, condition: str, given: Sequence[float] = ()) -> bool:
        with closing(sqlite3.connect(f"file:{self.home / 'state.db'}?mode=ro", uri=True, timeout=5)) as connection:
            return connection.execute(f"SELECT 1 FROM job WHERE {condition} LIMIT 1", given).fetchone() is not None

    def works(self, role: str) -> bool:
        """Return whether a process does its work, as far as it shows without a request of a client."""
        match role:
            case "envoy":
                return self.ready()
            case "api 0" | "api 1":
                return _http_ok(self.home / "run" / f"api-{role[-1]}.sock", "/readyz")
            case "valkey":
                return _pong(self.home / "run" / "valkey.sock")
            case "jobs":
                return role in self.roles()
            case _:
                return _http_ok(self.home / "run" / "api-0.sock", "/readyz")


def role_of(command: str) -> str:
    """Return the role of a process by its command line; empty for those that have none."""
    if "ashore.data.worker" in command:
        return f"api {command.partition('--index ')[2].split()[0]}"
    if "ashore.data.engines.host" in command:
        return f"engine host {command.partition('host-')[2].partition('.')[0]}"
    for word, role in (
        ("ashore.control.jobs.worker", "jobs"),
        ("valkey-server", "valkey"),
        ("/envoy ", "envoy"),
    ):
        if word in command:
            return role
    return ""


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


class _UnixHttp(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=2)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(2)
        self.sock.connect(str(self._path))


def _http_ok(path: Path, target: str) -> bool:
    connection = _UnixHttp(path)
    try:
        connection.request("GET", target)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _pong(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(0.5)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
