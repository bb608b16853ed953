"""`/v1/conversations`: stored items, which responses read and extend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from ashore.core.chat import Message
from ashore.core.errors import NotFound
from ashore.core.wanted import check_wanted
from ashore.data.authority import STORED_REMOVE, STORED_SHOW, Principal
from ashore.data.http.dialect import Dialect, Reader, Said
from ashore.data.http.exchange import JSON, Exchange
from ashore.data.http.openai.dialects import adapt_items
from ashore.data.http.openai.paging import ends_of, page_of
from ashore.data.http.openai.responses_parse import item_of, listed, messages_of, stored_item
from ashore.data.http.openai.responses_render import ID_PREFIXES
from ashore.data.http.openai.responses_types import Item, ItemList, Metadata
from ashore.data.http.stored import may, models_of, note_use, read_out
from ashore.data.jobs import Conversation, KeptItem, head_of, new_id, page_length

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp

MOST_AT_ONCE: Final = 20
"""Items of one request, as at OpenAI."""
MOST_LISTED: Final = 100
_encode = msgspec.json.Encoder().encode
_metadata = msgspec.json.Decoder(dict[str, str])
_item = msgspec.json.Decoder(dict[str, Any])


class ConversationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/conversations`."""

    items: Annotated[list[dict[str, Any]], Meta(max_length=MOST_AT_ONCE)] | None = None
    """What was said before."""
    metadata: Metadata | None = None


class ConversationUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/conversations/{id}`."""

    metadata: Metadata


class ItemsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/conversations/{id}/items`."""

    items: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=MOST_AT_ONCE)]


class ConversationOut(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation."""

    id: str
    object: Literal["conversation"] = "conversation"
    created_at: int
    metadata: dict[str, str]
    expires_at: int
    """Ashore's own: it is dropped then, unless it changes before."""


class ConversationDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `DELETE /v1/conversations/{id}`."""

    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: bool = True


class ItemOut(msgspec.Struct, frozen=True, kw_only=True):
    """One item; its other fields are those of its type."""

    id: str
    type: str


def _adapt(body: dict[str, Any], said: Said) -> None:
    adapt_items(body, "items", said)


_DIALECT: Final = Dialect(name="responses", adapt=_adapt, is_loose=lambda request: True)
CONVERSATION_READER: Final = Reader(ConversationRequest, _DIALECT)
UPDATE_READER: Final = Reader(ConversationUpdate, Dialect(name="responses"))
ITEMS_READER: Final = Reader(ItemsRequest, _DIALECT)


async def create(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/conversations`."""
    has_body = bool(await exchange.body(app.limits))
    request, items = ConversationRequest(), list[KeptItem]()
    if has_body:
        request, items = await CONVERSATION_READER.made_of(app, exchange, principal, _kept_of)
    desk, now_ms = app.desk, app.desk.queue.now_ms()
    desk.require_state()
    made = Conversation(
        conversation_id=new_id("conv_"),
        tenant=principal.tenant,
        account=principal.id,
        models=models_of(principal),
        metadata=_encode(request.metadata or {}).decode(),
        created_ms=now_ms,
        expires_ms=now_ms + desk.limits.result_ttl_ms,
    )
    most = desk.quotas.most("stored_bytes", made.tenant)
    kept = await desk.call(lambda: desk.conversations.create(made, items, most_bytes=most))
    await exchange.respond_json(conversation_out(kept))


