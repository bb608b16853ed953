"""Budgets on the request path: reserve before, settle after, charge cached answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from ashore.core.behind import Behind, nothing_behind
from ashore.core.errors import BudgetExceeded
from ashore.core.principal import Principal
from ashore.core.timespan import written_moment
from ashore.data.authority.budgets.ledger import MappedLedger
from ashore.data.authority.budgets.model import UNBOUND, Asker, BudgetRule, Kind, Quota, Standing
from ashore.data.authority.budgets.ports import Hold, Line, Part, Short
from ashore.data.authority.budgets.rulebook import RuleBook, Sheet, duration, resets_later
from ashore.kit.recorder import Act, Recorder

if TYPE_CHECKING:
    from ashore.data.authority.budgets.lender import MachineLender

RATE_NAMES: Final = (
    ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
)
"""In the order of `Standing`."""
_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


def standing_of(lines: Sequence[Line], used: Callable[[Line], int], now_ms: int) -> Standing:
    """Return the tightest counts of requests and of tokens: least left; among equals, the one that resets last."""
    best: list[Line | None] = [None, None]
    least = [0, 0]
    for line in lines:
        part = line.part
        if part == Part.CONCURRENCY:
            continue
        left, before = line.cap - used(line), best[part]
        if before is None or left < least[part] or (left == least[part] and resets_later(line, before)):
            best[part], least[part] = line, left
    return Standing(
        _quota(best[Part.REQUESTS], least[Part.REQUESTS], now_ms), _quota(best[Part.TOKENS], least[Part.TOKENS], now_ms)
    )


def _quota(line: Line | None, left: int, now_ms: int) -> Quota | None:
    if line is None:
        return None
    reset_s = max(0, line.ends_ms - now_ms) / 1000 if line.ends_ms else None
    return Quota(line.rule_id, line.cap, max(0, left), reset_s)


def rate_headers(standing: Standing) -> tuple[tuple[str, str], ...]:
    """Return OpenAI's headers; a window without an end has no reset."""
    headers: list[tuple[str, str]] = []
    for (limit, remaining, reset), quota in zip(RATE_NAMES, standing, strict=True):
        if quota is not None:
            headers.append((limit, str(quota.limit)))
            headers.append((remaining, str(quota.left)))
            if quota.reset_s is not None:
                headers.append((reset, duration(quota.reset_s)))
    return tuple(headers)


def refusal(rule: BudgetRule, line: Line, left: int, wanted: int, standing: Standing, now_ms: int) -> BudgetExceeded:
    """Return the error of a request that exceeds one of its budgets."""
    left = max(0, left)
    what = {"tokens": "tokens", "requests": "requests", "concurrency": "requests at once"}[rule.kind]
    per = "" if rule.window == "now" else " in total" if rule.window == "total" else f" per {rule.window}"
    never = wanted > line.cap
    facts = [
        ("x-ashore-budget", rule.rule_id),
        ("x-ashore-budget-window", rule.window),
        ("x-ashore-budget-limit", str(line.cap)),
        ("x-ashore-budget-remaining", str(left)),
    ]
    if rule.kind == "concurrency":
        retry_after_s, when = 1.0, "the next one may start when one ends"
    elif not line.ends_ms:
        retry_after_s, when = None, "it never resets"
    else:
        retry_after_s = max(0, line.ends_ms - now_ms) / 1000
        resets_at = written_moment(line.ends_ms / 1000)
        when = f"it resets at {resets_at}"
        facts.append(("x-ashore-budget-reset", resets_at))
    if never:
        less = "send a shorter prompt, or " if rule.kind == "tokens" else ""
        hint = f"the request is larger than the budget: {less}ask an administrator to raise it"
    elif rule.kind == "tokens":
        hint = "wait for the reset, send a shorter prompt, or ask an administrator to raise the budget"
    else:
        hint = "wait, or ask an administrator to raise the budget"
    return BudgetExceeded(
        f"budget {rule.rule_id} ({rule.about()}) allows {line.cap:,} {what}{per}; {left:,} are left and this request "
        f"needs {wanted:,}; {when}",
        hint=hint,
        retry_after_s=None if never else retry_after_s,
        facts=(*facts, *rate_headers(standing)),
    )


