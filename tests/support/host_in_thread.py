"""A host loop in a thread of the test, and clients connected to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ashore.core.errors import AshoreError, EngineFailed
from ashore.core.ids import OrderId
from ashore.data.engines import EngineEvent, EngineOptions, GenerateOrder, HostClient, ModelFiles, Sampling
from ashore.data.engines.fake.engine import FakeEngine
from ashore.data.engines.fake.files import fake_model_files
from ashore.data.engines.host import HostLoop
from ashore.kit.processes import listen_on

T = TypeVar("T")
END = 256


@contextmanager
def host_running(
    directory: Path, engine: Any, files: ModelFiles, *, drain_s: float = 5.0, options: EngineOptions | None = None
) -> Iterator[Path]:
    """Run a host loop around `engine` and yield its socket; afterwards it must have returned."""
    path = directory / "host.sock"
    info = engine.load(files, options or EngineOptions(kind="fake"))
    loop = HostLoop(engine, info, listen_on(path), drain_s=drain_s)
    gave_up: list[EngineFailed] = []

    def serve() -> None:
        try:
            loop.run()
        except EngineFailed as error:  # anything else is a warning that pytest turns into an error
            gave_up.append(error)

    thread = threading.Thread(target=serve, name=str(path))
    thread.start()
    try:
        yield path
    finally:
        asyncio.run(_drain(path))
        thread.join(10)
        assert not thread.is_alive(), "the host loop did not end"


def host_runs(path: Path) -> bool:
    """Tell whether the host loop at this socket has not returned yet."""
    return any(thread.name == str(path) for thread in threading.enumerate())


async def _drain(path: Path) -> None:
    client = HostClient(path)
    try:
        await client.connect(0.2)
        await client.drain()
        await client.close()
    except AshoreError as error:
        print(f"host gone already: {error}")


def with_fake(tmp_path: Path, name: str, use: Callable[[HostClient], Awaitable[T]], engine: Any = None) -> T:
    """Serve the fake model `name` from a thread, connect, and return what `use` returns."""

    async def connected(path: Path) -> T:
        client = HostClient(path)
        await client.connect(5.0)
        try:
            return await use(client)
        finally:
            await client.close()

    with host_running(tmp_path, engine or FakeEngine(), fake_model_files(name, tmp_path / "files")) as path:
        return asyncio.run(connected(path))


def echo_order(order_id: str, text: str, **fields: Any) -> GenerateOrder:
    """Return an order that the fake echo answers with `text`."""
    settings: dict[str, Any] = {"max_new_tokens": 4096, "sampling": Sampling(temperature=0), **fields}
    return GenerateOrder(order_id=OrderId(order_id), prompt_ids=list(text.encode()), stop_token_ids=(END,), **settings)


async def collect(stream: Any) -> list[EngineEvent]:
    """Return every event of a stream."""
    return [event async for event in stream]


class Nowhere(asyncio.Transport):
    """A transport whose bytes nobody reads."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        return

    def abort(self) -> None:
        return
