"""Answers of models that take messages and return text. What needs token ids is refused; what they say is checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from ashore.core.chat import LONGEST_TOKEN_BYTES
from ashore.core.errors import EngineFailed, InvalidGrammar, InvalidSpec
from ashore.core.ids import OrderId
from ashore.core.sampling import SAMPLING_FIELDS, changed_fields
from ashore.data.engines import (
    EngineEvent,
    Finished,
    Grammar,
    Said,
    SayOrder,
)
from ashore.data.path.answer import Answer
from ashore.data.path.model import ChoiceEnded, Delta, GenerationRequest, ToolCallDelta
from ashore.data.path.orders import Prompt
from ashore.data.path.ports import ServedText
from ashore.data.releases.schemas import AnswerSchema
from ashore.kit.decode import UNDECODABLE

TURN_TOKENS: Final = 16
"""Tokens that a template puts around a message, at most, in the templates that are known."""
SYSTEM_TOKENS: Final = 64
"""Those of the system text that a template brings where a conversation has none, at most."""
TOOLS_TOKENS: Final = 256
"""Those of the text that explains tools, at most."""
MOST_STEPS: Final = 10_000
"""Keywords and entries of a schema that are looked at for one answer."""


def bounds_of(request: GenerationRequest) -> tuple[int, int]:
    """Return the fewest and the most tokens that the messages and tools of a request may cost.

    A token stands for a byte at least, and for `LONGEST_TOKEN_BYTES` at most. Around the text are those of a template.
    """
    texts: list[str] = [] if request.grammar is None else [request.grammar.text]
    for one in request.messages:
        texts += (one.content, one.name, one.tool_call_id)
        texts += (text for call in one.tool_calls for text in (call.id, call.name, call.arguments))
    texts += (text for tool in request.tools for text in (tool.name, tool.description, tool.parameters))
    said = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    around = SYSTEM_TOKENS + TURN_TOKENS * (1 + len(request.messages) + 2 * len(request.tools))
    return max(1, said // LONGEST_TOKEN_BYTES), said + around + (TOOLS_TOKENS if request.tools else 0)


def fits_of(grammar: Grammar) -> Callable[[str], bool]:
    """Return the check of an answer that a server was asked to write as JSON. Takes up to 30 ms.

    Raises:
        InvalidGrammar: the schema is not one.
    """
    source = grammar.text if grammar.kind == "json_schema" else '{"type":"object"}'
    try:
        return AnswerSchema(source, "response_format", most_steps=MOST_STEPS).allows
    except InvalidSpec as fault:
        raise InvalidGrammar(fault.message, hint=fault.hint, param="response_format") from fault


def say_order(request: GenerationRequest, prompt: Prompt, *, order_id: OrderId, opening: bytes) -> SayOrder:
    """Return the order of a masked request. What the client left out is the server's to choose."""
    changed = {*changed_fields(request.sampling), *({"temperature"} - request.left_out)}
    return SayOrder(
        order_id=order_id,
        messages=request.messages,
        max_new_tokens=prompt.max_new_tokens,
        says_limit=request.max_tokens is not None or bool(prompt.cut_by),
        fewest_prompt_tokens=prompt.bounds[0],
        most_prompt_tokens=prompt.bounds[1],
        tools=() if request.tool_choice == "none" else request.tools,
        tool_choice=request.tool_choice,
        one_call=request.one_call,
        sampling={name: getattr(request.sampling, name) for name in SAMPLING_FIELDS if name in changed},
        stop=request.stop,
        grammar=request.grammar,
        opening=opening,
        traceparent=request.arrival.traceparent,
    )


class SaidAnswer(Answer):
    """A growing answer in text."""

    def __init__(self, text: ServedText, request: GenerationRequest, prompt: Prompt) -> None:
        parser = text.answer_parser(stop=request.stop, tools=False, chat=True)
        super().__init__(0, text, parser, logprobs=False, one_call=request.one_call, cut_by=prompt.cut_by)
        self._fits, self._whole = prompt.fits, list[str]()
        self._must_call = request.tool_choice not in ("auto", "none")
        self._most_tokens = prompt.max_new_tokens
        self._pieces = self._num_bytes = 0
        self._arguments: dict[int, list[str]] = {}

    def take(self, events: Sequence[EngineEvent]) -> Delta | None:
        """Add the pieces of events that came together. Each counts as a token, and as what its bytes imply, until the
        server says how many."""
        text = reasoning = ""
        calls: tuple[ToolCallDelta, ...] = ()
        for said in events:
            if not isinstance(said, Said):
                break
            piece = self._parser.read(said.text)
            self._pieces += 1
            self._num_bytes += len(said.text.encode()) + len(said.reasoning.encode())
            self.reasoning_tokens += bool(said.reasoning or piece.reasoning)
            text, reasoning = text + piece.text, reasoning + said.reasoning + piece.reasoning
            for call in said.calls:
                self._num_bytes += len(call.name.encode()) + len(call.arguments.encode())
                if call.index == 0 or not self._one_call:
                    self._arguments.setdefault(call.index, []).append(call.arguments)
                    calls += (ToolCallDelta(index=call.index, id=call.id, name=call.name, arguments=call.arguments),)
            if piece.stopped:
                self.ended = ChoiceEnded(choice=0, reason="stop", stop_string=piece.stop_string)
                break
            if self._one_call and any(call.index > 0 for call in said.calls):
                self.ended = ChoiceEnded(choice=0, reason="tool_calls")
                break
        fewest = -(-self._num_bytes // LONGEST_TOKEN_BYTES)
        self.completion_tokens = min(max(self._pieces, fewest), self._most_tokens)
        self._called_tool = bool(self._arguments)
        if self._fits is not None:
            self._whole.append(text)
        return self._delta(text, reasoning, calls, [])

    def finish(self, finished: Finished) -> Delta | None:
        """End the choice with what the server says that it cost, which its host has bounded.

        Raises:
            EngineFailed: the answer is not the JSON that was asked for, calls no tool although one was required, or
                calls one with something else than a JSON object.
        """
        last = super().finish(finished)
        self.prompt_tokens, self.completion_tokens = finished.prompt_tokens, finished.completion_tokens
        self.reasoning_tokens = min(self.reasoning_tokens, self.completion_tokens)
        if finished.reason == "stop":
            self._check_whole("" if last is None else last.text)
        return last

    def _check_whole(self, last: str) -> None:
        for pieces in self._arguments.values():
            try:
                msgspec.json.decode("".join(pieces) or "{}", type=dict[str, object])
            except UNDECODABLE as error:
                raise EngineFailed(
                    "the server called a tool with arguments that are no JSON object", hint="send it again"
                ) from error
        if self._called_tool:
            return
        if self._must_call:
            raise EngineFailed("a tool was required, and the server called none", hint="send it again")
        if self._fits is not None and not self._fits("".join((*self._whole, last))):
            raise EngineFailed(
                "the server was asked for JSON of a schema, and answered with something else",
                hint="send it again, or use a model whose grammar ashore holds",
            )
