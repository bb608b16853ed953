"""Converts serving events to Ollama's answers: one line for each piece, and one with the counts at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from ashore.core.errors import AshoreError
from ashore.core.timespan import written_moment
from ashore.data.http.errors import ollama_error
from ashore.data.http.exchange import Exchange, Headers
from ashore.data.http.ollama.types import CallOut, FunctionOut, LogprobOut, Piece, TopOut, TurnOut
from ashore.data.http.openai.common import cut_of
from ashore.data.http.streaming import Answering, Choice, WholeAnswer
from ashore.data.path import ChoiceEnded, Delta, Hear, ServingEvent, Started, TokenText, ToolCallDelta, Usage
from ashore.kit.decode import UNDECODABLE

_encode = msgspec.json.Encoder().encode
Form = Literal["chat", "generate"]

NDJSON: Final[Headers] = (
    (b"content-type", b"application/x-ndjson"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class _Writer:
    """The common fields of an answer's lines, and the values of the last one."""

    def __init__(self, exchange: Exchange, form: Form, *, first_at: float = 0.0) -> None:
        self._form = form
        self._began_at = exchange.started_at
        self._first_at = first_at
        self._started: Started | None = None

    def open(self, started: Started) -> None:
        """Take the head of an answer."""
        self._started = started

    def began(self) -> None:
        """Record the time of the first piece."""
        self._first_at = self._first_at or time.perf_counter()

    def line(
        self,
        text: str,
        reasoning: str = "",
        calls: Sequence[CallOut] = (),
        logprobs: Sequence[TokenText] = (),
        **last: Any,
    ) -> bytes:
        """Return one line. `last`: fields of the last line only."""
        assert self._started is not None
        thinking = reasoning or msgspec.UNSET
        chat = self._form == "chat"
        return _encode(
            Piece(
                model=self._started.model,
                created_at=written_moment(self._started.created_s),
                message=TurnOut(content=text, thinking=thinking, tool_calls=list(calls) or msgspec.UNSET)
                if chat
                else msgspec.UNSET,
                response=msgspec.UNSET if chat else text,
                thinking=msgspec.UNSET if chat else thinking,
                logprobs=[_logprob(token) for token in logprobs] or msgspec.UNSET,
                done=bool(last),
                **last,
            )
        )

    def last(self, ended: ChoiceEnded, usage: Usage) -> dict[str, Any]:
        """Return the fields of the last line."""
        now = time.perf_counter()
        first_at = self._first_at or now
        return {
            "done_reason": "length" if ended.reason == "length" else "stop",
            "cut_by": cut_of(ended),
            "total_duration": _nanoseconds(now - self._began_at),
            "load_duration": 0,
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": _nanoseconds(first_at - self._began_at),
            "eval_count": usage.completion_tokens,
            "eval_duration": _nanoseconds(now - first_at),
        }


class Lines:
    """Renders a stream. A tool call is sent once it is whole, as in Ollama."""

    def __init__(self, exchange: Exchange, form: Form) -> None:
        self._writer = _Writer(exchange, form)
        self._calls = Choice()
        self._ended: ChoiceEnded | None = None

    def opened(self, started: Started) -> bytes:
        self._writer.open(started)
        return b""

    def delta(self, delta: Delta) -> bytes:
        self._writer.began()
        if delta.tool_calls:
            self._calls.add(Delta(choice=0, tool_calls=delta.tool_calls))
        if not (delta.text or delta.reasoning or delta.logprobs):
            return b""
        return self._writer.line(delta.text, delta.reasoning, logprobs=delta.logprobs) + b"\n"

    def ended(self, ended: ChoiceEnded) -> bytes:
        self._ended = ended
        calls = calls_out(self._calls)
        return self._writer.line("", calls=calls) + b"\n" if calls else b""

    def closed(self, usage: Usage) -> bytes:
        assert self._ended is not None
        return self._writer.line("", **self._writer.last(self._ended, usage)) + b"\n"

    def failed(self, error: AshoreError) -> bytes:
        return ollama_error(error) + b"\n"


class Timed:
    """An answer with the time of its first piece."""

    def __init__(self, answer: Answering) -> None:
        self._answer = answer
        self.first_at = 0.0
        """By `time.perf_counter`; 0 as long as there is none."""

    async def __call__(self, hear: Hear) -> None:
        def told(event: ServingEvent) -> None:
            if not self.first_at and isinstance(event, Delta):
                self.first_at = time.perf_counter()
            hear(event)

        await self._answer(told)


def render_whole(answer: WholeAnswer, exchange: Exchange, form: Form, *, first_at: float) -> bytes:
    """Return a whole answer. `first_at`: time of its first piece, by `time.perf_counter`."""
    choice = answer.choices[0]
    assert choice.ended is not None
    writer = _Writer(exchange, form, first_at=first_at)
    writer.open(answer.started)
    return writer.line(
        "".join(choice.text),
        "".join(choice.reasoning),
        calls_out(choice),
        choice.logprobs,
        **writer.last(choice.ended, answer.usage),
    )


def calls_out(choice: Choice) -> list[CallOut]:
    """Return the tool calls of a choice, their arguments as values."""
    return [
        CallOut(id=call.id, function=FunctionOut(index=index, name=call.name, arguments=_arguments(call)))
        for index, call in sorted(choice.calls.items())
    ]


def _arguments(call: ToolCallDelta) -> Any:
    """Return the arguments as JSON; the text itself if the model did not write JSON."""
    try:
        return msgspec.json.decode(call.arguments)
    except UNDECODABLE:
        return {"text": call.arguments}


def _logprob(token: TokenText) -> LogprobOut:
    top = [TopOut(token=text, logprob=logprob, bytes=list(raw)) for text, raw, logprob in token.top]
    return LogprobOut(token=token.text, logprob=token.logprob, bytes=list(token.raw), top_logprobs=top or msgspec.UNSET)


def _nanoseconds(seconds: float) -> int:
    return max(0, int(seconds * 1e9))
