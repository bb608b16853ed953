"""What administrators do with budgets: the use cases behind the admin routes and the commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from ashore.access.budgets.model import BudgetRule, Count, check_rule
from ashore.access.budgets.names import Names, check_names
from ashore.access.budgets.ports import Authority
from ashore.access.budgets.usage import Column, Price, UsageSum, sum_by
from ashore.core import Act, Recorder
from ashore.errors import InvalidRequest, NotFound

LONGEST_REPORT_DAYS: Final = 366


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOffice:
    """Rules and usage, for whoever may. Each call does one transaction; not for an event loop."""

    authority: Authority
    recorder: Recorder
    prices: Mapping[str, Price]
    names: Names

    def rules(self) -> tuple[BudgetRule, ...]:
        """Return every rule."""
        return self.authority.rules()

    def put(self, rule: BudgetRule, *, actor: str, tenant: str, request_id: str = "") -> bool:
        """Set a rule, in force everywhere within 200 ms; return whether it is new. May be called twice.

        Raises:
            InvalidRequest: it makes no sense.
            NotFound: it is about a tenant, user, key or model that is not there.
        """
        check_names(rule, self.names)
        new = self.authority.put_rule(check_rule(rule))
        self.recorder.record(
            Act(
                action="budget:write",
                actor=actor,
                tenant=tenant,
                resource=f"budget/{rule.rule_id}",
                request_id=request_id,
                reason="set" if new else "changed",
                detail={"kind": rule.kind, "window": rule.window, "limit": rule.cap, "about": rule.about()},
            )
        )
        return new

    def remove(self, rule_id: str, *, actor: str, tenant: str, request_id: str = "") -> None:
        """Remove a rule everywhere within 200 ms.

        Raises:
            NotFound: there is none of this name.
        """
        if not self.authority.remove_rule(rule_id):
            raise _no_rule(rule_id)
        self.recorder.record(
            Act(
                action="budget:write",
                actor=actor,
                tenant=tenant,
                resource=f"budget/{rule_id}",
                request_id=request_id,
                reason="removed",
            )
        )

    def show(self, rule_id: str, now_ms: int) -> tuple[BudgetRule, tuple[Count, ...]]:
        """Return a rule and what it counts now, by subject; what happened in the last 250 ms may be missing.

        Raises:
            NotFound: there is none of this name.
        """
        rule = next((rule for rule in self.authority.rules() if rule.rule_id == rule_id), None)
        if rule is None:
            raise _no_rule(rule_id)
        return rule, self.authority.counts(rule_id, now_ms)

    def usage(
        self,
        *,
        first_day: str,
        last_day: str,
        by: Sequence[Column],
        tenant: str = "",
        sees: Callable[[str], bool] = lambda tenant: True,
    ) -> tuple[UsageSum, ...]:
        """Return usage of some days, both included, added up by columns and priced: of the tenants that somebody sees.

        Raises:
            InvalidRequest: a day is none, or there are too many.
        """
        first, last = _day(first_day, "first_day"), _day(last_day, "last_day")
        days = (last - first).days + 1
        if not 1 <= days <= LONGEST_REPORT_DAYS:
            raise InvalidRequest(
                f"{first} to {last} are {days} days; expected 1 to {LONGEST_REPORT_DAYS}",
                hint="ask for fewer at a time",
                param="last_day",
            )
        found = self.authority.usage(first_day=first.isoformat(), last_day=last.isoformat(), tenant=tenant)
        return sum_by([one for one in found if sees(one.tenant)], by, self.prices)


def _day(text: str, param: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as fault:
        raise InvalidRequest(f"{text[:40]!r} is no day", hint="write it as 2026-11-24", param=param) from fault


def _no_rule(rule_id: str) -> NotFound:
    return NotFound(f"no budget has the name {rule_id[:64]!r}", hint="`ashore access budget list` shows them")
