"""Conversations, and events of background responses, on every database."""

from __future__ import annotations

import pytest
from job_queues import lease, new, queue_over

from ashore.core import ManualClock
from ashore.errors import BudgetExceeded, InvalidRequest
from ashore.jobs import (
    MOST_ITEMS,
    Again,
    Conversation,
    Done,
    EventChunk,
    KeptItem,
    SqlConversations,
    SqlEvents,
    SqlFiles,
    SqlJobs,
    StoredFile,
)
from ashore.state import Database


def made(store: SqlConversations, *items: str, **fields: object) -> Conversation:
    values: dict[str, object] = {
        "conversation_id": "conv_1", "tenant": "a", "account": "alice", "models": "m", "metadata": "{}",
        "created_ms": 1, "expires_ms": 100, **fields,
    }  # fmt: skip
    return store.create(Conversation(**values), kept(*items))  # type: ignore[arg-type]


def kept(*items: str) -> list[KeptItem]:
    return [KeptItem(item_id=one, item=one.encode() * 3) for one in items]


def ids_in(store: SqlConversations, **how: object) -> list[str]:
    return [one.item_id for one in store.items("conv_1", **how)]  # type: ignore[arg-type]


def test_items_keep_their_order_and_come_in_pages(database: Database) -> None:
    store = SqlConversations(database)
    assert made(store, "a", "b").num_bytes == 6
    changed = store.append("conv_1", kept("c", "a"), expires_ms=200)
    assert changed is not None and (changed.expires_ms, changed.num_bytes) == (200, 12)
    assert ids_in(store) == ["a", "b", "c", "a_3"]
    assert ids_in(store, oldest_first=False, limit=2) == ["a_3", "c"]
    second = store.item("conv_1", "b")
    assert second is not None and second.item == b"bbb"
    assert ids_in(store, after=second.place) == ["c", "a_3"]
    assert ids_in(store, after=second.place, oldest_first=False) == ["a"]
    assert store.remove("conv_1", "b") and not store.remove("conv_1", "b") and not store.remove("conv_1", "\0")
    found = store.get("conv_1")
    assert found is not None and found.num_bytes == 9 and ids_in(store) == ["a", "c", "a_3"]
    assert store.item("conv_1", "b") is None and store.get("\0") is None


def test_what_a_response_adds_again_replaces_what_it_added(database: Database) -> None:
    store = SqlConversations(database)
    made(store, "a")
    for said in (kept("q", "lost"), kept("q", "kept")):
        store.append("conv_1", said, expires_ms=200, source="resp_1", model="other")
    assert ids_in(store) == ["a", "q", "kept"]
    found = store.get("conv_1")
    assert found is not None and found.models == "m other"
    store.append("conv_1", kept("z"), expires_ms=200, source="resp_2", model="m")
    assert ids_in(store)[-1] == "z"
    again = store.get("conv_1")
    assert again is not None and again.models == "m other"


def test_conversations_are_bounded_and_counted_with_files(database: Database) -> None:
    store, files = SqlConversations(database), SqlFiles(database)
    made(store, "a")
    with pytest.raises(BudgetExceeded, match="stores 3 bytes in files and conversations"):
        store.append("conv_1", kept("b"), expires_ms=1, most_bytes=5)
    file = StoredFile(
        file_id="file-1", tenant="a", filename="f", purpose="batch", num_bytes=3, created_ms=1, expires_ms=None,
        complete=False, account="alice",
    )  # fmt: skip
    files.create(file)
    with pytest.raises(BudgetExceeded):
        files.complete(file, most_bytes=5)
    with pytest.raises(InvalidRequest, match="at most"):
        store.append("conv_1", kept(*(str(number) for number in range(MOST_ITEMS))), expires_ms=1)
    assert ids_in(store) == ["a"], "nothing was added by halves"


def test_conversations_go_when_they_are_deleted_or_have_expired(database: Database) -> None:
    store = SqlConversations(database)
    made(store, "a")
    made(store, "b", conversation_id="conv_2", expires_ms=500)
    assert store.prune(now_ms=99, limit=9) == 0
    assert store.prune(now_ms=100, limit=9) == 1
    assert store.get("conv_1") is None and ids_in(store) == []
    assert store.append("conv_1", kept("x"), expires_ms=1) is None
    assert store.update("conv_1", metadata="{}", expires_ms=1) is None
    changed = store.update("conv_2", metadata='{"k":"v"}', expires_ms=600)
    assert changed is not None and (changed.metadata, changed.expires_ms) == ('{"k":"v"}', 600)
    assert store.delete("conv_2") and not store.delete("conv_2")


def test_events_are_those_of_the_attempt_that_holds_the_job(database: Database, clock: ManualClock) -> None:
    queue, events = queue_over(SqlJobs(database), clock), SqlEvents(database)
    queue.submit(new("j1"))
    assert events.last("j1") == -1 and not events.append("j1", 0, EventChunk(2, b"x"))
    [first] = lease(queue)
    assert events.append("j1", first.number, EventChunk(4, b"a"))
    queue.settle(first, Again(after_s=0, counted=False))
    [second] = lease(queue)
    assert not events.append("j1", first.number, EventChunk(6, b"late")), "it is another attempt's by now"
    assert events.append("j1", second.number, EventChunk(9, b"b"))
    assert [(one.last, one.events) for one in events.after("j1", 4, limit=9)] == [(9, b"b")]
    assert [one.last for one in events.after("j1", -1, limit=1)] == [4] and events.last("j1") == 9
    queue.settle(second, Done(result=b""))
    queue.delete("j1")
    assert events.last("j1") == -1
