"""The conversation of `ashore chat`: history, requests and streamed answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec

from ashore.cli.refusals import error_words, raise_refusal
from ashore.cli.target import ServerTarget, api_base, unreachable
from ashore.core.errors import InvalidRequest, NotReady, RemoteRefused
from ashore.core.foreign import foreign_errors
from ashore.core.serversent import DONE, ServerSent
from ashore.kit.decode import UNDECODABLE

CONNECT_TIMEOUT_S = 5.0
SILENCE_TIMEOUT_S = 300.0
"""Longest wait between two pieces of an answer."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message."""

    role: Literal["system", "user", "assistant"]
    content: str


class SavedChat(msgspec.Struct, frozen=True, kw_only=True):
    """What `/save` writes."""

    model: str
    turns: tuple[Turn, ...]
    params: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of an answer."""

    text: str = ""
    reasoning: str = ""


@dataclass(slots=True)
class Stats:
    """What one answer cost."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    ttft_s: float = 0.0
    total_s: float = 0.0
    answer_id: str = ""

    def line(self) -> str:
        """Return it for people. The server counts tokens at the end of an answer: one that was stopped has no count."""
        if not self.prompt_tokens:
            first = f"first token after {self.ttft_s * 1e3:.0f} ms; " if self.ttft_s else ""
            return f"{first}stopped after {self.total_s:.1f} s, before the server reported its tokens"
        after_first_s = self.total_s - self.ttft_s
        rate = (self.completion_tokens - 1) / after_first_s if self.completion_tokens > 1 and after_first_s > 0 else 0
        return (
            f"{self.completion_tokens} tokens, {rate:.1f} tok/s, first after {self.ttft_s * 1e3:.0f} ms; "
            f"prompt {self.prompt_tokens} tokens, {self.cached_tokens} from cache"
        )


