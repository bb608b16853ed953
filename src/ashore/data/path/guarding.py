"""Guard lists around the masker: a prompt is checked as the model would see it, an answer as the client would."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import msgspec

from ashore.core.behind import Behind, nothing_behind
from ashore.data.authority import Principal
from ashore.data.cache import KeptAnswer
from ashore.data.guard import Guard, GuardList, Hits, ListSet, WordOutlet
from ashore.data.path.guards import Decode, Masked, Masker, OutwardLike
from ashore.data.path.model import ChoiceEnded, Delta, GenerationRequest, ServingEvent, TokenText, ToolCallDelta
from ashore.kit.metrics import Metrics


class GuardedMasker:
    """A masker whose requests and answers are checked for the words of guard lists."""

    def __init__(self, masker: Masker, guard: Guard, metrics: Metrics, behind: Behind = nothing_behind) -> None:
        self._masker, self._guard, self._metrics, self._behind = masker, guard, metrics, behind

    def mask(self, request: GenerationRequest, principal: Principal, decode: Decode) -> Masked:
        """Return the masked request, and the way back of its answer.

        Raises:
            PersonalDataBlocked: as the masker's.
            ContentBlocked: a list blocks a word in the prompt.
        """
        prompts, answers, stamp = self._guard.now.of((request.model, *self._behind(request.model)))
        masked = self._masker.mask(request, principal, decode)
        if not stamp:
            return masked
        hits = Hits()
        self._check(prompts, _texts(masked.request, decode), hits)
        outward = masked.outward
        if answers:
            outward = _Outward(outward, answers, partial(self._take, hits, place="answer"))
        return _Guarded(masked=masked, outward=outward, stamp=masked.stamp + stamp, guarded=hits.counts, lists=answers)

    def mask_inputs(
        self, model: str, inputs: Sequence[str | Sequence[int]], principal: Principal, decode: Decode
    ) -> tuple[Sequence[str | Sequence[int]], Mapping[str, int]]:
        """Return the inputs of an embedder as the masker does.

        Raises:
            ContentBlocked: a list blocks a word in them.
        """
        prompts, _, _ = self._guard.now.of((model, *self._behind(model)))
        masked, counts = self._masker.mask_inputs(model, inputs, principal, decode)
        if prompts:
            self._check(prompts, (one if isinstance(one, str) else decode(one) for one in masked), Hits())
        return masked, counts

    def blacken(self, texts: Sequence[str]) -> Sequence[str]:
        return self._masker.blacken(texts)

    def rules_stamp(self, principal: Principal, alias: str) -> bytes:
        return self._masker.rules_stamp(principal, alias) + self._guard.now.stamp

    def is_as_strict(self, principal: Principal, alias: str, asked: str) -> bool:
        now = self._guard.now
        at, before = (now.of((name, *self._behind(name))) for name in (alias, asked))
        held = all(set(one.lists) <= set(other.lists) for one, other in zip(before[:2], at[:2], strict=True))
        return held and self._masker.is_as_strict(principal, alias, asked)

    def _check(self, lists: ListSet, texts: Iterator[str], hits: Hits) -> None:
        if lists:
            for text in texts:
                for one, _, _ in lists.find(text):
                    self._take(hits, one, place="prompt")

    def _take(self, hits: Hits, one: GuardList, place: str) -> None:
        self._metrics.add("ashore_guard_words", 1, one.name, one.do, place)
        hits.take(one, place)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guarded:
    """A masked request whose answer is checked for words."""

    masked: Masked
    outward: OutwardLike | None
    stamp: bytes
    guarded: Mapping[str, int]
    lists: ListSet

    @property
    def request(self) -> GenerationRequest:
        return self.masked.request

    @property
    def found(self) -> bool:
        return self.masked.found

    @property
    def counts(self) -> Mapping[str, int]:
        return self.masked.counts

    @property
    def traces_content(self) -> bool:
        return self.masked.traces_content

    def may_keep(self, answer: KeptAnswer) -> bool:
        texts = (text for choice in answer.choices for text in (choice.text, choice.reasoning))
        return self.masked.may_keep(answer) and not any(
            one.do == "block" for text in texts for one, _, _ in self.lists.find(text)
        )


class _Outward:
    """The answer of one request on its way to the client, after unmasking. Takes events in their order."""

    def __init__(self, before: OutwardLike | None, lists: ListSet, found: Callable[[GuardList], None]) -> None:
        self._before = before
        self._new = partial(WordOutlet, lists, found)
        self._lists, self._found = lists, found
        self._choices: dict[int, _Choice] = {}

    def take(self, event: ServingEvent) -> Sequence[ServingEvent]:
        """Return the events to send for an event.

        Raises:
            ContentBlocked: a list blocks a word of the answer. Nothing of the word was sent.
        """
        told: list[ServingEvent] = []
        for one in (event,) if self._before is None else self._before.take(event):
            if isinstance(one, Delta):
                told += self._choice(one.choice).take(one)
            elif isinstance(one, ChoiceEnded):
                told += [*self._choice(one.choice).end(), one]
            else:
                told.append(one)
        return told

    def _choice(self, number: int) -> _Choice:
        if number not in self._choices:
            tokens = WordOutlet(self._lists, self._blocked)
            self._choices[number] = _Choice(number, self._new, tokens, self._lists.blocks)
        return self._choices[number]

    def _blocked(self, one: GuardList) -> None:
        """Take a word of the tokens; one that is not blocked is counted in the text."""
        if one.do == "block":
            self._found(one)


class _Choice:
    """One choice: its content, its reasoning, each of its calls and its tokens are streams of their own. Tokens come
    before their text, which the parser may hold or drop: for a string that ends the answer, or as a call."""

    def __init__(
        self, number: int, new: Callable[[], WordOutlet], tokens: WordOutlet, blocks: Callable[[str], bool]
    ) -> None:
        self._number, self._new, self._blocks = number, new, blocks
        self._text, self._reasoning, self._tokens = new(), new(), tokens
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._calls: dict[int, WordOutlet] = {}
        self._logprobs: list[TokenText] = []

    def take(self, delta: Delta) -> list[Delta]:
        reasoning = self._reasoning.feed(delta.reasoning) if delta.reasoning else ""
        if (delta.text or delta.tool_calls) and self._reasoning.holds:
            reasoning += self._reasoning.release()  # before the text that follows it
        text = self._text.feed(delta.text) if delta.text else ""
        calls = tuple(self._call(piece) for piece in delta.tool_calls)
        for token in delta.logprobs:
            self._tokens.feed(self._characters.decode(token.raw))
            self._logprobs.append(self._without_words(token))
        return self._made(text, reasoning, calls)

    def end(self) -> list[Delta]:
        text, reasoning, _ = self._text.end(), self._reasoning.end(), self._tokens.end()
        ended = ((index, one.end()) for index, one in sorted(self._calls.items()))
        return self._made(text, reasoning, tuple(ToolCallDelta(index=at, arguments=rest) for at, rest in ended if rest))

    def _call(self, piece: ToolCallDelta) -> ToolCallDelta:
        if piece.index not in self._calls:
            self._calls[piece.index] = self._new()
        if piece.name:  # it comes whole
            name = self._new()
            name.feed(piece.name)
            name.end()
        outlet = self._calls[piece.index]
        return replace(piece, arguments=outlet.feed(piece.arguments) if piece.arguments else "")

    def _without_words(self, token: TokenText) -> TokenText:
        """Return a token without those alternatives that a list blocks."""
        left = tuple(one for one in token.top if not self._blocks(one[1].decode("utf-8", "replace")))
        return token if len(left) == len(token.top) else replace(token, top=left)

    def _made(self, text: str, reasoning: str, calls: tuple[ToolCallDelta, ...]) -> list[Delta]:
        """Return what may be sent. Tokens name their texts, so they wait until nothing is held."""
        logprobs: tuple[TokenText, ...] = ()
        if not (self._text.holds or self._reasoning.holds or self._tokens.holds):
            logprobs, self._logprobs = tuple(self._logprobs), []
        calls = tuple(one for one in calls if one.id or one.name or one.arguments)
        if not (text or reasoning or calls or logprobs):
            return []
        return [Delta(choice=self._number, text=text, reasoning=reasoning, tool_calls=calls, logprobs=logprobs)]


def _texts(request: GenerationRequest, decode: Decode) -> Iterator[str]:
    """Yield every text of a request that its caller gave."""
    for message in request.messages:
        yield message.content
        yield message.reasoning
        yield message.name
        yield from chain.from_iterable((call.name, call.arguments) for call in message.tool_calls)
    if request.prompt is not None:
        yield request.prompt if isinstance(request.prompt, str) else decode(request.prompt)
    yield request.suffix
    for tool in request.tools:
        yield tool.name
        yield tool.description
        yield tool.parameters
    if request.grammar is not None:
        yield request.grammar.text
    if request.template_options:
        yield msgspec.json.encode(request.template_options).decode()
