"""Input and output of an engine.

These structures are also the wire form between the API worker and an engine host (`frames.py`), so they are msgspec
structs. Engines see token ids only: text, templates, stop strings and tool calls are handled in `ashore.data.text`.
What takes text alone gets a `SayOrder`, and answers with `Said`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from ashore.core.chat import Message, ToolSpec
from ashore.core.ids import OrderId
from ashore.core.kinds import EngineKind, ServedFormat
from ashore.core.sampling import Sampling
from ashore.kit.sealing.clearfiles import SealedFiles

Feature = Literal[
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "seed",
    "min_tokens",
    "resume",
    "logprobs",
    "top_logprobs",
    "grammar",
    "adapters",
    "embed",
    "rank",
    "score",
    "distributions",
    "sleep",
    "head",
    "speak",
]
"""What an engine may be able to do beyond greedy generation. The request path refuses, with a 400 that names the
engine and its list, what the engine behind the model lacks."""


class ModelFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a model, as links made by the store. Engines write nothing in `directory`."""

    name: str
    """Store name with variant, `smollm2@int8`."""
    digest: str
    directory: str
    """Absolute path of a folder with one entry for each file of the model."""
    format: ServedFormat
    weights: str = ""
    """Main weights file inside `directory`: `model.gguf`, `model.safetensors`, `openvino_model.xml`."""
    plain_bytes: bool = False
    """Its tokens are the bytes of the text and its template is nobody's: whoever asks it needs no tokenizer."""
    rungs: tuple[ModelFiles, ...] = ()
    """Less exact variants of the same model that may compute in its place, best first."""
    sealed: SealedFiles | None = None
    """Set where the model is sealed: `directory` then lacks the weights, and the host opens all of it in its memory."""


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How one replica runs. The fields are those that ashore interprets; `extra` is passed to the engine unchanged."""

    kind: EngineKind
    context_tokens: int = 0
    """Longest prompt plus answer; 0 means the model's own."""
    kv_tokens: int = 0
    """Tokens of KV cache over all sequences; 0 lets the engine choose."""
    max_sequences: int = 64
    max_batch_tokens: int = 512
    """Most prompt tokens computed in one step; bounds how long a step takes."""
    threads: int = 0
    """0 means every core this process may use."""
    prefix_cache: bool = True
    extra: dict[str, str | int | float | bool] = {}


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Nature and features of a loaded engine; sent once in the greeting of its host."""

    kind: EngineKind
    version: str
    """Library and version, `openvino 2026.4.1`."""
    model: str
    precision: str
    """Precision of the answers: `int8`, `fp16`, `fp32`, `q8_0`…; sent as `x-ashore-precision`."""
    context_tokens: int
    vocab_size: int
    kv_tokens: int
    max_sequences: int
    features: tuple[Feature, ...]
    max_top_logprobs: int = 0
    embedding_size: int = 0
    """Numbers in one embedding; 0 for models that generate."""
    prompts: dict[str, str] = {}
    """Of an embedder: what its makers put before a text, by what the text is: `query`, `passage`."""
    default_prompt: str = ""
    """The one of a text of which nothing is said; empty: none."""
    dims: tuple[int, ...] | None = None
    """Lengths of shorter embeddings that it was trained for; None: any, or the engine does not say."""
    rungs: tuple[str, ...] = ()
    """Precisions that may compute an answer, best first, where there are several; the first is `precision`."""
    asleep_bytes: int = 0
    """This machine's memory that a model with the feature `sleep` keeps while it is asleep."""
    deterministic_seed: bool = False
    """True where a seed repeats exactly whatever else runs in the batch (full precision); otherwise best effort."""


class Grammar(msgspec.Struct, frozen=True, kw_only=True):
    """A grammar that the answer must match. Checked by `engines.GrammarChecker` before it reaches an engine."""

    kind: Literal["json_schema", "json_object", "regex", "lark"]
    text: str = ""
    """The schema as JSON text, the expression, or the grammar; empty for `json_object`. A `lark` grammar may also be in
    GBNF."""


