"""Principals and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NewType

from ashore.core import TenantId
from ashore.errors import PermissionDenied

Scope = NewType("Scope", str)
"""A right by name, `noun:verb` or one word."""

INFER: Final = Scope("infer")
"""Ask a model for an answer or an embedding."""
METRICS_READ: Final = Scope("metrics:read")
"""Read `/metrics` and `/openapi.json` from another machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whoever a valid key belongs to."""

    id: str
    """Stable name for logs and audit, `first-key`."""
    tenant: TenantId
    scopes: frozenset[Scope]

    def require(self, scope: Scope) -> None:
        """Return when the scope is there.

        Raises:
            PermissionDenied: it is not.
        """
        if scope not in self.scopes:
            raise PermissionDenied(
                f"{self.id} lacks the scope {scope!r}; it has {', '.join(sorted(self.scopes)) or 'none'}",
                hint="an administrator grants it",
            )
