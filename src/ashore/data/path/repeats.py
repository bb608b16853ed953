"""Repeated requests: finished responses by the bytes of the request, charged and audited as any other."""

from __future__ import annotations

from dataclasses import dataclass

from ashore.core.clock import Clock
from ashore.core.ids import RequestId
from ashore.data.authority import Principal
from ashore.data.authority.budgets import Standing
from ashore.data.cache import AnswerCache, Ready
from ashore.data.path.guards import Guards
from ashore.data.path.model import NOWHERE, Arrival, Started
from ashore.data.path.model_registry import Roster
from ashore.data.path.reception import Reception
from ashore.data.path.recording import Told
from ashore.kit.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Repeats:
    """Stores and returns the finished responses of one `ServingService`. Every call is made on its event loop."""

    cache: AnswerCache
    roster: Roster
    reception: Reception
    guards: Guards
    clock: Clock
    metrics: Metrics

    def key(self, principal: Principal, path: str, body: bytes) -> bytes:
        """Return the address of the response to these bytes. It depends on the policy."""
        stamp = b"%d %s" % (self.roster.generation, self.guards.masker.rules_stamp(principal, path))
        return self.cache.ready_key(principal.tenant, principal.id, path, body, stamp)

    def find(
        self, key: bytes, request_id: RequestId, principal: Principal, *, arrival: Arrival = NOWHERE
    ) -> tuple[Ready, Standing] | None:
        """Return a finished response, charged and audited, and what is left of the charged budgets; None if there is
        none, or its budget needs a full check.

        Await `ServingService.recorded` before it is sent. If content is audited, every request is parsed, so there is
        none.

        Raises:
            PermissionDenied: the principal may no longer ask.
            AshoreError: the record cannot be written.
        """
        auditor = self.guards.auditor
        ready = None if auditor.keeps_content else self.cache.ready(key)
        if ready is None:
            return None
        auditor.check()
        self.reception.authorise(principal, ready.alias)
        standing = self.guards.budgets.charge_hit_now(principal, ready.alias, ready.tokens)
        if standing is None:
            return None
        told = ready.told
        assert isinstance(told, Told)
        form = told.form(ready, principal, arrival)
        auditor.repeat(form, request_id)
        if self.guards.tracer is not None:
            self.guards.tracer.repeated(form.note, request_id, arrival)
        self.metrics.add("ashore_cache_lookups", 1, ready.alias, ready.label)
        return ready, standing

    def age_s(self, ready: Ready) -> int:
        """Return the age of the answer in a finished response."""
        return max(0, int(self.clock.now_s() - ready.stored_at_s))

    def keep(
        self,
        key: bytes,
        started: Started,
        body: bytes,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        *,
        principal: Principal,
        completion_tokens: int = 0,
    ) -> None:
        """Store a response to `principal` that was made from the cached answer in `started`."""
        self.cache.keep_ready(
            key,
            Ready(
                headers=headers,
                body=body,
                alias=started.model,
                release=started.release,
                label=started.cache,
                stored_at_s=self.clock.now_s() - started.age_s,
                expires_at_s=started.good_until_s,
                told=Told(None if started.receipt is None else started.receipt.note),
                tokens=started.prompt_tokens + completion_tokens,
            ),
            principal.tenant,
        )
