"""An API worker in a process of its own, over replicas in memory, for tests of the HTTP side."""

from __future__ import annotations

import http.client
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import Forked, start_module
from msgspec.structs import replace

from ashore.core.clock import SystemClock
from ashore.data.authority import keep_first_key, make_first_key
from ashore.data.path import (
    AdmissionSection,
    HttpListen,
    Limits,
    ServedModel,
    StateLink,
    Topology,
    WorkerListen,
    write_topology,
)
from ashore.kit.state import open_database

SCRIPT = Path(__file__).with_name("memory_worker.py")

MODELS = {"echo": "echo", "slow": "slow-20", "dies": "dies-2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A running worker."""

    process: Forked
    port: int
    key: str
    run: Path
    topology: Topology

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        return (self.run / "worker.log").read_text()

    def request(
        self, method: str, path: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request on a connection of its own, with the key, and return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {"authorization": f"Bearer {self.key}", **(headers or {})})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def metric(self, name: str) -> float:
        """Return one series of `/metrics` by its full name with labels, 0 where it is not there."""
        _, _, page = self.request("GET", "/metrics")
        for line in page.decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        return 0.0


def state_link(folder: Path) -> StateLink:
    """Return the way to a state of its own in `folder`."""
    return StateLink(path=str(folder / "state.db"), snapshots=str(folder / "snapshots"))


@contextmanager
def http_worker(
    run: Path,
    *,
    limits: Limits | None = None,
    admission: AdmissionSection | None = None,
    models: dict[str, str] = MODELS,
    drain_timeout_s: float = 5.0,
    wait: bool = True,
    first_key: str = "",
    **topology_fields: Any,
) -> Iterator[Worker]:
    """Start a worker in `run` and stop it at the end. `models`: alias to the name that steers its replica."""
    run.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    topology = Topology(
        models=tuple(
            ServedModel(alias=alias, release=f"{alias}-1", kind="fake", sockets=(f"/memory/{kind}",), created_s=1)
            for alias, kind in models.items()
        ),
        http=HttpListen(port=port),
        limits=limits or Limits(),
        admission=admission or AdmissionSection(),
        first_key_file=str(run / "first-key"),
        drain_timeout_s=drain_timeout_s,
        **topology_fields,
    )
    sockets = Path(tempfile.mkdtemp(prefix="ashore-"))  # the path of a socket may have 107 bytes
    if topology.state.path:
        topology = replace(
            topology,
            workers=(WorkerListen(http=topology.http, inner=str(sockets / "api-0.sock")),),
            control=str(sockets / "control.sock"),
        )
    key = first_key or make_first_key(run / "first-key")
    if topology.state.path:
        _keep_key(key, topology.state)
    write_topology(topology, run / "topology.json")
    with open(run / "worker.log", "wb") as log:
        process = start_module("memory_worker", str(run), said=log)
        control = start_module("memory_control", str(run), said=log) if topology.control else None
    worker = Worker(process=process, port=port, key=key, run=run, topology=topology)
    try:
        if wait:
            _wait_ready(worker)
        yield worker
    finally:
        for one in (control, process):
            if one is not None and one.poll() is None:
                one.send_signal(signal.SIGTERM)
                one.wait(20)
        shutil.rmtree(sockets)


def _keep_key(key: str, link: StateLink) -> None:
    """Put the key into the state, as `ashore up` does."""
    state = open_database(Path(link.path), snapshots=Path(link.snapshots), clock=SystemClock())
    try:
        with state.write() as connection:
            keep_first_key(connection, key, created_s=1)
    finally:
        state.close()


def _wait_ready(worker: Worker) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if worker.process.poll() is not None:
            raise RuntimeError(f"the worker ended with {worker.process.returncode}:\n{worker.said()}")
        try:
            if worker.request("GET", "/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.03)
    raise RuntimeError(f"the worker was not ready:\n{worker.said()}")
