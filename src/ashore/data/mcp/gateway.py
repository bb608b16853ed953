"""The gateway to tools: who may call what, as it was approved, within bounds, masked, charged and recorded.

A client is shown the definitions that were approved, never those that a server sends now. A server that defines an
approved tool differently loses it within `FRESH_S` until that definition is approved.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec

from ashore.core.errors import AshoreError, Overloaded, PermissionDenied, UnknownRoute
from ashore.data.audit import AuditLog
from ashore.data.authority import Authority, Principal
from ashore.data.authority.budgets import LedgerBudgets
from ashore.data.guard import Guard, GuardList
from ashore.data.mcp.masks import Masking
from ashore.data.mcp.pins import Pin, Tool, state_of
from ashore.data.mcp.section import McpSection, McpServer
from ashore.data.mcp.upstream import Upstream
from ashore.data.mcp.wire import UnknownTool
from ashore.data.path import CountingAuditor, ServingService, Unlimited
from ashore.data.privacy import Privacy
from ashore.kit.egress import Allowed
from ashore.kit.metrics import Metrics
from ashore.kit.recorder import Act, ActOutcome, Recorder

log = logging.getLogger("ashore.mcp")

CALL: Final = "mcp:call"
FRESH_S: Final = 5.0
"""How long what a server listed counts as what it lists now."""
SHARE: Final = 0.75
"""Most of the calls at once that one tenant has."""
MOST_NOTED: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, and how the request came."""

    principal: Principal
    request_id: str
    origin: str
    serving: ServingService