class GenerateOrder(msgspec.Struct, frozen=True, kw_only=True, tag="generate"):
    """One sequence to generate."""

    order_id: OrderId
    prompt_ids: list[int]
    begun: int = 0
    """So many of the last `prompt_ids` are the beginning of the answer, made elsewhere: see `rest_of`."""
    max_new_tokens: int
    stop_token_ids: tuple[int, ...] = ()
    sampling: Sampling = Sampling()
    top_logprobs: int | None = None
    """None: no log-probabilities. 0: that of the chosen token only. Up to 20: the top ones as well."""
    grammar: Grammar | None = None
    adapter: str | None = None
    ignore_eos: bool = False
    """Go on past stop tokens; for benchmarks."""
    lookup: bool = True
    """Whether an engine that looks tokens up may do so; for benchmarks."""
    priority: int = 0
    """Higher goes first."""
    prefix_partition: str = ""
    """Prefix-cache blocks are shared only between orders with equal partition and adapter. The request path puts the
    tenant here unless the operator allows sharing."""
    opening: bytes = b""
    """Hash of what its conversation begins with, for engines that choose among servers; empty: unknown."""
    tenant: str = ""
    """Tenant for fair turns in compiling grammars."""
    kept: bool = True
    """False: nothing of it is written to disk."""
    min_precision: str = ""
    """Rung of the engine below which no token of it may be computed; empty: any."""
    traceparent: str = ""
    """Trace that the order belongs to, for engines that are servers with traces of their own; empty: none."""


def rest_of(order: GenerateOrder, ids: Sequence[int], order_id: OrderId) -> GenerateOrder:
    """Return the order for the rest of an answer of which `ids` are made. An engine goes on as if it had made them:
    penalties, the draws of a seed and the grammar stand where they would.

    Its `max_new_tokens` is 0 if all tokens are made; no engine takes it then.
    """
    replace, sampling = msgspec.structs.replace, order.sampling
    if sampling.min_tokens:
        sampling = replace(sampling, min_tokens=max(0, sampling.min_tokens - len(ids)))
    return replace(
        order,
        order_id=order_id,
        prompt_ids=[*order.prompt_ids, *ids],
        begun=order.begun + len(ids),
        max_new_tokens=order.max_new_tokens - len(ids),
        sampling=sampling,
    )


class SayOrder(msgspec.Struct, frozen=True, kw_only=True, tag="say"):
    """One answer of a model that takes messages and returns text; its token ids are known to its server alone."""

    order_id: OrderId
    messages: tuple[Message, ...]
    """Masked, where the policy masks: they leave the host as they are here."""
    max_new_tokens: int
    """The most that the answer may count as."""
    says_limit: bool = True
    """Whether the server is told that limit. False: it ends where it ends by itself."""
    fewest_prompt_tokens: int = 1
    most_prompt_tokens: int
    """Bounds of what the messages cost, for a server that says something else, or nothing."""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    """As in a request: `auto`, `required`, or `tool:NAME`."""
    one_call: bool = False
    sampling: dict[str, float | int] = {}
    """The fields to send, by their names in OpenAI's form."""
    stop: tuple[str, ...] = ()
    grammar: Grammar | None = None
    """A JSON schema, or `json_object`."""
    opening: bytes = b""
    """As in `GenerateOrder`."""
    traceparent: str = ""


Order = GenerateOrder | SayOrder


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """A token and the natural logarithm of its probability under the unmodified model distribution."""

    token_id: int
    logprob: float


class ScoreText(msgspec.Struct, frozen=True, array_like=True):
    """A text to score, given its own beginning."""

    ids: list[int]
    start: int = 1
    """First scored position, at least 1; earlier tokens are given."""


ScoredText = list[tuple[TokenLogprob, ...]]
"""For each position from `start` on: its own token with its log-probability, then the best ones at its place."""


class Token(msgspec.Struct, frozen=True, tag="token", array_like=True):
    """One generated token. A stop token is not sent; it is named in `Finished`."""

    order_id: OrderId
    token_id: int
    logprob: float | None = None
    top: tuple[TokenLogprob, ...] = ()
    cached_tokens: int = 0
    """Prompt tokens from the prefix cache, sent with the first token: an answer that a stop string cuts off has no
    `Finished`. 0 with every other one, and for engines that know it at the end only."""
    accepted: int = 0
    """1 if it was proposed by look-up, and so computed in the same step as the token before it."""
    rejected: int = 0
    """Proposed tokens of that step that were dropped for it."""


