"""What comes out of the state is bounded as what goes in: pages by bytes, what is read by the room for bodies."""

from __future__ import annotations

import json
import select
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import chain
from typing import Any

import pytest
from http_worker import Worker, http_worker, state_link
from waiting import eventually

from ashore.data.http.openai.files import FILES_AT_ONCE
from ashore.data.jobs import PAGE_BYTES
from ashore.data.path import Limits
from ashore.data.underway import FREE_BYTES

MOST_BODY = 2 * PAGE_BYTES
LIMITS = Limits(max_body_bytes=MOST_BODY, bodies_bytes=MOST_BODY, tenant_bodies_bytes=MOST_BODY)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    run = tmp_path_factory.mktemp("worker")
    with http_worker(run, state=state_link(run), limits=LIMITS) as one:
        yield one


def ask(worker: Worker, method: str, path: str, body: object = None) -> tuple[int, Any]:
    status, _, answer = worker.request(method, path, None if body is None else json.dumps(body))
    return status, json.loads(answer)


def ok(worker: Worker, method: str, path: str, body: object = None) -> Any:
    status, answer = ask(worker, method, path, body)
    assert status == 200, answer
    return answer


def pages(worker: Worker, path: str) -> list[list[str]]:
    """Walk a list to its end as a client does; return the ids of each page."""
    found: list[list[str]] = []
    after = ""
    while True:
        page = ok(worker, "GET", path + after)
        found.append([one["id"] for one in page["data"]])
        assert (page["first_id"], page["last_id"]) == (found[-1][0], found[-1][-1])
        if not page["has_more"]:
            return found
        after = f"&after={page['last_id']}"


def said(num_bytes: int) -> dict[str, object]:
    return {"role": "user", "content": "x" * num_bytes}


