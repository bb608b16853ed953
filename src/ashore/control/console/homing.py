"""Home: a few figures, and what needs attention."""

from __future__ import annotations

import asyncio
from typing import Any

from ashore.control.console.home import TILES, Tile, figure, needs
from ashore.control.console.model import Answer
from ashore.control.console.pages import Placed
from ashore.control.console.reader import Reader
from ashore.core.errors import AshoreError, NotReady, PermissionDenied
from ashore.core.outward import outward


async def home_page(reader: Reader) -> Answer:
    """Return Home as the reader may see it."""
    known = [(name, placed, link) for name, key, link in TILES if (placed := reader.acts.atlas.by_key.get(key))]
    found = await asyncio.gather(*(_ask(reader, placed) for _, placed, _ in known))
    answers: dict[str, Any] = {}
    tiles: list[Tile] = []
    for (name, placed, link), answer in zip(known, found, strict=True):
        if isinstance(answer, PermissionDenied):
            tiles.append(Tile(name=name, denied=answer.action or placed.call.action))
        elif not isinstance(answer, AshoreError):
            answers[name] = answer
            tiles.append(Tile(name=name, value=figure(name, answer), link=link))
        elif not isinstance(answer, NotReady):  # no tile for what this server lacks
            tiles.append(Tile(name=name, fault=outward(answer)[0]))
    models = reader.acts.serving.models()
    asks = {one.alias for one in reader.acts.serving.models(reader.session.principal)}
    is_first_key = reader.session.principal.kind == "first-key"
    waiting = list(needs(reader.acts.serving.state, models, answers, is_first_key=is_first_key))
    return reader.page("home.html", "home", tiles=tiles, needs=waiting, models=models, asks=asks)


async def _ask(reader: Reader, placed: Placed) -> Any:
    """Return the answer of a call, or the reason why there is none."""
    if not reader.offers(placed):
        return PermissionDenied("", action=placed.call.action)
    try:
        return await reader.perform(placed, placed.call.takes())
    except AshoreError as fault:
        return fault