async def retrieve(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/conversations/{id}`."""
    found = await find_conversation(app, exchange, exchange.argument, principal)
    await exchange.respond_json(conversation_out(found))


async def update(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/conversations/{id}`: replaces its metadata."""
    request = await UPDATE_READER.body_of(app, exchange, principal)
    found = await find_conversation(app, exchange, exchange.argument, principal, action=STORED_REMOVE)
    metadata, expires_ms = _encode(request.metadata).decode(), _expiry(app)
    desk = app.desk
    most = desk.quotas.most("stored_bytes", found.tenant)
    changed = await desk.call(
        lambda: desk.conversations.update(
            found.conversation_id, metadata=metadata, expires_ms=expires_ms, most_bytes=most
        )
    )
    if changed is None:
        raise _gone(exchange.argument)
    await exchange.respond_json(conversation_out(changed))


async def delete(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`DELETE /v1/conversations/{id}`, with its items."""
    found = await find_conversation(app, exchange, exchange.argument, principal, action=STORED_REMOVE)
    await app.desk.call(lambda: app.desk.conversations.delete(found.conversation_id))
    await exchange.respond_json(ConversationDeleted(id=found.conversation_id))


async def add_items(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/conversations/{id}/items`."""
    _, items = await ITEMS_READER.made_of(app, exchange, principal, _kept_of)
    found = await find_conversation(app, exchange, exchange.argument, principal, action=STORED_REMOVE)
    changed = await append(app, found, items)
    if changed is None:
        raise _gone(exchange.argument)
    store, before = app.desk.conversations, changed.next_place - len(items) - 1

    def work() -> bytes:
        return _list(store.items(found.conversation_id, after=before, limit=len(items)), has_more=False)

    await exchange.respond(200, [JSON], await app.serving.read_aside(principal, work))  # as long as the body


async def list_items(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/conversations/{id}/items`."""
    page = page_of(exchange, default=20, most=MOST_LISTED, extra=("include", "include[]"))
    found = await find_conversation(app, exchange, exchange.argument, principal)
    desk, store, whose = app.desk, app.desk.conversations, found.conversation_id
    after = None
    if page.after:
        after = await desk.call(lambda: store.place(whose, page.after))
        if after is None:
            raise _no_item(page.after, whose)
    read: dict[str, Any] = {"after": after, "oldest_first": page.oldest_first}
    lengths = await desk.call(lambda: store.lengths(whose, limit=page.limit + 1, **read))
    limit = page_length(lengths[: page.limit])

    def work() -> bytes:
        return _list(store.items(whose, limit=limit, **read), has_more=len(lengths) > limit)

    answer = await read_out(app, exchange, principal, sum(lengths[:limit]), work)
    await exchange.respond(200, [JSON], answer)


async def item(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/conversations/{id}/items/{item}`."""
    whose, which = exchange.arguments
    await find_conversation(app, exchange, whose, principal)
    store = app.desk.conversations
    length = await app.desk.call(lambda: store.length(whose, which))

    def work() -> bytes:
        kept = store.item(whose, which)
        if kept is None:
            raise _no_item(which, whose)
        return bytes(_shown(kept))

    await exchange.respond(200, [JSON], await read_out(app, exchange, principal, length, work))


async def remove_item(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`DELETE /v1/conversations/{id}/items/{item}`; returns the conversation."""
    whose, which = exchange.arguments
    found = await find_conversation(app, exchange, whose, principal, action=STORED_REMOVE)
    if not await app.desk.call(lambda: app.desk.conversations.remove(found.conversation_id, which)):
        raise _no_item(which, whose)
    await exchange.respond_json(conversation_out(found))


async def find_conversation(
    app: HttpApp, exchange: Exchange, conversation_id: str, principal: Principal, *, action: str = STORED_SHOW
) -> Conversation:
    """Return a conversation on which the principal may do `action`; changing needs the right to remove. The audit log
    names each use of another's.

    Raises:
        NotFound: there is none, or it is not theirs: the answer is the same.
        AuditUnavailable: it is another's, and nothing can be recorded.
    """
    found = await app.desk.call(lambda: app.desk.conversations.get(conversation_id))
    if found is None or not may(app.authority, principal, action, found):
        raise _gone(conversation_id)
    await note_use(app, exchange, principal, action, found, conversation=found.conversation_id)
    return found


async def messages_in(
    app: HttpApp, exchange: Exchange, conversation: Conversation, principal: Principal
) -> list[Message]:
    """Return the messages of a conversation."""
    store = app.desk.conversations

    def work() -> list[Message]:
        items = []
        for kept in store.items(conversation.conversation_id):
            check_wanted()
            items.append(stored_item(kept.item, "conversation"))
        return messages_of(items)

    return await read_out(app, exchange, principal, conversation.num_bytes, work)


async def append(
    app: HttpApp, conversation: Conversation, items: Sequence[KeptItem], *, source: str = "", model: str = ""
) -> Conversation | None:
    """Add items to a conversation; None if it is gone. `source`: the response that they come from."""
    desk, expires_ms = app.desk, _expiry(app)
    most = desk.quotas.most("stored_bytes", conversation.tenant)
    return await desk.call(
        lambda: desk.conversations.append(
            conversation.conversation_id, items, expires_ms=expires_ms, source=source, model=model, most_bytes=most
        )
    )


def kept_items(items: Sequence[Item]) -> list[KeptItem]:
    """Return items in stored form, each with an id."""
    found = [listed(one) for one in items]
    return [
        _kept(fields.get("id") or new_id(f"{ID_PREFIXES.get(fields['type'], 'item')}_"), fields) for fields in found
    ]


def kept_output(output: Sequence[Mapping[str, Any]]) -> list[KeptItem]:
    """Return the items of an answer in stored form."""
    return [_kept(str(one["id"]), one) for one in output]


def _kept(item_id: str, fields: Mapping[str, Any]) -> KeptItem:
    """Return an item in stored form: its id comes first, so that it can be listed without parsing."""
    others = {name: value for name, value in fields.items() if name != "id"}
    return KeptItem(item_id=item_id, item=_encode({"id": item_id, **others}))


def conversation_out(found: Conversation) -> ConversationOut:
    """Return a conversation in OpenAI's form."""
    return ConversationOut(
        id=found.conversation_id,
        created_at=found.created_ms // 1000,
        metadata=_metadata.decode(found.metadata),
        expires_at=found.expires_ms // 1000,
    )


def _shown(kept: KeptItem) -> msgspec.Raw:
    if kept.item.startswith(head_of(kept.item_id)):
        return msgspec.Raw(kept.item)
    return msgspec.Raw(_encode({**_item.decode(kept.item), "id": kept.item_id}))  # stored form of earlier versions


def _kept_of(request: ConversationRequest | ItemsRequest) -> list[KeptItem]:
    return kept_items([item_of(one, f"items[{at}]") for at, one in enumerate(request.items or ())])


def _list(items: Sequence[KeptItem], *, has_more: bool) -> bytes:
    data, ids = [_shown(one) for one in items], [one.item_id for one in items]
    return _encode(ItemList(data=data, has_more=has_more, **ends_of(ids)))


def _expiry(app: HttpApp) -> int:
    return app.desk.queue.now_ms() + app.desk.limits.result_ttl_ms


def _gone(conversation_id: str) -> NotFound:
    return NotFound(
        f"there is no conversation {conversation_id[:80]!r}",
        hint="it may have expired: it is kept for [jobs] result_ttl_s after its last change",
        param="conversation",
    )


def _no_item(item_id: str, conversation_id: str) -> NotFound:
    return NotFound(f"there is no item {item_id[:80]!r} in {conversation_id[:80]}", hint="list its items")
