"""Queries over the audit log, as a rule: does this record match? Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, get_args

from ashore.core.errors import InvalidRequest, NotFound, error_class, error_codes
from ashore.core.nearest import did_you_mean
from ashore.data.audit.model import Kind, Record
from ashore.kit.recorder import ActOutcome

DEFAULT_LIMIT: Final = 100
MOST_HITS: Final = 100_000
OUTCOMES: Final = tuple(dict.fromkeys(("answered", "failed", "cancelled", "begun", *get_args(ActOutcome))))
"""Those of requests, then those of acts."""
_AGO: Final = re.compile(r"(\d{1,6})([smhd])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """All given conditions must hold. Empty: everything."""

    actor: str = ""
    tenant: str = ""
    action: str = ""
    """`noun:verb`; `noun:*` for every verb."""
    resource: str = ""
    """`kind/name`; `kind/*` for every name."""
    model: str = ""
    outcome: str = ""
    error: str = ""
    request_id: str = ""
    origin: str = ""
    key: str = ""
    digest: str = ""
    """Of a prompt or an answer."""
    kind: str = ""
    chain: str = ""
    since_us: int = 0
    until_us: int = 0
    """0: until now."""
    text: str = ""
    """Words that an act must contain, anywhere; requests hold no text."""
    limit: int = DEFAULT_LIMIT

    def exact(self) -> dict[str, str]:
        """Return the fields that must have one value, by their name in a record."""
        named = {
            "actor": self.actor,
            "tenant": self.tenant,
            "model": self.model,
            "outcome": self.outcome,
            "error": self.error,
            "request_id": self.request_id,
            "origin": self.origin,
            "key": self.key,
            "kind": self.kind,
        }
        if self.action and not self.action.endswith("*"):
            named["action"] = self.action
        if self.resource and not self.resource.endswith("*"):
            named["resource"] = self.resource
        return {name: value for name, value in named.items() if value}


def check_query(query: Query, chains: Collection[str] = ()) -> Query:
    """Return the query after checking its values against those that records can have: a typo must not look like `0
    records`.

    Args:
        query: The query.
        chains: Existing chains.

    Raises:
        InvalidRequest: an unknown outcome, kind or error code.
        NotFound: there is no such chain.
    """
    for name, value, known in (("outcome", query.outcome, OUTCOMES), ("kind", query.kind, get_args(Kind))):
        if value and value not in known:
            raise InvalidRequest(
                f"no record has the {name} {value[:40]!r}", hint=f"use one of {', '.join(known)}", param=name
            )
    if query.error and error_class(query.error) is None:
        raise InvalidRequest(
            f"no record has the error code {query.error[:40]!r}",
            hint=did_you_mean(query.error[:40], error_codes()),
            param="error",
        )
    if query.chain and chains and query.chain not in chains:
        raise NotFound(
            f"there is no chain {query.chain[:40]!r}", hint=did_you_mean(query.chain[:40], chains), param="chain"
        )
    return query


def matches(query: Query, record: Record, exact: Mapping[str, str] | None = None) -> bool:
    """Return whether a record matches the query; its chain is not checked.

    Args:
        query: The query.
        record: The record.
        exact: `query.exact()`, computed once for many records.
    """
    for name, value in (query.exact() if exact is None else exact).items():
        if getattr(record, name) != value:
            return False
    if query.action.endswith("*") and not record.action.startswith(query.action[:-1]):
        return False
    if query.resource.endswith("*") and not record.resource.startswith(query.resource[:-1]):
        return False
    if query.digest and query.digest not in (record.prompt, record.answer):
        return False
    if record.at_us < query.since_us or (query.until_us and record.at_us >= query.until_us):
        return False
    return not query.text or contains(record, query.text.casefold())


def contains(record: Record, words: str) -> bool:
    """Return whether an act contains every word."""
    if record.kind == "request":
        return False
    facts = " ".join(f"{name}={value}" for name, value in record.detail.items())
    told = " ".join((record.action, record.actor, record.resource, record.reason, record.outcome, facts)).casefold()
    return all(word in told for word in words.split())


def read_moment(text: str, *, now_s: float) -> int:
    """Return a moment in microseconds since the epoch: `2026-11-24`, `2026-11-24T10:00:00+08:00`, or `3h` ago.

    A moment without a zone is UTC.

    Raises:
        InvalidRequest: it is neither.
    """
    ago = _AGO.fullmatch(text.strip())
    if ago:
        return int((now_s - int(ago[1]) * _UNIT_S[ago[2]]) * 1e6)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as fault:
        raise InvalidRequest(
            f"{text[:60]!r} is not a time",
            hint="write 2026-11-24, 2026-11-24T10:00:00+08:00, or 3h for three hours ago",
        ) from fault
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def shown_moment(at_us: int) -> str:
    """Return a moment in UTC with milliseconds, as RFC 3339 has it."""
    seconds, micros = divmod(at_us, 1_000_000)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{at_us}us"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{micros // 1000:03}Z"
