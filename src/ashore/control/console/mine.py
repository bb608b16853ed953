"""Me: the reader's identity, log-in method, rights and keys."""

from __future__ import annotations

from typing import Any, Final

from ashore.control.console.calling import shown_of
from ashore.control.console.chatting import makes_own_keys
from ashore.control.console.kit import Cell, text, when
from ashore.control.console.model import Answer
from ashore.control.console.present import Shown
from ashore.control.console.reader import Reader
from ashore.control.console.rows import OnRows, acts_on_rows, row_links
from ashore.core.errors import AshoreError
from ashore.data.authority import ACTIONS

MINE: Final[dict[str, dict[str, str]]] = {"session list": {"account": "id"}, "access key list": {"owner": "id"}}
"""Lists of the reader's own things, and the field that filters them by a field of the principal."""


async def my_page(reader: Reader) -> Answer:
    """Return the page of the reader."""
    principal = reader.session.principal
    lists: list[tuple[str, Shown | None, AshoreError | None, OnRows | None]] = []
    for key, own in MINE.items():
        placed = reader.acts.atlas.by_key.get(key)
        if placed is None:
            continue
        values: dict[str, Any] = {name: getattr(principal, what) for name, what in own.items()}
        try:
            answer = await reader.perform(placed, placed.call.takes(**values))
            shown = await shown_of(reader, placed.call, answer, ())
            lists.append((placed.call.noun, shown, None, acts_on_rows(reader, placed)))
        except AshoreError as fault:
            lists.append((placed.call.noun, None, fault, None))
    rights = [one.name for one in ACTIONS if reader.acts.authority.holds(reader.session.whole, one.name)]
    makes = makes_own_keys(reader)
    groups = Cell(kind="list", items=tuple(text(one) for one in sorted(principal.groups)))
    facts = (
        ("tenant", text(str(principal.tenant))),
        *((("groups", groups),) if principal.groups else ()),
        ("second_factor", Cell(kind="yes" if reader.session.has_factor else "no")),
        ("session_ends", when(reader.session.ends_s)),
    )
    return reader.page("me.html", "me", lists=lists, rights=rights, facts=facts, row_links=row_links, makes=makes)
