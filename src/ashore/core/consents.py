"""Acts that one person alone may not do: a second one consents first, and the consent is used up by the act."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Consented(msgspec.Struct, frozen=True, kw_only=True):
    """What was consented to, and for how long."""

    consented_to: str
    holds_for_s: int


class Consents(Protocol):
    """Who consented to what."""

    def give(self, subject: str, principal: str, record: Callable[[Connection], None]) -> int:
        """Keep that somebody consents to one act, and return for how many seconds. May be called twice. `record` is
        called in the transaction."""
        ...

    def use(self, connection: Connection, subject: str, principal: str) -> Sequence[str]:
        """Use up the consents to an act, in the transaction that does it, and return who gave those that count: not
        the one who acts, nor anybody who may know that one's key. Empty: nobody did."""
        ...
