"""The page of a subject: one tab for each noun, with its list and its acts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ashore.control.console.calling import WHOSE, command_of, shown_of
from ashore.control.console.forms import PER_PAGE, Field, fields_of, filled, read_form
from ashore.control.console.kit import act
from ashore.control.console.model import PAGE_HEADERS, Answer
from ashore.control.console.pages import Page, Placed, is_list, lead_of, needs_no_row, row_calls
from ashore.control.console.present import Shown, csv_of
from ashore.control.console.reader import Reader
from ashore.control.console.rows import Beside, beside_rows, own_only, row_links
from ashore.core.errors import AshoreError, NotReady, PermissionDenied, UnknownRoute
from ashore.kit.rights import check_call


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One step."""

    name: str
    """Key of its words, `walk.NAME`."""
    placed: Placed
    query: str

    @property
    def address(self) -> str:
        """Below `/console/`."""
        return f"{self.placed.address}?{self.query}" if self.query else self.placed.address


WALK: Final = (
    ("offices", "access role holders", "_send=1"),
    ("log-ins", "audit search", "action=session%3A*&_send=1"),
    ("refusals", "audit search", "outcome=denied&_send=1"),
    ("changes", "audit search", "action=access%3A*&_send=1"),
    ("keys", "access key list", "_send=1"),
    ("reach", "audit status", "_send=1"),
    ("verify", "audit verify", ""),
    ("masking", "privacy policy show", "_send=1"),
    ("export", "audit export", ""),
)
"""Name, call, and what its page is opened with."""


def walk_of(reader: Reader) -> Iterator[Stop]:
    """Yield the steps that a reader may take; none for those who may not verify."""
    verify = reader.acts.atlas.by_key.get("audit verify")
    if verify is None or not reader.offers(verify):
        return
    for name, key, query in WALK:
        placed = reader.acts.atlas.by_key.get(key)
        if placed is not None and reader.offers(placed):
            yield Stop(name=name, placed=placed, query=query)


BEGIN: Final = ("create", "pull", "start", "set", "grant", "put")
"""Words of calls that make something new; the first of a tab is its primary act."""
LIVE: Final = frozenset({"events", "release"})
"""Tabs whose list is reloaded when something happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The list that a tab opens with."""

    placed: Placed
    shown: Shown | None
    fault: AshoreError | None
    fields: tuple[Field, ...]
    """What it may be narrowed by."""
    narrowed: bool
    """Whether it is."""
    command: str
    answer: Any
    searches: bool
    """Whether all of it came, so that a text can be looked for in it."""
    row: str
    """What the record begins with that is shown in place of the list; empty: the list."""
    acts: tuple[Placed, ...]
    """On one row."""
    beside: tuple[Beside, ...]
    """Of other nouns; those that the reader is offered."""
    own_only: frozenset[str]
    me: str


async def tab_page(reader: Reader, page: Page, slug: str = "") -> Answer:
    """Return a page with one of its tabs open.

    Args:
        reader: Who reads it.
        page: Which page.
        slug: The tab as an address has it, `backups`; empty: the query says it.

    Raises:
        PermissionDenied: the reader may see and do nothing of it.
        UnknownRoute: it has no such tab.
    """
    offered = [tab for tab in reader.acts.atlas.tabs(page) if _offered(reader, page, tab)]
    if not offered:
        _refuse(reader, page)
    known = reader.acts.atlas.tabs(page)
    wanted = next((one for one in known if slug and slug in slugs_of(one)), "") or dict(reader.asked.query).get(
        "_tab", ""
    )
    if slug and wanted not in known:
        raise UnknownRoute(f"the page {page.name} has no part {slug[:100]!r}", hint="choose one of its tabs")
    if wanted in known and wanted not in offered:
        _refuse(reader, page, wanted)
    tab = wanted if wanted in offered else offered[0]
    calls = _offered(reader, page, tab)
    lead = lead_of(calls)
    view = None if lead is None else await _view(reader, lead, calls)
    rows = set() if lead is None else {one.key for one in row_calls(calls, lead)}
    if view is not None and dict(reader.asked.query).get("_form") == "csv" and view.shown is not None:
        name = f'attachment; filename="{tab.replace(" ", "-")}.csv"'.encode()
        headers = ((b"content-type", b"text/csv; charset=utf-8"), *PAGE_HEADERS[1:], (b"content-disposition", name))
        return Answer(headers=headers, body=csv_of(view.answer))
    links = [one for one in calls if one is not lead and (one.key not in rows or needs_no_row(one.call))]
    changes = sorted((one for one in links if one.call.changes), key=lambda one: one.call.word not in BEGIN)
    return await reader.large_page(
        "tab.html",
        page.name,
        None if view is None else view.shown,
        tabs=reader.tabs(page.name),
        tab=tab,
        view=view,
        acts=[act(one) for one in changes],
        looks=[act(one) for one in links if not one.call.changes],
        row_links=row_links,
        walk=tuple(walk_of(reader)) if page.name == "audit" else (),
        denied=[one for one in reader.acts.atlas.on(page.name, tab) if one not in calls],
        live=tab in LIVE,
        is_list_view=view is not None and hasattr(view.answer, "items"),
        given=dict(reader.asked.query),
        match=dict(reader.asked.query).get("_match", ""),
    )


def slugs_of(tab: str) -> tuple[str, str]:
    """Return the spellings of a tab in an address: `access-key`, `access-keys`."""
    slug = tab.replace(" ", "-")
    return slug, slug if slug.endswith("s") else f"{slug}s"


def _offered(reader: Reader, page: Page, tab: str) -> list[Placed]:
    return [one for one in reader.acts.atlas.on(page.name, tab) if reader.offers(one)]


def _refuse(reader: Reader, page: Page, tab: str = "") -> None:
    """Refuse a page with the authority's message."""
    for one in reader.acts.atlas.placed:
        if one.page == page.name and tab in ("", one.tab):
            check_call(reader.acts.authority, reader.session.whole, one.call)
    raise NotReady(f"this server has nothing for the page {page.name}", hint="start the server with `ashore up`")


async def _view(reader: Reader, lead: Placed, calls: list[Placed]) -> View:
    call, query = lead.call, reader.asked.query
    fields = filled(fields_of(call, lists=True), query)
    shown: Shown | None = None
    fault: AshoreError | None = None
    answer: Any = None
    try:
        answer = await _listed(reader, lead)
        shown = await shown_of(reader, call, answer, query)
    except AshoreError as problem:
        fault = problem
    return View(
        placed=lead,
        shown=shown,
        fault=fault,
        fields=fields if is_list(call) else (),
        narrowed=any(value and (name == "_match" or not name.startswith("_")) for name, value in query),
        command=command_of(call, query),
        answer=answer,
        searches=not getattr(answer, "next", None),
        row=dict(query).get("_row", ""),
        acts=tuple(row_calls(calls, lead)),
        beside=beside_rows(reader, lead),
        own_only=own_only(reader, calls),
        me=reader.session.principal.id,
    )


async def _listed(reader: Reader, lead: Placed) -> Any:
    """Return the list of a tab. A reader who may only see their own things gets those.

    Raises:
        AshoreError: as the call.
    """
    taken = read_form(lead.call, reader.asked.query, page=PER_PAGE)
    try:
        return await reader.perform(lead, taken)
    except PermissionDenied:
        field = next((name for name in WHOSE if getattr(taken, name, None) == ""), "")
        if not field:
            raise
        own: msgspec.Struct = msgspec.structs.replace(taken, **{field: reader.session.principal.id})
        return await reader.perform(lead, own)