def test_a_page_of_items_ends_where_it_would_be_too_long(worker: Worker) -> None:
    whose = ok(worker, "POST", "/v1/conversations", {})["id"]
    path = f"/v1/conversations/{whose}/items"
    sizes = (PAGE_BYTES // 3, PAGE_BYTES // 3, PAGE_BYTES // 2, PAGE_BYTES + 9, 5)
    ids = [ok(worker, "POST", path, {"items": [said(size)]})["data"][0]["id"] for size in sizes]
    assert pages(worker, path + "?limit=100&order=asc") == [ids[:2], [ids[2]], [ids[3]], [ids[4]]]
    assert list(chain(*pages(worker, path + "?limit=2"))) == ids[::-1]
    shown = ok(worker, "GET", f"{path}/{ids[4]}")
    assert shown["id"] == ids[4] and shown["content"] == [{"type": "input_text", "text": "xxxxx"}]


def test_so_does_a_page_of_the_input_of_a_response(worker: Worker) -> None:
    asked = {"model": "echo", "input": [said(5), said(6)], "store": True}
    made = ok(worker, "POST", "/v1/responses", asked)["id"]
    path = f"/v1/responses/{made}/input_items?order=asc"
    (both,) = pages(worker, path)
    longer = {"model": "echo", "input": [said(PAGE_BYTES // 2 + 9), said(PAGE_BYTES // 2), said(1)]}
    keep(worker, made, longer)
    first, second = pages(worker, path)
    assert (first, second) == ([f"in_{made[5:]}_0"], [f"in_{made[5:]}_1", f"in_{made[5:]}_2"]) and len(both) == 2


def test_what_an_earlier_version_kept_is_read(worker: Worker) -> None:
    whose = ok(worker, "POST", "/v1/conversations", {"items": [said(3)]})["id"]
    old = b'{"type":"message","role":"user","content":[{"type":"input_text","text":"old"}],"id":null}'
    with closing(sqlite3.connect(worker.topology.state.path)) as state, state:
        state.execute("UPDATE conversation_item SET item = ? WHERE conversation_id = ?", (old, whose))
    (item,) = ok(worker, "GET", f"/v1/conversations/{whose}/items")["data"]
    assert item["id"].startswith("msg_") and item["content"][0]["text"] == "old"
    made = ok(worker, "POST", "/v1/responses", {"model": "echo", "input": "q", "store": True})["id"]
    thought = {"type": "reasoning", "summary": [], "encrypted_content": "x", "id": "rs_1"}
    keep(worker, made, {"model": "echo", "input": [thought, {"type": "web_search_call"}, said(1)]})
    assert pages(worker, f"/v1/responses/{made}/input_items?order=asc") == [["rs_1", f"in_{made[5:]}_1"]]
    follow = {"model": "echo", "input": "and?", "previous_response_id": made}
    assert ok(worker, "POST", "/v1/responses/input_tokens", follow)["input_tokens"] > 0


def keep(worker: Worker, response_id: str, body: dict[str, object]) -> None:
    """Put another request into the state, in the place of that of a stored response."""
    payload = json.dumps({"path": "/v1/responses", "body": body}).encode()
    with closing(sqlite3.connect(worker.topology.state.path)) as state, state:
        state.execute("UPDATE job_body SET payload = ? WHERE job_id = ?", (payload, response_id))


def test_what_is_read_counts_with_the_bodies_that_are_held(worker: Worker) -> None:
    item = said(PAGE_BYTES + PAGE_BYTES // 2)
    whose = ok(worker, "POST", "/v1/conversations", {"items": [item]})["id"]
    made = ok(worker, "POST", "/v1/responses", {"model": "echo", "input": "q", "store": True})["id"]
    keep(worker, made, {"model": "echo", "input": [item]})
    file = upload(worker, b"x" * PAGE_BYTES)
    counted = {"model": "echo", "input": "q", "conversation": whose}
    reads: dict[str, tuple[str, str, object]] = {
        "items": ("GET", f"/v1/conversations/{whose}/items", None),
        "input": ("GET", f"/v1/responses/{made}/input_items", None),
        "response": ("GET", f"/v1/responses/{made}", None),
        "job": ("GET", f"/v1/jobs/{made}", None),
        "tokens": ("POST", "/v1/responses/input_tokens", counted),
        "what follows": ("POST", "/v1/responses/input_tokens", {**counted, "conversation": None,
                                                               "previous_response_id": made}),
    }  # fmt: skip

    def statuses() -> set[int]:
        return {ask(worker, *one)[0] for one in reads.values()}

    def hold() -> socket.socket:
        """Send the body of a request but for its last byte."""
        connection = worker.connect()
        half = FREE_BYTES + PAGE_BYTES - 9  # beside the piece of the upload, which may count for a moment longer
        head = f"POST /v1/conversations HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {worker.key}\r\n"
        with suppress(ConnectionError):  # refused before all of it was sent
            connection.sendall(f"{head}content-length: {half + 1}\r\n\r\n".encode() + b" " * half)
        return connection

    held = hold()

    def all_refused() -> bool:
        nonlocal held
        if select.select([held], [], [], 0)[0]:  # a read had the room when its body came, so it was refused itself
            held.close()
            held = hold()
        return statuses() == {429}

    try:
        eventually(all_refused)
        assert worker.request("GET", f"/v1/files/{file}/content")[0] == 200, "a piece of it has room"
    finally:
        held.close()
    eventually(lambda: 429 not in statuses())


def upload(worker: Worker, content: bytes) -> str:
    form = (
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n' + content + b"\r\n--b--\r\n"
    )
    status, _, said = worker.request("POST", "/v1/files", form, {"content-type": "multipart/form-data; boundary=b"})
    assert status == 200, said
    return str(json.loads(said)["id"])


def test_a_list_of_files_comes_in_pages_whatever_limit_says(worker: Worker) -> None:
    first = upload(worker, b"x")
    with closing(sqlite3.connect(worker.topology.state.path)) as state, state:
        copy = "SELECT ?, tenant, filename, purpose, 1, ?, NULL, 1, account, models FROM stored_file WHERE file_id = ?"
        statement = f"INSERT INTO stored_file {copy}"
        state.executemany(statement, [(f"file-{number}", 5 + number, first) for number in range(600)])
    found = pages(worker, "/v1/files?limit=10000")
    ids = list(chain(*found))
    assert len(found[0]) == FILES_AT_ONCE and len(set(ids)) == len(ids) > 600


def test_a_background_request_that_can_never_fit_is_not_stored(worker: Worker) -> None:
    before = ok(worker, "GET", "/v1/jobs")["items"]
    asked = {"model": "echo", "input": "long " * 200_000, "background": True}
    status, refused = ask(worker, "POST", "/v1/responses", asked)
    assert (status, refused["error"]["code"]) == (400, "context_length_exceeded"), refused
    assert ok(worker, "GET", "/v1/jobs")["items"] == before
