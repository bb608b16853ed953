"""Masking on the request path: every text of a request is masked with one table, and its answer unmasked with the
same.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from ashore.core.behind import Behind, nothing_behind
from ashore.core.chat import Message, ToolCall, ToolSpec
from ashore.core.errors import PersonalDataBlocked
from ashore.data.authority import Principal
from ashore.data.cache import KeptAnswer
from ashore.data.engines import Grammar
from ashore.data.path.guards import Decode
from ashore.data.path.model import (
    ChoiceEnded,
    Delta,
    GenerationRequest,
    ServingEvent,
    Started,
    TokenText,
    ToolCallDelta,
)
from ashore.data.privacy import AnswerGuard, InForce, LabelMode, Outlet, Privacy, StandIns, Table
from ashore.kit.metrics import Metrics

_BEGINNING_CHARS: Final = 4096
_ESCAPED: Final = re.compile(r"\\([^0-9A-Za-z])")
"""A sign in an expression or grammar that stands for itself, such as an escaped dash."""

NOTICE: Final = "\n\n（内容由人工智能生成 / AI-generated）"
"""The explicit label of generated text (GB 45438-2025, 4.2: words at its end)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedRequest:
    """A request as the model may see it."""

    request: GenerationRequest
    found: bool
    counts: Mapping[str, int]
    outward: Outward | None
    policy: InForce
    """The policy that masked it. Another one may be in force when the answer is whole."""
    traces_content: bool
    """Whether the policy allows texts, masked, in traces."""
    guarded: Mapping[str, int] = field(default_factory=dict)

    @property
    def stamp(self) -> bytes:
        """Changes with the policy or the detectors."""
        return self.policy.stamp

    def may_keep(self, answer: KeptAnswer) -> bool:
        """Return whether an answer is free of personal data, so that it may be cached."""
        find = self.policy.finder.find
        return not any(find(text) for choice in answer.choices for text in (choice.text, choice.reasoning))


class PrivacyMasker:
    """The masker of `data/path/guards.py` over `privacy`."""

    def __init__(self, privacy: Privacy, metrics: Metrics, behind: Behind = nothing_behind) -> None:
        """Create it. Models that `behind` returns for an alias are masked by their own policy too."""
        self._privacy = privacy
        self._metrics = metrics
        self._behind = behind

    def mask(self, request: GenerationRequest, principal: Principal, decode: Decode) -> MaskedRequest:
        """Return the request with personal data masked, and the way to unmask its answer.

        Raises:
            PersonalDataBlocked: it contains data that the policy blocks, or token ids with data that it would have to
                change.
        """
        now = self._privacy.now  # read once, so that this whole call uses one policy
        table, rules = self._privacy.table(
            tenant=principal.tenant,
            principal=principal.id,
            alias=request.model,
            behind=self._behind(request.model),
            beginning=_beginning(request),
            now=now,
        )
        _reserve(table, request)
        try:
            masked = _mask_request(table, request, decode)
            table.check()
        finally:
            self._count(table.counts, "prompt")
        guard = None
        if rules.reads_answers:
            guard = AnswerGuard(now.finder, rules.answers, table)
        outward = None
        if table.entries or guard is not None or rules.label != "off":
            stand_ins = StandIns(table.entries)
            outward = Outward(
                stand_ins,
                guard,
                json_content=request.grammar is not None,
                label=rules.label,
                hidden=_by_kind({key: count for key, count in table.counts.items() if key[1] != "allow"}),
                told=self._count,
            )
        return MaskedRequest(
            request=masked,
            found=table.found,
            counts=_by_kind(table.counts),
            outward=outward,
            policy=now,
            traces_content=rules.trace_content == "masked",
        )

    def mask_inputs(
        self, model: str, inputs: Sequence[str | Sequence[int]], principal: Principal, decode: Decode
    ) -> tuple[list[str | Sequence[int]], Mapping[str, int]]:
        """Return the inputs of an embedder with personal data replaced, and how many entities of each kind they held.

        Each input has a table of its own, so that its vector does not depend on the other inputs.

        Raises:
            PersonalDataBlocked: as for `mask`.
        """
        masked: list[str | Sequence[int]] = []
        counts: dict[str, int] = {}
        for one in inputs:
            table, _ = self._privacy.table(
                tenant=principal.tenant,
                principal=principal.id,
                alias=model,
                behind=self._behind(model),
                beginning="embeddings",
            )
            try:
                masked.append(table.mask(one) if isinstance(one, str) else _looked_at(table, one, decode))
                table.check()
            finally:
                self._count(table.counts, "prompt")
            for kind, count in _by_kind(table.counts).items():
                counts[kind] = counts.get(kind, 0) + count
        return masked, counts

    def blacken(self, texts: Sequence[str]) -> Sequence[str]:
        """Return texts for display, with all personal data masked."""
        return self._privacy.blacken(texts)

    def rules_stamp(self, principal: Principal, alias: str) -> bytes:
        """Return a stamp that changes with the policy or the detectors."""
        return self._privacy.now.stamp

    def is_as_strict(self, principal: Principal, alias: str, asked: str) -> bool:
        now = self._privacy.now
        at, before = (
            self._privacy.rules(principal.tenant, name, behind=self._behind(name), now=now) for name in (alias, asked)
        )
        return at.is_as_strict_as(before)

    def _count(self, counts: Mapping[tuple[str, str], int], where: str) -> None:
        for (kind, action), count in counts.items():
            self._metrics.add("ashore_masked_entities", count, kind, action, where)


