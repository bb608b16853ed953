"""Audit: one box that finds records by who, what and when, and a record as a page."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any, Final
from urllib.parse import urlencode

from ashore.control.console.calling import command_of
from ashore.control.console.kit import NONE, Cell, Row, Table, code, number, state, text, when
from ashore.control.console.model import Answer
from ashore.control.console.pages import BY_NAME
from ashore.control.console.present import Shown
from ashore.control.console.reader import Reader
from ashore.control.console.tabs import tab_page, walk_of
from ashore.core.errors import AshoreError, NotFound
from ashore.data.authority import ACTIONS

SEARCH: Final = "audit search"
LIMIT: Final = 100
FILTERS: Final = (
    "actor", "tenant", "action", "resource", "model", "outcome", "error", "request_id", "origin", "key", "kind",
    "digest", "since", "until", "text",
)  # fmt: skip
OTHER_NAMES: Final[Mapping[str, str]] = {"who": "actor", "what": "action", "from": "origin", "request": "request_id"}
OUTCOMES: Final = frozenset(("answered", "failed", "cancelled", "allowed", "denied", "done"))
NOUNS: Final = frozenset(one.name.partition(":")[0] for one in ACTIONS) | {"model"}
_SPAN: Final = re.compile(r"[0-9]{1,5}[smhdw]")
_ACTION: Final = re.compile(r"([a-z][a-z-]*):([a-z-]+|\*)")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
WHERE: Final = ("chain", "segment", "seq", "at")
DIGESTS: Final = ("prompt", "answer", "key", "request_id", "release")


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """One filter that a text was read as."""

    name: str
    """Field of the search."""
    value: str
    without: str
    """The text without it."""


def understood(said: str, today: datetime) -> Iterator[Understood]:
    """Yield the filters in a text: `alice denied 3h`, `key:create yesterday`, `model=chat req_0a1b`.

    A name with `=` says which field is meant. Without it the form of a word says it; the first word without a form is a
    person, others are words that an act must contain.
    """
    words = _words(said)
    has_person = any(word.startswith(("who=", "actor=")) for word in words)
    for place, word in enumerate(words):
        without = " ".join(shlex.quote(one) for at, one in enumerate(words) if at != place)
        name, is_named, value = word.partition("=")
        name = OTHER_NAMES.get(name, name)
        if is_named and value and name in FILTERS:
            yield Understood(name=name, value=value, without=without)
            continue
        for name, value in _by_form(word, today):
            if name == "actor" and has_person:
                name = "text"
            has_person = has_person or name == "actor"
            yield Understood(name=name, value=value, without=without)


def _words(said: str) -> list[str]:
    try:
        return shlex.split(said[:500])
    except ValueError:  # a quotation mark that nothing closes
        return said[:500].split()


def _by_form(word: str, today: datetime) -> Iterator[tuple[str, str]]:
    """Yield what the form of a word says that it is."""
    day = {"today": today, "yesterday": today - timedelta(days=1)}.get(word)
    action = _ACTION.fullmatch(word)
    if day is not None or _DAY.fullmatch(word):
        first = f"{day:%Y-%m-%d}" if day is not None else word
        yield "since", first
        with suppress(ValueError, OverflowError):  # 2026-02-31, or 9999-12-31: the search says so
            yield "until", f"{datetime.fromisoformat(first) + timedelta(days=1):%Y-%m-%d}"
    elif _SPAN.fullmatch(word):
        yield "since", word
    elif word in OUTCOMES:
        yield "outcome", word
    elif word.startswith("req_"):
        yield "request_id", word
    elif word.startswith("ash_"):
        yield "key", word
    elif action is not None and action[1] in NOUNS:
        yield "action", word
    elif _is_address(word):
        yield "origin", word
    elif "/" in word:
        yield "resource", word
    else:
        yield "actor", word


def _is_address(word: str) -> bool:
    try:
        ip_network(word)
    except ValueError:
        return False
    return True


async def audit_page(reader: Reader) -> Answer:
    """Return the page of the audit log: for auditors the search, for others what they may see of their own."""
    search = reader.acts.atlas.by_key.get(SEARCH)
    if search is None or not reader.offers(search):
        return await tab_page(reader, BY_NAME["audit"])
    query = dict(reader.asked.query)
    named = (f"{name}={shlex.quote(value)}" for name, value in reader.asked.query if name in FILTERS and value)
    said = query.get("q", "").strip() or " ".join(named)
    if "seq" in query:
        return await _record_page(reader, query, said)
    filters = list(understood(said, datetime.now(UTC)))
    given: dict[str, str] = {}
    for one in filters:
        given[one.name] = f"{given[one.name]} {one.value}" if one.name == "text" and one.name in given else one.value
    found: Any = None
    fault: AshoreError | None = None
    try:
        found = await reader.ask(SEARCH, limit=LIMIT, **given)
    except AshoreError as problem:
        fault = problem
    items = getattr(found, "items", [])
    table = Table(
        columns=("action", "actor", "outcome", "when", "origin"),
        rows=tuple(_row(one, said) for one in items),
        total=len(items),
        minor=frozenset(("origin",)),
    )
    return await reader.large_page(
        "audit.html",
        "audit",
        Shown(blocks=(table,), raw=""),
        said=said,
        filters=[one for one in filters if one.name != "until"],
        table=table,
        fault=fault,
        notes=getattr(found, "notes", []),
        is_cut=len(items) == LIMIT,
        walk=tuple(walk_of(reader)),
        acts=reader.may("audit verify") + reader.may("audit export", **given),
        more=reader.may(SEARCH, **given),
        words=command_of(search.call, tuple(given.items())),
    )


def _row(one: Mapping[str, Any], said: str) -> Row:
    at = urlencode({"q": said, "chain": one["chain"], "seq": one["seq"], "at": one["at"]})
    about = one.get("resource") or one.get("model", "")
    note = one.get("reason", "") or one.get("error", "")
    return Row(
        cells=(
            text(one["action"], link=f"audit?{at}", note=about[:80]),
            text(one["actor"], note=one.get("tenant", "")),
            replace(state(one.get("outcome", "")), note=note[:80]),
            when(one["at_us"] / 1e6),
            text(one.get("origin", "")),
        )
    )


async def _record_page(reader: Reader, query: Mapping[str, str], said: str) -> Answer:
    """Return one record with all of its fields."""
    chain, seq, at = (query.get(name, "") for name in ("chain", "seq", "at"))
    found = await reader.ask(SEARCH, chain=chain, since=at, until=_a_second_later(at), limit=1000)
    record = next((one for one in getattr(found, "items", []) if str(one["seq"]) == seq), None)
    if record is None:
        raise NotFound(f"the audit log has no record {seq[:20]} of the chain {chain[:60]}", hint="search for it")
    told = {
        **record,
        **record.get("detail", {}),
        **{f"masked {kind}": n for kind, n in record.get("masked", {}).items()},
    }
    skipped = {*WHERE, "at_us", "mono_us", "detail", "masked", "content"}
    what = tuple((name.removesuffix("_us"), _cell(name, value)) for name, value in told.items() if name not in skipped)
    where = tuple((name, text(str(record[name]))) for name in WHERE if name in record)
    return reader.page(
        "record.html", "audit", said=said, record=record, what=(("when", when(record["at_us"] / 1e6)), *what),
        where=where, raw=json.dumps(record, ensure_ascii=False, indent=2), acts=reader.may("audit verify"),
    )  # fmt: skip


def _a_second_later(at: str) -> str:
    try:
        return (datetime.fromisoformat(at) + timedelta(seconds=1)).isoformat()
    except (ValueError, OverflowError):
        return at


def _cell(name: str, value: Any) -> Cell:
    if name in DIGESTS:
        return code(str(value))
    if name == "outcome":
        return state(str(value))
    if name.endswith("_us") and isinstance(value, int):
        return when(value / 1e6)
    if name == "latency_ms":
        return number(float(value) / 1000, "s")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    return text(str(value)) if value not in ("", None) else NONE
