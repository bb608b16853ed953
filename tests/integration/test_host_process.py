"""The engine host as a process: greeting, failures at load, kill, control pipe, signals, exit codes."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from host_in_thread import collect, echo_order

from ashore.core.errors import EngineFailed, HostDied, InvalidSpec
from ashore.data.engines import EngineOptions, Finished, HostClient, HostLaunch, host_command
from ashore.data.engines.fake.files import fake_model_files
from ashore.kit.processes.launchfiles import write_launch
from ashore.kit.processes.pulse import BEAT_S, PULSE_VARIABLE


class Host:
    """A host process with its control pipe."""

    def __init__(self, directory: Path, model: str, **launch: object) -> None:
        self.socket = directory / "host.sock"
        launch_path = directory / "launch.json"
        files = fake_model_files(model, directory / "files")
        write_launch(HostLaunch(files=files, options=EngineOptions(kind="fake"), **launch), launch_path)  # type: ignore[arg-type]
        self.start(launch_path)

    def start(self, launch_path: Path) -> None:
        read_end, self.control = os.pipe()
        command = host_command(self.socket, launch_path, control_fd=read_end)
        self.process = subprocess.Popen(command, pass_fds=[read_end], stderr=subprocess.PIPE, text=True)
        os.close(read_end)

    def exit_code(self, timeout_s: float = 10) -> int:
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        if self.control >= 0:
            os.close(self.control)


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    running: list[Host] = []
    yield running
    for host in running:
        host.stop()


async def connected(host: Host) -> HostClient:
    client = HostClient(host.socket)
    await client.connect(15.0)
    return client


def test_a_host_killed_in_mid_answer_raises_host_died_and_a_new_one_is_found(tmp_path: Path, hosts: list[Host]) -> None:
    host = Host(tmp_path, "fake:echo?tok_per_s=100")
    hosts.append(host)

    async def use() -> None:
        client = await connected(host)
        stream = client.generate(echo_order("a", "x" * 500))
        await anext(stream)
        host.process.kill()
        with pytest.raises(HostDied):
            await collect(stream)
        assert not client.connected
        host.process.wait(5)
        again = Host(tmp_path, "fake:echo")
        hosts.append(again)
        await client.connect(15.0)
        assert isinstance((await collect(client.generate(echo_order("b", "xyz"))))[-1], Finished)
        await client.close()

    asyncio.run(use())


def test_a_host_that_cannot_load_says_why_and_exits_with_the_errors_code(tmp_path: Path, hosts: list[Host]) -> None:
    hosts.append(host := Host(tmp_path, "fake:echo?fail_load=1"))
    with pytest.raises(EngineFailed, match="loading fails") as caught:
        asyncio.run(connected(host))
    assert caught.value.hint
    assert host.exit_code() == EngineFailed.exit_code


def test_a_broken_launch_file_is_named(tmp_path: Path, hosts: list[Host]) -> None:
    hosts.append(host := Host(tmp_path, "fake:echo?load_s=30"))
    host.stop()
    host.control = -1
    (tmp_path / "launch.json").write_text('{"files": {}, "options": {}}')
    host.start(tmp_path / "launch.json")
    with pytest.raises(InvalidSpec, match=r"launch\.json"):
        asyncio.run(connected(host))
    assert host.exit_code() == InvalidSpec.exit_code


def test_clients_that_come_while_it_loads_are_greeted_when_it_is_ready(tmp_path: Path, hosts: list[Host]) -> None:
    hosts.append(host := Host(tmp_path, "fake:echo?load_s=0.5"))

    async def use() -> None:
        clients = await asyncio.gather(*(connected(host) for _ in range(5)))
        assert all(client.info.kind == "fake" for client in clients)
        for client in clients:
            await client.close()

    asyncio.run(use())


@pytest.mark.parametrize("name", ["fake:echo", "fake:echo?load_s=60", "fake:echo?hang_after=1"])
def test_the_end_of_the_control_pipe_ends_the_host_whatever_it_does(
    tmp_path: Path, hosts: list[Host], name: str
) -> None:
    hosts.append(host := Host(tmp_path, name))

    async def hang() -> None:
        client = await connected(host)
        stream = client.generate(echo_order("a", "xyz"))
        await anext(stream)
        await client.close()

    if "load_s" not in name:
        asyncio.run(hang())
    else:
        time.sleep(0.5)
    os.close(host.control)
    host.control = -1
    host.exit_code(5)


def test_a_host_dies_with_the_process_that_started_it(tmp_path: Path, hosts: list[Host]) -> None:
    hosts.append(host := Host(tmp_path, "fake:echo"))
    asyncio.run(_connect_and_close(host))
    host.process.kill()
    host.process.wait(5)
    program = (
        "import os, subprocess, sys, time\n"
        "r, w = os.pipe(); os.set_inheritable(w, True)\n"  # the pipe stays open in the child: only the kernel tells it
        "p = subprocess.Popen(sys.argv[1:] + ['--control-fd', str(r)], pass_fds=[r, w], stderr=subprocess.DEVNULL)\n"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    command = host_command(host.socket, tmp_path / "launch.json")
    parent = subprocess.Popen([sys.executable, "-c", program, *command], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    asyncio.run(_connect_and_close(host))
    parent.kill()
    parent.communicate()
    deadline_s = time.monotonic() + 5
    while _alive(child):
        assert time.monotonic() < deadline_s, "the host outlived its supervisor"
        time.sleep(0.02)


async def _connect_and_close(host: Host) -> None:
    await (await connected(host)).close()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_sigterm_drains_and_exits_with_zero_and_sigint_is_left_to_the_supervisor(
    tmp_path: Path, hosts: list[Host]
) -> None:
    hosts.append(host := Host(tmp_path, "fake:echo?tok_per_s=100"))

    async def use() -> None:
        client = await connected(host)
        task = asyncio.create_task(collect(client.generate(echo_order("a", "x" * 30))))
        await asyncio.sleep(0.05)
        host.process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.05)
        host.process.send_signal(signal.SIGTERM)
        assert isinstance((await task)[-1], Finished)
        await client.close()

    asyncio.run(use())
    assert host.exit_code() == 0


def test_draining_has_an_end(tmp_path: Path, hosts: list[Host]) -> None:
    hosts.append(host := Host(tmp_path, "fake:echo?tok_per_s=1", drain_s=0.2))

    async def use() -> None:
        client = await connected(host)
        task = asyncio.create_task(collect(client.generate(echo_order("a", "x" * 300))))
        await asyncio.sleep(0.05)
        host.process.send_signal(signal.SIGTERM)
        (last,) = (await task)[-1:]
        assert getattr(last, "code", None) == "draining"
        await client.close()

    asyncio.run(use())
    assert host.exit_code() == 0


def test_a_second_sigterm_ends_a_host_at_once_and_in_order(tmp_path: Path, hosts: list[Host]) -> None:
    hosts.append(host := Host(tmp_path, "fake:echo?tok_per_s=100", drain_s=60.0))

    async def use() -> None:
        client = await connected(host)
        task = asyncio.create_task(collect(client.generate(echo_order("a", "x" * 3000))))
        await asyncio.sleep(0.05)
        host.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        assert not task.done()
        host.process.send_signal(signal.SIGTERM)
        (last,) = (await task)[-1:]
        assert getattr(last, "code", None) == "draining"
        await client.close()

    asyncio.run(use())
    assert host.exit_code() == 0


def test_a_host_is_silent_and_leaves_no_core(tmp_path: Path) -> None:
    program = (
        "import os, resource\nfrom ashore.kit.processes import silence_host\nsilence_host(); silence_host()\n"
        "import openvino_telemetry as t\nt.Telemetry('a', tid='b').send_event('x', 'y')\n"
        "assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)\n"
        "print(os.environ['HF_HUB_OFFLINE'], 'processes/quiet' in t.__file__)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["1", "True"]


@contextmanager
def beating_host(tmp_path: Path) -> Iterator[int]:
    """Start a host that hangs in its second step; give the pipe that its beats come from."""
    pulse, beats = os.pipe()
    launch = tmp_path / "launch.json"
    files = fake_model_files("fake:echo?load_s=0.1&hang_after=1", tmp_path / "files")
    write_launch(HostLaunch(files=files, options=EngineOptions(kind="fake"), step_timeout_s=0.2), launch)
    host = subprocess.Popen(
        host_command(tmp_path / "host.sock", launch),
        pass_fds=[beats],
        env={**os.environ, PULSE_VARIABLE: str(beats)},
        stderr=subprocess.DEVNULL,
    )
    os.close(beats)
    try:
        yield pulse
    finally:
        host.kill()
        host.wait()
        os.close(pulse)


def test_a_host_that_greets_is_held_to_seconds_from_then_on(tmp_path: Path) -> None:
    """One that was stopped before its next beat was missed after the four minutes that loading may take."""

    async def greeted() -> None:
        client = HostClient(tmp_path / "host.sock")
        await client.connect(15.0)
        await client.close()

    with beating_host(tmp_path) as pulse:
        asyncio.run(greeted())
        assert os.read(pulse, 4096)[-1] < 10


def test_a_host_promises_to_beat_until_a_step_takes_too_long(tmp_path: Path) -> None:
    with beating_host(tmp_path) as pulse:
        assert os.read(pulse, 1)[0] >= 60, "a library may hold the interpreter while it loads"
        while (promised_s := os.read(pulse, 1)[0]) >= 60:
            pass
        assert promised_s < 10, "as long as an order may wait before somebody sees that it waits in vain"

        async def use() -> None:
            client = HostClient(tmp_path / "host.sock")
            await client.connect(15.0)
            stream = client.generate(echo_order("a", "xyz"))
            await anext(stream)
            await asyncio.sleep(0.3)
            await client.close()

        asyncio.run(use())
        os.set_blocking(pulse, False)
        while select.select([pulse], [], [], 0)[0]:
            os.read(pulse, 4096)
        assert not select.select([pulse], [], [], 2 * BEAT_S)[0], "its engine hangs, and a thread beside says otherwise"
