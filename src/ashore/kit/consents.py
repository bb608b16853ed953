"""Acts that need two persons: a second one consents first, and the act uses the consent up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Consented(msgspec.Struct, frozen=True, kw_only=True):
    """An act that was consented to, and the validity."""

    consented_to: str
    holds_for_s: int


class Consents(Protocol):
    """Stored consents."""

    def give(self, subject: str, principal: str, record: Callable[[Connection], None]) -> int:
        """Save a consent to one act, and return its validity in seconds. May be called twice. `record` is called in
        the transaction."""
        ...

    def use(self, connection: Connection, subject: str, principal: str, *, action: str, resource: str) -> Sequence[str]:
        """Use up the consents to an act, in its transaction, and return who gave the valid ones: not the actor, nor
        anyone who may know the actor's key, nor who may not do `action`, consent, on `resource` now. Empty: none."""
        ...
