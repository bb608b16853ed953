"""Queries, entries and results of the cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from ashore.core.ids import TenantId
from ashore.data.cache.section import RoutePolicy

Tier = Literal["local", "shared", "curated", "reworded"]

EVERYBODY: Final = TenantId("*")
"""Tenant of a public route's entries, and of pairs for all. No tenant can be called so."""
CURATED: Final = "curated"
"""Value of `x-ashore-precision` for a curated answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """The client's cache directives, from `Cache-Control` and `x-ashore-cache`."""

    no_store: bool = False
    """Neither look nor keep."""
    no_cache: bool = False
    """Do not look up; store the new answer."""
    max_age_s: float | None = None
    """Take nothing older."""
    asked_for: bool = False
    """Use the cache although the temperature is above the bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The fields of a request that its answer depends on."""

    tenant: TenantId
    alias: str
    release: str
    frame: bytes
    """All that decides the answer but the last user message: turns before it, tools, sampling, limits, grammar."""
    question: str
    """The last user message, or the raw prompt."""
    temperature: float
    single_turn: bool
    """True where nothing but instructions stands before the question, so that a curated answer fits."""
    rewordable: bool
    """True where other wordings of the question may share its answer."""
    storable: bool = True
    """False for answers that are never cached: personal data in the prompt, log-probabilities in the answer."""
    masking: bytes = b""
    """Names the policy that the request was masked by, and that its answer is checked by before it is kept."""
    directive: Directive = field(default_factory=Directive)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An `Ask` that the policy allows in the cache, with its address."""

    ask: Ask
    key: bytes
    """Keyed hash over tenant, release, masking, epochs and everything in the request that decides the answer. Of a
    question that may be reworded, over what its wordings have in common."""
    asked: bytes = b""
    """Digest of the question as it was worded; empty where only that wording leads to the key."""
    policy: RoutePolicy

    @property
    def wording(self) -> bytes:
        """Address of this exact wording: concurrent requests in other words are generated separately."""
        return self.key + self.asked

    @property
    def entry_id(self) -> str:
        """Public name of the entry, as in `x-ashore-cache-entry` and `ashore cache purge --entry`."""
        return self.key[:8].hex()


class KeptChoice(msgspec.Struct, frozen=True, array_like=True):
    """One choice of an answer."""

    text: str
    reasoning: str
    reason: Literal["stop", "length"]
    stop_string: str | None = None


class KeptAnswer(msgspec.Struct, frozen=True, array_like=True):
    """A whole answer, independent of protocols."""

    release: str
    precision: str
    created_s: int
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    choices: tuple[KeptChoice, ...]
    clamped_to: int = 0
    """Tokens left for the answer by the context, if more were requested; 0 if the request fitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One question with its prescribed answer."""

    tenant: str
    """`*`: every tenant."""
    alias: str
    """`*`: every model."""
    question: str
    text: str
    pinned: bool
    """Returned before any model's answer; otherwise only if nothing better is cached."""
    created_s: int
    expires_at_s: float | None = None

    def answer(self, release: str) -> KeptAnswer:
        """Return it as a cached answer."""
        return KeptAnswer(release, CURATED, self.created_s, 0, 0, 0, (KeptChoice(self.text, "", "stop"),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A cache hit."""

    answer: KeptAnswer
    tier: Tier
    entry_id: str
    age_s: int
    expires_at_s: float

    @property
    def label(self) -> Literal["hit-exact", "hit-reworded"]:
        """Value of `x-ashore-cache`."""
        return "hit-reworded" if self.tier == "reworded" else "hit-exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A finished response, returned to a repeated request without parsing it."""

    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    alias: str
    release: str
    label: str
    stored_at_s: float
    expires_at_s: float
    told: object = None
    """Opaque data of the request path."""
    tokens: int = 0
    """Tokens of prompt and answer."""
