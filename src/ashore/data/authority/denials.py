"""Audit records of rejected callers."""

from __future__ import annotations

from ashore.core.errors import AshoreError, PermissionDenied, TooManyAttempts, Unauthenticated
from ashore.core.principal import NOBODY, Principal
from ashore.kit.recorder import Act


def denial_of(fault: AshoreError, principal: Principal | None, *, origin: str = "", request_id: str = "") -> Act | None:
    """Return the act to record for `fault`: a failed authentication or a denied decision; None for anything else."""
    who = principal or NOBODY
    if isinstance(fault, Unauthenticated | TooManyAttempts):
        locked_out = isinstance(fault, TooManyAttempts)  # its message counts seconds, and equal refusals are counted
        return Act(
            action="access:authenticate",
            actor=who.id,
            tenant=who.tenant,
            outcome="denied",
            origin=origin,
            request_id=request_id,
            reason=fault.code if locked_out else f"{fault.code}: {fault.message}",
        )
    if not isinstance(fault, PermissionDenied):
        return None
    return Act(
        action=fault.action or "access:use",
        actor=who.id,
        tenant=who.tenant,
        resource=fault.resource,
        outcome="denied",
        origin=origin,
        request_id=request_id,
        reason=fault.rule or fault.message,
        detail={"key": who.key_id} if who.key_id else {},
    )
