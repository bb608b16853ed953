"""The page of one call: its form, the command that does the same, and its answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from ashore.control.access.calls.keys import NewKeyOut
from ashore.control.console.acts import HIDDEN
from ashore.control.console.command import command_for
from ashore.control.console.forms import PER_PAGE, Field, fields_of, filled, head_of, kind_of, read_form, written
from ashore.control.console.kit import Act, Block, Table, act
from ashore.control.console.model import PAGE_HEADERS, Answer, Pairs
from ashore.control.console.pages import Placed, is_list
from ashore.control.console.present import MOST_CELLS, Shown, blocks_of
from ashore.control.console.reader import Reader
from ashore.control.console.rows import acts_on_rows, own_only, row_links
from ashore.core.errors import AshoreError, InvalidRequest, PermissionDenied
from ashore.data.authority import OFFICERS
from ashore.kit.call import Call, Download, struct_fields

PLAIN: Final = ((b"content-type", b"text/plain; charset=utf-8"), *PAGE_HEADERS[1:])
NAMES: Final[dict[str, str]] = {
    "tenant": "access tenant list",
    "user": "access user list",
    "owner": "access user list",
    "account": "access user list",
    "group": "access group list",
    "groups": "access group list",
    "role": "access role list",
    "roles": "access role list",
    "release": "release list",
    "to": "release list",
    "alias": "alias list",
    "model": "alias list",
    "models": "alias list",
    "action": "access role actions",
    "actions": "access role actions",
}
"""Which list has the names that a field may hold, by the field's name: a form suggests them."""
STORED: Final = frozenset({"model", "optimize", "train"})
"""Nouns of which a model is one of the store."""
NAMES_OF_STORED: Final = dict.fromkeys(("model", "teacher", "student", "against", "ref", "name"), "model list")
MOST_NAMES: Final = 200
MOST_OPEN: Final = 9
"""Fields of a form; of a longer one those that are not required are folded."""
WHOSE: Final = ("owner", "account")
"""Fields that say whose a thing is."""
CHOSEN: Final = ("role", "roles")
"""Fields whose values are picked from that list, and not typed."""
BEGINS_WITH: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "access policy apply": ("access policy show", {"base_version": "version"}),
    "privacy policy set": ("privacy policy show", {"replaces": "version"}),
}
"""The call that returns the current values, for a form that replaces all of them; and fields whose names differ there.
"""


async def call_page(reader: Reader, placed: Placed, *, refused: PermissionDenied | None = None) -> Answer:
    """Return the page of a call, with its answer if the form was sent or takes no input. `refused`: show the sent form
    again with this error.

    Raises:
        PermissionDenied: the reader may not do it, even before the form is sent.
        UnknownRoute: as the call.
    """
    asked, call = reader.asked, placed.call
    if asked.part == "command":
        return Answer(headers=PLAIN, body=command_of(call, asked.form or asked.query).encode())
    if not reader.offers(placed):
        await reader.perform(placed, None)  # refuses, with the authority's message
    pairs = asked.form if asked.method == "POST" else asked.query
    if not pairs and call.changes:
        pairs = await _in_force(reader, placed)
    sends = asked.method == "POST" if call.changes else not _lacks(call, pairs)
    shown: Shown | None = None
    fault: AshoreError | None = refused
    if sends and refused is None:
        try:
            given = [*pairs, ("after", after)] if (after := dict(asked.query).get("after")) else pairs
            taken = read_form(call, given, page=PER_PAGE)
            answer = await reader.perform(placed, taken)
            if isinstance(answer, Download):
                return Answer(file=answer)
            if call.changes and (place := _followed(placed, answer)):
                where = f"{asked.root}{place}&{urlencode({'recorded': asked.visit.request_id})}"
                status = 303 if asked.part == "page" else 200  # the script goes there itself
                return Answer(status=status, headers=(*PAGE_HEADERS, (b"location", where.encode())))
            shown = await shown_of(reader, call, answer, pairs)
        except PermissionDenied:
            raise
        except AshoreError as problem:
            fault = problem
    fields = await suggesting(reader, call, _marked(_of_reader(reader, call, _fields(call, pairs)), fault))
    needed = [one for one in fields if one.required or one.fixed or one.name in placed.call.in_path]
    rare = [one for one in fields if one not in needed]
    return await reader.large_page(
        "call.html",
        placed.page,
        shown,
        status=200 if fault is None else fault.http_status,
        placed=placed,
        call=call,
        needed=needed,
        rare=rare,
        folds=len(fields) > MOST_OPEN and not any(one.error or one.name in dict(pairs) for one in rare),
        command=command_of(call, pairs),
        fault=fault,
        sure=_sure(call, pairs),
        changed=shown is not None and call.changes,
        rows=acts_on_rows(reader, placed),
        row_links=row_links,
        act_of=act,
        about=_about(reader, placed, pairs),
        back=f"{placed.page}?{urlencode({'_tab': placed.tab})}",
    )