class SaidCall(msgspec.Struct, frozen=True, array_like=True):
    """A piece of a tool call. The first piece of a call has its id and name."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Said(msgspec.Struct, frozen=True, tag="said", array_like=True):
    """A piece of the answer to a `SayOrder`."""

    order_id: OrderId
    text: str = ""
    reasoning: str = ""
    calls: tuple[SaidCall, ...] = ()


class Rung(msgspec.Struct, frozen=True, tag="rung", array_like=True):
    """From an engine with rungs: the rung that computed the next token in the same batch of events. Sent with the
    first token of an order, and when a less exact rung than before takes part."""

    order_id: OrderId
    precision: str


class Moved(msgspec.Struct, frozen=True, tag="moved", array_like=True):
    """An answer that has begun goes on at another server behind the engine, because the first was lost."""

    order_id: OrderId
    lost: str
    to: str


class Finished(msgspec.Struct, frozen=True, tag="finished", array_like=True):
    """The sequence ended normally; the last event of this order."""

    order_id: OrderId
    reason: Literal["stop", "length", "cancelled"]
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens that came from the prefix cache."""
    completion_tokens: int
    stop_token_id: int | None = None


class Failed(msgspec.Struct, frozen=True, tag="failed", array_like=True):
    """The sequence failed; the last event of this order."""

    order_id: OrderId
    code: str
    """A `code` of `ashore.core.errors`."""
    message: str
    hint: str = ""
    param: str | None = None
    retry_after_s: float | None = None


EngineEvent = Token | Said | Rung | Moved | Finished | Failed


FLEET_FILE: Final = "ASHORE_FLEET_FILE"
"""Variable of the environment with the file that lists the servers of the fleet, by alias. No option of an engine, for
options are the same on every machine that shares a release."""
FLEET_IDENTITY: Final = "ASHORE_FLEET_IDENTITY"
"""Likewise, with the folder of what this machine shows to servers of the fleet that speak TLS."""


class FleetServer(msgspec.Struct, frozen=True, kw_only=True):
    """A server on another machine that an engine may send orders to, as listed in the fleet's file."""

    url: str
    entry: str = ""
    """The entry of `[egress] allow` that allows it; empty: no name is held to an address."""
    drains: bool = False
    """Whether it gets no new orders."""


class BackendStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of one server on another machine behind an engine."""

    url: str
    state: Literal["new", "ready", "out", "draining"]
    """`new`: it has not answered yet; `out`: it gets no orders; `draining`: it answers, but the operator has it
    drained."""
    reason: str = ""
    """Why it is not ready."""
    last_error: str = ""
    """Its last error."""
    running: int = 0
    sent: int = 0
    """Orders since the start."""
    times_out: int = 0
    """How often it was put out since the start."""
    prompt_tokens: int = 0
    """Of whole answers since the start, if it reports its prefix cache."""
    cached_tokens: int = 0
    """Those of them that its prefix cache had."""
    kind: str = ""
    """What it is: `vLLM`, `llama-server`; of one that takes text, `text server` and what it says of itself."""
    outside: bool = False
    """Whether it lies outside of the operator's own networks."""


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters since load, and current gauges."""

    running: int = 0
    waiting: int = 0
    kv_tokens_used: int = 0
    kv_tokens_total: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    scored_tokens: int = 0
    """Tokens computed to score texts; a beginning that several texts share counts once where it is computed once."""
    restored_tokens: int = 0
    """Prompt tokens whose keys and values came from the disk."""
    kept_prefix_bytes: int = 0
    """Kept prefixes on the disk, of all hosts of the home as last seen."""
    prefix_faults: int = 0
    """Kept prefixes that could not be written, or did not open."""
    preemptions: int = 0
    proposed_tokens: int = 0
    """Tokens proposed by look-up that a step computed."""
    accepted_tokens: int = 0
    """Those of them that the answer goes on with."""
    block_tokens: int = 0
    """Tokens in a block of the KV cache; 0 where it has no blocks."""
    adapters: int = 0
    """LoRA adapters that are loaded."""
    running_adapters: tuple[str, ...] = ()
    waiting_adapters: tuple[str, ...] = ()
    """Those of sequences that run, and of those that wait."""
    rung: int = 0
    """Rung of the next step, 0: the most exact."""
    rung_switches: int = 0
    rung_tokens: dict[str, int] = {}
    """Tokens generated, by precision, of an engine with rungs."""
    opening_first: int = 0
    """Orders that went to the server where their opening was expected, of an engine that chooses among servers."""
    opening_elsewhere: int = 0
    """Those that another server was expected to answer sooner."""
    backends: tuple[BackendStatus, ...] = ()
    """Servers of other machines that it gives its orders to."""
