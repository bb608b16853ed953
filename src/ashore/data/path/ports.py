"""Ports of the request path: replicas that run sequences, and the text side of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from ashore.core.chat import Message, ToolSpec
from ashore.data.engines import CancelOrder, EngineInfo, EngineStats, Order, OrderHearer, ScoredText, ScoreText


class StartsOrders(Protocol):
    """Where sequences start: a replica, or a wrapper of one."""

    def start(self, order: Order, hearer: OrderHearer) -> CancelOrder:
        """Start one sequence, call `hearer` with its events as they come, and return a function that cancels it.

        The last event is `Finished` or `Failed`, unless the order is lost; after cancellation it may be missing.
        """
        ...


class Replica(StartsOrders, Protocol):
    """A connection to one engine host. `ashore.data.engines.HostClient` is one."""

    @property
    def info(self) -> EngineInfo:
        """The host's greeting; only after `connect`."""
        ...

    @property
    def connected(self) -> bool:
        """False before `connect` and permanently after the host is gone."""
        ...

    async def connect(self, timeout_s: float) -> None:
        """Connect and wait for the greeting.

        Raises:
            AshoreError: no host listens, it is still loading, or its model could not be loaded.
        """
        ...

    async def embed(self, batch: list[list[int]], *, tenant: str = "") -> list[list[float]]:
        """Return one normalised vector per sequence. Calls of several tenants take turns."""
        ...

    async def score(self, texts: list[ScoreText], *, top_logprobs: int = 0, tenant: str = "") -> list[ScoredText]:
        """Return, for each text, the log-probability of each token from its `start` on, with the top alternatives."""
        ...

    async def stats(self) -> EngineStats:
        """Return the host's counters."""
        ...

    async def gone(self) -> None:
        """Wait until the host is gone or the connection closed."""
        ...

    async def close(self) -> None:
        """Close the connection; the host goes on. May be called twice."""
        ...


class ToolCallPieceLike(Protocol):
    """A piece of a tool call, as `ashore.data.text` splits it."""

    @property
    def index(self) -> int: ...
    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> str: ...


class AnswerPieceLike(Protocol):
    """What one token adds to an answer."""

    @property
    def text(self) -> str: ...
    @property
    def reasoning(self) -> str: ...
    @property
    def tool_calls(self) -> Sequence[ToolCallPieceLike]: ...
    @property
    def stopped(self) -> bool: ...
    @property
    def stop_string(self) -> str | None: ...


class AnswerParserLike(Protocol):
    """Parses the tokens of one answer into text, reasoning and tool calls."""

    def push(self, token_id: int) -> AnswerPieceLike:
        """Add one token and return the released text; not allowed after `stopped`."""
        ...

    def read(self, text: str) -> AnswerPieceLike:
        """Add text, of a model whose tokens nobody here knows; as `push` otherwise."""
        ...

    def finish(self) -> AnswerPieceLike:
        """Return the text held back."""
        ...


class ServedText(Protocol):
    """The text side of a model. `ashore.data.text.TextModel` is one; `bytes_text.BytesText` is its twin."""

    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    """The token before a prompt, where the model knows one."""
    template_source: str
    """The chat template as it was written; empty where there is none."""
    sampling_defaults: Mapping[str, object]
    """The makers' recommendations from `generation.json`; unchecked."""
    sampling_defaults_from: str
    """Where they say so: `generation_config.json` of the model, or ashore's `catalogue`; empty where they do not."""

    @property
    def knows_tools(self) -> bool:
        """Whether the chat template supports tools."""
        ...

    @property
    def tool_forms(self) -> Sequence[str]:
        """How the model may write tool calls (`hermes`, `llama`, `deepseek`, `dsml`), likeliest first; none where its
        server alone knows."""
        ...

    def opens_reasoning(self, prompt_ids: Sequence[int]) -> bool:
        """Return whether a prompt ends inside `<think>`."""
        ...

    def encode(self, text: str, *, allow_special: bool = False, bare: bool = False) -> list[int]:
        """Return the tokens of `text`; `bare`: without special tokens around a prompt."""
        ...

    def encode_pairs(self, texts: Sequence[str], pairs: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
        """Yield the tokens of pairs of texts that a cross-encoder reads together, given as indices. Each text is read
        once."""
        ...

    def encode_gap(self, before: str, after: str) -> list[int]:
        """Return the tokens of a fill-in-the-middle prompt.

        Raises:
            InvalidRequest: the model does not support it.
        """
        ...

    @property
    def gap_stop_ids(self) -> Sequence[int]:
        """Tokens that end a fill-in-the-middle answer, in addition to `eos_token_ids`."""
        ...

    @property
    def thinks(self) -> bool:
        """Whether the template supports `<think>`."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that one token stands for."""
        ...

    def token_text(self, token_id: int) -> str:
        """Return one token as text, with replacement characters for partial characters."""
        ...

    def encode_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        add_generation_prompt: bool = True,
        continues: bool = False,
        options: Mapping[str, object] = ...,
    ) -> list[int]:
        """Return the tokens of a conversation in the model's own chat template. `continues`: the last message is the
        beginning of the answer, and nothing follows it."""
        ...

    def fewest_tokens(self, text: str, *, beyond: int) -> int:
        """Return a lower bound of the tokens of `text`, by its length and without tokenising: it never refuses what
        would fit. Counting may stop just above `beyond`; 0 if no bound is known."""
        ...

    def fewest_chat_tokens(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        beyond: int,
        options: Mapping[str, object] = ...,
    ) -> int:
        """Return the same bound for a conversation in the model's own chat template."""
        ...

    def answer_parser(
        self, *, stop: tuple[str, ...], tools: bool, chat: bool, prompt_opens_reasoning: bool = False
    ) -> AnswerParserLike:
        """Return a parser for one answer."""
        ...