def _about(reader: Reader, placed: Placed, pairs: Pairs) -> list[Act]:
    """Return the other acts on the thing that a page is about, those that destroy last."""
    given = {name: value for name, value in pairs if value and name in placed.call.in_path}
    calls = [one for one in reader.acts.atlas.on(placed.page, placed.tab) if reader.offers(one) and one is not placed]
    same = [one for one in calls if given and one.call.noun == placed.call.noun and set(one.call.in_path) == set(given)]
    own = own_only(reader, same)  # whose the thing is, only its row knows
    found = [act(one, given) for one in same if one.key not in own and one.call.word != "create"]
    return sorted(found, key=lambda one: (one.danger, not one.shows)) if not placed.call.changes else []


def _followed(placed: Placed, answer: Any) -> str:
    """Return the page of what an act began or moved, below `/console/`; empty if it has none of its own."""
    if placed.call.noun in STORED and hasattr(answer, "operation"):
        return f"models?{urlencode({'job': answer.id})}"
    if placed.call.noun == "release":
        first = next(iter(getattr(answer, "items", ())), answer)
        return f"releases?{urlencode({'release': first.name})}"
    return ""


def command_of(call: Call, pairs: Pairs) -> str:
    """Return the command that does the same as a form, as far as the form is filled in."""
    try:
        return command_for(call, read_form(call, _known(call, pairs)))
    except InvalidRequest:
        return command_for(call, None)


async def shown_of(reader: Reader, call: Call, answer: Any, pairs: Pairs) -> Shown:
    """Return an answer as its page shows it. Large answers are prepared on another thread."""
    own = dict(reader.asked.query)
    first = max(0, int(own["_first"])) if own.get("_first", "").isdecimal() and len(own["_first"]) < 10 else 0
    match, sort, row = (own.get(name, "")[:200] for name in ("_match", "_sort", "_row"))
    most = PER_PAGE if reader.asked.method == "GET" else 10 * PER_PAGE  # an answer to a POST has no second page
    size = len(getattr(answer, "items", ()) or ())

    def prepare() -> Shown:
        blocks = blocks_of(answer, f"{call.noun} {call.word}", first=first, most=most, match=match, sort=sort, row=row)
        made = next((one for one in (answer, getattr(answer, "key", None)) if isinstance(one, NewKeyOut)), None)
        key, code = made.key if made is not None else "", getattr(answer, "invitation", "")
        if key or code:
            kept = (_without(one, (key, code)) for one in blocks)
            blocks = tuple(one for one in kept if isinstance(one, Table) or one.items)
        raw = msgspec.json.format(msgspec.json.encode(answer)).decode() if not isinstance(answer, Download) else ""
        return Shown(
            blocks=blocks,
            raw=raw if len(raw) <= 20 * MOST_CELLS else "",
            next=_next(answer, pairs),
            is_bad=getattr(answer, "ok", True) is False,
            key=key,
            link=link_of(reader, answer) if code else "",
            code=code,
        )

    shown: Shown = await reader.aside(prepare) if size > 100 or call.reads_text else prepare()
    return shown


def _without(block: Block, secrets: tuple[str, ...]) -> Block:
    """Return a block without a secret that stands above it."""
    if isinstance(block, Table):
        return block
    return replace(
        block, items=tuple((name, one) for name, one in block.items if not one.text or one.text not in secrets)
    )


def link_of(reader: Reader, invited: Any) -> str:
    """Return the link of an invitation. Its code stands behind `#`, which a browser sends to nobody."""
    visit = reader.asked.visit
    return f"{visit.base}{visit.prefix}{invited.page}#{quote(invited.invitation)}"


def _next(answer: Any, pairs: Pairs) -> str:
    after = getattr(answer, "next", None)
    if not isinstance(after, str) or not after:
        return ""
    return urlencode([*((name, value) for name, value in pairs if name not in ("after", "csrf")), ("after", after)])


