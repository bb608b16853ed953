"""A list that may be long: whole where it is short, else a page at a time from where the last one ended."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

from ashore.control.console.listing import WHOLE, Piece, choices_of, piece_of


def piece(names: list[str], **query: str) -> Piece:
    """Return the piece that a reader with this query gets of a list of names."""

    async def ask(key: str, *, limit: int, after: str, search: str, **values: object) -> Any:
        found = [name for name in names if name > after and search in name]
        more = found[limit - 1] if len(found) >= limit else None
        return SimpleNamespace(items=[SimpleNamespace(id=name) for name in found[:limit]], next=more)

    reader: Any = SimpleNamespace(asked=SimpleNamespace(query=list(query.items())), ask=ask)
    found = asyncio.run(piece_of(reader, "a list"))
    assert found is not None
    return found


def test_a_short_list_is_whole_and_counted() -> None:
    names = [f"n{at:04}" for at in range(WHOLE - 1)]
    whole = piece(names)
    assert [one.id for one in whole.items] == names and whole.is_whole and not whole.next
    assert [one.count for one in choices_of(("all", "some"), "all", whole)] == [WHOLE - 1, None]
    assert [one.id for one in piece(names, _match="n0007").items] == ["n0007"]


def test_a_long_list_is_read_to_its_end_a_page_at_a_time() -> None:
    names = [f"n{at:04}" for at in range(3 * WHOLE + 7)]
    read: list[str] = []
    query = {"_match": "n0", "_show": "all"}
    while True:
        part = piece(names, **query)
        assert not part.is_whole and choices_of(("all",), "all", part)[0].count is None
        read += [one.id for one in part.items]
        if not part.next:
            break
        query = dict(parse_qsl(part.next))
        assert query["_match"] == "n0" and query["_show"] == "all"
    assert read == names
