"""Calls on chats: everyone's own conversations and assistants, and conversations of others by right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from ashore.core.clock import Clock
from ashore.core.errors import Conflict, InvalidRequest, NotFound
from ashore.core.timespan import written_moment
from ashore.core.wanted import check_wanted
from ashore.data.authority import INFER, STORED_SHOW
from ashore.data.jobs import Conversation, SqlConversations, page_length
from ashore.kit.call import SETTLE_S, Actor, Call, Nothing, Rights
from ashore.kit.recorder import Recorder
from ashore.kit.state import Database, execute, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

SHARE: Final = "assistant:share"
MOST_SEARCHED: Final = 500
"""Conversations of one person that a search reads, the latest ones."""
MOST_SHOWN_BYTES: Final = 32 << 20
"""Of a conversation that is shown as a whole."""
ITEMS_AT_ONCE: Final = 500
MOST_ASSISTANTS: Final = 100
"""Of one person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDesk:
    """Where conversations and assistants are, and who may see them."""

    rights: Rights
    recorder: Recorder
    clock: Clock
    database: Database
    conversations: SqlConversations


class ConversationsIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which conversations to list."""

    search: Annotated[str, Meta(max_length=200)] = ""
    """List only conversations whose title or text contains this, in capitals or not."""
    owner: Annotated[str, Meta(max_length=200)] = ""
    """List those of this account. Empty: your own. Needs a right for others, and is recorded."""
    limit: Annotated[int, Meta(ge=1, le=MOST_SEARCHED)] = 100
    """Maximum number of conversations."""


ConversationId = Annotated[str, Meta(description="Id of the conversation, as `ashore conversation list` prints it.")]


class ConversationOut(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation, without its text."""

    title: str
    conversation: str
    owner: str
    created_at: str
    expires_at: str
    """When it is deleted, unless it is changed before."""
    num_bytes: int


class SaidOut(msgspec.Struct, frozen=True, kw_only=True):
    """One message."""

    role: str
    text: str