@dataclass(slots=True)
class Conversation:
    """Everything that the next request is made of."""

    model: str
    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    unanswered: str | None = None
    """The last question, where its answer failed."""
    answer_id: str = ""
    """Of the last answer; empty where there is none to vote on."""

    def messages(self) -> list[dict[str, str]]:
        """Return the messages of the next request."""
        intro = [Turn(role="system", content=self.system)] if self.system else []
        return [{"role": t.role, "content": t.content} for t in [*intro, *self.turns]]

    def take_back(self) -> str | None:
        """Forget the last question and its answer; return the question, None when there is none."""
        if self.unanswered is not None:
            question, self.unanswered = self.unanswered, None
            return question
        while self.turns:
            turn = self.turns.pop()
            if turn.role == "user":
                return turn.content
        return None

    def set_param(self, name: str, value: str) -> None:
        """Set one request field; `unset` removes it.

        Raises:
            InvalidRequest: the value is no JSON.
        """
        if value == "unset":
            self.params.pop(name, None)
            return
        if name in ("model", "messages", "stream", "stream_options"):
            raise InvalidRequest(
                f"{name} cannot be set here", hint="use /model for the model, /system for the system prompt"
            )
        with foreign_errors(
            f"{value!r} is not valid JSON", InvalidRequest, hint='/params temperature 0.7   /params stop ["END"]'
        ):
            self.params[name] = msgspec.json.decode(value.encode())

    def save(self, path: Path) -> None:
        """Write the conversation, readable by its owner alone."""
        intro = (Turn(role="system", content=self.system),) if self.system else ()
        saved = SavedChat(model=self.model, turns=(*intro, *self.turns), params=self.params)
        path = path.expanduser()
        try:
            path.touch(mode=0o600)
            path.write_bytes(msgspec.json.format(msgspec.json.encode(saved), indent=2) + b"\n")
        except OSError as fault:
            raise InvalidRequest(f"cannot write {path}: {fault.strerror}", hint="/save FILE") from fault

    def load(self, path: Path) -> None:
        """Go on with a saved conversation; the model stays the present one.

        Raises:
            InvalidRequest: the file cannot be read or is none.
        """
        path = path.expanduser()
        try:
            saved = msgspec.json.decode(path.read_bytes(), type=SavedChat)
        except OSError as fault:
            raise InvalidRequest(f"cannot read {path}: {fault.strerror}", hint="/load FILE") from fault
        except UNDECODABLE as fault:
            raise InvalidRequest(f"{path} is not a saved conversation: {fault}", hint="/save writes one") from fault
        self.system = "\n".join(t.content for t in saved.turns if t.role == "system")
        self.turns = [t for t in saved.turns if t.role != "system"]
        self.params = dict(saved.params)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model that a server offers."""

    name: str
    context_tokens: int
    """0: the server does not say."""


def no_model() -> NotReady:
    """Return the error of a server that offers no model to a key."""
    return NotReady(
        "the server offers no model that can chat to this key",
        hint="it serves none, or the key may use none: `ashore status` lists the models, and a key with the role "
        "developer or model-owner may use them",
    )


class ChatClient:
    """Speaks OpenAI's chat route, streamed."""

    def __init__(self, target: ServerTarget) -> None:
        self._target = target
        headers = {"authorization": f"Bearer {target.key}"} if target.key else {}
        timeout = httpx.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        # Proxies of the environment are for outside; a server of the enterprise is called directly.
        self._http = httpx.Client(
            base_url=api_base(target.url), headers=headers, timeout=timeout, trust_env=False, verify=target.verify()
        )

    def models(self) -> list[str]:
        """Return the names of the models that can chat.

        Raises:
            SourceUnreachable, Unauthenticated, RemoteRefused: the server is not there, or refuses.
        """
        return [one.name for one in self.served()]

    def served(self) -> list[Served]:
        """Return the models that can chat.

        Raises:
            SourceUnreachable, Unauthenticated, RemoteRefused: the server is not there, or refuses.
        """
        try:
            answer = self._http.get("models")
        except httpx.HTTPError as fault:
            raise unreachable(self._target, fault) from fault
        raise_refusal(answer.status_code, answer.content, self._target.url)
        try:
            items = answer.json()["data"]
            return [
                Served(name=str(m["id"]), context_tokens=int(m.get("max_model_len") or 0))
                for m in items
                if m.get("features") != ["embed"]
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise RemoteRefused(
                f"{self._target.url} is not an OpenAI-compatible server: /models returned no list"
            ) from fault

    def ask(self, conversation: Conversation, stats: Stats) -> Iterator[Piece]:
        """Send the conversation and yield the answer; `stats` is filled on the way. Close the iterator to stop it.

        Raises:
            AshoreError: the server refused, or the answer broke off.
        """
        body = {"model": conversation.model, "messages": conversation.messages(), **conversation.params}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        began = time.perf_counter()
        done = False
        try:
            with self._http.stream("POST", "chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    raise_refusal(answer.status_code, answer.read(), self._target.url)
                reader = ServerSent(self._target.url)
                for data in chain.from_iterable(map(reader.take, answer.iter_bytes())):
                    if data == DONE:
                        done = True
                        break
                    piece = read_event(data, stats)
                    if piece is None:
                        continue
                    if not stats.ttft_s:
                        stats.ttft_s = time.perf_counter() - began
                    yield piece
        except httpx.HTTPError as fault:
            raise unreachable(self._target, fault) from fault
        finally:
            stats.total_s = time.perf_counter() - began
        if not done:
            raise RemoteRefused("the answer was cut off before its end", hint="ask again with /retry")

    def vote(self, feedback: Mapping[str, str]) -> str:
        """Vote on an answer, and return why nothing is learned from it; empty where something is.

        Raises:
            AshoreError: the server refused.
        """
        try:
            answer = self._http.post("feedback", json=dict(feedback))
        except httpx.HTTPError as fault:
            raise unreachable(self._target, fault) from fault
        raise_refusal(answer.status_code, answer.content, self._target.url)
        try:
            return str(answer.json().get("why") or "")
        except (ValueError, AttributeError):
            return ""

    def close(self) -> None:
        """Drop the connection."""
        self._http.close()


def read_event(data: bytes, stats: Stats) -> Piece | None:
    """Return what one event of a stream adds, None when it adds nothing to show.

    Raises:
        RemoteRefused: the event is an error, or no JSON.
    """
    try:
        event = msgspec.json.decode(data)
    except UNDECODABLE as fault:
        raise RemoteRefused(f"the server sent an event that is not JSON: {data[:100]!r}") from fault
    if not isinstance(event, dict):
        return None
    if event.get("error"):
        message, hint = error_words(event)
        raise RemoteRefused(message, hint=hint or "ask again with /retry")
    stats.answer_id = stats.answer_id or str(event.get("id") or "")
    if usage := event.get("usage"):
        stats.prompt_tokens = usage.get("prompt_tokens") or 0
        stats.completion_tokens = usage.get("completion_tokens") or 0
        stats.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        text = delta.get("content") or ""
        reasoning = delta.get("reasoning_content") or delta.get("reasoning") or ""
        if text or reasoning:
            return Piece(text=text, reasoning=reasoning)
    return None
