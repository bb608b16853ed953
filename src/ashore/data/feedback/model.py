"""Stored data of answers and votes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from ashore.data.jobs import ROW_BYTES


class Said(msgspec.Struct, frozen=True):
    """One message of a question, masked."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A finished answer, with the question as the model saw it."""

    answer_id: str
    tenant: str
    account: str
    model: str
    release: str
    messages: tuple[Said, ...]
    """Empty where no text may be kept."""
    answer: str
    num_tokens: int
    """Of the answer."""
    entry_id: str = ""
    """Name under which the cache has it, or would; empty: nowhere."""
    made_ms: int

    @property
    def num_chars(self) -> int:
        return len(self.answer) + sum(len(one.content) for one in self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """An answer that may be voted on, as a row of the state."""

    tenant: str
    account: str
    answer_id: str
    model: str
    release: str
    digest: str
    """Of the question, under a secret of the state: equal questions have equal ones. Empty where no text is kept."""
    num_tokens: int
    key_id: str
    """Of the account's key, which `question` and `answer` are sealed with; empty where no text is kept."""
    question: str
    answer: str
    entry_id: str = ""
    """Name of the cached answer, which a vote down purges; empty: there is none."""
    made_ms: int
    expires_ms: int

    @property
    def num_bytes(self) -> int:
        """Bytes that count against its tenant's budget."""
        return ROW_BYTES + len(self.question) + len(self.answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """A vote, as a row of the state."""

    feedback_id: str
    tenant: str
    account: str
    """Who got the answer."""
    answer_id: str
    voter: str
    """Who voted: the account, or somebody who may review."""
    model: str
    release: str
    rating: str
    """`up`, `down`, or empty where only tags were given."""
    score: float | None
    tags: tuple[str, ...]
    digest: str
    num_tokens: int
    key_id: str
    question: str
    answer: str
    correction: str
    """Sealed; empty where there is none."""
    preferred: str
    """Sealed text of a better answer; empty where there is none."""
    said: str
    """Digest of what the voter said: the same again changes nothing."""
    answered_ms: int
    created_ms: int
    changed_ms: int

    @property
    def num_bytes(self) -> int:
        """Bytes that count against its tenant's budget."""
        return ROW_BYTES + len(self.question) + len(self.answer) + len(self.correction) + len(self.preferred)

    @property
    def has_text(self) -> bool:
        """Whether question and answer are stored."""
        return bool(self.key_id)
