"""Jobs, leases and outcomes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final, Literal

JobState = Literal["queued", "running", "succeeded", "failed", "dead", "cancelled", "expired", "interrupted"]
"""failed: its own fault, never tried again. dead: given up after its last attempt, kept as a dead letter. expired: its
deadline passed. interrupted: an operation that the server stopped under, which somebody may ask for again."""
FINAL: Final = frozenset(("succeeded", "failed", "dead", "cancelled", "expired", "interrupted"))
CancelMode = Literal["at_once", "by_handler"]
"""by_handler: the job is told, and its handler ends it (a batch keeps what is done)."""

WEBHOOK_KIND: Final = "webhook"
REFUSED: Final = "refused"
"""Error code of an operation whose submitter may no longer do it when it starts."""
JOB_READ: Final = "job:read"
"""The action of reading the queue."""
ANY_MODEL: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTerms:
    """What a job is submitted with, and keeps."""

    job_id: str
    kind: str
    """Names the handler."""
    tenant: str
    principal: str
    priority: int = 0
    """Higher goes first among the jobs of its tenant, -100 to 100; tenants take turns."""
    deadline_ms: int | None = None
    """Milliseconds since the epoch after which nobody wants the result."""
    max_attempts: int = 5
    ttl_ms: int = 30 * 86_400_000
    """How long the result is kept once the job has ended."""
    cancel_mode: CancelMode = "at_once"
    idempotency_key: str = ""
    """The same key again, of one account and kind, gives the first job."""
    models: str = ANY_MODEL
    """What a narrowed key must be able to ask before it sees the job: aliases and patterns, parted by spaces."""
    webhook: str = ""
    """Address that is told of the end."""
    parent_id: str = ""
    item: int = 0
    """Place among the parent's children."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob(JobTerms):
    """A job to submit."""

    payload: bytes
    result: bytes | None = None
    """Set: the job has succeeded already, and only its result is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(JobTerms):
    """A job's current state. Payload and result are separate: see `JobBody`."""

    account: str
    """Whose it is: the principal's id, without the key that was used."""
    state: JobState
    created_ms: int
    not_before_ms: int
    attempts: int = 0
    """Attempts that count, the running one included."""
    lease_number: int = 0
    """Grows with every lease; a worker that holds an older number changes nothing."""
    lease_until_ms: int = 0
    owner: str = ""
    cancel_requested: bool = False
    progress: str = ""
    """What its handler says of it, JSON or empty."""
    error_code: str = ""
    error_message: str = ""
    started_ms: int | None = None
    finished_ms: int | None = None
    expires_ms: int | None = None
    children_total: int = 0
    children_succeeded: int = 0
    children_failed: int = 0
    """Ended in any other way."""
    takeovers: int = 0
    """Attempts that ended with what they ran on (a worker, the API, an engine's host), and were not counted."""
    num_bytes: int = 0
    """Of its payload, its result and its events."""
    deaths: int = 0
    """Of these, those in which a process died while the job was under way. After the first it is a suspect."""

    @property
    def final(self) -> bool:
        return self.state in FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class JobBody:
    """The two parts of a job that may be long."""

    payload: bytes
    result: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to work on a job until a moment, and the job."""

    job: Job
    payload: bytes

    @property
    def number(self) -> int:
        return self.job.lease_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The job succeeded."""

    result: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The job failed permanently."""

    code: str
    message: str
    result: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The handler ended a cancelled job."""

    result: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Try again later."""

    after_s: float | None = None
    """None: the back-off of the retry rule."""
    counted: bool = True
    """False: it was not the job's fault (it made room for somebody, or waits for its children)."""
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """Something that the job ran on ended or could not serve it. Does not count as an attempt; limited separately."""

    code: str
    message: str
    died: bool = False
    """Whether a process died that had the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """The server stopped during an operation, which is not restarted automatically."""

    code: str
    message: str


Outcome = Done | Failed | Cancelled | Again | CutOff | Interrupted


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The changes of one job in one transaction."""

    job: Job
    result: bytes | None = None
    """Set: replaces the result."""
    spawn: tuple[NewJob, ...] = ()
    """Made in the same transaction; one that is there already stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file; its bytes lie in pieces beside it."""

    file_id: str
    tenant: str
    filename: str
    purpose: str
    num_bytes: int
    created_ms: int
    expires_ms: int | None
    complete: bool
    account: str
    """Whose it is. Empty: an older ashore did not say."""
    models: str = ANY_MODEL
    """As `NewJob.models`."""


def resource_of(job: Job) -> str:
    """Return the resource name of a job for rights."""
    return f"tenant/{job.tenant}/job/{job.job_id}"


def new_id(prefix: str) -> str:
    """Return a fresh identifier, `prefix` and 32 hexadecimal digits."""
    return f"{prefix}{secrets.token_hex(16)}"
