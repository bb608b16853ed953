"""The clients, each a thread of its own: they ask, note what came, and try again as a careful program would."""

from __future__ import annotations

import itertools
import json
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import anthropic
import grpc
import httpx
import openai
from benchmarks.inference_stub import InferenceStub
from benchmarks.trace.model import Ask, Attempt, Outcome

from ashore.data.grpc.gen import inference_pb2 as pb

sdk_http: Any = httpx
with suppress(ImportError):
    import httpx2 as sdk_http  # what the newer clients of OpenAI and Anthropic speak through

MOST_ATTEMPTS = 40
NO_MORE_AFTER_S = 60.0
"""From the first attempt of one wish until its client gives up."""
TOPICS = ("river", "planet", "engine", "garden", "harbour", "library", "mountain", "festival", "bridge", "orchard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every client knows."""

    url: str
    host: str
    authority: str
    key: str
    chat: str
    """Alias that answers."""
    embedder: str
    deadline_s: float
    max_tokens: int
    exact_tokens: bool
    """Ask for answers of exactly `max_tokens`, so that a short one shows."""
    think_s: float
    began_s: float

    def now_s(self) -> float:
        return time.monotonic() - self.began_s


@dataclass(slots=True, kw_only=True)
class Seen:
    """What one request brought, filled while it comes."""

    text: str = ""
    finish: str = ""
    tokens: int = -1
    kept: str = ""
    status: int = 0
    ended: bool = False
    """The protocol's own mark of the end was seen."""


class Client(Protocol):
    """One form of one protocol."""

    kind: str

    def ask(self, question: str, seen: Seen) -> None:
        """Ask, and fill `seen`; raise what the library raises."""
        ...


class Questions:
    """Some are asked over and over and may come from the cache; the others are new each time.

    `family` stands before each, so that clients whose requests differ in more than the question share none.
    """

    def __init__(self, name: str, family: str) -> None:
        self._name = name
        self._family = family
        self._draw = random.Random(name)
        self._numbers = itertools.count()

    def next(self) -> str:
        """Return a question."""
        if self._draw.random() < 0.6:
            number = min(int(self._draw.paretovariate(0.8)), 40)
            return f"{self._family} tell me about the {TOPICS[number % len(TOPICS)]} number {number}, briefly."
        number = next(self._numbers)
        return f"{self._family} {self._name} {number}: what is {number} plus {number % 7}, and why should one care?"


class OpenAIWhole:
    """The openai client, whole answers."""

    kind = "openai whole"

    def __init__(self, setting: Setting, close: ExitStack) -> None:
        self._setting = setting
        self._api = close.enter_context(openai_client(setting))

    def ask(self, question: str, seen: Seen) -> None:
        raw = self._api.chat.completions.with_raw_response.create(**chat_words(self._setting, question))
        seen.kept, seen.status = raw.headers.get("x-ashore-cache", ""), raw.status_code
        answer = raw.parse()
        choice = answer.choices[0]
        seen.text, seen.finish = choice.message.content or "", choice.finish_reason
        seen.tokens = answer.usage.completion_tokens if answer.usage else -1
        seen.ended = True


class OpenAIStream:
    """The openai client, streamed answers. Its end is a reason to stop, and the usage behind it."""

    kind = "openai stream"

    def __init__(self, setting: Setting, close: ExitStack) -> None:
        self._setting = setting
        self._api = close.enter_context(openai_client(setting))

    def ask(self, question: str, seen: Seen) -> None:
        words = chat_words(self._setting, question)
        raw = self._api.chat.completions.with_raw_response.create(
            **words, stream=True, stream_options={"include_usage": True}
        )
        seen.kept, seen.status = raw.headers.get("x-ashore-cache", ""), raw.status_code
        with raw.parse() as chunks:
            for chunk in chunks:
                if chunk.usage is not None:
                    seen.tokens = chunk.usage.completion_tokens
                    seen.ended = bool(seen.finish)
                for choice in chunk.choices:
                    seen.text += choice.delta.content or ""
                    seen.finish = choice.finish_reason or seen.finish


class RawStream:
    """Bytes over HTTP/1.1. The end is `[DONE]`."""

    kind = "raw stream"

    def __init__(self, setting: Setting, close: ExitStack) -> None:
        self._setting = setting
        self._api = close.enter_context(http_client(setting))

    def ask(self, question: str, seen: Seen) -> None:
        words = chat_words(self._setting, question)
        headers = words.pop("extra_headers")
        body = {**words.pop("extra_body"), **words, "stream": True, "stream_options": {"include_usage": True}}
        with self._api.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            seen.kept, seen.status = answer.headers.get("x-ashore-cache", ""), answer.status_code
            if answer.status_code != 200:
                answer.read()
                raise Refused(answer.status_code, answer.json()["error"]["code"])
            for line in answer.iter_lines():
                if line == "data: [DONE]":
                    seen.ended = True
                elif line.startswith("data: "):
                    self._take(json.loads(line[6:]), seen)

    def _take(self, chunk: dict[str, Any], seen: Seen) -> None:
        if "error" in chunk:
            raise Refused(seen.status, chunk["error"]["code"])
        if chunk.get("usage"):
            seen.tokens = chunk["usage"]["completion_tokens"]
        for choice in chunk["choices"]:
            seen.text += choice["delta"].get("content") or ""
            seen.finish = choice.get("finish_reason") or seen.finish


class Anthropic:
    """The anthropic client, whole and streamed in turn."""

    kind = "anthropic"

    def __init__(self, setting: Setting, close: ExitStack) -> None:
        self._setting = setting
        self._turns = itertools.count()
        self._api = close.enter_context(
            anthropic.Anthropic(
                base_url=setting.url,
                api_key=setting.key,
                max_retries=0,
                timeout=setting.deadline_s + 5,
                http_client=anthropic.DefaultHttpxClient(verify=trust(setting)),
            )
        )

    def ask(self, question: str, seen: Seen) -> None:
        words: dict[str, Any] = {
            "model": self._setting.chat,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": self._setting.max_tokens,
            "extra_body": {"temperature": 0},
            "extra_headers": deadline_header(self._setting),
        }
        if next(self._turns) % 2:
            with self._api.messages.stream(**words) as events:
                for event in events:
                    if event.type == "text":
                        seen.text += event.text
                    elif event.type == "message_delta":
                        seen.finish, seen.tokens = event.delta.stop_reason or "", event.usage.output_tokens
                    elif event.type == "message_stop":
                        seen.ended = bool(seen.finish)
            return
        raw = self._api.messages.with_raw_response.create(**words)
        seen.kept, seen.status = raw.headers.get("x-ashore-cache", ""), raw.status_code
        answer = raw.parse()
        seen.text = "".join(block.text for block in answer.content if block.type == "text")
        seen.finish, seen.tokens, seen.ended = answer.stop_reason or "", answer.usage.output_tokens, True


class Grpc:
    """grpcio over the same TLS port, unary and streamed in turn."""

    kind = "grpc"

    def __init__(self, setting: Setting, close: ExitStack) -> None:
        self._setting = setting
        self._turns = itertools.count()
        with open(setting.authority, "rb") as file:
            credentials = grpc.ssl_channel_credentials(root_certificates=file.read())
        options = [("grpc.max_reconnect_backoff_ms", 1000)]
        self._channel = grpc.secure_channel(setting.host, credentials, options=options)
        close.callback(self._channel.close)
        self._stub = InferenceStub(self._channel)

    def ask(self, question: str, seen: Seen) -> None:
        generation = pb.Generation(
            sampling=pb.Sampling(temperature=0.0),
            max_tokens=self._setting.max_tokens,
            ignore_eos=self._setting.exact_tokens,
        )
        order = pb.ChatRequest(
            model=self._setting.chat,
            messages=[pb.Message(role=pb.ROLE_USER, content=question)],
            generation=generation,
        )
        metadata = (("authorization", f"Bearer {self._setting.key}"),)
        if next(self._turns) % 2:
            call = self._stub.ChatStream(order, timeout=self._setting.deadline_s, metadata=metadata)
            for event in call:
                match event.WhichOneof("event"):
                    case "delta":
                        seen.text += event.delta.text
                    case "choice_ended":
                        seen.finish = pb.FinishReason.Name(event.choice_ended.finish_reason)[14:].lower()
                    case "usage":
                        seen.tokens, seen.ended = event.usage.completion_tokens, bool(seen.finish)
            return
        answer, call = self._stub.Chat.with_call(order, timeout=self._setting.deadline_s, metadata=metadata)
        seen.kept = str(dict(call.initial_metadata()).get("x-ashore-cache", ""))
        choice = answer.choices[0]
        seen.text, seen.finish = choice.text, pb.FinishReason.Name(choice.finish_reason)[14:].lower()
        seen.tokens, seen.ended = answer.usage.completion_tokens, True


class Embeddings:
    """The openai client, vectors. The text of an answer is its rounded head."""

    kind = "embeddings"

    def __init__(self, setting: Setting, close: ExitStack) -> None:
        self._setting = setting
        self._api = close.enter_context(openai_client(setting))

    def ask(self, question: str, seen: Seen) -> None:
        raw = self._api.embeddings.with_raw_response.create(
            model=self._setting.embedder,
            input=question,
            encoding_format="float",
            extra_headers=deadline_header(self._setting),
        )
        seen.kept, seen.status = raw.headers.get("x-ashore-cache", ""), raw.status_code
        vector = raw.parse().data[0].embedding
        seen.text, seen.ended = " ".join(f"{number:.2f}" for number in vector[:8]), True


class Refused(Exception):
    """An error that the raw client read itself."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


FAULTS: tuple[type[Exception], ...] = (
    openai.APIError,
    anthropic.APIError,
    httpx.HTTPError,
    sdk_http.HTTPError,
    grpc.RpcError,
    Refused,
)


def trust(setting: Setting) -> ssl.SSLContext:
    """Return a context that believes the edge's own authority and nobody else."""
    return ssl.create_default_context(cafile=setting.authority)


def openai_client(setting: Setting) -> openai.OpenAI:
    """Return the client as its documentation has it, but one that tries nothing again by itself."""
    return openai.OpenAI(
        base_url=setting.url + "/v1",
        api_key=setting.key,
        max_retries=0,
        timeout=setting.deadline_s + 5,
        http_client=openai.DefaultHttpxClient(verify=trust(setting)),
    )


def http_client(setting: Setting) -> httpx.Client:
    """Return a plain client with the key."""
    return httpx.Client(
        base_url=setting.url,
        verify=trust(setting),
        timeout=setting.deadline_s + 5,
        headers={"authorization": f"Bearer {setting.key}"},
    )


def deadline_header(setting: Setting) -> dict[str, str]:
    """Return the header that tells the server how long the answer is worth anything."""
    return {"x-ashore-deadline-ms": str(int(setting.deadline_s * 1000))}


def chat_words(setting: Setting, question: str) -> dict[str, Any]:
    """Return one chat completion as the openai client takes it."""
    return {
        "model": setting.chat,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": setting.max_tokens,
        "temperature": 0,
        "extra_headers": deadline_header(setting),
        "extra_body": {"ignore_eos": True} if setting.exact_tokens else {},
    }


def fault_of(fault: Exception) -> tuple[int, str]:
    """Return status and code of what a library raised."""
    if isinstance(fault, Refused):
        return fault.status, fault.code
    if isinstance(fault, grpc.RpcError):
        trailing = dict(fault.trailing_metadata() or ())
        details = fault.details() or ""
        code = str(trailing.get("ashore-code", "")) or details.rpartition("[")[2].rstrip("]")
        if fault.code() == grpc.StatusCode.UNAVAILABLE and (not code or " " in code):
            code = "unreachable" if "connect" in details.lower() else "severed"
        if fault.code() == grpc.StatusCode.INTERNAL and "RST_STREAM" in details:
            code = "severed"  # how a proxy ends a stream of HTTP/2 that it cannot go on with
        return 0, code if code and " " not in code else f"{fault.code().name}: {details[:80]}"
    if isinstance(fault, openai.APITimeoutError | anthropic.APITimeoutError):
        return 0, "timeout"
    if isinstance(fault, openai.APIStatusError | anthropic.APIStatusError):
        return fault.status_code, code_in(fault.body) or type(fault).__name__
    if isinstance(fault, openai.APIConnectionError | anthropic.APIConnectionError):
        fault = fault.__cause__ if isinstance(fault.__cause__, Exception) else fault
    if isinstance(fault, httpx.TimeoutException | sdk_http.TimeoutException):
        return 0, "timeout"
    if isinstance(fault, httpx.ConnectError | sdk_http.ConnectError):
        return 0, "unreachable"
    if isinstance(fault, httpx.TransportError | sdk_http.TransportError):
        return 0, "severed"
    if isinstance(fault, openai.APIError | anthropic.APIError):
        return 200, code_in(fault.body) or str(fault)[:80]
    return 0, f"{type(fault).__name__}: {fault}"[:120]


def code_in(body: object) -> str:
    """Return `code` of an error, wherever the library has put it."""
    if isinstance(body, dict):
        inner = body.get("error", body)
        return str(inner.get("code") or "") if isinstance(inner, dict) else ""
    return ""


def attempt(setting: Setting, client: Client, question: str) -> Attempt:
    """Ask once, and return what came."""
    seen, began = Seen(), time.monotonic()
    sent_s = setting.now_s()
    code = ""
    outcome: Outcome
    try:
        client.ask(question, seen)
        outcome = "whole" if seen.ended else "silent"
    except FAULTS as fault:
        seen.status, code = fault_of(fault)
        outcome = "hung" if code == "timeout" else "cut" if seen.text else "error"
    return Attempt(
        kind=client.kind,
        question=question,
        sent_s=round(sent_s, 3),
        took_s=round(time.monotonic() - began, 4),
        outcome=outcome,
        status=seen.status,
        code=code,
        text=seen.text,
        tokens=seen.tokens,
        finish=seen.finish,
        kept=seen.kept,
    )


def pauses() -> Iterator[float]:
    """Yield the seconds to wait before each further attempt."""
    return itertools.chain((0.1, 0.2, 0.4), itertools.repeat(0.8))


def ask_until_served(setting: Setting, client: Client, question: str) -> Ask:
    """Ask until there is an answer or the client's patience ends."""
    attempts: list[Attempt] = []
    until = time.monotonic() + NO_MORE_AFTER_S
    for pause_s in pauses():
        attempts.append(attempt(setting, client, question))
        if attempts[-1].outcome == "whole" or len(attempts) >= MOST_ATTEMPTS or time.monotonic() > until:
            break
        time.sleep(pause_s)
    return Ask(attempts=tuple(attempts))


Make = Callable[[Setting, ExitStack], Client]
CLIENTS: tuple[Make, ...] = (OpenAIWhole, OpenAIStream, RawStream, Anthropic, Grpc, Embeddings)


@dataclass(slots=True)
class Crowd:
    """Several clients of each form at once."""

    setting: Setting
    each: int = 1
    asks: list[Ask] = field(default_factory=list)
    busy: dict[str, float] = field(default_factory=dict)
    """Since when each client waits for what it asked last."""
    faults: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Let them ask."""
        for number in range(self.each):
            for make in CLIENTS:
                name = f"{make.kind} {number}"  # type: ignore[attr-defined]
                thread = threading.Thread(target=self._run, args=(make, name), name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _run(self, make: Make, name: str) -> None:
        with ExitStack() as close:
            client = make(self.setting, close)
            questions = Questions(name, {"anthropic": "Dear all,", "embeddings": "Vector:"}.get(client.kind, "Please"))
            draw = random.Random(name)
            while not self._stop.is_set():
                question = questions.next()
                self.busy[name] = time.monotonic()
                try:
                    self.asks.append(ask_until_served(self.setting, client, question))
                except Exception as fault:  # noqa: BLE001 - the outermost loop of a client; what it did not foresee
                    self.faults.append(f"{name}: {type(fault).__name__}: {fault}")
                    return
                del self.busy[name]
                self._stop.wait(self.setting.think_s * draw.uniform(0.5, 1.5))

    def stop(self) -> list[str]:
        """Let them end what they are at, and return those that did not."""
        self._stop.set()
        until = time.monotonic() + NO_MORE_AFTER_S + self.setting.deadline_s + 10
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        waiting = [thread.name for thread in self._threads if thread.is_alive()]
        now = time.monotonic()
        return [f"{name} waits since {now - self.busy.get(name, now):.0f} s" for name in waiting] + self.faults
