"""A host whose engine has news while no order runs: it reads them, does not spin, and ends where its engine ended."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ashore.core.errors import HostDied
from ashore.core.ids import OrderId
from ashore.data.engines import EngineEvent, EngineInfo, EngineStats, GenerateOrder
from ashore.data.engines.host.loop import HostLoop
from ashore.kit.processes import listen_on

INFO = EngineInfo(
    kind="fake", version="1", model="m", precision="x", context_tokens=8, vocab_size=8, kv_tokens=8, max_sequences=1,
    features=(),
)  # fmt: skip


class Pushing:
    """An engine whose events come from elsewhere, through a pipe."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self.steps = 0
        self.has_ended = False

    def submit(self, order: GenerateOrder) -> None:
        raise AssertionError("nobody asks")

    def cancel(self, order_id: OrderId) -> None:
        raise AssertionError("nobody asks")

    def step(self, timeout_s: float) -> Sequence[EngineEvent]:
        self.steps += 1
        os.read(self.read_end, 100)
        if self.has_ended:
            raise HostDied("the server has ended")
        return ()

    def wait_on(self) -> tuple[int | None, float | None]:
        return self.read_end, None

    def stats(self) -> EngineStats:
        return EngineStats()


@pytest.fixture
def engine() -> Iterator[Pushing]:
    one = Pushing()
    yield one
    os.close(one.read_end)
    os.close(one.write_end)


@pytest.fixture
def until(engine: Pushing, tmp_path: Path) -> Iterator[Callable[[Callable[[], bool]], None]]:
    """Return a function that waits; behind it runs a loop, whose end is in `ended`."""
    loop = HostLoop(engine, INFO, listen_on(tmp_path / "host.sock"))  # type: ignore[arg-type]
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            loop.run()
            ended.append(None)
        except HostDied as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def wait(condition: Callable[[], bool]) -> None:
        end_s = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end_s
            time.sleep(0.01)

    yield wait
    if not ended:
        loop.start_draining()
        os.write(loop.wakeup_fd, b"x")
    thread.join(10)
    if engine.has_ended:
        assert isinstance(ended[0], HostDied), "the workers are not told a farewell: to them it has died"


def test_news_are_read_once_while_nothing_runs(engine: Pushing, until: Callable[[Callable[[], bool]], None]) -> None:
    for number in range(1, 4):
        os.write(engine.write_end, b"x")
        until(lambda number=number: engine.steps == number)  # type: ignore[misc]
    time.sleep(0.05)
    assert engine.steps == 3, "it spins"


def test_a_host_ends_with_what_its_engine_ran_on(engine: Pushing, until: Callable[[Callable[[], bool]], None]) -> None:
    engine.has_ended = True
    os.write(engine.write_end, b"x")
    until(lambda: engine.steps == 1)
