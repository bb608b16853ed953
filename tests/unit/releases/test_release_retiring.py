"""Hosts that are to end once their answers have."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from host_in_thread import host_running

from ashore.core.clock import ManualClock, SystemClock
from ashore.core.errors import AshoreError, EngineFailed, InvalidRequest
from ashore.data.engines import EngineOptions, ModelPlan
from ashore.data.engines.failures import failure_of
from ashore.data.engines.fake.engine import FakeEngine
from ashore.data.engines.fake.files import fake_model_files
from ashore.data.engines.frames import PROTOCOL_VERSION, LoadFailed, encode
from ashore.kit.processes import listen_on
from ashore.kit.processes.supervisor import Supervisor
from ashore.kit.settings import Home, Settings
from ashore.machine.deployment.hosts import Hosts, Replica, Running


@dataclass
class Processes:
    """Twin of the supervisor."""

    pids: dict[str, int] = field(default_factory=lambda: {"host": 7})
    stopped: list[str] = field(default_factory=list)

    def pid(self, child: str) -> int | None:
        return self.pids.get(child)

    def stop(self, child: str) -> None:
        self.stopped.append(child)


class Stage:
    """One host that is to end within an hour."""

    def __init__(self, folder: Path, socket: Path) -> None:
        self.processes, self.clock = Processes(), ManualClock()
        home, twin = Home(root=folder), self.processes
        self.hosts = Hosts(home=home, settings=Settings(home=home), supervisor=twin, clock=self.clock)  # type: ignore[arg-type]
        unused: Any = None
        replica = Replica(child="host", socket=socket)
        running = Running(plan=unused, files=unused, replicas=(replica,), created_s=0, slot=0, content="")
        self.hosts.retire(running, patience_s=3600)

    def look(self, times: int) -> list[str]:
        for _ in range(times):
            self.hosts.look_after_retiring()
            self.clock.advance(1)
        return self.processes.stopped


def test_hosts_of_a_release_are_started_again_while_those_before_still_end(tmp_path: Path) -> None:
    """As where a reload fails, and the next one has waited for that: both give the release the next name."""
    home, clock = Home(root=tmp_path), SystemClock()
    for folder in (home.run, home.logs):
        folder.mkdir(parents=True)
    files = fake_model_files("fake:echo", tmp_path / "files")
    plan = ModelPlan(
        alias="chat", release="chat-2", name="fake:echo", variant="", replicas=1, embedder=False,
        options=EngineOptions(kind="fake"), in_store=True,
    )  # fmt: skip
    with Supervisor(clock=clock, say=lambda line: None) as supervisor:
        hosts = Hosts(home=home, settings=Settings(home=home), supervisor=supervisor, clock=clock)
        first = hosts.start(plan, files)
        assert hosts.wait(first, clock.monotonic_s() + 20) is not None
        hosts.stop(first)
        again = hosts.start(plan, files)
        assert hosts.wait(again, clock.monotonic_s() + 20) is not None
        assert {one.child for one in first.replicas}.isdisjoint(one.child for one in again.replicas)
        while supervisor.state(first.replicas[0].child) != "stopped":
            supervisor.tick(0.05)
        assert supervisor.state(again.replicas[0].child) == "running"


def test_one_that_is_idle_at_two_looks_ends(tmp_path: Path) -> None:
    with host_running(tmp_path, FakeEngine(), fake_model_files("fake:echo", tmp_path / "files")) as socket:
        stage = Stage(tmp_path, socket)
        assert stage.look(1) == []
        looks = 0
        while not stage.look(1):  # a busy machine may leave some looks without an answer
            looks += 1
            assert looks < 50, "before it counts as one that hangs"


def test_one_that_does_not_answer_in_time_works_and_is_let_be_until_it_hangs(tmp_path: Path) -> None:
    with listen_on(tmp_path / "host.sock"):  # whose loop has no turn for anybody
        stage = Stage(tmp_path, tmp_path / "host.sock")
        assert stage.look(3) == []
        stage.clock.advance(60)
        assert stage.look(1) == ["host"]


def test_one_that_greets_and_then_computes_does_not_hold_up_the_supervisor(tmp_path: Path) -> None:
    go = threading.Event()

    class Busy(FakeEngine):
        def stats(self) -> Any:
            go.wait(10)
            return super().stats()

    with host_running(tmp_path, Busy(), fake_model_files("fake:echo", tmp_path / "files")) as socket:
        stage = Stage(tmp_path, socket)
        try:
            assert stage.look(2) == []
            assert not go.is_set()
        finally:
            go.set()


def test_one_that_fell_has_nothing_to_lose(tmp_path: Path) -> None:
    with listen_on(tmp_path / "host.sock"):
        stage = Stage(tmp_path, tmp_path / "host.sock")
        stage.processes.pids["host"] = 8  # started again, and loading
        assert stage.look(2) == ["host"]


@contextmanager
def refusing_host(folder: Path, error: AshoreError) -> Iterator[Path]:
    """Give the socket of a host that tells whoever comes why it cannot load."""
    path = folder / "host.sock"
    with listen_on(path) as listener:
        listener.setblocking(True)

        def refuse() -> None:
            while True:
                connection, _ = listener.accept()
                if ended.is_set():
                    connection.close()
                    return
                connection.sendall(encode(LoadFailed(PROTOCOL_VERSION, failure_of(error))))
                connection.close()

        ended = threading.Event()
        thread = threading.Thread(target=refuse)
        thread.start()
        try:
            yield path
        finally:
            ended.set()
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
            thread.join()


def test_one_that_could_not_load_has_nothing_to_lose_and_hurts_nobody(tmp_path: Path) -> None:
    """A typo, and second thoughts before the host has met it."""
    with refusing_host(tmp_path, InvalidRequest("llamacpp has no option 'kv_cash'")) as path:
        assert Stage(tmp_path, path).look(2) == ["host"]


def test_hosts_of_a_release_that_cannot_be_started_whole_end(tmp_path: Path) -> None:
    home, clock = Home(root=tmp_path), SystemClock()
    for folder in (home.run, home.logs):
        folder.mkdir(parents=True)
    files = fake_model_files("fake:echo", tmp_path / "files")
    (home.logs / "host-chat-1.log").mkdir()  # the log of the second one cannot be opened
    plan = ModelPlan(
        alias="chat", release="chat-2", name="fake:echo", variant="", replicas=2, embedder=False,
        options=EngineOptions(kind="fake"), in_store=True,
    )  # fmt: skip
    with Supervisor(clock=clock, say=lambda line: None) as supervisor:
        hosts = Hosts(home=home, settings=Settings(home=home), supervisor=supervisor, clock=clock)
        with pytest.raises(EngineFailed, match=r"engine host chat-2/1 cannot be started: .*Is a directory"):
            hosts.start(plan, files)
        for _ in range(400):
            if supervisor.state("engine host chat-2/0") == "stopped":
                break
            supervisor.tick(0.05)
        assert supervisor.state("engine host chat-2/0") == "stopped"
