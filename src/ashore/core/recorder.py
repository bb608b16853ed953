"""The acts that rooms report to the audit log, and the port through which they report them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

ActOutcome = Literal["allowed", "denied", "done", "failed"]
"""allowed, denied: a decision. done, failed: something was tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something that was decided or done, and that an auditor must be able to find. Holds no prompt and no secret."""

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
    """Takes what must be kept. Safe to call from several threads."""

    def record(self, act: Act, *, on: Any = None) -> None:
        """Take one act. Returns at once; it is on disk within the bound that `[audit]` promises.

        Args:
            act: What was done.
            on: The open transaction of the state (`Database.write`) that does it. The act stands in that transaction
                until it is on disk, so that after a death at any moment a change that is in force has its record.

        Raises:
            AuditUnavailable: with `on` alone: nothing can be recorded now, so the change must not be made.
        """
        ...

    def check_acts(self) -> None:
        """Return when acts can be recorded.

        Raises:
            AuditUnavailable: they cannot, so nothing may be administered.
        """
        ...

    def settle(self, timeout_s: float) -> None:
        """Return when everything recorded before is on disk. May be called twice.

        Raises:
            AshoreError: it was not on disk in time, or cannot be written; a caller that needs it on disk must refuse.
        """
        ...


class Recollection(Protocol):
    """Knows what the audit log has of earlier acts. May read files; not for an event loop."""

    def details(self, action: str, resource: str) -> Iterable[Mapping[str, str | int]]:
        """Return the facts of acts, newest first."""
        ...


class ForgetsAll:
    """A `Recollection` where no record is kept."""

    def details(self, action: str, resource: str) -> Iterable[Mapping[str, str | int]]:
        return ()


class MemoryRecorder:
    """Keeps acts in a list: for tests, and where there is no record to keep."""

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
