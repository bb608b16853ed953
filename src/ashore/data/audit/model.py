"""Fields of a record, and the names that the whole room uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NewType

import msgspec

FORMAT: Final = 1
"""Of the lines on disk. A reader refuses what it does not know; an old format is read for ever."""

Kind = Literal["request", "act", "chain"]
"""request: somebody asked a model. act: anything else that was decided or done. chain: what a writer says of its own
chain: it began, a segment opened or closed, the clock jumped."""

ChainName = NewType("ChainName", str)
"""Of one writing process, `api-0`, `supervisor`, `cli`: one folder, one process at a time."""


class Sealed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Prompt and answer as ciphertext, base64 of nonce and AES-256-GCM, under the key of one person."""

    answer: str
    key_id: str
    """Of the subject's key; when it is destroyed, nobody reads this again."""
    prompt: str


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line. Fields are in alphabetical order, as on disk; empty ones are omitted."""

    action: str
    """`noun:verb`. `model:infer` for a request that ended, `model:begin` for one that began, in strict mode."""
    actor: str
    """Stable name of the principal, or `system`."""
    answer: str = ""
    """Keyed digest of the answer's text."""
    at_us: int
    """Wall clock, microseconds since the Unix epoch, as it stood. It may jump; `seq` does not."""
    cache: str = ""
    cached_tokens: int = 0
    completion_tokens: int = 0
    content: Sealed | None = None
    detail: dict[str, str | int] = {}
    error: str = ""
    key: str = ""
    """Name of the API key, never the key."""
    kind: Kind
    latency_ms: float = 0.0
    masked: dict[str, int] = {}
    """How many personal identifiers were masked, by kind."""
    model: str = ""
    mono_us: int
    """Clock of the machine since its start, which nobody sets back."""
    origin: str = ""
    outcome: str = ""
    prompt: str = ""
    """Keyed digest of the prompt's text."""
    prompt_tokens: int = 0
    reason: str = ""
    release: str = ""
    request_id: str = ""
    resource: str = ""
    route: str = ""
    seq: int
    """Counts the records of one chain from 1 without a gap."""
    tenant: str = ""


class RequestNote(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request, as reported by the request path. A struct instead of a dataclass: one is made for every cached
    answer.
    """

    request_id: str
    principal: str
    tenant: str
    alias: str
    release: str
    outcome: str
    """`answered`, `failed`, `cancelled`; `begun` before the first piece of an answer, in strict mode."""
    cache: str
    """`miss`, `hit-exact`, `hit-reworded`."""
    key: str = ""
    origin: str = ""
    route: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    masked: dict[str, int] = {}
    ignored: tuple[str, ...] = ()
    """Fields of the request that were left out."""
    trace: str = ""
    """Id of the caller's trace."""
    error_code: str = ""
    fallback: str = ""
    """The aliases that were tried in place of the asked one or passed over, with why."""
    guard: str = ""
    """How many words of which guard list were found, `insults monitor prompt=2`."""
    precision: str = ""
    """What computed the answer, where the model answers in several precisions."""
    moved: str = ""
    """Where the answer went on after a replica was lost, `chat-0>chat-1`."""
    latency_ms: float = 0.0
    prompt: str = ""
    """Keyed digest."""
    answer: str = ""
    content: tuple[bytes, bytes] | None = None
    """Prompt and answer themselves, where content logging is on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of a chain."""

    chain: ChainName
    segment: int
    """Number of its last segment, from 1."""
    seq: int
    """Of its last record; 0: it has none."""
    hash: str
    """Of its last record, 64 hexadecimal digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The position of a record."""

    chain: ChainName
    segment: int
    offset: int
