"""What the request path needs from others: replicas to run sequences on, and the text side of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ashore.core import Message, ToolSpec
from ashore.engines import (
    CancelOrder,
    EngineInfo,
    EngineStats,
    GenerateOrder,
    OrderHearer,
    ScoredText,
    ScoreText,
)


class StartsOrders(Protocol):
    """Where sequences start: a replica, or what stands before it."""

    def start(self, order: GenerateOrder, hearer: OrderHearer) -> CancelOrder:
        """Start one sequence, have `hearer` called with its events as they come, and return what cancels it.

        The last one is `Finished` or `Failed`, unless the order is lost; after it was cancelled none need come.
        """
        ...


class Replica(StartsOrders, Protocol):
    """A connection to one engine host. `ashore.engines.HostClient` is one; `memory.MemoryReplica` is its twin."""

    @property
    def info(self) -> EngineInfo:
        """What the host said in its greeting; only after `connect`."""
        ...

    @property
    def connected(self) -> bool:
        """False before `connect` and for ever after the host is gone."""
        ...

    async def connect(self, timeout_s: float) -> None:
        """Connect and wait for the greeting.

        Raises:
            AshoreError: nobody listens, the host is still loading, or its model could not be loaded.
        """
        ...

    async def embed(self, batch: list[list[int]]) -> list[list[float]]:
        """Return one normalised vector per sequence."""
        ...

    async def score(self, texts: list[ScoreText], *, top_logprobs: int = 0) -> list[ScoredText]:
        """Return, for each text, the log-probability of each token from its `start` on and the best ones beside it."""
        ...

    async def stats(self) -> EngineStats:
        """Return the host's counters."""
        ...

    async def gone(self) -> None:
        """Return once the host is gone, or the connection closed."""
        ...

    async def close(self) -> None:
        """Close the connection; the host goes on. May be called twice."""
        ...


class ToolCallPieceLike(Protocol):
    """A piece of a tool call, as `ashore.text` cuts it."""

    @property
    def index(self) -> int: ...
    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> str: ...


class AnswerPieceLike(Protocol):
    """What one token added to an answer."""

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
    """Turns the tokens of one answer into text, reasoning and tool calls."""

    def push(self, token_id: int) -> AnswerPieceLike:
        """Take one token and return what it released; after `stopped`, nothing more may be pushed."""
        ...

    def finish(self) -> AnswerPieceLike:
        """Return what was held back."""
        ...


class ServedText(Protocol):
    """The text side of a model. `ashore.text.TextModel` is one; `bytes_text.BytesText` is its twin."""

    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    """The token before a prompt, where the model knows one."""
    template_source: str
    """The chat template as it was written; empty where there is none."""
    sampling_defaults: Mapping[str, object]
    """What the model's makers recommend, as `generation.json` has it; unchecked."""
    sampling_defaults_from: str
    """Where they say so: `generation_config.json` of the model, or ashore's `catalogue`; empty where they do not."""

    @property
    def knows_tools(self) -> bool:
        """Whether the template tells the model about tools."""
        ...

    @property
    def tool_forms(self) -> Sequence[str]:
        """How the model may write tool calls (`hermes`, `llama`, `deepseek`, `dsml`), likeliest first; at least one."""
        ...

    def opens_reasoning(self, prompt_ids: Sequence[int]) -> bool:
        """Tell whether a prompt ends inside `<think>`."""
        ...

    def encode(self, text: str, *, allow_special: bool = False, bare: bool = False) -> list[int]:
        """Return the tokens of `text`; `bare`: without what the model expects around a prompt."""
        ...

    def encode_pair(self, first: str, second: str) -> list[int]:
        """Return the tokens of two texts that a cross-encoder reads together."""
        ...

    def encode_gap(self, before: str, after: str) -> list[int]:
        """Return the tokens of a prompt for what belongs between two texts.

        Raises:
            InvalidRequest: the model has no tokens for it.
        """
        ...

    @property
    def gap_stop_ids(self) -> Sequence[int]:
        """Tokens that end what belongs between two texts, beside `eos_token_ids`."""
        ...

    @property
    def thinks(self) -> bool:
        """Whether the template knows `<think>`."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that one token stands for."""
        ...

    def token_text(self, token_id: int) -> str:
        """Return one token as text, with replacement characters where it is half a character."""
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
        """Return how few tokens `text` can have, told by its length: the tokenizer is not asked, and what would fit is
        never refused by it. May count no further than just above `beyond`; 0 where nothing is certain."""
        ...

    def fewest_chat_tokens(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        beyond: int,
        options: Mapping[str, object] = ...,
    ) -> int:
        """Return the same of a conversation in the model's own chat template."""
        ...

    def answer_parser(
        self, *, stop: tuple[str, ...], tools: bool, chat: bool, prompt_opens_reasoning: bool = False
    ) -> AnswerParserLike:
        """Return a parser for one answer."""
        ...
