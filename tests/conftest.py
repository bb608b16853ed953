"""Shared fixtures: the demo home, free ports, a served instance, and the guard that keeps tests on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import run_command
from demo_files import demo_files
from demo_home import demo_home_path
from hypothesis import HealthCheck, settings
from real_vllm import PROGRAM, RealVllm, real_vllm
from s3_server import s3_server
from served import Served, start_served
from signalstack import use_ordinary_signal_stack

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")
"""How fast examples are made and run says something of the machine, not of what is tested."""

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
"""Images of containers forbid it. Here hundreds of processes start, and each would compile all that it imports."""

LOOPBACK = ("127.", "::1", "localhost")


class LeftTheMachine(AssertionError):
    """A test tried to reach an address beyond loopback."""


def _check_address(family: int, address: object) -> None:
    if family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        return
    host = str(address[0])
    if not host.startswith(LOOPBACK) and host not in ("", "0.0.0.0", "::"):
        raise LeftTheMachine(f"a test tried to reach {address!r}; tests stay on this machine")


@pytest.fixture(autouse=True, scope="session")
def only_loopback() -> Iterator[None]:
    """Refuse every connection of the test process that leaves the machine."""
    real_connect, real_connect_ex, real_sendto = socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto

    def connect(self: socket.socket, address: object) -> object:
        _check_address(self.family, address)
        return real_connect(self, address)  # type: ignore[arg-type]

    def connect_ex(self: socket.socket, address: object) -> object:
        _check_address(self.family, address)
        return real_connect_ex(self, address)  # type: ignore[arg-type]

    def sendto(self: socket.socket, *args: object) -> object:
        _check_address(self.family, args[-1])
        return real_sendto(self, *args)  # type: ignore[call-overload]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket.socket, "connect_ex", connect_ex)
        patch.setattr(socket.socket, "sendto", sendto)
        yield


@pytest.fixture(autouse=True)
def sound_signal_stack() -> None:
    """Keep a test that loaded OpenVINO from breaking the signals of the tests after it."""
    if sys.platform == "linux" and "openvino" in sys.modules:
        use_ordinary_signal_stack()


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep `ASHORE_*` of the developer, and their home, out of every test."""
    for name in list(os.environ):
        if name.startswith("ASHORE_") and not name.startswith("ASHORE_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path_factory.getbasetemp() / "no-such-home"))


@pytest.fixture(scope="session")
def demo_home() -> Path:
    """Home whose store has `smollm2`, its `int8` variant and `minilm`. Built once, cached, and never written by tests.

    Tests that serve from it make a home of their own whose `store` is a link to the one here: see `served`.
    """
    return demo_home_path()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of its own with 1 MiB; skips where this user may not mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not done or done.returncode != 0:
        pytest.skip("this user may not mount a tmpfs: no disk is full")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Return a function that gives a TCP port nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture(scope="session")
def real_vllm_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealVllm]:
    """Give a real vLLM of the demo model; the tests that ask for it are skipped where none is installed."""
    if not PROGRAM:
        pytest.skip("no vLLM; `make test-vllm` installs one")
    files = Path(demo_files(request.getfixturevalue("demo_home"), "smollm2").directory)
    with real_vllm(files / "model.gguf", files, tmp_path_factory.mktemp("vllm")) as server:
        yield server


@pytest.fixture
def ashore() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the command line in a process of its own: `ashore("model", "list", home=path)`."""
    return run_command


@pytest.fixture
def served(
    tmp_path: Path, free_port: Callable[[], int], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Served]]:
    """Return a function that runs `ashore up MODELS...` and gives its address and key; all of them stop at the end.

    `served("fake:echo")` needs no model. With real names the home shares the store of `demo_home`. More words for the
    command line go into `options`, an environment into `env`, the text of an ashore.toml into `config`.
    """
    with _servers(tmp_path, free_port, request) as start:
        yield start


@pytest.fixture(scope="module")
def served_for_all(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Served]]:
    """Return what `served` does; its servers stop after the last test of the file."""
    with _servers(tmp_path_factory.mktemp("served"), free_port, request) as start:
        yield start


@contextmanager
def _servers(
    folder: Path, free_port: Callable[[], int], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Served]]:
    running: list[Served] = []

    def start(*models: str, **options: object) -> Served:
        store = None
        if any(not m.startswith("fake:") for m in models) or not (models or options.get("config")):
            store = request.getfixturevalue("demo_home") / "store"
        one = start_served(
            folder / f"home-{len(running)}",
            models,
            store=store,
            port=free_port(),
            grpc_port=free_port(),
            **options,  # type: ignore[arg-type]
        )
        running.append(one)
        return one

    try:
        yield start
    finally:
        for one in running:
            one.stop()


@pytest.fixture(scope="module")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real S3 server on loopback."""
    with s3_server(tmp_path_factory.mktemp("s3")) as url:
        yield url
