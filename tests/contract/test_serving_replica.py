"""What the request path may expect of a replica: the connection to a real host, and the twin in memory."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from memory_replica import MemoryReplica

from ashore.core.errors import AshoreError, Draining, HostDied
from ashore.core.ids import OrderId
from ashore.data.engines import (
    EngineEvent,
    EngineOptions,
    EngineStats,
    Failed,
    Finished,
    GenerateOrder,
    HostClient,
    HostLaunch,
    OrderStream,
    Sampling,
    Token,
    error_of,
    host_command,
)
from ashore.data.engines.fake.files import fake_model_files
from ashore.data.path import Replica
from ashore.kit.processes.launchfiles import write_launch

Connect = Callable[[], Any]


@contextmanager
def host_process_in(folder: Path, *, drain_s: float = 30.0) -> Iterator[subprocess.Popen[bytes]]:
    """Run a host at `h.sock` in a folder."""
    files = fake_model_files("fake:echo?tok_per_s=500", folder / "files")
    write_launch(HostLaunch(files=files, options=EngineOptions(kind="fake"), drain_s=drain_s), folder / "launch.json")
    process = subprocess.Popen(host_command(folder / "h.sock", folder / "launch.json"), stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def host_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("host")
    with host_process_in(folder):
        yield folder / "h.sock"


Ending = Callable[[], AbstractContextManager[tuple[Replica, Callable[[], None]]]]
"""Gives a replica, and what ends its host."""


@pytest.fixture(params=["memory", "host"])
def leaving(request: pytest.FixtureRequest, tmp_path: Path) -> Ending:
    """A replica whose host ends of its own accord, whatever runs."""

    @contextmanager
    def ending() -> Iterator[tuple[Replica, Callable[[], None]]]:
        if request.param == "memory":
            twin = MemoryReplica(token_s=0.002)
            yield twin, twin.leave
            return
        with host_process_in(tmp_path, drain_s=0.0) as process:
            yield HostClient(tmp_path / "h.sock"), lambda: process.send_signal(signal.SIGTERM)

    return ending


@pytest.fixture(params=["memory", "host"])
def dying(request: pytest.FixtureRequest, tmp_path: Path) -> Ending:
    """A replica whose host is killed."""

    @contextmanager
    def ending() -> Iterator[tuple[Replica, Callable[[], None]]]:
        if request.param == "memory":
            twin = MemoryReplica(token_s=0.002)
            yield twin, twin.die
            return
        with host_process_in(tmp_path) as process:
            yield HostClient(tmp_path / "h.sock"), process.kill

    return ending


@pytest.fixture(params=["memory", "host"])
def connect(request: pytest.FixtureRequest) -> Connect:
    @asynccontextmanager
    async def connected() -> AsyncIterator[Replica]:
        replica: Replica
        if request.param == "memory":
            replica = MemoryReplica(token_s=0.002)
        else:
            replica = HostClient(request.getfixturevalue("host_socket"))
        await replica.connect(10)
        try:
            yield replica
        finally:
            await replica.close()

    return connected


def order(name: str, text: str = "abc", **fields: Any) -> GenerateOrder:
    return GenerateOrder(
        order_id=OrderId(name),
        prompt_ids=list(text.encode()),
        max_new_tokens=fields.pop("most", 1000),
        stop_token_ids=(256,),
        sampling=Sampling(temperature=0),
        **fields,
    )


async def everything(stream: OrderStream) -> list[EngineEvent]:
    events: list[EngineEvent] = []
    while part := await stream.take():
        events.extend(part)
    return events


def test_events_come_in_order_and_end(connect: Connect) -> None:
    async def scenario() -> None:
        async with connect() as replica:
            assert replica.connected
            assert replica.info.kind == "fake"
            stream = OrderStream(order("a"), replica.start)
            events = await everything(stream)
            assert bytes(e.token_id for e in events if isinstance(e, Token)) == b"abc"
            last = events[-1]
            assert isinstance(last, Finished)
            assert (last.reason, last.prompt_tokens, last.completion_tokens) == ("stop", 3, 3)
            assert await stream.take() == []
            cut = (await everything(OrderStream(order("b", most=2), replica.start)))[-1]
            assert isinstance(cut, Finished)
            assert cut.reason == "length"

    asyncio.run(scenario())


class Hearer:
    """Keeps what it is told, and ends its order after so many tokens."""

    def __init__(self, most: int = 10_000) -> None:
        self.events: list[EngineEvent] = []
        self.error: AshoreError | None = None
        self.over = asyncio.Event()
        self.cancel: Callable[[], None] = lambda: None
        self._most = most

    def hear(self, events: list[EngineEvent]) -> None:
        assert not self.over.is_set(), "nothing comes after the end"
        self.events += events
        if len(self.events) >= self._most:
            self.cancel()
        if not isinstance(events[-1], Token):
            self.over.set()

    def lose(self, error: AshoreError) -> None:
        self.error = error
        self.over.set()


def test_a_hearer_is_told_at_once_may_end_its_order_meanwhile_and_learns_of_a_loss(connect: Connect) -> None:
    text = "abcdefghijklmnopqrstuvwxyz" * 4

    async def scenario() -> None:
        async with connect() as replica:
            whole, cut, lost = Hearer(), Hearer(most=20), Hearer()
            for name, one in (("p", whole), ("q", cut)):
                one.cancel = replica.start(order(name, text), one)
            await asyncio.wait_for(whole.over.wait(), 10)
            assert bytes(e.token_id for e in whole.events if isinstance(e, Token)).decode() == text
            assert isinstance(whole.events[-1], Finished)
            whole.cancel()
            while (await replica.stats()).running:
                await asyncio.sleep(0.01)
            assert 20 <= len(cut.events) < len(text) and not cut.over.is_set()
            lost.cancel = replica.start(order("r", "x" * 2000), lost)
            await asyncio.sleep(0.01)
            await replica.close()
            await asyncio.wait_for(lost.over.wait(), 10)
            late = Hearer()
            replica.start(order("s"), late)
            await asyncio.wait_for(late.over.wait(), 10)
            assert isinstance(lost.error, HostDied) and isinstance(late.error, HostDied)

    asyncio.run(scenario())


def test_closing_wakes_whoever_waits_and_may_be_repeated(connect: Connect) -> None:
    async def scenario() -> None:
        async with connect() as replica:
            stream = OrderStream(order("c", "x" * 2000), replica.start)
            await stream.take()
            rest = asyncio.create_task(everything(stream))
            await asyncio.sleep(0.01)
            await stream.aclose()
            await asyncio.wait_for(rest, 1)
            await stream.aclose()
            for _ in range(100):
                if (await replica.stats()).running == 0:
                    break
                await asyncio.sleep(0.01)
            stats = await replica.stats()
            assert isinstance(stats, EngineStats)
            assert stats.running == 0

    asyncio.run(scenario())


def test_orders_run_beside_each_other(connect: Connect) -> None:
    async def scenario() -> None:
        async with connect() as replica:
            texts = [f"text {i}" for i in range(20)]
            answers = await asyncio.gather(
                *(everything(OrderStream(order(f"d{i}", text), replica.start)) for i, text in enumerate(texts))
            )
            for text, events in zip(texts, answers, strict=True):
                assert bytes(e.token_id for e in events if isinstance(e, Token)).decode() == text

    asyncio.run(scenario())


def test_embeddings_have_the_announced_size(connect: Connect) -> None:
    async def scenario() -> None:
        async with connect() as replica:
            vectors = await replica.embed([[1, 2], [3]])
            assert [len(v) for v in vectors] == [replica.info.embedding_size] * 2
            assert vectors[0] != vectors[1]
            assert sum(x * x for x in vectors[0]) == pytest.approx(1, abs=1e-3)

    asyncio.run(scenario())


def test_whoever_waits_for_the_end_of_a_connection_is_told(connect: Connect) -> None:
    async def scenario() -> None:
        async with connect() as replica:
            waiting = asyncio.create_task(replica.gone())
            impatient = asyncio.create_task(replica.gone())
            await asyncio.sleep(0.01)
            impatient.cancel()
            await asyncio.sleep(0)
            assert not waiting.done()
            await replica.close()
            await asyncio.wait_for(waiting, 1)
            await asyncio.wait_for(replica.gone(), 1)

    asyncio.run(scenario())


def test_after_the_end_of_the_connection_everything_says_so(connect: Connect) -> None:
    async def scenario() -> None:
        async with connect() as replica:
            running = OrderStream(order("e", "x" * 2000), replica.start)
            await running.take()
            await replica.close()
            assert not replica.connected
            with pytest.raises(HostDied):
                await everything(running)
            with pytest.raises(HostDied):
                await everything(OrderStream(order("f"), replica.start))
            with pytest.raises(HostDied):
                await replica.embed([[1]])

    asyncio.run(scenario())


async def how_they_end(stream: OrderStream) -> list[EngineEvent] | AshoreError:
    try:
        return await everything(stream)
    except AshoreError as error:
        return error


def test_a_host_that_ends_of_its_own_accord_has_not_died_of_what_it_had(leaving: Ending) -> None:
    async def scenario() -> None:
        with leaving() as (replica, end):
            await replica.connect(10)
            streams = [OrderStream(order(f"l{n}", "x" * 2000), replica.start) for n in range(5)]
            await streams[0].take()
            end()
            while replica.connected:  # so that some come while it ends
                await asyncio.sleep(0.001)
                if replica.connected:
                    streams.append(OrderStream(order(f"l{len(streams)}", "x" * 2000), replica.start))
            for stream in streams:
                ended = await how_they_end(stream)
                if isinstance(ended, list):
                    assert isinstance(ended[-1], Failed)
                    ended = error_of(ended[-1])
                assert isinstance(ended, Draining)
            await asyncio.wait_for(replica.gone(), 5)
            await replica.close()

    asyncio.run(scenario())


def test_a_host_that_is_killed_has_died_of_what_it_had(dying: Ending) -> None:
    async def scenario() -> None:
        with dying() as (replica, end):
            await replica.connect(10)
            streams = [OrderStream(order(f"k{n}", "x" * 2000), replica.start) for n in range(5)]
            await streams[0].take()
            end()
            for stream in streams:
                ended = await how_they_end(stream)
                assert isinstance(ended, HostDied) and ended.taken
            await replica.close()

    asyncio.run(scenario())
