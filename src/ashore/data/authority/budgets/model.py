"""The model of a budget: a cap on a counted quantity, for a subject, in windows of time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, get_args

from ashore.core.errors import InvalidRequest
from ashore.core.names import NOUNS, Names, check_named
from ashore.core.visible import check_line

CountedKind = Literal["tokens", "requests", "concurrency"]
"""Counted on the request path. tokens: of prompt and answer. requests: that were answered. concurrency: that run or
wait at one moment."""
QuotaKind = Literal["queued_jobs", "stored_bytes"]
"""Counted where jobs and files are, for each tenant. queued_jobs: that have not ended. stored_bytes: of files,
conversations, responses and other jobs, and of answers kept for votes."""
Kind = Literal[CountedKind, QuotaKind]
WindowName = Literal["minute", "hour", "day", "month", "total", "now"]
"""Calendar windows; `total` never resets, `now` is the only window for quantities that are not used up."""

QUOTA_KINDS: Final[tuple[QuotaKind, ...]] = get_args(QuotaKind)
NOW_KINDS: Final[tuple[Kind, ...]] = ("concurrency", *QUOTA_KINDS)
KINDS: Final = get_args(Kind)
WINDOWS: Final = get_args(WindowName)

EACH: Final = "*"
"""As the value of a selector: everybody, each with a count of their own."""
MAX_CAP: Final = 1 << 53
"""The largest whole number that JSON carries everywhere."""
MAX_SELECTOR_CHARS: Final = 256
MAX_OFFSET_MIN: Final = 14 * 60
"""The zones of the world go from -12:00 to +14:00."""


class Asker(NamedTuple):
    """The caller and the model of a request, as budgets see it."""

    key: str
    user: str
    tenant: str
    model: str
    behind: tuple[str, ...] = ()
    """The models that answer, if `model` is an alias of others: their budgets count too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRule:
    """One cap. An empty selector matches everything; a name matches itself; `*` counts each value separately."""

    kind: Kind
    window: WindowName
    cap: int
    key: str = ""
    user: str = ""
    tenant: str = ""
    model: str = ""
    offset_min: int = 0
    """Minutes that the local time of days and months is ahead of UTC: 480 for China."""

    @property
    def rule_id(self) -> str:
        """Name of the rule, derived from its quantity and subject: another cap is the same rule."""
        parts = (self.kind, self.window, self.key, self.user, self.tenant, self.model, str(self.offset_min))
        return "b-" + hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:12]

    def subject(self, asker: Asker) -> tuple[str, str, str, str] | None:
        """Return the subject that a request counts for (key, user, tenant, model); None if the rule does not apply."""
        found = []
        model = self.model if self.model in asker.behind else asker.model
        if self.model == EACH and asker.behind:
            model = asker.behind[0]  # an alias has no count of its own
        for wanted, value in (
            (self.key, asker.key),
            (self.user, asker.user),
            (self.tenant, asker.tenant),
            (self.model, model),
        ):
            if not wanted:
                found.append("")
            elif wanted in (EACH, value) and value:
                found.append(value)
            else:
                return None
        return found[0], found[1], found[2], found[3]

    def about(self) -> str:
        """Return the rule's subject in words: `tenant acme, each user`."""
        parts = []
        for name, value in (("tenant", self.tenant), ("user", self.user), ("key", self.key), ("model", self.model)):
            if value:
                parts.append(f"each {name}" if value == EACH else f"{name} {value}")
        return ", ".join(parts) or "everyone together"

    def about_count(self, count: Count) -> str:
        """Return in words whose one of its counts is: `tenant acme, user alice`."""
        key, user, tenant, model = count.subject
        return replace(self, key=key, user=user, tenant=tenant, model=model).about()


def check_rule(rule: BudgetRule) -> BudgetRule:
    """Check a rule and return it.

    Raises:
        InvalidRequest: it is inconsistent; the message names the field.
    """
    if rule.kind not in KINDS:
        raise InvalidRequest(f"kind is {rule.kind!r}", hint=f"use one of {', '.join(KINDS)}", param="kind")
    if rule.window not in WINDOWS:
        raise InvalidRequest(f"window is {rule.window!r}", hint=f"use one of {', '.join(WINDOWS)}", param="window")
    if (rule.kind in NOW_KINDS) != (rule.window == "now"):
        raise InvalidRequest(
            f"a budget of {rule.kind} has the window {rule.window}; `now` is only for {', '.join(NOW_KINDS)}",
            hint="use now for those; minute, hour, day, month or total for tokens and requests",
            param="window",
        )
    if rule.kind in QUOTA_KINDS and (not rule.tenant or rule.key or rule.user or rule.model):
        raise InvalidRequest(
            f"a budget of {rule.kind} can be set only for a tenant, or for each tenant with `*`",
            hint="give only tenant",
            param="tenant",
        )
    if not 0 <= rule.cap <= MAX_CAP:
        raise InvalidRequest(
            f"cap is {rule.cap}; expected 0 to {MAX_CAP}", hint="give a cap in that range", param="cap"
        )
    if not -MAX_OFFSET_MIN <= rule.offset_min <= MAX_OFFSET_MIN:
        raise InvalidRequest(
            f"offset_min is {rule.offset_min}; expected minutes from -{MAX_OFFSET_MIN} to {MAX_OFFSET_MIN}",
            hint="for China it is 480",
            param="offset_min",
        )
    for name in ("key", "user", "tenant", "model"):
        check_line(getattr(rule, name), name, most=MAX_SELECTOR_CHARS, param=name)
    return rule


def check_names(rule: BudgetRule, names: Names) -> None:
    """Check that everything a rule names exists.

    Raises:
        NotFound: something does not; the hint suggests a similar name.
    """
    for noun in NOUNS:
        check_named(names, noun, getattr(rule, noun), to="to set a budget for")


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Current value of one count of a rule."""

    subject: tuple[str, str, str, str]
    starts_ms: int
    ends_ms: int
    """0: never."""
    settled: int
    open: int
    """Set aside for requests that have not ended."""


class Quota(NamedTuple):
    """The tightest of the rules of one kind that apply to a request."""

    rule_id: str
    limit: int
    left: int
    reset_s: float | None
    """Seconds until the window ends; None: it does not."""


class Standing(NamedTuple):
    """Quotas of a caller with one model. A tuple, because every cached answer makes one."""

    requests: Quota | None = None
    tokens: Quota | None = None


UNBOUND: Final = Standing()
"""Of whom no budget bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Usage of one model by one user on one day."""

    day: str
    """`2026-11-24`, of UTC."""
    tenant: str
    user: str
    model: str
    requests: int = 0
    """Answered, those from the cache included."""
    hits: int = 0
    """Those from the cache, or shared with an equal concurrent request."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens from an engine's prefix cache."""
    refused: int = 0
    """Requests that a budget refused."""