class ConversationText(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation with its messages."""

    title: str
    conversation: str
    owner: str
    items: list[SaidOut]


class AssistantIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An assistant: a model with a system prompt. It has no tools."""

    name: Annotated[str, Meta(min_length=1, max_length=80, pattern=r"^[^/\x00-\x1f\x7f]+$")]
    """Name of the assistant. One of yours with this name is replaced."""
    prompt: Annotated[str, Meta(min_length=1, max_length=20_000)]
    """System prompt that each of its conversations begins with."""
    model: Annotated[str, Meta(max_length=200)] = ""
    """Alias of its model. Empty: the one chosen on the page."""
    group: Annotated[str, Meta(max_length=200)] = ""
    """Group of yours that may use it, too. Empty: you alone."""


AssistantName = Annotated[str, Meta(max_length=200, description="Name of the assistant.")]


class AssistantOut(msgspec.Struct, frozen=True, kw_only=True):
    """One assistant."""

    name: str
    model: str
    prompt: str
    group: str
    owner: str


class AssistantGone(msgspec.Struct, frozen=True, kw_only=True):
    """The assistant is removed."""

    name: str


class _Part(msgspec.Struct, frozen=True):
    text: str = ""


class _Item(msgspec.Struct, frozen=True):
    role: str = ""
    content: list[_Part] | str | None = None


_item = msgspec.json.Decoder(_Item)
_metadata = msgspec.json.Decoder(dict[str, str])


def list_conversations(desk: ChatDesk, actor: Actor, asked: ConversationsIn) -> list[ConversationOut]:
    """List your conversations of the page Chat and of the API, last changed first.

    Nobody else sees them but holders of `stored:show` on you. The audit log names each look of theirs.
    """
    owner = asked.owner or actor.principal.id
    found = desk.conversations.of(owner, limit=MOST_SEARCHED if asked.search else asked.limit)
    found = [one for one in found if _may(desk, actor, one)]
    if owner != actor.principal.id:
        tenants = {one.tenant for one in found} or {actor.principal.tenant}
        for tenant in tenants:
            desk.rights.require(actor.principal, STORED_SHOW, f"tenant/{tenant}/stored/{owner}")
            _record(desk, actor, tenant, owner)
    wanted = asked.search.casefold()
    matching = [one for one in found if not wanted or _contains(desk, one, wanted)]
    return [conversation_out(one) for one in matching[: asked.limit]]


def show_conversation(desk: ChatDesk, actor: Actor, conversation: ConversationId) -> ConversationText:
    """Show a conversation with its messages.

    Raises:
        NotFound: there is none, or you may not read it. InvalidRequest: it is too long.
    """
    found = desk.conversations.get(conversation)
    if found is None or not _may(desk, actor, found):
        raise NotFound(f"there is no conversation {conversation[:80]!r}", hint="list them")
    if found.num_bytes > MOST_SHOWN_BYTES:
        raise InvalidRequest(
            f"the conversation has {found.num_bytes:,} bytes; at most {MOST_SHOWN_BYTES:,} are shown at once",
            hint="read it in pages: GET /v1/conversations/ID/items",
        )
    if not _is_own(actor, found):
        _record(desk, actor, found.tenant, found.account, found.conversation_id)
    said = [SaidOut(role=role, text=text) for role, text in _said(desk, found)]
    return ConversationText(title=_title(found), conversation=found.conversation_id, owner=found.account, items=said)


def list_assistants(desk: ChatDesk, actor: Actor, asked: Nothing) -> list[AssistantOut]:
    """List your assistants, and those that are shared with a group of yours."""
    with desk.database.read() as connection:
        mine = _assistants(connection, "owner = :owner", tenant=actor.principal.tenant, owner=actor.principal.id)
        others = [
            one
            for group in sorted(actor.principal.groups)
            for one in _assistants(connection, "shared = :shared", tenant=actor.principal.tenant, shared=group)
            if one.owner != actor.principal.id
        ]
    return sorted([*mine, *others], key=lambda one: (one.name, one.owner))


def put_assistant(desk: ChatDesk, actor: Actor, asked: AssistantIn) -> AssistantOut:
    """Make an assistant of yours, or replace it.

    To share it, you must be in the group and hold `assistant:share` on it.
    """
    principal = actor.principal
    if asked.group:
        desk.rights.require(principal, SHARE, f"group/{asked.group}")
        if asked.group not in principal.groups:
            raise NotFound(f"you are not in a group {asked.group[:80]!r}", hint="share it with a group of yours")
    with desk.database.write() as connection:
        mine = _assistants(connection, "owner = :owner", tenant=principal.tenant, owner=principal.id)
        if len(mine) >= MOST_ASSISTANTS and asked.name not in {one.name for one in mine}:
            raise Conflict(f"you have {len(mine)} assistants; at most {MOST_ASSISTANTS} are kept", hint="remove one")
        row = {
            "tenant": principal.tenant,
            "owner": principal.id,
            "name": asked.name,
            "model": asked.model,
            "prompt": asked.prompt,
            "shared": asked.group,
            "changed_ms": int(desk.clock.now_s() * 1000),
        }
        upsert(connection, "assistant", row, key="tenant, owner, name")
        _record_assistant(desk, actor, "assistant:put", asked.name, connection, group=asked.group)
    return AssistantOut(name=asked.name, model=asked.model, prompt=asked.prompt, group=asked.group, owner=principal.id)


def remove_assistant(desk: ChatDesk, actor: Actor, name: AssistantName) -> AssistantGone:
    """Remove an assistant of yours; conversations that began with it stay."""
    with desk.database.write() as connection:
        gone = execute(
            connection,
            "DELETE FROM assistant WHERE tenant = :tenant AND owner = :owner AND name = :name",
            tenant=actor.principal.tenant,
            owner=actor.principal.id,
            name=name,
        ).rowcount
        if not gone:
            raise NotFound(f"you have no assistant {name[:80]!r}", hint="list them: ashore assistant list")
        _record_assistant(desk, actor, "assistant:remove", name, connection)
    return AssistantGone(name=name)


def conversation_out(found: Conversation) -> ConversationOut:
    """Return a conversation without its text."""
    return ConversationOut(
        title=_title(found),
        conversation=found.conversation_id,
        owner=found.account,
        created_at=written_moment(found.created_ms // 1000),
        expires_at=written_moment(found.expires_ms // 1000),
        num_bytes=found.num_bytes,
    )


def _title(found: Conversation) -> str:
    return _metadata.decode(found.metadata).get("title", "")


def _may(desk: ChatDesk, actor: Actor, found: Conversation) -> bool:
    principal = actor.principal
    if not principal.scope.asks(found.models):
        return False
    resource = f"tenant/{found.tenant}/stored/{found.account}"
    return _is_own(actor, found) or desk.rights.decide(principal, STORED_SHOW, resource).allowed


def _is_own(actor: Actor, found: Conversation) -> bool:
    return actor.principal.owns(found.tenant, found.account)  # a narrowed key was given to a program


def _record(desk: ChatDesk, actor: Actor, tenant: str, owner: str, conversation: str = "") -> None:
    resource = f"tenant/{tenant}/stored/{owner}"
    desk.recorder.check_acts()
    actor.record(desk.recorder, STORED_SHOW, resource, detail={"conversation": conversation} if conversation else None)
    desk.recorder.settle(SETTLE_S)  # nothing is shown before


def _said(desk: ChatDesk, found: Conversation) -> Iterator[tuple[str, str]]:
    whose, read = found.conversation_id, desk.conversations
    after: int | None = None
    while limit := page_length(read.lengths(whose, after=after, limit=ITEMS_AT_ONCE)):
        for kept in read.items(whose, after=after, limit=limit):
            check_wanted()
            after, item = kept.place, _item.decode(kept.item)
            said = item.content
            text = said if isinstance(said, str) else "\n\n".join(one.text for one in said or ())
            if item.role and text:
                yield item.role, text


def _contains(desk: ChatDesk, found: Conversation, wanted: str) -> bool:
    return wanted in _title(found).casefold() or any(wanted in text.casefold() for _, text in _said(desk, found))


def _assistants(connection: Connection, which: str, **values: str) -> list[AssistantOut]:
    statement = (
        f"SELECT name, model, prompt, shared AS in_group, owner FROM assistant WHERE tenant = :tenant AND {which}"
    )
    return [
        AssistantOut(
            name=row["name"], model=row["model"], prompt=row["prompt"], group=row["in_group"], owner=row["owner"]
        )
        for row in execute(connection, statement, **values).mappings()
    ]


def _record_assistant(
    desk: ChatDesk, actor: Actor, act: str, name: str, connection: Connection, *, group: str = ""
) -> None:
    resource = f"tenant/{actor.principal.tenant}/assistant/{actor.principal.id}"
    detail = {"name": name} | ({"group": group} if group else {})
    actor.record(desk.recorder, act, resource, detail=detail, on=connection)


CALLS: Final = (
    Call("conversation", "list", "GET", "/conversations", STORED_SHOW, list_conversations, own=INFER, reads_text=True),
    Call(
        "conversation", "show", "GET", "/conversations/{conversation}", STORED_SHOW, show_conversation, own=INFER,
        reads_text=True,
    ),
    Call("assistant", "list", "GET", "/assistants", INFER, list_assistants),
    Call("assistant", "put", "PUT", "/assistants/{name}", INFER, put_assistant),
    Call("assistant", "remove", "DELETE", "/assistants/{name}", INFER, remove_assistant),
)  # fmt: skip
