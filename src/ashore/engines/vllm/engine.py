"""The `vllm` engine: orders become streamed completions of a vLLM server, whose tokens `step` hands on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import threading
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar

import msgspec

from ashore.core import UNDECODABLE, OrderId
from ashore.engines.failures import failed
from ashore.engines.model import (
    EngineEvent,
    EngineInfo,
    EngineOptions,
    EngineStats,
    Finished,
    GenerateOrder,
    ModelFiles,
    ScoredText,
    ScoreText,
    Token,
)
from ashore.engines.ordercheck import check_order, check_scored
from ashore.engines.vllm import wire
from ashore.engines.vllm.card import CARD
from ashore.engines.vllm.command import VllmProcess, free_port, vllm_command
from ashore.errors import (
    AshoreError,
    Conflict,
    ContextTooLong,
    EngineFailed,
    InvalidSpec,
    NotReady,
    SourceUnreachable,
    UnknownModel,
    UnsupportedByEngine,
)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_CALL_TIMEOUT_S: Final = 120.0
_START_TIMEOUT_S: Final = 900.0
_IDLE_S: Final = 1.0
"""How long a connection may have rested that an order goes out on. vLLM closes one that rested for 5 s; an order that
crosses with that is lost. A new one on this machine costs nothing."""
ASK_S: Final = 2.0
"""A server that has orders and says nothing for so long is asked whether it lives, again and again."""
SILENT_S: Final = 15.0
"""One that answers nothing for so long hangs. vLLM answers `/health` beside its longest step."""
_FALLBACK_VOCAB: Final = 1 << 20
"""Where nothing tells the size of the vocabulary, vLLM itself refuses ids beyond it."""


class _Live(msgspec.Struct):
    """One order at the server. Counts are touched by the network thread only."""

    order: GenerateOrder
    task: asyncio.Task[None] | None = None
    made: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0


class VllmEngine:
    """Implements `Engine`, `CanWait`, `CanScore`, and `CanEmbed` with the option `task = "embed"`."""

    def __init__(self) -> None:
        self._info: EngineInfo | None = None
        self._process: VllmProcess | None = None
        self._client: Any = None
        self._remote_model = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._live: dict[OrderId, _Live] = {}
        self._heard_s = 0.0
        """When the server last said anything, or had nothing to say."""
        self._watching: asyncio.Task[None] | None = None
        self._events: deque[EngineEvent] = deque()
        self._wake_read, self._wake_write = -1, -1
        self._steps = self._prompt_tokens = self._cached_tokens = self._completion_tokens = self._scored_tokens = 0

    def load(self, files: ModelFiles, options: EngineOptions) -> EngineInfo:
        import httpx

        url, api_key = str(options.extra.get("url", "")), str(options.extra.get("api_key", ""))
        if not url:
            port = free_port()
            command = vllm_command(files, options, port=port)
            _log.info("starting vLLM: %s", shlex.join(command))
            self._process = VllmProcess(command)
            url, api_key = f"http://127.0.0.1:{port}", self._process.api_key
        elif not url.startswith(("http://", "https://")):
            raise InvalidSpec(f"the vLLM url is {url!r}", hint="write http://HOST:PORT, without /v1")
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm-http", daemon=True)
        self._thread.start()
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(_CALL_TIMEOUT_S, connect=10.0),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=_IDLE_S),
            trust_env=False,
        )
        timeout_s = float(options.extra.get("start_timeout_s", _START_TIMEOUT_S if self._process else 10.0))
        entry = self._wait_until_ready(url, timeout_s, wanted=files.name)
        self._remote_model = entry.id
        embeds = options.extra.get("task") == "embed"
        context_tokens = options.context_tokens or entry.max_model_len or 4096
        self._info = EngineInfo(
            kind="vllm",
            version=f"vllm {self._version()}",
            model=files.name,
            precision=str(options.extra.get("quantization") or options.extra.get("dtype") or "auto"),
            context_tokens=context_tokens,
            vocab_size=int(options.extra.get("vocab_size", _FALLBACK_VOCAB)),
            kv_tokens=options.kv_tokens or context_tokens * options.max_sequences,
            max_sequences=options.max_sequences,
            features=("embed",) if embeds else CARD.features,
            max_top_logprobs=0 if embeds else 20,
            embedding_size=len(self._embed([[0]])[0]) if embeds else 0,
        )
        self._network().call_soon_threadsafe(self._watch)
        return self._info

    def submit(self, order: GenerateOrder) -> None:
        try:
            info = self._loaded()
            if "embed" in info.features:
                raise UnsupportedByEngine("this model produces embeddings; it does not generate text")
            if order.order_id in self._live:
                raise Conflict(f"order {order.order_id!r} is already running", hint="give every order a unique id")
            check_order(order, info)
        except AshoreError as error:
            self._push(failed(order.order_id, error))
            return
        live = self._live[order.order_id] = _Live(order, prompt_tokens=len(order.prompt_ids))
        self._network().call_soon_threadsafe(self._start, live)

    def cancel(self, order_id: OrderId) -> None:
        live = self._live.pop(order_id, None)
        if live is None:
            return
        self._network().call_soon_threadsafe(_stop, live)
        self._push(Finished(order_id, "cancelled", live.prompt_tokens, live.cached_tokens, live.made))

    def step(self, timeout_s: float) -> Sequence[EngineEvent]:
        if self._process is not None:
            self._process.check()
        deadline_s = time.monotonic() + timeout_s
        while not (events := self._take_events()):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                break
            self._sleep(left_s)  # a byte may be left of events that were taken already: then once more
        self._steps += bool(events)
        return events

    def wait_on(self) -> tuple[int | None, float | None]:
        return self._wake_read, 0.0 if self._events else (1.0 if self._process is not None else None)

    def score(self, texts: Sequence[ScoreText], *, top_logprobs: int = 0) -> list[ScoredText]:
        info = self._loaded()
        check_scored(texts, info, top_logprobs=top_logprobs)
        scored = []
        for text in texts:
            if len(text.ids) >= info.context_tokens:  # the server generates one token behind it
                raise ContextTooLong(f"the text has {len(text.ids)} tokens; the context is {info.context_tokens}")
            scored.append(self._score(text.ids, top_logprobs)[text.start - 1 :])
            self._scored_tokens += len(text.ids)
        return scored

    def _score(self, ids: list[int], top_logprobs: int) -> ScoredText:
        body = {
            "model": self._remote_model, "prompt": list(ids), "max_tokens": 1, "temperature": 0.0,
            "prompt_logprobs": top_logprobs, "add_special_tokens": False,
        }  # fmt: skip
        chunk = msgspec.json.decode(self._ask(self._post("/v1/completions", body)), type=wire.Chunk)
        return wire.score_rows(chunk.choices[0], list(ids), top_logprobs)

    def embed(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        if "embed" not in self._loaded().features:
            raise UnsupportedByEngine("this vLLM server generates text", hint='serve an encoder with task = "embed"')
        return self._embed(batch)

    def stats(self) -> EngineStats:
        info = self._info
        return EngineStats(
            running=len(self._live),
            kv_tokens_used=sum(live.prompt_tokens + live.made for live in self._live.values()),
            kv_tokens_total=info.kv_tokens if info is not None else 0,
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self._completion_tokens,
            scored_tokens=self._scored_tokens,
        )

    def close(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            asyncio.run_coroutine_threadsafe(self._end_network(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(10)
            loop.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
        if self._process is not None:
            self._process.stop()
        self._info = self._process = None
        self._live.clear()
        self._events.clear()

    # --- in the host's thread

    def _loaded(self) -> EngineInfo:
        if self._info is None:
            raise NotReady("the vllm engine is not loaded")
        return self._info

    def _network(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise NotReady("the vllm engine is closed")
        return self._loop

    def _ask(self, call: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(call, self._network()).result(_CALL_TIMEOUT_S)

    def _embed(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        body = {"model": self._remote_model, "input": [list(ids) for ids in batch], "encoding_format": "float"}
        data = msgspec.json.decode(self._ask(self._post("/v1/embeddings", body)))["data"]
        return [entry["embedding"] for entry in sorted(data, key=lambda entry: entry["index"])]

    def _wait_until_ready(self, url: str, timeout_s: float, *, wanted: str) -> wire.ModelEntry:
        deadline_s = time.monotonic() + timeout_s
        while True:
            if self._process is not None:
                self._process.check()
            try:
                answer = self._ask(self._get("/v1/models"))
                break
            except SourceUnreachable as error:
                if time.monotonic() >= deadline_s:
                    raise EngineFailed(
                        f"no vLLM server answered at {url} within {timeout_s:g} s ({error.message})",
                        hint="start it, or correct the option `url`",
                    ) from error
            time.sleep(0.2)
        entries = msgspec.json.decode(answer, type=wire.ModelList).data
        if not entries:
            raise UnknownModel(f"the vLLM server at {url} serves no model")
        return next((entry for entry in entries if entry.id == wanted), entries[0])

    def _version(self) -> str:
        try:
            return str(msgspec.json.decode(self._ask(self._get("/version"))).get("version", "unknown"))
        except AshoreError:
            return "unknown"  # an older server, or another that speaks its form

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
        """Note what an event tells; False for one of an order that was cancelled meanwhile."""
        live = self._live.get(event.order_id)
        if isinstance(event, Token):
            self._completion_tokens += live is not None
            return live is not None
        if live is not None:
            del self._live[event.order_id]
        elif isinstance(event, Finished) and event.reason != "cancelled":
            return False
        if isinstance(event, Finished):
            self._prompt_tokens += event.prompt_tokens
            self._cached_tokens += event.cached_tokens
        return True

    # --- in the network's thread

    def _push(self, event: EngineEvent) -> None:
        self._events.append(event)
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"x")

    def _start(self, live: _Live) -> None:
        live.task = asyncio.get_running_loop().create_task(self._generate(live))

    async def _generate(self, live: _Live) -> None:
        """Stream one order. Closing the stream, which a cancellation does, makes vLLM abort it."""
        order = live.order
        body = wire.completion_body(order, self._remote_model)
        headers = {"traceparent": order.traceparent} if order.traceparent else {}
        try:
            async with (
                _translated(),
                self._client.stream("POST", "/v1/completions", json=body, headers=headers) as answer,
            ):
                if answer.status_code != 200:
                    raise wire.error_for(answer.status_code, (await answer.aread()).decode("utf-8", "replace"))
                await self._read_stream(live, answer)
        except AshoreError as error:
            self._push(failed(order.order_id, error))
        except Exception as error:  # noqa: BLE001 - the outermost place of this task: an order must never hang
            _log.exception("an order to vLLM broke")
            self._push(failed(order.order_id, error))

    def _watch(self) -> None:
        self._watching = asyncio.get_running_loop().create_task(self._keep_listening(), name="vllm-silence")

    async def _keep_listening(self) -> None:
        """End what a server that hangs will not answer. One of ours is killed, for the host to end and start anew."""
        self._heard_s = time.monotonic()
        while True:
            await asyncio.sleep(ASK_S)
            if not self._live:
                self._heard_s = time.monotonic()
            if time.monotonic() - self._heard_s < ASK_S:
                continue
            try:
                async with _translated():
                    await self._client.get("/health", timeout=ASK_S)  # whatever the answer says: there is one
                self._heard_s = time.monotonic()
            except SourceUnreachable as error:
                silent_s = time.monotonic() - self._heard_s
                if silent_s >= SILENT_S:
                    self._give_up(silent_s, error)

    def _give_up(self, silent_s: float, error: SourceUnreachable) -> None:
        what = f"the vLLM server has not responded for {silent_s:.0f} s: {error.message}"
        _log.error("%s; %d orders end", what, len(self._live))
        if self._process is not None:
            self._process.kill()
        for live in list(self._live.values()):
            _stop(live)
            told = SourceUnreachable(what, hint="check that server; requests are retried")
            self._push(failed(live.order.order_id, told))

    async def _read_stream(self, live: _Live, answer: Any) -> None:
        order = live.order
        end: wire.Choice | None = None
        stop_token_id: int | None = None
        async for line in answer.aiter_lines():
            self._heard_s = time.monotonic()
            if not line.startswith("data:"):
                continue
            data = line[5:].strip()
            if data == "[DONE]":
                continue  # the stream ends here; reading on to its end closes what httpx opened
            chunk = msgspec.json.decode(data, type=wire.Chunk)
            if chunk.error is not None:
                raise EngineFailed(f"vLLM ended the stream with an error: {chunk.error.message}")
            if chunk.usage is not None and chunk.usage.prompt_tokens_details is not None:
                live.cached_tokens = chunk.usage.prompt_tokens_details.cached_tokens or 0
            for choice in chunk.choices:
                rows = wire.token_rows(choice, order.top_logprobs)
                if choice.finish_reason is not None:
                    end = choice
                    if choice.finish_reason == "stop" and rows and rows[-1][0] in order.stop_token_ids:
                        stop_token_id = rows.pop()[0]
                    elif isinstance(choice.stop_reason, int):
                        stop_token_id = choice.stop_reason
                for token_id, logprob, top in rows:
                    live.made += 1
                    self._push(Token(order.order_id, token_id, logprob, top))
        if end is None:
            raise EngineFailed("vLLM's stream ended before the answer did", hint="see the log of vLLM")
        reason = "length" if end.finish_reason == "length" else "stop"
        self._push(
            Finished(order.order_id, reason, live.prompt_tokens, live.cached_tokens, live.made, stop_token_id)  # type: ignore[arg-type]
        )

    async def _get(self, path: str) -> bytes:
        async with _translated():
            answer = await self._client.get(path)
        if answer.status_code != 200:
            raise wire.error_for(answer.status_code, answer.text)
        return bytes(answer.content)

    async def _post(self, path: str, body: dict[str, Any]) -> bytes:
        async with _translated():
            answer = await self._client.post(path, json=body)
        if answer.status_code != 200:
            raise wire.error_for(answer.status_code, answer.text)
        return bytes(answer.content)

    async def _end_network(self) -> None:
        tasks = [live.task for live in self._live.values() if live.task is not None]
        tasks += [] if self._watching is None else [self._watching]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
        await asyncio.get_running_loop().shutdown_asyncgens()


@contextlib.asynccontextmanager
async def _translated() -> Any:
    """Turn the HTTP library's errors into ours."""
    import httpx

    try:
        yield
    except httpx.HTTPError as error:
        raise SourceUnreachable(f"vLLM cannot be reached: {type(error).__name__} {error}") from error
    except UNDECODABLE as error:
        raise EngineFailed(f"vLLM sent an invalid response: {error}") from error


def _stop(live: _Live) -> None:
    if live.task is not None:
        live.task.cancel()