class Outward:
    """The answer of one request on its way to the client. Takes events in their order."""

    def __init__(
        self,
        stand_ins: StandIns,
        guard: AnswerGuard | None,
        *,
        json_content: bool,
        label: LabelMode = "off",
        hidden: Mapping[str, int],
        told: Callable[[Mapping[tuple[str, str], int], str], None],
    ) -> None:
        self._stand_ins = stand_ins
        self._guard = guard
        self._json_content = json_content
        self._label = label
        self._hidden = hidden
        self._told = told
        self._choices: dict[int, _Choice] = {}

    def take(self, event: ServingEvent) -> Sequence[ServingEvent]:
        """Return the events to send for an event: itself, a shortened one, or several.

        Raises:
            PersonalDataBlocked: the answer contains data that the policy blocks.
        """
        try:
            if isinstance(event, Delta):
                told = self._choice(event.choice).take(event)
                return () if told is None else (told,)
            if isinstance(event, ChoiceEnded):
                rest = self._choice(event.choice).end()
                said = self._label == "notice" and event.reason != "tool_calls" and not self._json_content
                notice = Delta(choice=event.choice, text=NOTICE) if said else None
                return tuple(one for one in (rest, notice, event) if one is not None)
            if isinstance(event, Started):
                return (msgspec.structs.replace(event, masked=self._hidden, labelled=self._label != "off"),)
        finally:
            if self._guard is not None and self._guard.counts:
                self._told(self._guard.counts, "answer")
                self._guard.counts = {}
        return (event,)

    def _choice(self, number: int) -> _Choice:
        if number not in self._choices:
            self._choices[number] = _Choice(number, self._stand_ins, self._guard, self._json_content)
        return self._choices[number]


class _Choice:
    """One choice: its content, its reasoning and each of its calls are streams of their own."""

    def __init__(self, number: int, stand_ins: StandIns, guard: AnswerGuard | None, json_content: bool) -> None:
        self._number = number
        self._stand_ins = stand_ins
        self._guard = guard
        self._text = Outlet(stand_ins, guard, as_json=json_content)
        self._reasoning = Outlet(stand_ins, guard)
        self._calls: dict[int, Outlet] = {}
        self._unheard = None if guard is None else guard.unheard()
        self._spelt = Outlet(stand_ins, self._unheard)
        """Reads the tokens: the parser may hold their text, for a string that ends the answer, or make a call of it."""
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._logprobs: list[TokenText] = []
        self._met = 0

    def take(self, delta: Delta) -> Delta | None:
        text = self._text.feed(delta.text) if delta.text else ""
        reasoning = self._reasoning.feed(delta.reasoning) if delta.reasoning else ""
        calls = tuple(self._call(piece) for piece in delta.tool_calls)
        return self._made(text, reasoning, calls, self._tokens(delta.logprobs))

    def end(self) -> Delta | None:
        text, reasoning, _ = self._text.end(), self._reasoning.end(), self._spelt.end()
        calls = tuple(
            ToolCallDelta(index=index, arguments=rest)
            for index, one in sorted(self._calls.items())
            if (rest := one.end())
        )
        return self._made(text, reasoning, calls, self._tokens(()))

    def _call(self, piece: ToolCallDelta) -> ToolCallDelta:
        outlet = self._calls.get(piece.index)
        if outlet is None:
            outlet = self._calls[piece.index] = Outlet(self._stand_ins, self._guard, as_json=True)
        return replace(piece, arguments=outlet.feed(piece.arguments) if piece.arguments else "")

    def _tokens(self, tokens: tuple[TokenText, ...]) -> tuple[TokenText, ...]:
        """Return the tokens that may be sent now.

        Tokens report the model's own output, so values are not restored in them. If new personal data is masked, tokens
        are sent with their text, and those of a masked stretch are dropped.
        """
        if self._unheard is None:
            return tokens
        for token in tokens:
            self._spelt.feed(self._characters.decode(token.raw))
            self._logprobs.append(_without(token, self._unheard))
        streams = (self._text, self._reasoning, self._spelt, *self._calls.values())
        if any(one.holds for one in streams):
            return ()
        told, self._logprobs = tuple(self._logprobs), []
        met = sum(one.num_masked for one in streams)
        if met != self._met:
            self._met = met
            return ()
        return told

    def _made(
        self, text: str, reasoning: str, calls: tuple[ToolCallDelta, ...], logprobs: tuple[TokenText, ...]
    ) -> Delta | None:
        calls = tuple(one for one in calls if one.id or one.name or one.arguments)
        if not (text or reasoning or calls or logprobs):
            return None
        return Delta(choice=self._number, text=text, reasoning=reasoning, tool_calls=calls, logprobs=logprobs)


