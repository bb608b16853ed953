"""Calls about models in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec

from ashore.core.errors import Conflict, EnvironmentFault, InvalidRequest, NotReady
from ashore.data.residency import AsksSupervisor, Residence, Standings
from ashore.kit.call import Actor, Call, Nothing, Rights
from ashore.kit.recorder import Recorder

READ: Final = "model:read"
WRITE: Final = "model:load"
Name = Annotated[str, msgspec.Meta(max_length=200)]
Do = Literal["warm", "cool", "pin", "unpin", "call"]
"""call: a request waits for it. warm: an operator wants it loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencyDesk:
    """Who decides what an operator may, who is asked, and who hears that it was done."""

    rights: Rights
    recorder: Recorder
    ask: AsksSupervisor


class ModelIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model."""

    alias: Name
    """Name of the model, as clients use it."""


class CoolIn(ModelIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model, and how far away it goes."""

    to: Literal["disk", "s3"] = "disk"
    """Where the weights stay: disk, or s3 for the bucket of [tiers] cold. The next request brings them back."""


class ResidenceList(msgspec.Struct, frozen=True, kw_only=True):
    """Models, and the memory that they share."""

    items: list[Residence]
    memory_bytes: int
    """That all models together may take."""
    taken_bytes: int
    """Planned for the loaded ones."""


def list_residents(desk: ResidencyDesk, actor: Actor, asked: Nothing) -> ResidenceList:
    """Show which models are in memory, how long they have been idle, and which one makes room first."""
    found = _ask(desk, {"do": "list"})
    seen = [one for one in found.items if desk.rights.decide(actor.principal, READ, f"model/{one.alias}").allowed]
    if not seen:
        desk.rights.require(actor.principal, READ, "model/*")
    return ResidenceList(items=seen, memory_bytes=found.memory_bytes, taken_bytes=found.taken_bytes)


async def warm_model(desk: ResidencyDesk, actor: Actor, asked: ModelIn) -> Residence:
    """Load a model on demand, as a request would. Another one may be unloaded to make room for it."""
    return await _do(desk, actor, "warm", asked.alias)


async def cool_model(desk: ResidencyDesk, actor: Actor, asked: CoolIn) -> Residence:
    """Unload a model on demand once its running answers have ended. The next request loads it again.

    With --to s3, its weights also move to the bucket of [tiers] cold, and leave the disk when the bucket has all of
    them; its name, tokenizer and template stay.
    """
    return await _do(desk, actor, "cool", asked.alias, to=asked.to)


async def pin_model(desk: ResidencyDesk, actor: Actor, asked: ModelIn) -> Residence:
    """Load a model on demand and keep it in memory, until unpin or the next start. To keep it over restarts, set pin =
    true in its [[model]] in ashore.toml."""
    return await _do(desk, actor, "pin", asked.alias)


async def unpin_model(desk: ResidencyDesk, actor: Actor, asked: ModelIn) -> Residence:
    """Let a pinned model be unloaded again when it is idle or memory is short."""
    return await _do(desk, actor, "unpin", asked.alias)


async def _do(desk: ResidencyDesk, actor: Actor, do: Do, alias: str, *, to: str = "disk") -> Residence:
    resource = f"model/{alias}"
    desk.rights.require(actor.principal, WRITE, resource)
    detail = {"to": to} if do == "cool" else {}
    try:
        found = await asyncio.to_thread(_ask, desk, {"do": do, "alias": alias, "to": to})
    except (InvalidRequest, Conflict, EnvironmentFault) as fault:
        actor.record(desk.recorder, f"model:{do}", resource, outcome="failed", reason=fault.code, detail=detail)
        raise
    actor.record(desk.recorder, f"model:{do}", resource, detail=detail)
    return next(one for one in found.items if one.alias == alias)


def _ask(desk: ResidencyDesk, question: Mapping[str, Any]) -> Standings:
    """Return what the supervisor says."""
    try:
        found = desk.ask(question)
    except OSError as fault:
        raise NotReady(f"the supervisor cannot be reached: {fault}", hint="see the output of `ashore up`") from fault
    if found.error:
        raise Conflict(found.error, hint=found.hint)
    return found


LIST: Final = Call("model", "ps", "GET", "/models", READ, list_residents)
WARM: Final = Call("model", "warm", "POST", "/models/{alias}/warm", WRITE, warm_model)
COOL: Final = Call("model", "cool", "POST", "/models/{alias}/cool", WRITE, cool_model)
CALLS: Final = (
    LIST,
    WARM,
    COOL,
    Call("model", "pin", "POST", "/models/{alias}/pin", WRITE, pin_model),
    Call("model", "unpin", "POST", "/models/{alias}/unpin", WRITE, unpin_model),
)