def _fields(call: Call, pairs: Pairs) -> tuple[Field, ...]:
    given = {name for name, value in pairs if value}
    return filled(fields_of(call), pairs, fixed=[name for name in call.in_path if name in given])


def _of_reader(reader: Reader, call: Call, fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """Return the fields that a reader may fill in. A reader who may act only for themselves gets no field for another
    account.
    """
    if reader.session.principal.kind == "first-key":  # This route only creates administrators, and only with a key.
        fields = tuple(replace(one, value="yes") if one.kind == "made" and one.name == "key" else one for one in fields)
    if not call.own or reader.acts.authority.holds(reader.session.whole, call.action):
        return fields
    return tuple(one for one in fields if one.name not in WHOSE)


def _lacks(call: Call, pairs: Pairs) -> bool:
    given = {name for name, value in pairs if value.strip()}
    required = {one.name for one in struct_fields(call.takes) if one.required}
    return bool(required - given) or (call.gives is Download and "_send" not in given)


def _known(call: Call, pairs: Pairs) -> Pairs:
    known = set(call.takes.__struct_fields__)
    return [(name, value) for name, value in pairs if head_of(name).removeprefix("_") in known]


def _marked(fields: Iterable[Field], fault: AshoreError | None) -> tuple[Field, ...]:
    """Return the fields, with the error at the field that caused it."""
    param = (getattr(fault, "param", "") or "").partition("[")[0].partition(".")[0]
    return tuple(replace(one, error=fault.message) if fault and one.name == param else one for one in fields)


def _sure(call: Call, pairs: Pairs) -> str:
    """Return the question to confirm; empty if none is needed."""
    if not call.sure:
        return ""
    values = dict.fromkeys(call.takes.__struct_fields__, "…") | dict(_known(call, pairs))
    try:
        return call.sure.format(**values)
    except (KeyError, IndexError):
        return call.sure


def _lists_of(call: Call) -> dict[str, str]:
    """Return, by field name, the list whose names a field of a call may hold."""
    if call.noun not in STORED or call.path.startswith("/models/{"):
        return NAMES
    new = {"name"} if (call.noun, call.word) != ("model", "seal") else set()
    return {name: key for name, key in NAMES_OF_STORED.items() if name not in new}


async def _in_force(reader: Reader, placed: Placed) -> Pairs:
    """Return the current values for a form that replaces them; nothing if the reader may not see them."""
    key, renamed = BEGINS_WITH.get(placed.key, ("", {}))
    shows = reader.acts.atlas.by_key.get(key)
    if shows is None or not reader.offers(shows):
        return ()
    try:
        answer = await reader.perform(shows, shows.call.takes())
    except AshoreError:
        return ()  # it can be typed still
    pairs = []
    for one in struct_fields(placed.call.takes):
        value = getattr(answer, renamed.get(one.name, one.name), None)
        if value is not None:
            pairs.append((one.name, written(kind_of(one), value)))
    return pairs


async def suggesting(reader: Reader, call: Call, fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """Return the fields with suggested values, as far as the reader may list them."""
    lists = _lists_of(call)
    named = {column.name for one in fields if not one.fixed for column in (one.columns or (one,))}
    found: dict[str, tuple[str, ...]] = {}
    for key in {lists[name] for name in named & set(lists)}:
        placed = reader.acts.atlas.by_key.get(key)
        if placed is None or not is_list(placed.call) or not reader.offers(placed):
            continue
        try:
            answer = await reader.perform(placed, placed.call.takes())
        except AshoreError:
            continue  # a form without suggestions is one still
        names = (
            getattr(one, "id", "") or getattr(one, "name", "") or getattr(one, "action", "") for one in answer.items
        )
        hidden = HIDDEN if key == NAMES["role"] else ()
        is_first = key == NAMES["role"] and reader.session.principal.kind == "first-key"
        found[key] = tuple(name for name in (OFFICERS if is_first else names) if name and name not in hidden)[
            :MOST_NAMES
        ]

    def told(one: Field, name: str) -> Field:
        names = found.get(lists.get(name, ""), ())
        makes = call.word in ("put", "create") and name in call.in_path
        if one.fixed or not names or one.kind not in ("text", "lines"):
            return one
        return one.chosen_from(names) if name in CHOSEN and not makes else replace(one, suggestions=names)

    return tuple(
        replace(one, rows=tuple(tuple(told(cell, cell.name.rpartition(".")[2]) for cell in row) for row in one.rows))
        if one.kind == "rows"
        else told(one, one.name)
        for one in fields
    )