def _without(token: TokenText, guard: AnswerGuard) -> TokenText:
    """Return a token without those alternatives that are personal data by themselves."""
    left = tuple(one for one in token.top if not guard.find(one[1].decode("utf-8", "replace")))
    return token if len(left) == len(token.top) else replace(token, top=left)


def _beginning(request: GenerationRequest) -> str:
    """Return the beginning of the conversation: everything before the first answer, equal in all its requests."""
    if isinstance(request.prompt, str):
        return request.prompt[:_BEGINNING_CHARS]
    said = []
    for message in request.messages:
        if message.role == "assistant":
            break
        said.append(message.content[:_BEGINNING_CHARS])
        if message.role == "user":
            break
    return "\x00".join(said)


def _reserve(table: Table, request: GenerationRequest) -> None:
    for message in request.messages:
        table.reserve(message.content)
        table.reserve(message.reasoning)
        for call in message.tool_calls:
            table.reserve(call.arguments)
    if isinstance(request.prompt, str):
        table.reserve(request.prompt)
        table.reserve(request.suffix)
    for tool in request.tools:
        table.reserve(tool.description)
        table.reserve(tool.parameters)


def _mask_request(table: Table, request: GenerationRequest, decode: Decode) -> GenerationRequest:
    changes: dict[str, object] = {}
    tools = tuple(_mask_tool(table, tool) for tool in request.tools)
    messages = tuple(_mask_message(table, message) for message in request.messages)
    prompt: str | tuple[int, ...] | None = request.prompt
    if isinstance(prompt, str):
        prompt = table.mask(prompt)
    elif prompt is not None:
        _looked_at(table, prompt, decode)
    for name, value, was in (
        ("tools", tools, request.tools),
        ("messages", messages, request.messages),
        ("prompt", prompt, request.prompt),
        ("suffix", table.mask(request.suffix), request.suffix),
        ("stop", tuple(map(table.mask, request.stop)), request.stop),
        ("grammar", _mask_grammar(table, request.grammar), request.grammar),
        ("template_options", _mask_options(table, request.template_options), request.template_options),
    ):
        if value != was:
            changes[name] = value
    return msgspec.structs.replace(request, **changes) if changes else request


def _mask_message(table: Table, message: Message) -> Message:
    content, reasoning, name = table.mask(message.content), message.reasoning, message.name
    if reasoning:
        reasoning = table.mask(reasoning)
    if name:
        name = table.mask(name)
    called, calls = table.mask(message.tool_call_id), message.tool_calls
    if calls:
        calls = tuple(ToolCall(id=table.mask(c.id), name=c.name, arguments=table.mask_json(c.arguments)) for c in calls)
    masked = replace(message, content=content, reasoning=reasoning, name=name, tool_call_id=called, tool_calls=calls)
    return message if masked == message else masked


def _mask_tool(table: Table, tool: ToolSpec) -> ToolSpec:
    description, parameters = table.mask(tool.description), table.mask_json(tool.parameters)
    if (description, parameters) == (tool.description, tool.parameters):
        return tool
    return replace(tool, description=description, parameters=parameters)


def _mask_grammar(table: Table, grammar: Grammar | None) -> Grammar | None:
    """Return a grammar as the engine may see it.

    Raises:
        PersonalDataBlocked: an expression has data that would have to be changed.
    """
    if grammar is None or not grammar.text:
        return grammar
    if grammar.kind == "regex":
        expression = _ESCAPED.sub(r"\1", grammar.text)
        _check_unchanged(table, expression, "the expression for the answer", "send a JSON schema", "response_format")
        return grammar
    text = table.mask(grammar.text) if grammar.kind == "lark" else table.mask_json(grammar.text)
    return grammar if text == grammar.text else msgspec.structs.replace(grammar, text=text)


def _mask_options(table: Table, options: dict[str, object]) -> dict[str, object]:
    if not options:
        return options
    masked: dict[str, object] = msgspec.json.decode(table.mask_json(msgspec.json.encode(options).decode()))
    return masked


def _looked_at(table: Table, ids: Sequence[int], decode: Decode) -> Sequence[int]:
    """Check token ids and return them unchanged."""
    _check_unchanged(table, decode(ids), "token ids", "send the text", "prompt")
    return ids


def _check_unchanged(table: Table, text: str, what: str, instead: str, param: str) -> None:
    if table.look(text):
        raise PersonalDataBlocked(
            f"{what}: personal data that the privacy policy masks cannot be masked there",
            hint=f"{instead}, or leave the data out",
            param=param,
        )


def _by_kind(counts: Mapping[tuple[str, str], int]) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for (kind, _), count in counts.items():
        kinds[kind] = kinds.get(kind, 0) + count
    return kinds
