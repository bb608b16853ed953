"""How a host ends: what it says to its workers, what they make of it, and what it leaves unsaid where it dies."""

from __future__ import annotations

import asyncio
import io
import logging
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from host_in_thread import Nowhere, collect, echo_order, host_running, host_runs
from memory_replica import ECHO_INFO
from waiting import eventually

from ashore.core.errors import Draining, HostDied
from ashore.core.ids import OrderId
from ashore.data.engines import (
    EngineEvent,
    EngineOptions,
    EngineStats,
    Failed,
    Finished,
    GenerateOrder,
    HostClient,
    ScoreText,
    Token,
)
from ashore.data.engines import frames as wire
from ashore.data.engines.fake.engine import FakeEngine
from ashore.data.engines.fake.files import fake_model_files
from ashore.data.engines.host import HostLoop
from ashore.data.engines.host import loop as host_loop
from ashore.data.engines.hostlink import HostLink
from ashore.data.engines.orderstream import OrderStream
from ashore.kit.processes import listen_on, unix_address


class Slow(FakeEngine):
    """Takes long for its first step, and says when it is in it."""

    def __init__(self, step_s: float) -> None:
        super().__init__()
        self.step_s = step_s
        self.in_step = threading.Event()

    def step(self, timeout_s: float) -> Sequence[EngineEvent]:
        if not self.in_step.is_set():
            self.in_step.set()
            time.sleep(self.step_s)
        return super().step(timeout_s)


def test_orders_and_calls_that_come_while_a_host_ends_were_not_taken_and_it_has_not_died(tmp_path: Path) -> None:
    engine = Slow(0.3)

    async def use(path: Path) -> None:
        client = HostClient(path)
        await client.connect(5.0)
        begun = client.generate(echo_order("begun", "x" * 500))
        await client.drain()  # with the order, so that the time to drain is over when the step ends
        await asyncio.to_thread(engine.in_step.wait, 5)
        late = client.generate(echo_order("late", "x"))
        call = asyncio.create_task(client.embed([[1, 2]]))
        told = (await collect(begun))[-1]
        assert isinstance(told, Failed) and told.code == "draining"
        with pytest.raises(Draining, match="ended before it took this up"):
            await collect(late)
        with pytest.raises(Draining):
            await call
        assert not client.connected
        with pytest.raises(HostDied) as after:
            await collect(client.generate(echo_order("after", "x")))
        assert not after.value.taken
        await client.close()

    with host_running(tmp_path, engine, fake_model_files("fake:echo", tmp_path / "files"), drain_s=0.1) as path:
        asyncio.run(use(path))


def last_words(sock: socket.socket) -> list[wire.ToWorker]:
    """Return the messages that a host says until the connection ends."""
    reader, found = wire.FrameReader(), []
    while data := sock.recv(1 << 20):
        found += [wire.decode_to_worker(body) for body in reader.feed(data)]
    return found


def test_a_host_whose_time_is_over_waits_for_a_worker_that_reads_late_and_says_farewell_last(tmp_path: Path) -> None:
    files = fake_model_files("fake:echo", tmp_path / "files")
    with host_running(tmp_path, FakeEngine(), files, drain_s=0.1) as path, socket.socket(socket.AF_UNIX) as worker:
        with unix_address(path) as address:
            worker.connect(address)
        worker.settimeout(5)
        many = range(40)
        for number in many:
            order = echo_order(f"o{number}", "z" * 60, max_new_tokens=3000, ignore_eos=True, top_logprobs=20)
            worker.sendall(wire.encode(wire.Generate(order)))
        worker.sendall(wire.encode(wire.Drain()))
        time.sleep(0.5)  # far more is said meanwhile than the socket holds
        said = last_words(worker)
    assert said[-1] == wire.Farewell()
    ends = [event for part in said if isinstance(part, wire.Events) for event in part.events if type(event) is Failed]
    assert {end.order_id for end in ends} == {f"o{number}" for number in many}


def test_a_worker_that_never_reads_does_not_keep_a_host_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_loop, "LAST_WORDS_S", 0.2)
    files = fake_model_files("fake:echo", tmp_path / "files")
    with host_running(tmp_path, FakeEngine(), files, drain_s=0.1) as path, socket.socket(socket.AF_UNIX) as worker:
        with unix_address(path) as address:
            worker.connect(address)
        for number in range(40):
            order = echo_order(f"o{number}", "z" * 60, max_new_tokens=3000, ignore_eos=True, top_logprobs=20)
            worker.sendall(wire.encode(wire.Generate(order)))
        worker.sendall(wire.encode(wire.Drain()))
        eventually(lambda: not host_runs(path), told=lambda: "the host waits for ever")


def test_a_host_that_drains_takes_no_calls_either(tmp_path: Path) -> None:
    """Or whoever asks for vectors again and again would keep it until its time is over."""

    async def use(path: Path) -> None:
        client = HostClient(path)
        await client.connect(5.0)
        begun = client.generate(echo_order("begun", "x" * 60))
        assert isinstance(await anext(begun), Token)
        before = client.embed([[1, 2]])
        assert len(await before) == 1
        await client.drain()
        calls = (client.embed([[1, 2]]), client.score([ScoreText([1, 2, 3])]), client.distributions(ScoreText([1, 2])))
        for call in calls:
            with pytest.raises(Draining):
                await call
        assert (await client.stats()).running == 1
        assert isinstance((await collect(begun))[-1], Finished)
        await client.close()

    files = fake_model_files("fake:echo?tok_per_s=300", tmp_path / "files")
    with host_running(tmp_path, FakeEngine(), files) as path:
        asyncio.run(use(path))


