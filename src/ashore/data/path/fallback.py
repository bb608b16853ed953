"""What answers in place of an alias that cannot: the rules, and the walk along the steps of one request.

The steps of an alias are tried in their order, each once, and only those of the alias that was asked: so there is no
cycle. The caller asks for right, privacy, context, features and budget again at each step. A step that is refused is
passed over; what a policy blocks, and what may have killed a host, goes to no other model.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeVar

from ashore.core.errors import (
    AshoreError,
    BudgetExceeded,
    ContextTooLong,
    Draining,
    EngineFailed,
    HostDied,
    InvalidRequest,
    KvCacheExhausted,
    NotReady,
    Overloaded,
    PermissionDenied,
    RemoteRefused,
    SourceUnreachable,
    UnknownModel,
    UnsupportedByEngine,
)
from ashore.data.path.section import FallbackStep, Trigger

T = TypeVar("T")

TRIGGERS: Final[Mapping[str, Trigger]] = MappingProxyType(
    {
        NotReady.code: "away",
        HostDied.code: "away",
        SourceUnreachable.code: "away",
        EngineFailed.code: "away",
        RemoteRefused.code: "away",
        Draining.code: "away",
        Overloaded.code: "busy",
        KvCacheExhausted.code: "busy",
        ContextTooLong.code: "too-long",
    }
)
"""The errors that let another alias answer, by their code."""
PASSED_OVER: Final = frozenset(
    (*TRIGGERS, BudgetExceeded.code, PermissionDenied.code, UnknownModel.code, UnsupportedByEngine.code)
) | {InvalidRequest.code}
"""Errors of a step after which the next one is tried. Any other ends the walk."""
AWAY_S: Final = 2.0
"""How long a request that may fall back waits for a host that has gone, from when it went."""

Attempt = Callable[[str, Trigger | None, bool], Awaitable[T]]
"""Answers under an alias: its name, what led to it (None: it was asked), and whether another alias may answer if it is
away."""


async def answer_or_fall_back(
    asked: str,
    steps: Sequence[FallbackStep],
    attempt: Attempt[T],
    *,
    refusal: Callable[[str, Trigger], str],
    told: Callable[[], bool],
    note: Callable[[str], None],
) -> T:
    """Return what the asked alias answers, or the first of its steps that can.

    Args:
        asked: The alias that the request names.
        steps: Its steps; none: only the asked alias answers.
        attempt: Answers under one alias.
        refusal: Returns why a step may not be tried, the code of an error; empty: it may.
        told: Returns whether the client has a part of an answer. Nothing is tried after that.
        note: Takes each step that was tried or passed over, for the audit log.

    Raises:
        AshoreError: what the asked alias failed with, if no step answered; or what broke off an answer that had begun.
    """
    try:
        return await attempt(asked, None, any("away" in step.on for step in steps))
    except AshoreError as fault:
        first = fault
    on = TRIGGERS.get(first.code)
    for at, step in enumerate(steps):
        if on is None or told():
            break
        if on not in step.on or step.to == asked:
            continue
        if why := refusal(step.to, on):
            note(f"{step.to} passed over on {on}: {why}")
            continue
        note(f"{step.to} on {on}")
        try:
            return await attempt(step.to, on, any("away" in later.on for later in steps[at + 1 :]))
        except AshoreError as fault:
            if told():
                raise
            note(f"{step.to} failed: {fault.code}")
            on = TRIGGERS.get(fault.code, on) if fault.code in PASSED_OVER else None
    raise first
