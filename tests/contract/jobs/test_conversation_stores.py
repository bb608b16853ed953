"""Conversations, and events of background responses, on every database."""

from __future__ import annotations

import pytest
from job_queues import lease, new, queue_over

from ashore.core.clock import ManualClock
from ashore.core.errors import BudgetExceeded, InvalidRequest
from ashore.data.jobs import (
    MOST_ITEMS,
    PAGE_BYTES,
    PIECE_BYTES,
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
    head_of,
)
from ashore.data.jobs.quota import ROW_BYTES
from ashore.kit.state import Database


def made(store: SqlConversations, *items: str, **fields: object) -> Conversation:
    values: dict[str, object] = {
        "conversation_id": "conv_1", "tenant": "a", "account": "alice", "models": "m", "metadata": "{}",
        "created_ms": 1, "expires_ms": 100, **fields,
    }  # fmt: skip
    return store.create(Conversation(**values), kept(*items))  # type: ignore[arg-type]


def kept(*items: str) -> list[KeptItem]:
    return [KeptItem(item_id=one, item=head_of(one) + b"}") for one in items]


def ids_in(store: SqlConversations, **how: object) -> list[str]:
    return [one.item_id for one in store.items("conv_1", **how)]  # type: ignore[arg-type]


def test_items_keep_their_order_and_come_in_pages(database: Database) -> None:
    store = SqlConversations(database)
    assert made(store, "a", "b").num_bytes == 20
    changed = store.append("conv_1", kept("c", "a"), expires_ms=200)
    assert changed is not None and (changed.expires_ms, changed.num_bytes) == (200, 42)
    assert ids_in(store) == ["a", "b", "c", "a_3"]
    assert ids_in(store, oldest_first=False, limit=2) == ["a_3", "c"]
    assert store.items("conv_1")[-1].item == b'{"id":"a_3"}', "an item says the id that it has"
    assert store.lengths("conv_1", after=1) == [10, 12] and store.lengths("conv_1", oldest_first=False, limit=1) == [12]
    assert store.length("conv_1", "a_3") == 12 and store.length("conv_1", "none") == 0
    second = store.item("conv_1", "b")
    assert second is not None and second.item == b'{"id":"b"}'
    assert ids_in(store, after=second.place) == ["c", "a_3"]
    assert ids_in(store, after=second.place, oldest_first=False) == ["a"]
    assert store.remove("conv_1", "b") and not store.remove("conv_1", "b") and not store.remove("conv_1", "\0")
    found = store.get("conv_1")
    assert found is not None and found.num_bytes == 32 and ids_in(store) == ["a", "c", "a_3"]
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
    made(store, "a", metadata="{1}")
    stores = 10 + len("{1}") + ROW_BYTES
    with pytest.raises(BudgetExceeded, match=f"stores {stores} bytes"):
        store.append("conv_1", kept("b"), expires_ms=1, most_bytes=stores + 9)
    with pytest.raises(BudgetExceeded):
        store.update("conv_1", metadata="{12}", expires_ms=1, most_bytes=stores)
    assert store.update("conv_1", metadata="{}", expires_ms=1, most_bytes=stores) is not None
    empty = Conversation(
        conversation_id="conv_2", tenant="a", account="alice", models="m", metadata="{}", created_ms=1, expires_ms=1
    )
    with pytest.raises(BudgetExceeded):
        store.create(empty, [], most_bytes=stores)
    file = StoredFile(
        file_id="file-1", tenant="a", filename="f", purpose="batch", num_bytes=3, created_ms=1, expires_ms=None,
        complete=False, account="alice",
    )  # fmt: skip
    files.create(file)
    with pytest.raises(BudgetExceeded):
        files.complete(file, most_bytes=stores)
    with pytest.raises(InvalidRequest, match="at most"):
        store.append("conv_1", kept(*(str(number) for number in range(MOST_ITEMS))), expires_ms=1)
    assert ids_in(store) == ["a"], "nothing was added by halves"


def test_uploads_on_their_way_are_counted_with_what_is_whole(database: Database) -> None:
    """A client may hold many of them open, and end none."""
    store, files = SqlConversations(database), SqlFiles(database)
    for number in (1, 2):
        files.create(
            StoredFile(
                file_id=f"file-{number}",
                tenant="a",
                filename="f",
                purpose="",
                num_bytes=0,
                created_ms=1,
                expires_ms=None,
                complete=False,
                account="alice",
            )
        )
    for _ in range(2):  # the same piece again replaces it
        files.append("file-1", 0, b"x" * 60, most_bytes=200)
    files.append("file-1", 1, b"x" * 60)
    with pytest.raises(BudgetExceeded, match=f"stores {PIECE_BYTES + 60:,} bytes"):
        files.append("file-2", 0, b"x" * 60, most_bytes=200)
    made(store)
    with pytest.raises(BudgetExceeded):
        store.append("conv_1", kept("a"), expires_ms=1, most_bytes=PIECE_BYTES)
    store.delete("conv_1")
    files.delete("file-1")
    files.append("file-2", 0, b"x" * 60, most_bytes=200)


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


def test_events_are_read_in_pages_and_counted_with_their_job(database: Database, clock: ManualClock) -> None:
    store, events = SqlJobs(database), SqlEvents(database)
    queue = queue_over(store, clock)
    queue.submit(new("j1", payload=b"12"))
    [first] = lease(queue)
    for number, length in enumerate((PAGE_BYTES - 1, 2, PAGE_BYTES + 5, 1)):
        assert events.append("j1", first.number, EventChunk(number, b"x" * length))
    pages, after = [], -1
    while page := events.after("j1", after, limit=9):
        pages.append([one.last for one in page])
        after = page[-1].last
    assert pages == [[0], [1], [2], [3]], "a chunk that is longer than a page is one by itself"
    queue.settle(first, Done(result=b"345"))
    job = store.get("j1")
    assert job is not None and job.num_bytes == 2 + 3 + 2 * PAGE_BYTES + 7
    assert store.body_length("j1") == 5 and store.body_length("none") == 0


def test_jobs_count_in_what_a_tenant_stores(database: Database, clock: ManualClock) -> None:
    store = SqlJobs(database)
    store.add([new("j1", payload=b"x" * 90)], 1, most_bytes=100)
    with pytest.raises(BudgetExceeded, match="stores 90 bytes"):
        store.add([new("j2", payload=b"x" * 11)], 1, most_bytes=100)
    assert store.get("j2") is None
    assert store.add([new("j1", payload=b"x" * 90)], 1, most_bytes=0)[0].job_id == "j1", "the first one is there"
    store.check_room("a", 10, 100)
    with pytest.raises(BudgetExceeded):
        store.check_room("a", 11, 100)