def test_a_host_says_nothing_in_the_middle_of_what_it_says(tmp_path: Path) -> None:
    """A signal comes at any time, in the middle of a line of the log too, whose stream is not to be entered again."""
    engine = FakeEngine()
    info = engine.load(fake_model_files("fake:echo", tmp_path / "files"), EngineOptions(kind="fake"))
    loop = HostLoop(engine, info, listen_on(tmp_path / "host.sock"))
    said: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            said.append(f"begun: {text.strip()}")
            loop.start_draining()  # as the handler of SIGTERM does
            said.append("ended")
            return len(text)

    log, handler = logging.getLogger("ashore.data.engines.host.loop"), logging.StreamHandler(Stream())
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        log.info("a line")
        loop.start_draining()
        loop.run()
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    assert said == ["begun: a line", "ended", "begun: draining: 0 orders running", "ended"]


class Poisoned(FakeEngine):
    """Breaks down where nobody expects it."""

    def stats(self) -> EngineStats:
        raise ZeroDivisionError("a broken library")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_host_that_breaks_down_says_no_farewell(tmp_path: Path) -> None:
    async def use(path: Path) -> None:
        client = HostClient(path)
        await client.connect(5.0)
        begun = client.generate(echo_order("begun", "x" * 500))
        assert isinstance(await anext(begun), Token)
        with pytest.raises(HostDied) as told:
            await client.stats()
        assert told.value.taken
        with pytest.raises(HostDied) as told:
            await collect(begun)
        assert told.value.taken
        await client.close()

    files = fake_model_files("fake:echo?tok_per_s=500", tmp_path / "files")
    with host_running(tmp_path, Poisoned(), files) as path:
        asyncio.run(use(path))


class Picky(FakeEngine):
    """Breaks down over one order, while it takes it."""

    def submit(self, order: GenerateOrder) -> None:
        if order.order_id == "odd":
            raise ZeroDivisionError("a broken library")
        super().submit(order)


def test_an_order_that_breaks_the_engine_while_it_is_taken_ends_alone(tmp_path: Path) -> None:
    async def use(path: Path) -> None:
        client = HostClient(path)
        await client.connect(5.0)
        begun = client.generate(echo_order("begun", "x" * 50))
        assert isinstance(await anext(begun), Token)
        (told,) = await collect(client.generate(echo_order("odd", "x")))
        assert isinstance(told, Failed) and "ZeroDivisionError" in told.message
        assert isinstance((await collect(begun))[-1], Finished)
        await client.close()

    with host_running(tmp_path, Picky(), fake_model_files("fake:echo?tok_per_s=500", tmp_path / "files")) as path:
        asyncio.run(use(path))


class Broken(Slow):
    """Every step fails, the last of them slowly."""

    def step(self, timeout_s: float) -> Sequence[EngineEvent]:
        super().step(timeout_s)
        raise ZeroDivisionError("a broken library")


def test_what_a_host_that_gives_its_engine_up_has_not_read_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_loop, "MOST_FAILED_STEPS", 1)
    engine = Broken(0.2)

    async def use(path: Path) -> None:
        client = HostClient(path)
        await client.connect(5.0)
        begun = client.generate(echo_order("begun", "x"))
        await asyncio.sleep(0)
        await asyncio.to_thread(engine.in_step.wait, 5)
        late = client.generate(echo_order("late", "x"))
        (told,) = await collect(begun)
        assert isinstance(told, Failed) and told.code == "engine_failed"
        with pytest.raises(Draining):
            await collect(late)
        await client.close()

    with host_running(tmp_path, engine, fake_model_files("fake:echo", tmp_path / "files")) as path:
        asyncio.run(use(path))


def greeted_link() -> HostLink:
    link = HostLink(Path("host"))
    link.data_received(wire.encode(wire.Hello(wire.PROTOCOL_VERSION, ECHO_INFO)))
    return link


def test_a_worker_that_meets_the_closed_socket_first_still_hears_the_farewell() -> None:
    async def use() -> None:
        ours, theirs = socket.socketpair()
        _, link = await asyncio.get_running_loop().create_connection(greeted_link, sock=ours)
        whole = OrderStream(echo_order("whole", "x"), link.start)
        end = Finished(OrderId("whole"), "stop", 1, 0, 1)
        theirs.sendall(wire.encode(wire.Events([end])) + wire.encode(wire.Farewell()))
        theirs.close()
        late = OrderStream(echo_order("late", "x"), link.start)  # in the same turn: nothing was read yet
        assert await collect(whole) == [end]
        with pytest.raises(Draining):
            await late.take()
        assert not link.open
        await link.close()

    asyncio.run(use())


def test_after_the_farewell_a_worker_sends_nothing_more() -> None:
    async def use() -> None:
        ours, theirs = socket.socketpair()
        _, link = await asyncio.get_running_loop().create_connection(greeted_link, sock=ours)
        waiting = asyncio.create_task(OrderStream(echo_order("late", "x"), link.start).take())
        await asyncio.sleep(0)
        theirs.sendall(wire.encode(wire.Farewell()))  # and the connection is still there
        with pytest.raises(Draining):
            await asyncio.wait_for(waiting, 2)
        assert not link.open
        await link.gone()
        theirs.close()

    asyncio.run(use())


def test_an_order_that_was_not_sent_when_the_host_died_is_not_what_it_died_of() -> None:
    async def use() -> None:
        link = greeted_link()
        link.connection_made(Nowhere())
        sent = OrderStream(echo_order("sent", "x"), link.start)
        await asyncio.sleep(0)
        unsent = OrderStream(echo_order("unsent", "x"), link.start)
        link.eof_received()
        assert not link.open, "nothing more is started on it before the transport has closed"
        for stream, taken in ((sent, True), (unsent, False)):
            with pytest.raises(HostDied) as told:
                await stream.take()
            assert told.value.taken is taken

    asyncio.run(use())
