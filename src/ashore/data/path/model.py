"""One request and its answer, whatever protocol carried them (OpenAI HTTP, Anthropic HTTP, gRPC)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from ashore.core.chat import Message, ToolSpec
from ashore.core.ids import RequestId
from ashore.data.audit import RequestNote
from ashore.data.authority.budgets import Standing
from ashore.data.cache import Directive
from ashore.data.engines import Grammar, Sampling

FinishReason = Literal["stop", "length", "tool_calls"]
CutBy = Literal["", "deadline", "budget"]
"""What ended an answer before it was whole: the client's own deadline, or what was left of a token budget. Its reason
is `length` then."""
Urgency = Literal["interactive", "background", "batch"]
"""background: waits behind interactive requests. batch: also gives its slot up to them."""


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """Origin and route of a request, for the audit log."""

    origin: str = ""
    """Address of the client as reported by the edge, or `job/ID`."""
    route: str = ""
    ignored: tuple[str, ...] = ()
    """Fields dropped from the request because they have no effect here, or are unknown."""
    trace: str = ""
    """Id of the caller's trace; of ours, where the caller has none and traces are on."""
    traceparent: str = ""
    """Trace header for engines (W3C Trace Context); empty: none."""


NOWHERE: Final = Arrival()


@dataclass(slots=True)
class Receipt:
    """Audit facts of an answer; available once it has ended."""

    note: RequestNote | None = None


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed client request. Exactly one of `messages` and `prompt` is set.

    A struct, as the events of its answer are: a frozen dataclass takes ten times as long to create.
    """

    request_id: RequestId
    model: str
    """Alias that the client named."""
    messages: tuple[Message, ...] = ()
    prompt: str | tuple[int, ...] | None = None
    """Raw text, or token ids, of the completions route: no chat template."""
    begun: int = 0
    """So many of the last token ids of `prompt` are the beginning of the answer, which was made elsewhere."""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: Literal["auto", "none", "required"] | str = "auto"
    """Or the name of the one tool that must be called, as `tool:NAME`."""
    one_call: bool = False
    """The answer ends before a second call."""
    sampling: Sampling = msgspec.field(default_factory=Sampling)
    left_out: frozenset[str] = frozenset()
    """Fields of `sampling` that the client left out: filled with the makers' recommendations."""
    num_choices: int = 1
    max_tokens: int | None = None
    """None: as many as the context leaves."""
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    """None: no log-probabilities; otherwise as in `GenerateOrder`."""
    token_ids: bool = False
    """Whether to report every token's id with its text."""
    tokens_by_id: bool = False
    """Whether log-probabilities name tokens as `token_id:N` and not by their text."""
    prefix_salt: str = ""
    """Blocks of the prefix cache are shared only between requests with the same one."""
    grammar: Grammar | None = None
    continues: bool = False
    """The last message is the beginning of the answer, which goes on where it ends."""
    suffix: str = ""
    """Text after the gap that the answer fills; `prompt` is then the text before it."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end the answer in addition to the model's; not part of the answer."""
    thinking_tokens: int | None = None
    """Tokens after which reasoning is ended by force; None: it ends by itself."""
    echo: bool = False
    ignore_eos: bool = False
    """Go on past the tokens that end an answer of the model; `stop_token_ids` still end it."""
    lookup: bool = True
    """Whether its tokens may be looked up; for benchmarks."""
    priority: int = 0
    urgency: Urgency = "interactive"
    deadline_s: float | None = None
    """Seconds from arrival after which the answer is worth nothing; None: the server's default."""
    min_precision: str = ""
    """Least precision of the answer, of a model that answers in several; empty: any."""
    template_options: dict[str, object] = {}
    """`chat_template_kwargs`: extra variables for the chat template."""
    scored: bool = False
    """Whether `Usage` reports the answer's likelihood, for comparisons. For one choice."""
    cache: Directive = msgspec.field(default_factory=Directive)
    """The client's cache directive."""
    arrival: Arrival = NOWHERE
    answer_id: str = ""
    """Id of the answer, where its route does not make it from `request_id`."""
    deaths: int = 0
    """Hosts that have died while they worked on it."""
    fallback: bool = True
    """Whether another alias may answer if this one is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenText:
    """A token as text with its log-probability, for `logprobs` answers."""

    text: str
    raw: bytes
    logprob: float
    top: tuple[tuple[str, bytes, float], ...] = ()
    first: bool = False
    """The first of a prompt, which has no log-probability."""
    token_id: int = -1
    """Where the request asks for ids."""


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The request was admitted; first event of every answer."""

    model: str
    release: str
    precision: str
    prompt_tokens: int
    created_s: int
    answered_by: str = ""
    """`centre`, where this site did not answer itself; empty: it did."""
    fallback: str = ""
    """The alias that answered in place of `model` and why, `chat-small; on=away`; empty: `model` did."""
    cache: Literal["miss", "hit-exact", "hit-reworded"] = "miss"
    age_s: int = 0
    """Age of a cached answer."""
    good_until_s: float = 0.0
    """Expiry of a cached answer; 0 for a fresh one."""
    entry_id: str = ""
    """Name of the cached answer."""
    clamped_to: int = 0
    """Tokens left for the answer by the context, if more were requested."""
    masked: Mapping[str, int] = msgspec.field(default_factory=dict)
    """How many values were masked before the model saw the request, by kind."""
    labelled: bool = False
    """Whether the answer is marked as generated, as `[privacy] label` asks."""
    queued_s: float = 0.0
    """Seconds that it waited for a slot."""
    receipt: Receipt | None = None
    """Receipt of a cached answer, so that a repeat of its bytes can be audited like this one."""
    standing: Standing | None = None
    """What the budgets leave to the caller; None without a budget of requests or tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallDelta:
    """A piece of a tool call. The first piece of a call carries id and name."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of one choice."""

    choice: int
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenText, ...] = ()


class ChoiceEnded(msgspec.Struct, frozen=True, kw_only=True):
    """One choice is complete."""

    choice: int
    reason: FinishReason
    stop_string: str | None = None
    """The stop string that ended it, where one did."""
    stop_token_id: int | None = None
    """The token that ended it, where one did."""
    cut_by: CutBy = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Likelihood of an answer under the model that gave it."""

    ids: tuple[int, ...]
    """The generated ids, including a stop string, without the token that ends an answer."""
    logprob: float
    """Log-probability of all of them together, in nats, before sampling changes."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Last event of every whole answer."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0
    accepted_tokens: int = 0
    """Generated tokens that look-up proposed."""
    rejected_tokens: int = 0
    """Proposed tokens that were computed in vain; no part of `completion_tokens`."""
    precision: str = ""
    """For an engine with rungs, what computed the answer: `fp16`, or `fp16>int8` if a less exact one took over."""
    lowered: bool = False
    """Whether any of it is less exact than the model is at its best."""
    moved: str = ""
    """Where it went on after the replica that it had begun on was lost, `chat-0>chat-1`; empty: it did not move."""
    scored: Scored | None = None
    """If requested, and the engine returns log-probabilities."""

    @property
    def moved_in_public(self) -> str:
        """`moved` for the client: the address of a node is its operator's, and reads `node`."""
        return re.sub(r"https?://[^>, ]+", "node", self.moved)


ServingEvent = Started | Delta | ChoiceEnded | Usage
Hear = Callable[[ServingEvent], None]
"""Takes the next event of an answer, in the turn of the loop in which it came. What it raises ends the answer for who
hears it."""
