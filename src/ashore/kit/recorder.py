"""Administrative acts, and the port that writes them to the audit log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol

ActOutcome = Literal["allowed", "denied", "done", "failed"]
"""allowed, denied: a decision. done, failed: something was tried."""
BEGIN_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A decision or change that an auditor must be able to find. Contains no prompt and no secret."""

    action: str
    """What, as `noun:verb`: `key:create`, `budget:refuse`, `model:load`."""
    actor: str
    """Stable name of the principal, or `system`."""
    tenant: str = ""
    resource: str = ""
    """On what, as `kind/name`: `key/ash_0a1b2c3d`, `role/auditor`."""
    outcome: ActOutcome = "done"
    origin: str = ""
    """Address that it came from; empty: this machine."""
    request_id: str = ""
    reason: str = ""
    """Why, in words for an auditor: the rule that decided, the code of the error."""
    detail: Mapping[str, str | int] = field(default_factory=dict)
    """More facts, in a fixed vocabulary for each action."""


class Recorder(Protocol):
    """Writes acts to the audit log. Thread-safe."""

    def record(self, act: Act, *, on: Any = None) -> None:
        """Record one act. Returns at once; it is on disk within the bound of `[audit]`.

        Args:
            act: The act.
            on: The open transaction of the state (`Database.write`) with the change. The act is stored in that
                transaction until it is on disk, so that after a crash at any moment an effective change has its record.

        Raises:
            AuditUnavailable: only with `on`: nothing can be recorded now, so the change must not be made.
        """
        ...

    def check_acts(self) -> None:
        """Check that acts can be recorded.

        Raises:
            AuditUnavailable: they cannot, so no change may be made.
        """
        ...

    def settle(self, timeout_s: float) -> None:
        """Wait until everything recorded before is on disk. May be called twice.

        Raises:
            AshoreError: it was not on disk in time, or cannot be written; a caller that needs it on disk must refuse.
        """
        ...


def begin(recorder: Recorder, act: Act) -> None:
    """Record that an act begins that changes files; the record is on disk when this returns. A kill before the act is
    recorded as done leaves this record of it.

    Raises:
        AshoreError: it cannot be recorded, so the act must not begin.
    """
    recorder.record(replace(act, outcome="allowed", reason="it begins"))
    recorder.settle(BEGIN_S)


class Recollection(Protocol):
    """Reads earlier acts from the audit log. May read files; not for an event loop."""

    def details(self, action: str, resource: str) -> Iterable[Mapping[str, str | int]]:
        """Return the details of acts, newest first."""
        ...


class ForgetsAll:
    """A `Recollection` without a log."""

    def details(self, action: str, resource: str) -> Iterable[Mapping[str, str | int]]:
        return ()


class MemoryRecorder:
    """Stores acts in a list: for tests, and where no log is kept."""

    def __init__(self) -> None:
        self.acts: list[Act] = []

    def record(self, act: Act, *, on: Any = None) -> None:
        self.acts.append(act)

    def check_acts(self) -> None:
        return None

    def settle(self, timeout_s: float) -> None:
        return None

    def details(self, action: str, resource: str) -> Iterable[Mapping[str, str | int]]:
        """Implement `Recollection`."""
        return [act.detail for act in reversed(self.acts) if (act.action, act.resource) == (action, resource)]
