"""What was asked, what came of it, and who was killed when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["whole", "error", "cut", "silent", "hung"]
"""whole: it ended as its protocol says a whole answer ends. error: an error in place of an answer. cut: it began, and
then broke with an error that the client sees. silent: it began, stopped, and nothing said that it was not whole.
hung: neither answer nor error within its deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request as its client saw it."""

    kind: str
    """The client and the form: `openai stream`, `grpc unary`, ..."""
    question: str
    """Names what was asked with all that decides the answer; the same name, the same answer."""
    sent_s: float
    """Seconds since the trace began."""
    took_s: float
    outcome: Outcome
    status: int = 0
    """Of HTTP; 0: none came."""
    code: str = ""
    """Code of the error, or the name of what broke."""
    text: str = ""
    """What came, as far as it came."""
    tokens: int = -1
    """That the answer says it has; -1: it does not say."""
    finish: str = ""
    kept: str = ""
    """What `x-ashore-cache` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One wish of a client: the first attempt and those after it."""

    attempts: tuple[Attempt, ...]

    @property
    def served(self) -> bool:
        return self.attempts[-1].outcome == "whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """One process that was killed or stopped."""

    role: str
    """`envoy`, `api 0`, `api 1`, `engine host 1`, `valkey`, `jobs`, `supervisor`."""
    what: str
    """`SIGKILL`, `SIGSTOP`."""
    at_s: float
    back_s: float
    """From the blow until it did its work again; below 0: it never did."""


@dataclass(slots=True, kw_only=True)
class AcceptedJob:
    """A job that the server said it would do."""

    job_id: str
    key: str
    """Idempotency key with which it was handed in."""
    kind: Literal["response", "batch", "deferred"]
    question: str
    accepted_s: float
    lines: int = 0
    """Of a batch."""
    ids: set[str] = field(default_factory=set)
    """Every id that was given for this key."""
    state: str = ""
    """At the end."""
    text: str = ""
    finished_s: float = -1.0
    results: dict[str, list[str]] = field(default_factory=dict)
    """Of a batch: answers by the id of their line."""
    failed_lines: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Memory of one process at one moment."""

    role: str
    pid: int
    at_s: float
    resident_mib: float


@dataclass(slots=True, kw_only=True)
class Trace:
    """Everything that was seen."""

    asks: list[Ask] = field(default_factory=list)
    blows: list[Blow] = field(default_factory=list)
    jobs: list[AcceptedJob] = field(default_factory=list)
    memory: list[Sample] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    """Clients that were still waiting when they should long have been told something."""
    orphans: list[str] = field(default_factory=list)
    """Processes that outlived the supervisor, and for how long nobody ended them."""
    orphans_gone_s: float = -1.0
    started_s: float = 0.0
    """From the first start until it was ready."""
    restarted_s: float = -1.0
    """From the next start until it was ready; below 0: it never was."""
    stopped_code: int | None = None
    """Exit code at the end, and whether anything was left."""
    left_over: list[str] = field(default_factory=list)
    webhooks: dict[str, list[str]] = field(default_factory=dict)
    """Ids of the webhook events that came, by job."""
    stored_jobs: dict[str, int] = field(default_factory=dict)
    """Rows of the job table at the end, by idempotency key."""
    skipped: list[str] = field(default_factory=list)
    """What this server does not offer, so that it was not tried."""
    seconds: float = 0.0

    @property
    def attempts(self) -> list[Attempt]:
        return [one for ask in self.asks for one in ask.attempts]
