"""Host loop and client together, over a real socket: orders, cancellation, calls, loss, slow readers."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from host_in_thread import Nowhere, collect, echo_order, host_running, with_fake

from ashore.core.errors import AshoreError, Conflict, ContextTooLong, Draining, HostDied, InvalidRequest, NotReady
from ashore.core.ids import OrderId
from ashore.data.engines import (
    EngineEvent,
    EngineOptions,
    EngineStats,
    Failed,
    Finished,
    HostClient,
    ScoreText,
    Token,
    frames,
)
from ashore.data.engines.fake.engine import FakeEngine
from ashore.data.engines.fake.files import fake_model_files
from ashore.data.engines.host import link as host_link
from ashore.data.engines.hostlink import HostLink
from ashore.data.engines.orderstream import OrderStream


async def idle(client: HostClient) -> EngineStats:
    """Return the stats once nothing runs any more."""
    for _ in range(200):
        stats = await client.stats()
        if not stats.running and not stats.waiting:
            return stats
        await asyncio.sleep(0.005)
    raise AssertionError(f"orders still run: {stats}")


def test_many_orders_at_once_each_get_their_own_tokens(tmp_path: Path) -> None:
    async def use(client: HostClient) -> list[list[EngineEvent]]:
        return await asyncio.gather(*(collect(client.generate(echo_order(f"o{n}", f"text {n}"))) for n in range(300)))

    for number, events in enumerate(with_fake(tmp_path, "fake:echo", use)):
        assert bytes(e.token_id for e in events if isinstance(e, Token)).decode() == f"text {number}"
        assert isinstance(events[-1], Finished)


def test_the_greeting_tells_what_the_engine_is(tmp_path: Path) -> None:
    async def use(client: HostClient) -> None:
        assert client.connected
        assert client.info.kind == "fake"
        assert "top_logprobs" in client.info.features

    with_fake(tmp_path, "fake:echo?context=99", use)


def test_closing_a_stream_cancels_its_order(tmp_path: Path) -> None:
    async def use(client: HostClient) -> int:
        stream = client.generate(echo_order("long", "x" * 2000))
        assert isinstance(await anext(stream), Token)
        await stream.aclose()
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await _rest(stream)
        return (await idle(client)).completion_tokens

    assert with_fake(tmp_path, "fake:echo?tok_per_s=200", use) < 100


async def _rest(stream: object) -> None:
    while True:
        await anext(stream)  # type: ignore[call-overload]


def test_a_cancelled_task_cancels_its_order(tmp_path: Path) -> None:
    async def use(client: HostClient) -> int:
        task = asyncio.create_task(collect(client.generate(echo_order("long", "x" * 2000))))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return (await idle(client)).completion_tokens

    assert with_fake(tmp_path, "fake:echo?tok_per_s=200", use) < 100


def test_a_stream_that_is_lost_cancels_its_order(tmp_path: Path) -> None:
    async def use(client: HostClient) -> int:
        stream = client.generate(echo_order("long", "x" * 2000))
        await anext(stream)
        del stream
        gc.collect()
        return (await idle(client)).completion_tokens

    assert with_fake(tmp_path, "fake:echo?tok_per_s=200", use) < 100


def test_a_worker_that_goes_away_ends_its_orders_and_no_others(tmp_path: Path) -> None:
    async def use(client: HostClient) -> None:
        other = HostClient(client._path)
        await other.connect(2.0)
        lost = other.generate(echo_order("lost", "x" * 3000))
        await anext(lost)
        kept = asyncio.create_task(collect(client.generate(echo_order("kept", "y" * 100))))
        await asyncio.sleep(0.02)
        await other.close()
        with pytest.raises(HostDied):
            await _rest(lost)
        assert len(await kept) == 101
        await idle(client)

    with_fake(tmp_path, "fake:echo?tok_per_s=500", use)


def test_take_returns_what_is_there_and_nothing_at_the_end(tmp_path: Path) -> None:
    async def use(client: HostClient) -> None:
        stream = client.generate(echo_order("a", "abcdef"))
        events: list[EngineEvent] = []
        while taken := await stream.take():
            events += taken
        assert len(events) == 7
        assert await stream.take() == []

    with_fake(tmp_path, "fake:echo", use)


def test_an_id_that_is_in_use_is_refused_on_this_worker_and_on_another(tmp_path: Path) -> None:
    async def use(client: HostClient) -> None:
        running = client.generate(echo_order("same", "x" * 200))
        await anext(running)
        with pytest.raises(Conflict):
            await anext(client.generate(echo_order("same", "y")))
        other = HostClient(client._path)
        await other.connect(2.0)
        (event,) = await collect(other.generate(echo_order("same", "y")))
        assert isinstance(event, Failed)
        assert event.code == "conflict"
        assert isinstance(await anext(running), Token)
        await other.close()

    with_fake(tmp_path, "fake:echo?tok_per_s=200", use)


def test_a_bad_order_fails_alone(tmp_path: Path) -> None:
    async def use(client: HostClient) -> None:
        good = asyncio.create_task(collect(client.generate(echo_order("good", "fine"))))
        (event,) = await collect(client.generate(echo_order("bad", "x" * 5000)))
        assert isinstance(event, Failed)
        assert event.code == ContextTooLong.code
        assert "5000" in event.message
        assert len(await good) == 5

    with_fake(tmp_path, "fake:echo", use)


def test_embeddings_of_many_callers_come_back_to_each(tmp_path: Path) -> None:
    async def use(client: HostClient) -> None:
        texts = [[list(f"text {n} {m}".encode()) for m in range(n % 5 + 1)] for n in range(40)]
        answers = await asyncio.gather(*(client.embed(batch) for batch in texts))
        engine = FakeEngine()
        engine.load(fake_model_files("fake:echo", tmp_path / "more"), EngineOptions(kind="fake"))
        assert answers == [engine.embed(batch) for batch in texts]
        assert await client.embed([]) == []

    with_fake(tmp_path, "fake:echo", use)


def test_one_bad_text_fails_its_own_call_only(tmp_path: Path) -> None:
    async def use(client: HostClient) -> None:
        results = await asyncio.gather(
            client.embed([[1, 2, 3]]), client.embed([[1, 9999]]), client.embed([[4, 5]]), return_exceptions=True
        )
        assert isinstance(results[1], InvalidRequest)
        assert "9999" in str(results[1])
        assert isinstance(results[0], list)
        assert isinstance(results[2], list)

    with_fake(tmp_path, "fake:echo", use)


def test_scores_cover_every_token_but_the_first(tmp_path: Path) -> None:
    async def use(client: HostClient) -> None:
        [rows] = await client.score([ScoreText(list(b"hello"))], top_logprobs=3)
        assert [row[0].token_id for row in rows] == list(b"ello")
        assert {len(row) for row in rows} == {4}

    with_fake(tmp_path, "fake:echo", use)


def test_distributions_come_in_pieces_and_are_put_together(tmp_path: Path) -> None:
    async def use(client: HostClient) -> None:
        text = ScoreText(list(b"hello, world"), 3)
        (first, second), [told] = await asyncio.gather(
            asyncio.gather(client.distributions(text), client.distributions(text)), client.score([text])
        )
        assert first.shape == (9, client.info.vocab_size)
        assert (first == second).all()
        assert [first[n, row[0].token_id] for n, row in enumerate(told)] == pytest.approx([r[0].logprob for r in told])
        with pytest.raises(InvalidRequest):
            await client.distributions(ScoreText([1, 99_999]))
        assert len(await client.score([text])) == 1

    with_fake(tmp_path, "fake:echo", use)


class Breaking(FakeEngine):
    """Raises in chosen steps."""

    def __init__(self, bad_steps: set[int]) -> None:
        super().__init__()
        self.bad_steps = bad_steps
        self.at = 0

    def step(self, timeout_s: float) -> Sequence[EngineEvent]:
        self.at += 1
        if self.at in self.bad_steps:
            raise ZeroDivisionError("a broken library")
        return super().step(timeout_s)


def test_a_step_that_raises_fails_the_live_orders_and_the_host_goes_on(tmp_path: Path) -> None:
    async def use(client: HostClient) -> None:
        first = await collect(client.generate(echo_order("a", "abc")))
        assert isinstance(first[-1], Failed)
        assert first[-1].code == "engine_failed"
        assert "ZeroDivisionError" in first[-1].message
        assert isinstance((await collect(client.generate(echo_order("b", "abc"))))[-1], Finished)

    with_fake(tmp_path, "fake:echo", use, engine=Breaking({1}))


def test_a_host_whose_steps_keep_raising_gives_up(tmp_path: Path) -> None:
    async def use(client: HostClient) -> None:
        for number in range(3):
            events = await collect(client.generate(echo_order(str(number), "abc")))
            assert isinstance(events[-1], Failed)
        for _ in range(100):
            if not client.connected:
                break
            await asyncio.sleep(0.01)
        assert not client.connected
        with pytest.raises(HostDied):
            await anext(client.generate(echo_order("late", "abc")))
        with pytest.raises(HostDied):
            await client.stats()

    with_fake(tmp_path, "fake:echo", use, engine=Breaking(set(range(1, 100))))


def test_an_idle_host_sleeps_and_wakes_at_once(tmp_path: Path) -> None:
    async def use(client: HostClient) -> float:
        await client.stats()
        before_s = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - before_s < 0.1, "the idle host spins"
        fastest_s = 1.0
        for number in range(20):
            started_s = time.perf_counter()
            await anext(client.generate(echo_order(str(number), "a")))
            fastest_s = min(fastest_s, time.perf_counter() - started_s)
        return fastest_s

    assert with_fake(tmp_path, "fake:echo", use) < 0.05


def test_draining_finishes_what_runs_and_refuses_what_comes(tmp_path: Path) -> None:
    async def use(client: HostClient) -> None:
        running = asyncio.create_task(collect(client.generate(echo_order("a", "x" * 40))))
        await asyncio.sleep(0.03)
        await client.drain()
        (late,) = await collect(client.generate(echo_order("b", "x")))
        assert isinstance(late, Failed)
        assert late.code == "draining"
        assert len(await running) == 41
        for _ in range(200):
            if not client.connected:
                return
            await asyncio.sleep(0.005)
        raise AssertionError("the host did not stop")

    with_fake(tmp_path, "fake:echo?tok_per_s=200", use)


def test_an_order_that_comes_after_the_last_step_does_not_lose_the_tokens_of_the_others(tmp_path: Path) -> None:
    async def use(client: HostClient) -> None:
        running = client.generate(echo_order("a", "x" * 20))
        await client.drain()
        time.sleep(0.3)  # a busy worker: the host has sent the last token and would be gone before the next turn
        late = client.generate(echo_order("b", "x"))
        assert isinstance((await collect(running))[-1], Finished)
        with pytest.raises(Draining):
            await collect(late)

    with_fake(tmp_path, "fake:echo?tok_per_s=200", use)


def test_a_worker_that_does_not_read_is_cut_off_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_link, "MAX_BACKLOG_BYTES", 64 << 10)

    async def use(client: HostClient) -> None:
        slow = socket.socket(socket.AF_UNIX)
        slow.connect(str(client._path))
        for number in range(40):
            order = echo_order(f"slow{number}", "z" * 60, max_new_tokens=6000, ignore_eos=True, top_logprobs=20)
            slow.sendall(frames.encode(frames.Generate(order)))
        events = await collect(client.generate(echo_order("quick", "y" * 50)))
        assert isinstance(events[-1], Finished)
        await idle(client)
        slow.close()

    with_fake(tmp_path, "fake:echo?step_s=0.001", use)


def test_answers_longer_than_the_backlog_cut_nobody_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_link, "MAX_BACKLOG_BYTES", 64 << 10)

    async def use(client: HostClient) -> None:
        text = list(b"a long text") * 300
        scores, vectors, *chats = await asyncio.gather(
            client.score([ScoreText(text)], top_logprobs=20),
            client.embed([[1, 2]] * 500),
            *(collect(client.generate(echo_order(f"c{number}", "y" * 50))) for number in range(20)),
        )
        assert len(scores[0]) == len(text) - 1 and len(vectors) == 500
        assert all(isinstance(events[-1], Finished) for events in chats)

    with_fake(tmp_path, "fake:echo?embed=1024&step_s=0.001", use)


@pytest.mark.parametrize("ids", [[1, 2], [99_999]], ids=["answers", "refusals"])
def test_a_worker_that_is_cut_off_in_the_middle_of_its_answers_takes_nobody_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: list[int]
) -> None:
    def send(link: host_link.Link, message: frames.ToWorker) -> None:
        if isinstance(message, frames.Vectors | frames.CallFailed):
            raise host_link.LinkClosed("cut")
        sent(link, message)

    sent = host_link.Link.send
    monkeypatch.setattr(host_link.Link, "send", send)

    async def use(client: HostClient) -> None:
        slow = socket.socket(socket.AF_UNIX)
        slow.connect(str(client._path))
        slow.sendall(b"".join(frames.encode(frames.Embed(n, [ids])) for n in range(5)))
        slow.settimeout(2)
        while await asyncio.to_thread(slow.recv, 65_536):
            continue
        slow.close()
        assert isinstance((await collect(client.generate(echo_order("a", "b"))))[-1], Finished)

    with_fake(tmp_path, "fake:echo", use)


@pytest.mark.parametrize("junk", [b"\x05\x00\x00\x00hello", b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_connection_that_talks_nonsense_is_closed(tmp_path: Path, junk: bytes) -> None:
    async def use(client: HostClient) -> None:
        stranger = socket.socket(socket.AF_UNIX)
        stranger.connect(str(client._path))
        stranger.settimeout(2)
        stranger.sendall(junk)
        while await asyncio.to_thread(stranger.recv, 65536):
            continue
        stranger.close()
        assert isinstance((await collect(client.generate(echo_order("a", "b"))))[-1], Finished)

    with_fake(tmp_path, "fake:echo", use)


def test_connecting_gives_up_in_time_where_nobody_listens(tmp_path: Path) -> None:
    async def use() -> None:
        client = HostClient(tmp_path / "none.sock")
        assert not client.connected
        with pytest.raises(NotReady):
            _ = client.info
        with pytest.raises(NotReady):
            await client.connect(0.05)
        with pytest.raises(HostDied):
            await anext(client.generate(echo_order("a", "b")))

    asyncio.run(use())


def test_a_socket_path_may_be_longer_than_an_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)

    async def use(path: Path) -> None:
        client = HostClient(path)
        await client.connect(2.0)
        assert isinstance((await collect(client.generate(echo_order("a", "b"))))[-1], Finished)
        await client.close()

    with host_running(deep, FakeEngine(), fake_model_files("fake:echo", tmp_path / "files")) as path:
        assert len(str(path)) > 200
        asyncio.run(use(path))


def test_order_ids_may_be_used_again_after_their_end(tmp_path: Path) -> None:
    async def use(client: HostClient) -> None:
        for _ in range(3):
            events = await collect(client.generate(echo_order("same", "ab")))
            assert events[-1].order_id == OrderId("same")

    with_fake(tmp_path, "fake:echo", use)


def open_link(sent: list[bytes]) -> HostLink:
    """Return a link to a host that has greeted; what it writes is put into `sent`."""

    class Kept(Nowhere):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            sent.append(bytes(data))

    link = HostLink(Path("host"))
    link.connection_made(Kept())
    link.open = True
    return link


async def wakes_by_turn(events: list[EngineEvent], orders: int) -> list[int]:
    """Give a link these events in one frame, as the loop does; return how many hearers were told in each turn of it."""
    link = HostLink(Path("host"))
    link.connection_made(Nowhere())
    told = 0

    class Hearer:
        def hear(self, events: list[EngineEvent]) -> None:
            nonlocal told
            told += 1

        def lose(self, error: AshoreError) -> None:
            raise AssertionError(error)

    for n in range(orders):
        link.start(echo_order(f"o{n}", "x"), Hearer())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(link.data_received, frames.encode(frames.Events(events)))
    turns: list[int] = []
    while sum(turns) < orders:
        before = told
        await asyncio.sleep(0)
        turns.append(told - before)
    return turns


def test_orders_that_end_together_leave_turns_of_the_loop_to_others() -> None:
    tokens: list[EngineEvent] = [Token(OrderId(f"o{n}"), 65) for n in range(20)]
    ends: list[EngineEvent] = [Finished(OrderId(f"o{n}"), "stop", 1, 0, 1) for n in range(20)]
    assert asyncio.run(wakes_by_turn(tokens, 20)) == [20]
    assert asyncio.run(wakes_by_turn([*tokens, *ends], 20)) == [8, 8, 4]
    assert asyncio.run(wakes_by_turn([*ends[:3], *tokens[3:]], 20)) == [20]


def test_whoever_is_cancelled_in_the_turn_of_his_token_ends_and_cancels_his_order() -> None:
    sent: list[bytes] = []

    async def use() -> None:
        link = open_link(sent)
        stream = OrderStream(echo_order("a", "x"), link.start)
        task = asyncio.create_task(stream.take())
        await asyncio.sleep(0)
        frame = frames.encode(frames.Events([Token(OrderId("a"), 65)]))
        task.cancel()
        asyncio.get_running_loop().call_soon(link.data_received, frame)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sent[1:] == [frames.encode(frames.Cancel(OrderId("a")))]

    asyncio.run(use())


def test_orders_of_one_turn_are_sent_together_and_other_messages_at_once_behind_them() -> None:
    sent: list[bytes] = []

    async def use() -> None:
        link = open_link(sent)
        orders = [echo_order(f"o{n}", "x") for n in range(3)]
        begun = [frames.encode(frames.Generate(order)) for order in orders]
        streams = [OrderStream(order, link.start) for order in orders[:2]]
        assert sent == []
        await asyncio.sleep(0)
        assert sent == [begun[0] + begun[1]]
        streams.append(OrderStream(orders[2], link.start))
        await streams[2].aclose()
        cancel = frames.encode(frames.Cancel(OrderId("o2")))
        assert sent[1:] == [begun[2] + cancel]
        await asyncio.sleep(0)
        assert len(sent) == 2, "nothing is sent twice"
        lost = OrderStream(echo_order("late", "x"), link.start)
        link.connection_lost(None)
        await asyncio.sleep(0)
        assert len(sent) == 2
        with pytest.raises(HostDied) as told:
            await lost.take()
        assert not told.value.taken, "the host never had it"

    asyncio.run(use())


def test_what_a_host_sent_before_it_was_killed_is_taken_although_an_order_met_the_closed_socket_first() -> None:
    async def use() -> None:
        ours, theirs = socket.socketpair()
        _, link = await asyncio.get_running_loop().create_connection(lambda: HostLink(Path("host")), sock=ours)
        link.open = True
        whole, broken = (
            OrderStream(echo_order("whole", "x"), link.start),
            OrderStream(echo_order("broken", "x"), link.start),
        )
        whole_id = OrderId("whole")
        end = Finished(whole_id, "stop", 1, 0, 1)
        theirs.sendall(frames.encode(frames.Events([Token(whole_id, 120), Token(OrderId("broken"), 120)])))
        theirs.sendall(frames.encode(frames.Events([end])))
        theirs.close()
        late = OrderStream(echo_order("late", "x"), link.start)  # in the same turn: nothing was read yet
        assert await collect(whole) == [Token(whole_id, 120), end]
        assert await broken.take() == [Token(OrderId("broken"), 120)]
        for lost in (broken, late):
            with pytest.raises(HostDied):
                await lost.take()
        await link.close()

    asyncio.run(use())


def test_a_host_that_went_leaves_no_word_of_a_fault_that_nobody_took() -> None:
    untold: list[str] = []

    async def use() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, about: untold.append(str(about["message"])))
        gone = HostLink(Path("host"))
        gone.connection_lost(None)  # before it greeted, and nobody waits for that any more
        link = open_link([])
        asking = asyncio.create_task(link.call(frames.GetStats))
        await asyncio.sleep(0)
        asking.cancel()
        link.connection_lost(None)
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(use())
    gc.collect()
    assert untold == []


def test_a_timeout_ends_a_wait_and_what_comes_later_is_not_lost() -> None:
    async def use() -> None:
        link = HostLink(Path("host"))
        link.connection_made(Nowhere())
        stream = OrderStream(echo_order("a", "x"), link.start)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await stream.take()
        assert await stream.take() == []  # a wait that was cancelled gave the order up

    asyncio.run(use())