class Attempt(Protocol[_T_co]):
    """Reserves or charges a request in a ledger."""

    def __call__(self, ledger: MappedLedger, sheet: Sheet) -> _T_co: ...


class Reserved:
    """The reservation of one request."""

    __slots__ = ("_hold", "_ledger")

    def __init__(self, ledger: MappedLedger, hold: Hold) -> None:
        self._ledger = ledger
        self._hold = hold

    @property
    def tokens(self) -> int:
        """Number of reserved tokens."""
        return self._hold.tokens

    def made(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Report how much of the answer exists. That is charged if it ends now, or if this process dies."""
        self._ledger.made(self._hold, prompt_tokens, completion_tokens)

    def leave(self) -> None:
        """Release the concurrency slot: the client has gone. May be called twice."""
        self._ledger.leave(self._hold)

    def settle(
        self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0, *, joined: bool = False
    ) -> None:
        """Charge the usage, and release the rest. May be called twice; the first call holds."""
        self._ledger.settle(self._hold, prompt_tokens, completion_tokens, cached_tokens, counts=True, hit=joined)

    def release(self, *, forgive: bool = False) -> None:
        """Charge the tokens made, nothing if it never began or with `forgive`. No effect after `settle`."""
        hold = self._hold
        prompt_tokens, completion_tokens = (0, 0) if forgive else hold.made
        self._ledger.settle(hold, prompt_tokens, completion_tokens, 0, counts=hold.begun and not forgive)


class LedgerBudgets:
    """Budgets of principals, by the rules and a ledger. For one thread, except `take`."""

    def __init__(
        self,
        ledger: MappedLedger,
        recorder: Recorder,
        *,
        rules: Iterable[BudgetRule] = (),
        hits_cost_tokens: bool = False,
        lender: MachineLender | None = None,
        behind: Behind = nothing_behind,
    ) -> None:
        """Create them. Models that `behind` returns for an alias count for their own budgets, too."""
        self._ledger = ledger
        self._behind = behind
        self._recorder = recorder
        self.hits_cost_tokens: Final = hits_cost_tokens
        """Whether cached answers are charged like fresh ones."""
        self._lender = lender
        self._book = RuleBook(rules, hits_cost_tokens=hits_cost_tokens)

    def take(self, rules: Iterable[BudgetRule]) -> None:
        """Replace the rules. Callable from any thread."""
        self._book = RuleBook(rules, hits_cost_tokens=self.hits_cost_tokens)

    def most(self, kind: Kind, tenant: str) -> int | None:
        """Return a tenant's cap of a kind, None without one. Callable from any thread."""
        return self._book.most(kind, tenant)

    async def reserve(
        self,
        principal: Principal,
        alias: str,
        tokens: int,
        *,
        fewest: int | None = None,
        request_id: str = "",
        joins: bool = False,
    ) -> Reserved:
        """Reserve the maximum cost of a request in every budget that applies; or what is left, if that is enough for
        the request.

        Args:
            principal: Calling principal.
            alias: Requested model.
            tokens: Of the prompt and the longest answer.
            fewest: Minimum worth having: of the prompt and a short answer. None: all of them, or none.
            request_id: For the audit record of a refusal.
            joins: Another request's generation answers it; that costs no tokens unless hits do.

        Raises:
            BudgetExceeded: one does not allow it.
            Overloaded: the ledger is full.
        """
        wanted = tokens
        while True:
            try:
                hold = await self._fit(
                    principal, alias,
                    partial(_reserved, joins=joins, tokens=wanted),
                    lambda hold: self._ledger.settle(hold, 0, 0, 0, counts=False),
                )  # fmt: skip
            except _Declined as declined:
                short = declined.short
                if fewest is None or wanted <= fewest or short.line.part is not Part.TOKENS:
                    raise self._refuse(declined, principal, request_id) from None
                wanted = max(fewest, min(short.left, wanted - 1))
            else:
                return Reserved(self._ledger, hold)

    def charge_hit_now(self, principal: Principal, alias: str, tokens: int) -> Standing | None:
        """Charge a cached answer, and return the quotas of the charged budgets; None if charging has to wait, which
        is for `charge_hit`."""
        now_ms = self._ledger.now_ms()
        sheet = self._book.sheet(self._asker(principal, alias), now_ms)
        lines = sheet.hit_lines
        try:
            self._ledger.charge(lines, sheet.usage, tokens)
        except Short:
            return None
        return self._standing(lines, now_ms) if lines else UNBOUND

    async def charge_hit(self, principal: Principal, alias: str, tokens: int, *, request_id: str = "") -> None:
        """Charge a cached answer.

        Raises:
            BudgetExceeded: a budget does not allow it.
        """
        try:
            await self._fit(
                principal, alias,
                lambda ledger, sheet: ledger.charge(sheet.hit_lines, sheet.usage, tokens),
                lambda nothing: None,
            )  # fmt: skip
        except _Declined as declined:
            raise self._refuse(declined, principal, request_id) from None

    def standing(self, principal: Principal, alias: str, *, hit: bool = False) -> Standing | None:
        """Return the quotas of the principal with a model; None if no budget counts its requests or tokens.

        After a `hit`, only the charged budgets: a cached answer that costs no tokens does not change the others.
        """
        now_ms = self._ledger.now_ms()
        sheet = self._book.sheet(self._asker(principal, alias), now_ms)
        lines = sheet.hit_lines if hit else sheet.lines
        return self._standing(lines, now_ms) if lines else None

    def _standing(self, lines: Sequence[Line], now_ms: int) -> Standing:
        return standing_of(lines, self._ledger.used, now_ms)

    async def _fit(self, principal: Principal, alias: str, attempt: Attempt[_T], undo: Callable[[_T], None]) -> _T:
        """Return the result of an attempt; before refusing, reclaim what dead processes and machines hold."""
        while True:
            now_ms = self._ledger.now_ms()
            book = self._book
            sheet = book.sheet(self._asker(principal, alias), now_ms)
            try:
                return attempt(self._ledger, sheet)
            except Short as short:
                if self._ledger.reclaim():
                    continue
                last = short
            try:
                if last.leased and self._lender is not None:
                    return await self._lender.fit(partial(attempt, sheet=sheet), undo)
            except Short as short:
                last = short
            raise _Declined(last, book, sheet, now_ms)

    def _asker(self, principal: Principal, alias: str) -> Asker:
        return Asker(
            key=principal.key_id, user=principal.id, tenant=principal.tenant, model=alias, behind=self._behind(alias)
        )

    def _refuse(self, declined: _Declined, principal: Principal, request_id: str) -> BudgetExceeded:
        short, sheet, now_ms = declined.short, declined.sheet, declined.now_ms
        rule = declined.book.rule(short.line.rule_id)
        assert rule is not None
        fault = refusal(rule, short.line, short.left, short.wanted, self._standing(sheet.lines, now_ms), now_ms)
        self._ledger.refused(sheet.usage)
        self._recorder.record(
            Act(
                action="budget:refuse",
                actor=principal.id,
                tenant=principal.tenant,
                resource=f"budget/{rule.rule_id}",
                outcome="denied",
                request_id=request_id,
                reason=fault.code,
                detail={
                    "window": rule.window,
                    "limit": short.line.cap,
                    "left": max(0, short.left),
                    "wanted": short.wanted,
                },
            )
        )
        return fault


class _Declined(Exception):
    """A count had less than an attempt needed; with the rules and the reset time."""

    def __init__(self, short: Short, book: RuleBook, sheet: Sheet, now_ms: int) -> None:
        super().__init__(str(short))
        self.short, self.book, self.sheet, self.now_ms = short, book, sheet, now_ms


def _reserved(ledger: MappedLedger, sheet: Sheet, *, joins: bool, tokens: int) -> Hold:
    return ledger.reserve(sheet.join_lines if joins else sheet.lines, sheet.usage, tokens)
