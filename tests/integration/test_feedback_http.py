"""Votes on answers over HTTP: by the ids that OpenAI's and Anthropic's clients get, and by Langfuse's routes."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from http_worker import Worker, http_worker
from waiting import eventually

from ashore.data.feedback import LearningSection
from ashore.data.path import StateLink

CARD = "4111 1111 1111 1111"


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("feedback")
    section = LearningSection(feedback=True, tenants={"silent": "none"})
    with http_worker(
        folder / "run", state=StateLink(path=str(folder / "state.db")), sections={"learning": section}
    ) as one:
        yield one


def post(
    worker: Worker, path: str, body: dict[str, Any], headers: dict[str, str] | None = None, method: str = "POST"
) -> tuple[int, Any]:
    headers = {"content-type": "application/json", **(headers or {})}
    status, _, said = worker.request(method, path, json.dumps(body), headers)
    return status, json.loads(said)


def ask(worker: Worker, text: str, headers: dict[str, str] | None = None, **fields: Any) -> str:
    body = {"model": "echo", "messages": [{"role": "user", "content": text}], **fields}
    status, answer = post(worker, "/v1/chat/completions", body, headers)
    assert status == 200
    return str(answer["id"])


def rows(worker: Worker, query: str) -> list[Any]:
    with closing(sqlite3.connect(worker.topology.state.path)) as database:
        return database.execute(query).fetchall()


def test_ids_of_the_clients_take_votes(worker: Worker) -> None:
    client = openai.OpenAI(base_url=f"{worker.root}/v1", api_key=worker.key, max_retries=0)
    asked: Any = [{"role": "user", "content": "how long is a mile?"}]
    whole = client.chat.completions.create(model="echo", messages=asked)
    *_, last = client.chat.completions.create(model="echo", messages=asked, stream=True)
    response = client.responses.create(model="echo", input="how long is a yard?", store=False)
    *_, done = client.responses.create(model="echo", input="how long is a foot?", stream=True)
    message = anthropic.Anthropic(base_url=worker.root, api_key=worker.key, max_retries=0).messages.create(
        model="echo", max_tokens=50, messages=asked
    )
    for answer_id in (whole.id, last.id, response.id, done.response.id, message.id):  # type: ignore[union-attr]
        given = client.post("/feedback", cast_to=dict[str, Any], body={"id": answer_id, "rating": "up"})
        assert (given["answer"], given["rating"], given["learns"]) == (answer_id, "up", True), answer_id
    status, counts = post(worker, "/admin/v1/learning/votes", {}, method="GET")
    assert status == 200
    (found,) = counts["items"]
    assert (found["model"], found["release"], found["up"], found["with_text"]) == ("echo", "echo-1", 5, 5)


def test_a_vote_is_kept_once_and_the_last_one_counts(worker: Worker) -> None:
    answer = ask(worker, "what is the capital of France?")
    first = post(worker, "/v1/feedback", {"id": answer, "correction": "Paris"})
    again = post(worker, "/v1/feedback", {"id": answer, "correction": "Paris"})
    assert first == again and first[0] == 200 and first[1]["rating"] == "down"
    changed = post(worker, "/v1/feedback", {"id": answer, "rating": "up", "tags": ["style"]})[1]
    assert (changed["id"], changed["rating"], changed["tags"]) == (first[1]["id"], "up", ["style"])
    count = f"SELECT COUNT(*), MAX(correction) FROM feedback WHERE feedback_id = '{changed['id']}'"
    assert rows(worker, count) == [(1, "")]
    assert post(worker, "/v1/feedback", {"id": answer, "rating": None})[1]["rating"] is None
    assert rows(worker, count) == [(0, None)]


def test_a_cached_answer_that_was_voted_down_is_not_given_again(worker: Worker) -> None:
    def asked(headers: dict[str, str] | None = None) -> tuple[str, str]:
        body = {"model": "echo", "messages": [{"role": "user", "content": "how deep is the lake?"}], "temperature": 0}
        headers = {"content-type": "application/json", **(headers or {})}
        _, got, said = worker.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        return got["x-ashore-cache"], json.loads(said)["id"]

    def purges() -> list[Any]:
        return rows(worker, "SELECT kind FROM epoch WHERE kind LIKE 'cache/entry/%'")

    def hit() -> str:
        return eventually(lambda: (found := asked())[0] == "hit-exact" and found[1])

    first = asked()[1]
    assert post(worker, "/v1/feedback", {"id": hit(), "rating": "up"})[0] == 200
    assert asked()[0] == "hit-exact" and purges() == []
    bad = {"id": first, "rating": "down"}
    assert post(worker, "/v1/feedback", bad)[0] == 200, "the first answer, which was no hit, names the entry as well"
    assert len(purges()) == 1
    eventually(lambda: asked()[0] == "miss")
    assert post(worker, "/v1/feedback", bad)[0] == 200 and len(purges()) == 1, "the same vote again purges nothing"
    assert post(worker, "/v1/feedback", {"id": hit(), "correction": "Ninety metres."})[0] == 200
    assert len(purges()) == 2, "what came in its place is another entry"


def test_texts_are_masked_and_sealed(worker: Worker) -> None:
    from ashore.core.clock import SystemClock
    from ashore.data.audit import SqlSubjectKeys
    from ashore.data.feedback.texts import SealedTexts, messages_of, opened
    from ashore.kit.state import open_database

    answer = ask(worker, f"my card is {CARD}, keep it safe")
    given = post(worker, "/v1/feedback", {"id": answer, "correction": f"I never keep {CARD}."})[1]
    state = open_database(Path(worker.topology.state.path), snapshots=worker.run, clock=SystemClock())
    try:
        ((key_id, question, said, correction),) = rows(
            worker,
            f"SELECT key_id, question, answer, correction FROM feedback WHERE feedback_id = '{given['id']}'",
        )
        key = SealedTexts(SqlSubjectKeys(state)).find(key_id)
        assert key is not None
        (message,) = messages_of(opened(key, question))
        assert message.content == opened(key, said) == "my card is [BANK_CARD_1], keep it safe"
        assert opened(key, correction) == "I never keep [BANK_CARD_1]."
    finally:
        state.close()
    disk = Path(worker.topology.state.path)
    everything = b"".join(one.read_bytes() for one in disk.parent.glob("state.db*"))
    assert b"keep it safe" not in everything and b"1111" not in everything


def test_langfuse_clients_vote_at_their_own_routes(worker: Worker) -> None:
    basic = {"authorization": "Basic " + base64.b64encode(f"pk-any:{worker.key}".encode()).decode()}
    answer = ask(worker, "is this good?")
    body = {"traceId": answer, "name": "user-feedback", "value": 1, "dataType": "BOOLEAN", "id": "mine"}
    assert post(worker, "/api/public/scores", body, basic) == (200, {"id": "mine"})
    event = {"id": "e1", "type": "score-create", "timestamp": "2026-01-01T00:00:00Z", "body": {**body, "value": 0}}
    trace = {"id": "e2", "type": "trace-create", "timestamp": "2026-01-01T00:00:00Z", "body": {"id": answer}}
    lost = {**event, "id": "e3", "body": {**body, "traceId": "nobody"}}
    status, done = post(worker, "/api/public/ingestion", {"batch": [event, trace, lost], "metadata": {}}, basic)
    assert status == 207
    assert [one["id"] for one in done["successes"]] == ["e1", "e2"]
    assert [(one["id"], one["status"]) for one in done["errors"]] == [("e3", 404)]
    key = answer.removeprefix("chatcmpl-")
    found = rows(worker, f"SELECT rating, score, tags FROM feedback WHERE answer_id = '{key}'")
    assert found == [("down", 0.0, '["user-feedback=0"]')]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"rating": "up"}, 400, "id"),
        ({"id": "chatcmpl-nobody", "rating": "up"}, 404, "older than 72 h"),
        ({"id": "{}", "rating": "sideways"}, 400, "rating"),
        ({"id": "{}", "score": 3}, 400, "score"),
        ({"id": "{}"}, 400, "says nothing"),
        ({"id": "{}", "rating": None, "score": 1}, 400, "takes the vote back"),
        ({"id": "{}", "correction": "  "}, 400, "empty"),
        ({"id": "{}", "preferred": "chatcmpl-nobody"}, 404, "could be preferred"),
        ({"id": "{}", "rating": "up", "user": "alice"}, 403, "feedback:review"),
    ],
)
def test_what_is_no_vote_is_refused(worker: Worker, body: dict[str, Any], status: int, words: str) -> None:
    if body.get("id") == "{}":
        body = {**body, "id": ask(worker, "a question")}
    found, answer = post(worker, "/v1/feedback", body)
    assert (found, words in json.dumps(answer)) == (status, True), answer


def test_a_better_answer_is_one_to_the_same_question(worker: Worker) -> None:
    one, two, other = ask(worker, "Which one?"), ask(worker, "which  one?"), ask(worker, "another")
    assert post(worker, "/v1/feedback", {"id": one, "preferred": two})[1]["rating"] == "down"
    assert post(worker, "/v1/feedback", {"id": one, "preferred": other})[0] == 400


def test_what_its_client_wants_kept_nowhere_has_no_receipt(worker: Worker) -> None:
    answer = ask(worker, "off the record", {"cache-control": "no-store"})
    assert post(worker, "/v1/feedback", {"id": answer, "rating": "up"})[0] == 404
    kept = 'ashore_feedback_receipts_total{result="kept"}'
    eventually(lambda: worker.metric(kept) >= 2)


def test_a_server_with_feedback_off_says_how_to_switch_it_on(tmp_path: Path) -> None:
    with http_worker(tmp_path / "run", state=StateLink(path=str(tmp_path / "state.db"))) as plain:
        answer = ask(plain, "hello")
        status, fault = post(plain, "/v1/feedback", {"id": answer, "rating": "up"})
        assert (status, fault["error"]["code"]) == (404, "switched_off")
        assert "[learning]" in fault["error"]["hint"] or "[learning]" in json.dumps(fault)
        assert rows(plain, "SELECT COUNT(*) FROM feedback_receipt") == [(0,)]
        status, fault = post(plain, "/admin/v1/learning/votes", {}, method="GET")
        assert (status, fault["error"]["code"]) == (404, "switched_off") and "[learning]" in fault["error"]["hint"]
