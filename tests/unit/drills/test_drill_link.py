"""A line of the drill's own network: fair, slow, lossy, reset, cut, and fair again."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from waiting import eventually

from ashore.control.drills import link
from ashore.control.drills.network import free_ports


class Echo:
    """A server that says what it hears."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self.listener.accept()
                threading.Thread(target=self._say, args=(one,), daemon=True).start()

    def _say(self, one: socket.socket) -> None:
        with suppress(OSError), one:
            while heard := one.recv(65_536):
                one.sendall(heard)


class Net:
    """One line to an echo."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port, self.weather, self.told = port, folder / "weather", folder / "seen"

    def turn(self, **weather: float) -> None:
        self.weather.write_text(json.dumps({"echo": weather}))

    def seen(self, name: str) -> int:
        return int(json.loads(self.told.read_text())["echo"][name])

    def connect(self, timeout_s: float = 30.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    echo, (port,) = Echo(), free_ports(1)
    one = Net(tmp_path, port)
    one.weather.write_text("{}")
    config = {"lines": {"echo": [port, "127.0.0.1", echo.port]}, "weather": str(one.weather), "seen": str(one.told)}
    (tmp_path / "config").write_text(json.dumps(config))
    process = subprocess.Popen([sys.executable, "-I", "-S", link.__file__, str(tmp_path / "config")])
    try:
        eventually(one.told.exists)
        yield one
    finally:
        process.kill()
        process.wait()
        echo.listener.close()


def test_a_fair_line_hands_on_every_byte_and_the_end(net: Net) -> None:
    sent = bytes(range(256)) * 4000
    got = bytearray()
    with net.connect() as one:
        threading.Thread(target=lambda: (one.sendall(sent), one.shutdown(socket.SHUT_WR)), daemon=True).start()
        while piece := one.recv(65_536):
            got += piece
    assert bytes(got) == sent


def test_a_slow_line_is_slow_each_way_and_keeps_the_order(net: Net) -> None:
    with net.connect() as one:
        one.sendall(b"first")
        assert one.recv(10) == b"first"
        net.turn(delay_ms=60, jitter_ms=40)

        def is_slow() -> bool:
            began_s = time.monotonic()
            one.sendall(b"x")
            assert one.recv(1) == b"x"
            return time.monotonic() - began_s >= 0.12

        eventually(is_slow)
        for number in range(50):
            one.sendall(bytes([number]))
        got = b""
        while len(got) < 50:
            got += one.recv(50)
        assert got == bytes(range(50))
    eventually(lambda: net.seen("delayed") > 4)


def test_what_is_lost_comes_late_and_whole(net: Net) -> None:
    net.turn(stall_share=0.5, stall_ms=20)
    with net.connect() as one:
        eventually(lambda: _said(one, b"ping") and net.seen("stalled") > 3)


def test_a_cut_line_neither_answers_nor_refuses_and_loses_nothing(net: Net) -> None:
    with net.connect() as one:
        assert _said(one, b"before")
        net.turn(cut=1)
        eventually(lambda: not _connects(net))
        one.sendall(b"kept")
        one.settimeout(0.3)
        with pytest.raises(TimeoutError):
            one.recv(10)
        eventually(lambda: net.seen("held") >= 1)
        net.turn()
        one.settimeout(30)
        assert one.recv(10) == b"kept"
        with net.connect() as another:
            assert _said(another, b"after")


def test_a_reset_is_one_and_the_next_connection_is_whole(net: Net) -> None:
    with net.connect() as one:
        assert _said(one, b"before")
        net.turn(reset_share=1)

        def is_reset() -> bool:
            try:
                return not _said(one, b"x")
            except ConnectionError:
                return True

        eventually(is_reset)
    eventually(lambda: net.seen("reset") >= 1)
    net.turn()

    def is_whole() -> bool:
        with suppress(ConnectionError), net.connect() as another:
            return _said(another, b"again")
        return False

    eventually(is_whole)


def _said(one: socket.socket, word: bytes) -> bool:
    one.sendall(word)
    return one.recv(100) == word


def _connects(net: Net) -> bool:
    try:
        net.connect(0.3).close()
    except TimeoutError:
        return False
    return True