@dataclass(kw_only=True)
class Gateway:
    """The servers of one process. Lives on one event loop; `take_pins` may be called from any thread."""

    authority: Authority
    privacy: Privacy
    guard: Guard
    metrics: Metrics
    recorder: Recorder
    budgets: LedgerBudgets | Unlimited = field(default_factory=Unlimited)
    auditor: AuditLog | CountingAuditor = field(default_factory=CountingAuditor)
    pins: Mapping[str, Mapping[str, Pin]] = field(default_factory=dict, init=False)
    """The approved tools, by server and name."""
    section: McpSection = field(default_factory=McpSection)
    _allow: Sequence[Allowed] = ()
    _upstreams: dict[McpServer, Upstream] = field(default_factory=dict)
    _seen: dict[McpServer, tuple[float, Mapping[str, Tool]]] = field(default_factory=dict)
    """What each server listed last, and until when that counts."""
    _reading: dict[McpServer, asyncio.Task[Mapping[str, Tool]]] = field(default_factory=dict)
    _running: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Calls at this moment by server and tenant; under an empty tenant, all of a server."""
    _noted: set[tuple[str, str, str]] = field(default_factory=set)

    def take_pins(self, pins: Mapping[str, Mapping[str, Pin]]) -> None:
        """Go by these approvals, and ask each server again what it has."""
        self.pins, self._seen = pins, {}

    async def take(self, section: McpSection, allow: Sequence[Allowed]) -> None:
        """Go by a section of ashore.toml. Connections to a server that changed are closed, and its calls fail."""
        old = [one for one in self._upstreams if one not in section.servers or allow != self._allow]
        self.section, self._allow = section, allow
        for server in old:
            self._seen.pop(server, None)
            await self._upstreams.pop(server).close()

    async def close(self) -> None:
        """End every connection."""
        await self.take(McpSection(), ())

    def at(self, name: str, caller: Caller) -> ServerTools:
        """Return the tools of a server for a caller.

        Raises:
            UnknownRoute: there is no such server for this caller, who may call nothing of it.
        """
        server = next((one for one in self.section.servers if one.name == name), None)
        tools = None if server is None else ServerTools(self, server, caller)
        if tools is None or not any(map(tools.may, tools.pins)):
            raise UnknownRoute(
                f"there is no tool for you at {'/mcp/' + name[:80]!r}: no such server, none of its tools is approved "
                "now, or your roles allow none",
                hint="ask a security officer of ashore, who sees why with `ashore mcp list`",
            )
        return tools

    async def listed(self, server: McpServer) -> Mapping[str, Tool]:
        """Return what a server lists, at most `FRESH_S` old.

        Raises:
            AshoreError: it does not answer.
        """
        until_s, found = self._seen.get(server, (0.0, {}))
        if time.monotonic() < until_s:
            return found
        task = self._reading.get(server)
        if task is None:
            task = self._reading[server] = asyncio.create_task(self._read(server))
            task.add_done_callback(lambda one: one.cancelled() or one.exception())  # who waited may be gone
        return await asyncio.shield(task)

    async def _read(self, server: McpServer) -> Mapping[str, Tool]:
        began_s = time.monotonic()
        try:
            found = await self.upstream(server).tools()
        finally:
            self._reading.pop(server, None)
        for name, pin in self.pins.get(server.name, {}).items():
            if state_of(pin.tool, found.get(name)) in ("changed", "unusable"):
                self._note(f"{server.name}/{name}", pin.tool.digest, found[name].digest)
        self._seen[server] = (began_s + FRESH_S, found)
        return found

    def upstream(self, server: McpServer) -> Upstream:
        """Return the connections of a server."""
        if server not in self._upstreams:
            self._upstreams[server] = Upstream(server, self._allow)
        return self._upstreams[server]

    def _note(self, tool: str, approved: str, now: str) -> None:
        """Record, once for each definition, that a server changed an approved tool."""
        if (tool, approved, now) in self._noted or len(self._noted) >= MOST_NOTED:
            return
        self._noted.add((tool, approved, now))
        log.warning("the tool %s is not as it was approved, and is withheld: `ashore mcp check`", tool)
        detail: dict[str, str | int] = {"approved": approved, "now": now}
        self.recorder.record(Act(action="mcp:change", actor="system", resource=f"tool/{tool}", detail=detail))

    @contextmanager
    def slot(self, server: McpServer, tenant: str) -> Iterator[None]:
        """Take one of the calls at once that a server may have.

        Raises:
            Overloaded: it has them, or the tenant has its share.
        """
        whole, own = (server.name, ""), (server.name, f"t{tenant}")
        if self._running[whole] >= server.at_once or self._running[own] >= max(1, int(server.at_once * SHARE)):
            raise Overloaded(
                f"{self._running[own]} of your calls and {self._running[whole]} in all run at the tool server "
                f"{server.name}",
                hint="try again when one has ended", retry_after_s=1,
            )  # fmt: skip
        self._running.update((whole, own))
        try:
            yield
        finally:
            self._running.subtract((whole, own))
            self._running += Counter()  # leaves out what is 0


class ServerTools:
    """The tools of one server for one caller: the `Tools` of `wire.py`."""

    def __init__(self, gateway: Gateway, server: McpServer, caller: Caller) -> None:
        self._gateway, self._caller = gateway, caller
        self.server: Final = server
        self.pins: Final = gateway.pins.get(server.name, {})
        """Its approved tools, by name."""

    def may(self, name: str) -> bool:
        """Return whether the caller may call a tool of this name."""
        return self._gateway.authority.decide(self._caller.principal, CALL, self._resource(name)).allowed

    def _resource(self, name: str) -> str:
        return f"tool/{self.server.name}/{name}"

    async def list(self) -> Sequence[Mapping[str, Any]]:
        try:
            listed = await self._gateway.listed(self.server)
        except AshoreError as fault:  # the approved texts are known without the server; a call says what is wrong
            log.info("%s", fault.in_one_line)
            listed = {name: pin.tool for name, pin in self.pins.items()}
        return [
            pin.tool.definition
            for name, pin in sorted(self.pins.items())
            if self.may(name) and state_of(pin.tool, listed.get(name)) == "approved"
        ]

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        gateway, caller, began_s = self._gateway, self._caller, time.perf_counter()
        gateway.auditor.check()
        pin = gateway.pins.get(self.server.name, {}).get(name)
        detail: dict[str, str | int] = {}
        try:
            now = caller.serving.reception.current(caller.principal)  # a response calls for minutes
            known = self.server in gateway.section.servers and pin is not None and pin == self.pins.get(name)
            if pin is None or not known or not gateway.authority.decide(now, CALL, self._resource(name)).allowed:
                raise UnknownTool(name)
            with gateway.slot(self.server, caller.principal.tenant):
                alias = f"mcp/{self.server.name}"
                reserved = await gateway.budgets.reserve(caller.principal, alias, 0, request_id=caller.request_id)
                try:
                    if state_of(pin.tool, (await gateway.listed(self.server)).get(name)) != "approved":
                        raise UnknownTool(name)
                    result = await self._carry_out(name, arguments, alias, detail)
                finally:
                    reserved.settle(0, 0)
        except UnknownTool:
            self._record(name, "denied", "unknown_tool", detail, began_s)
            raise
        except AshoreError as fault:
            self._record(name, "failed", fault.code, detail, began_s)
            raise
        except asyncio.CancelledError:
            self._record(name, "failed", "cancelled", detail, began_s)
            raise
        self._record(name, "failed" if result["isError"] else "done", "", detail, began_s)
        return result

    async def _carry_out(
        self, name: str, arguments: Mapping[str, Any], alias: str, detail: dict[str, str | int]
    ) -> Mapping[str, Any]:
        """Mask, call, and mask what comes back. Notes sizes and digests in `detail`."""
        gateway, caller = self._gateway, self._caller
        principal, at_length = caller.principal, caller.serving.at_length
        masking = Masking(
            gateway.privacy, gateway.guard, tenant=principal.tenant, principal=principal.id, alias=alias,
            count=self._count, word=self._count_word,
        )  # fmt: skip
        sent = msgspec.json.encode(arguments)
        detail |= {"arguments": gateway.auditor.digest(sent), "argument_bytes": len(sent)}
        masked = await at_length(len(sent), partial(masking.outward, arguments), principal)
        who = "\x1f".join((principal.tenant, principal.id, principal.key_id))
        raw = await gateway.upstream(self.server).call(who, name, masked)
        got = bytes(raw)
        detail |= {"result": gateway.auditor.digest(got), "result_bytes": len(got)}
        now = caller.serving.reception.current(principal)
        if not gateway.authority.decide(now, CALL, self._resource(name)).allowed:
            raise PermissionDenied("the right to this tool was withdrawn during the call", action=CALL)
        return await at_length(len(got), partial(masking.inward, self.server.name, raw), principal)

    def _record(
        self, name: str, outcome: ActOutcome, reason: str, detail: dict[str, str | int], began_s: float
    ) -> None:
        gateway, caller, took_s = self._gateway, self._caller, time.perf_counter() - began_s
        detail |= {"ms": int(took_s * 1e3)}
        gateway.metrics.add("ashore_mcp_calls", 1, self.server.name, outcome)
        gateway.metrics.observe("ashore_mcp_seconds", took_s, self.server.name)
        shown = name if len(name) <= 64 and name.isprintable() and name.isascii() else ascii(name[:64])
        gateway.recorder.record(
            Act(
                action=CALL, actor=caller.principal.id, tenant=caller.principal.tenant, resource=self._resource(shown),
                outcome=outcome, reason=reason, origin=caller.origin, request_id=caller.request_id, detail=detail,
            )
        )  # fmt: skip

    def _count(self, counts: Mapping[tuple[str, str], int], where: str) -> None:
        for (kind, action), number in counts.items():
            self._gateway.metrics.add("ashore_masked_entities", number, kind, action, where)

    def _count_word(self, one: GuardList, where: str) -> None:
        self._gateway.metrics.add("ashore_guard_words", 1, one.name, one.do, where)
