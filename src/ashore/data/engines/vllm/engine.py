"""The `vllm` engine: orders become streamed completions of vLLM servers, whose tokens `step` returns."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import threading
import time
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import wait
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from ashore.core.errors import (
    AshoreError,
    Conflict,
    ContextTooLong,
    EngineFailed,
    HostDied,
    NotReady,
    SourceUnreachable,
    UnsupportedByEngine,
)
from ashore.core.ids import OrderId
from ashore.data.engines.affinity import Turn
from ashore.data.engines.failures import failed
from ashore.data.engines.model import (
    BackendStatus,
    EngineEvent,
    EngineInfo,
    EngineOptions,
    EngineStats,
    Finished,
    FleetServer,
    GenerateOrder,
    ModelFiles,
    Moved,
    Said,
    ScoredText,
    ScoreText,
    Token,
)
from ashore.data.engines.ordercheck import check_order, check_scored
from ashore.data.engines.vllm import wire
from ashore.data.engines.vllm.card import CARD
from ashore.data.engines.vllm.command import VllmProcess, vllm_command
from ashore.data.engines.vllm.dialects import Dialect
from ashore.data.engines.vllm.reach import FleetServers, Reach
from ashore.data.engines.vllm.servers import Servers
from ashore.data.engines.vllm.spoken import dialect_named
from ashore.data.engines.vllm.talk import Live
from ashore.kit.decode import UNDECODABLE
from ashore.kit.processes.ports import free_port
from ashore.kit.recordfile import read_record

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_CALL_TIMEOUT_S: Final = 120.0
_SCORE_PAUSE_S: Final = 0.01
"""Between two looks at a text that a server scores: running sequences step between them."""
_START_TIMEOUT_S: Final = 900.0
_FALLBACK_VOCAB: Final = 1 << 20
"""Where nothing tells the size of the vocabulary, vLLM itself refuses ids beyond it."""


class VllmEngine:
    """Implements `Engine`, `CanWait`, `CanScore`, `CanLoadAdapter`, `CanSleep` with the option `enable_sleep_mode`, and
    `CanEmbed` with `task = "embed"`."""

    def __init__(self) -> None:
        self._info: EngineInfo | None = None
        self._process: VllmProcess | None = None
        self._servers: Servers | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._live: dict[OrderId, Live] = {}
        self._adapters: set[str] = set()
        self._events: deque[EngineEvent] = deque()
        self._wake_read, self._wake_write = -1, -1
        self._steps = self._prompt_tokens = self._cached_tokens = self._completion_tokens = self._scored_tokens = 0

    def load(self, files: ModelFiles, options: EngineOptions) -> EngineInfo:
        fleet = FleetServers.of(options)
        sleeps = bool(options.extra.get("enable_sleep_mode"))
        if fleet is not None:
            reach, listed = Reach.of(options), fleet.read() or ()
        else:
            port = free_port()
            command = vllm_command(files, options, port=port)
            _log.info("starting vLLM: %s", shlex.join(command))
            self._process = VllmProcess(command, sleeps=sleeps)
            reach, listed = Reach(key=self._process.api_key), (FleetServer(url=f"http://127.0.0.1:{port}"),)
        name, said = (str(options.extra.get(one, "")) for one in ("served_model_name", "dialect"))
        dialect = wire.VLLM if fleet is None else dialect_named(said) if said else None
        self._connect(reach, listed, fleet, dialect, name or files.name, is_name_given=bool(name))
        assert self._servers is not None
        if self._process is not None:
            entry = self._wait_until_ready(self._process, float(options.extra.get("start_timeout_s", _START_TIMEOUT_S)))
        else:
            entry = self._ask(self._first_of_the_fleet()) or wire.ModelEntry(id="", max_model_len=_context_of(files))
        if sleeps and self._ask(self._servers.is_asleep()):  # the process that put it to sleep has ended
            self.wake()
        self._servers.learns = False  # what it can do is said below
        dialect = self._servers.dialect
        embeds = options.extra.get("task") == "embed"
        can = ("embed",) if embeds else tuple(one for one in CARD.features if one not in {"sleep", *dialect.lacks})
        context_tokens = options.context_tokens or entry.max_model_len or 4096
        told = (options.extra.get(name) for name in ("precision", "quantization", "dtype"))
        self._info = EngineInfo(
            kind="vllm",
            version=f"{dialect.name} {self._ask(self._servers.version())}"
            if self._servers.pool.ready
            else f"{dialect.name}, no node answers yet",
            model=files.name,
            precision=str(next((one for one in told if one), "auto")),
            context_tokens=context_tokens,
            vocab_size=int(options.extra.get("vocab_size", _FALLBACK_VOCAB)),
            kv_tokens=options.kv_tokens or context_tokens * options.max_sequences,
            max_sequences=options.max_sequences,
            features=(*can, "sleep") if sleeps else can,
            asleep_bytes=_weight_bytes(files) if sleeps and self._process is not None else 0,
            max_top_logprobs=20 if "top_logprobs" in can else 0,
            embedding_size=len(self._embed([[0]])[0]) if embeds else 0,
        )
        self._network().call_soon_threadsafe(self._servers.watch)
        if self._process is not None:
            threading.Thread(target=self._await_end, args=(self._process,), name="vllm-end", daemon=True).start()
        return self._info

    def _connect(
        self,
        reach: Reach,
        listed: Sequence[FleetServer],
        fleet: FleetServers | None,
        dialect: Dialect | None,
        wanted: str,
        *,
        is_name_given: bool,
    ) -> None:
        """Start the network's thread, and make the servers. Arguments are those of `Servers`."""
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm-http", daemon=True)
        self._thread.start()

        async def make() -> Servers:
            return Servers(
                reach, listed, fleet=fleet, dialect=dialect, wanted=wanted, is_name_given=is_name_given,
                tell=self._push, lost=self._give_up,
            )  # fmt: skip

        self._servers = self._ask(make())

    def sleep(self) -> None:
        self._ask(self._reached().rest(asleep=True))

    def wake(self) -> None:
        self._ask(self._reached().rest(asleep=False))

    def load_adapter(self, name: str, directory: str) -> None:
        try:
            self._ask(self._reached().load_adapter(name, directory))
        except AshoreError as error:
            error.hint = error.hint or "the server must run with --enable-lora, and read that directory"
            raise
        self._adapters.add(name)

    def submit(self, order: GenerateOrder) -> None:
        try:
            info = self._loaded()
            if "embed" in info.features:
                raise UnsupportedByEngine("this model produces embeddings; it does not generate text")
            if order.order_id in self._live:
                raise Conflict(f"order {order.order_id!r} is already running", hint="give every order a unique id")
            check_order(order, info, self._adapters)
        except AshoreError as error:
            self._push(failed(order.order_id, error))
            return
        turn = Turn(opening=order.opening, prompt_tokens=len(order.prompt_ids))
        live = self._live[order.order_id] = Live(order=order, turn=turn, prompt_tokens=turn.prompt_tokens)
        self._network().call_soon_threadsafe(self._start, live)

    def cancel(self, order_id: OrderId) -> None:
        live = self._live.pop(order_id, None)
        if live is None:
            return
        self._network().call_soon_threadsafe(_stop, live)
        self._push(Finished(order_id, "cancelled", live.prompt_tokens, live.cached_tokens, live.made))

    def step(self, timeout_s: float) -> Sequence[EngineEvent]:
        """As `Engine.step`.

        Raises:
            HostDied: the server that this engine started has ended; the engine is unusable.
        """
        if self._process is not None:
            try:
                self._process.check()
            except EngineFailed as error:
                raise HostDied(error.message, hint=error.hint) from error
        deadline_s = time.monotonic() + timeout_s
        while not (events := self._take_events()):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                break
            self._sleep(left_s)  # a byte may remain from events already taken: then once more
        self._steps += bool(events)
        return events

    def wait_on(self) -> tuple[int | None, float | None]:
        return self._wake_read, 0.0 if self._events else None

    def score(self, texts: Sequence[ScoreText], *, top_logprobs: int = 0) -> Iterator[tuple[int, ScoredText]]:
        info = self._loaded()
        check_scored(texts, info, top_logprobs=top_logprobs)
        for place, text in enumerate(texts):
            if len(text.ids) >= info.context_tokens:  # the server generates one token after it
                raise ContextTooLong(f"the text has {len(text.ids)} tokens; the context is {info.context_tokens}")
            answer = asyncio.run_coroutine_threadsafe(self._score(text.ids, top_logprobs), self._network())
            until_s = time.monotonic() + _CALL_TIMEOUT_S
            try:
                while not wait([answer], timeout=_SCORE_PAUSE_S).done and time.monotonic() < until_s:
                    yield place, []
                yield place, answer.result(0)[text.start - 1 :]
            finally:
                answer.cancel()
            self._scored_tokens += len(text.ids)

    async def _score(self, ids: list[int], top_logprobs: int) -> ScoredText:
        def body(model: str) -> dict[str, Any]:
            return {
                "model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 0.0,
                "prompt_logprobs": top_logprobs, "add_special_tokens": False,
            }  # fmt: skip

        answer = await self._reached().call("/v1/completions", body)
        try:
            return wire.score_rows(_decoded(answer, wire.Chunk).choices[0], list(ids), top_logprobs)
        except (LookupError, ValueError) as error:
            raise EngineFailed(f"vLLM scored another text than it was asked for: {error!r}") from error

    def embed(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        if "embed" not in self._loaded().features:
            raise UnsupportedByEngine("this vLLM server generates text", hint='serve an encoder with task = "embed"')
        return self._embed(batch)

    def _embed(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        def body(model: str) -> dict[str, Any]:
            return {"model": model, "input": [list(ids) for ids in batch], "encoding_format": "float"}

        answer = self._ask(self._reached().call("/v1/embeddings", body))
        data = sorted(_decoded(answer, wire.Vectors).data, key=lambda entry: entry.index)
        size = self._info.embedding_size if self._info is not None else len(data[0].embedding) if data else 0
        if len(data) != len(batch) or not size or any(len(entry.embedding) != size for entry in data):
            raise EngineFailed(f"vLLM sent {len(data)} vectors for {len(batch)} texts, or not all of one size")
        return [entry.embedding for entry in data]

    def stats(self) -> EngineStats:
        info, servers = self._info, self._servers
        placed = servers.pool.affinity.placed if servers is not None else (0, 0)
        return EngineStats(
            running=len(self._live),
            kv_tokens_used=sum(live.prompt_tokens + live.made for live in self._live.values()),
            kv_tokens_total=info.kv_tokens if info is not None else 0,
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self._completion_tokens,
            scored_tokens=self._scored_tokens,
            adapters=len(self._adapters),
            opening_first=placed[0],
            opening_elsewhere=placed[1],
            backends=tuple(
                BackendStatus(
                    url=one.url, state="draining" if one.drains else one.state, reason=one.reason,
                    last_error=one.last_error, running=one.running, sent=one.sent, times_out=one.times_out,
                    prompt_tokens=one.prompt_tokens, cached_tokens=one.cached_tokens, kind=one.kind,
                    outside=one.is_outside,
                )
                for one in (servers.pool.backends if servers is not None and self._process is None else ())
            ),
        )  # fmt: skip

    def close(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            asyncio.run_coroutine_threadsafe(self._end_network(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(10)
            loop.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_read = self._wake_write = -1
        if self._process is not None:
            self._process.stop()
        self._info = self._process = self._servers = None
        self._live.clear()
        self._events.clear()

    # --- in the host's thread

    def _loaded(self) -> EngineInfo:
        if self._info is None:
            raise NotReady("the vllm engine is not loaded")
        return self._info

    def _reached(self) -> Servers:
        if self._servers is None:
            raise NotReady("the vllm engine is not loaded")
        return self._servers

    def _network(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise NotReady("the vllm engine is closed")
        return self._loop

    def _ask(self, call: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(call, self._network()).result(_CALL_TIMEOUT_S)

    def _wait_until_ready(self, process: VllmProcess, timeout_s: float) -> wire.ModelEntry:
        deadline_s = time.monotonic() + timeout_s
        while True:
            process.check()
            try:
                return self._ask(self._reached().first())
            except SourceUnreachable as error:
                if time.monotonic() >= deadline_s:
                    raise EngineFailed(
                        f"vLLM did not answer within {timeout_s:g} s ({error.message})",
                        hint="see the log of its host; a large model needs a larger start_timeout_s in options",
                    ) from error
            time.sleep(0.2)

    def _take_events(self) -> list[EngineEvent]:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 65536)
        events = []
        while self._events:
            event = self._events.popleft()
            if self._counts(event):
                events.append(event)
        return events

    def _sleep(self, timeout_s: float) -> None:
        import select

        select.select([self._wake_read], [], [], timeout_s)

    def _counts(self, event: EngineEvent) -> bool:
        """Record what an event shows; False for one of an order that was cancelled meanwhile."""
        live = self._live.get(event.order_id)
        if isinstance(event, Token | Said | Moved):
            self._completion_tokens += not isinstance(event, Moved) and live is not None
            return live is not None
        if live is not None:
            del self._live[event.order_id]
        elif isinstance(event, Finished) and event.reason != "cancelled":
            return False
        if isinstance(event, Finished):
            self._prompt_tokens += event.prompt_tokens
            self._cached_tokens += event.cached_tokens
        return True

    # --- in other threads

    def _push(self, event: EngineEvent) -> None:
        self._events.append(event)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"x")

    def _await_end(self, process: VllmProcess) -> None:
        """Wake the host when the server that it started has ended, so that `step` reports it."""
        process.wait()
        self._wake()

    def _give_up(self, why: str) -> None:
        """Kill a hanging server of ours, so that the host ends and restarts."""
        if self._process is not None:
            self._process.kill()

    async def _first_of_the_fleet(self) -> wire.ModelEntry | None:
        """Return what a node serves; None if none answers now: one may come at any time."""
        try:
            return await self._reached().first()
        except AshoreError as error:
            _log.warning("no node answers yet: %s", error.message)
            return None

    def _start(self, live: Live) -> None:
        live.task = asyncio.get_running_loop().create_task(self._run(live))

    async def _run(self, live: Live) -> None:
        order_id = live.order.order_id
        try:
            await self._reached().run(live)
        except AshoreError as error:
            self._push(failed(order_id, error))
        except Exception as error:  # noqa: BLE001 - the outermost place of this task: an order must never hang
            _log.exception("an order to vLLM broke")
            self._push(failed(order_id, error))

    async def _end_network(self) -> None:
        if self._servers is not None:
            await self._servers.close()


def _decoded(answer: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except UNDECODABLE as error:
        raise EngineFailed(f"vLLM sent an invalid response: {error}") from error


def _context_of(files: ModelFiles) -> int | None:
    """Return the context length of a model from its config.json; None if it is missing."""
    config = read_record(Path(files.directory) / "config.json", _Config)
    return None if config is None else config.max_position_embeddings


def _weight_bytes(files: ModelFiles) -> int:
    """Return the bytes of a model's weights on disk."""
    folder = Path(files.directory)
    found = [folder / files.weights] if files.format == "gguf" else folder.glob("*.safetensors")
    return sum(one.stat().st_size for one in found)


class _Config(msgspec.Struct, frozen=True):
    max_position_embeddings: int | None = None


def _stop(live: Live) -> None:
    if live.task is not None:
        live.task.cancel()
