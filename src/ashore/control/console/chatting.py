"""Chat, and how to connect a program: pages that need the reader's address, models and key."""

from __future__ import annotations

import json
from typing import Any, Final

from ashore.control.console.calling import command_of
from ashore.control.console.forms import fields_of, filled, read_form
from ashore.control.console.model import Answer
from ashore.control.console.ports import Votes
from ashore.control.console.reader import Reader
from ashore.core.errors import AshoreError, NotReady, PermissionDenied
from ashore.data.privacy import KINDS

CREATE: Final = "access key create"
FIRST: Final = ("title", "expires_in_s")
"""What everybody says of a new key; the rest narrows it."""
KEY_PLACE: Final = "YOUR-KEY"


async def chat_page(reader: Reader, votes: Votes | None, default: str) -> Answer:
    """Return the page to chat with one model or compare two, to find kept conversations, and to vote where votes are
    enabled. `default`: alias that is offered first.
    """
    purpose = "none" if votes is None else votes.purpose(str(reader.session.principal.tenant))
    models = [one for one in reader.acts.serving.models(reader.session.principal) if one.chats]
    served = any(one.chats for one in reader.acts.serving.models())
    wanted = dict(reader.asked.query)
    search = wanted.get("search", "")[:200]
    kept = await _asked(reader, "conversation list", search=search) if models else None
    assistants = await _asked(reader, "assistant list") if models else None
    return reader.page(
        "chat.html",
        "chat",
        models=models,
        served=served,
        left=wanted.get("left", "") or default,
        right=wanted.get("right", ""),
        votes=purpose,
        kept=None if kept is None else kept.items,
        search=search,
        kinds=json.dumps({kind: reader.words(f"chat.kind.{kind}") for kind in KINDS}, ensure_ascii=False),
        assistants=() if assistants is None else assistants.items,
    )


async def _asked(reader: Reader, key: str, **values: str) -> Any:
    """Return the answer of a call; None where this server has no desk for it."""
    placed = reader.acts.atlas.by_key[key]
    try:
        return await reader.perform(placed, placed.call.takes(**values))
    except NotReady:
        return None


def makes_own_keys(reader: Reader) -> bool:
    """Return whether the reader may make keys of their own."""
    create = reader.acts.atlas.by_key.get(CREATE)
    return create is not None and reader.acts.authority.holds(reader.session.whole, create.call.own)


async def connect_page(reader: Reader) -> Answer:
    """Return what a program needs: address, names, a key, and examples that hold all three."""
    models = reader.acts.serving.models(reader.session.principal)
    create = reader.acts.atlas.by_key.get(CREATE)
    made: object | None = None
    fault: AshoreError | None = None
    if create is not None and reader.asked.method == "POST":
        try:
            made = await reader.perform(create, read_form(create.call, reader.asked.form))
        except PermissionDenied:
            raise
        except AshoreError as problem:
            fault = problem
    pairs = reader.asked.form or [pair for pair in reader.asked.query if pair[0] != "model"]  # as the log-in stored it
    fields = () if create is None else filled(fields_of(create.call), pairs)
    visit = reader.asked.visit
    wanted = dict(reader.asked.query).get("model", "")
    names = [one.alias for one in models if one.chats]
    return reader.page(
        "connect.html",
        "connect",
        base=visit.base + visit.prefix,
        models=models,
        model=wanted if wanted in names else next(iter(names), "MODEL"),
        names=names,
        create=create,
        offered=makes_own_keys(reader),
        made=made,
        fault=fault,
        key=getattr(made, "key", KEY_PLACE),
        first=[one for one in fields if one.name in FIRST],
        narrowing=[one for one in fields if one.name not in (*FIRST, "owner")],
        command="" if create is None else command_of(create.call, pairs),
    )
