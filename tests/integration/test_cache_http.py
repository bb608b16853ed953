"""Kept answers over HTTP: headers, streams, ready bytes, purges from another process, a shared Valkey that dies."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from http_worker import Worker, http_worker, state_link
from valkey_server import ValkeyServer, free_port
from waiting import eventually

from ashore.data.cache import RedisSection, purge, read_pairs, save_pairs
from ashore.kit.state import Database


@pytest.fixture
def worker(tmp_path: Path, state: Database) -> Iterator[Worker]:
    with http_worker(tmp_path / "run", state=state_link(tmp_path)) as made:
        yield made


def body(text: str = "hello", **fields: Any) -> str:
    return json.dumps({"model": "echo", "messages": [{"role": "user", "content": text}], "temperature": 0, **fields})


def post(worker: Worker, text: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return worker.request("POST", "/v1/chat/completions", text, {"content-type": "application/json", **named})


def label(worker: Worker, text: str, **headers: str) -> str:
    status, given, _ = post(worker, text, **headers)
    assert status == 200
    return given["x-ashore-cache"]


def test_the_same_bytes_are_answered_three_ways_and_alike(worker: Worker) -> None:
    answers = [post(worker, body()) for _ in range(3)]
    assert [given["x-ashore-cache"] for _, given, _ in answers] == ["miss", "hit-exact", "hit-exact"]
    assert "age" not in answers[0][1]
    assert answers[1][1]["x-ashore-cache-entry"] == answers[2][1]["x-ashore-cache-entry"]
    assert all(int(given["age"]) >= 0 for _, given, _ in answers[1:])
    contents = {json.loads(said)["choices"][0]["message"]["content"] for _, _, said in answers}
    assert contents == {"hello"}
    usages = {json.dumps(json.loads(said)["usage"]["completion_tokens"]) for _, _, said in answers}
    assert usages == {"5"}
    assert len({given["x-request-id"] for _, given, _ in answers}) == 3
    assert worker.metric('ashore_cache_lookups_total{model="echo",result="hit-exact"}') == 2


def test_what_an_answer_lacks_is_said_with_a_kept_one_too(worker: Worker) -> None:
    text = body("hullo", max_tokens=32_000, client_metadata={"a": 1})
    reworded = body("hullo", max_tokens=32_000, client_metadata={"a": 2})
    answers = [post(worker, one)[1] for one in (text, text, text, reworded)]
    assert [given["x-ashore-cache"] for given in answers] == ["miss", "hit-exact", "hit-exact", "hit-exact"]
    assert {(given["x-ashore-clamped"], given["x-ashore-ignored"]) for given in answers} == {
        ("max_tokens=4091", "client_metadata")
    }


def test_a_stream_is_kept_and_streamed_again_and_serves_whole_answers_too(worker: Worker) -> None:
    client = openai.OpenAI(base_url=worker.root + "/v1", api_key=worker.key)
    try:
        for _ in range(3):
            stream = client.chat.completions.create(
                model="echo", messages=[{"role": "user", "content": "hällo 你好"}], temperature=0, stream=True
            )
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == "hällo 你好"
        whole = client.chat.completions.with_raw_response.create(
            model="echo", messages=[{"role": "user", "content": "hällo 你好"}], temperature=0
        )
        assert whole.headers["x-ashore-cache"] == "hit-exact"
        assert whole.parse().choices[0].message.content == "hällo 你好"
    finally:
        client.close()


def test_anthropic_clients_share_the_answer_and_get_their_own_form(worker: Worker) -> None:
    post(worker, body("hi", max_tokens=9))
    client = anthropic.Anthropic(base_url=worker.root, api_key=worker.key)
    try:
        for _ in range(3):
            given = client.messages.with_raw_response.create(
                model="echo", messages=[{"role": "user", "content": "hi"}], max_tokens=9, extra_body={"temperature": 0}
            )
            assert given.headers["x-ashore-cache"] == "hit-exact"
            assert given.headers["request-id"]
            assert given.parse().content[0].text == "hi"  # type: ignore[union-attr]
    finally:
        client.close()


def test_what_the_headers_keep_out(worker: Worker) -> None:
    assert label(worker, body()) == "miss"
    assert label(worker, body(), cache_control="no-store") == "miss"
    assert label(worker, body(), cache_control="no-cache") == "miss"
    assert label(worker, body(), x_ashore_cache="off") == "miss"
    assert label(worker, body(), cache_control="max-age=60") == "hit-exact"
    assert label(worker, body(temperature=1)) == "miss"
    assert label(worker, body(temperature=1), x_ashore_cache="use") == "miss"
    assert label(worker, body(temperature=1), x_ashore_cache="use") == "hit-exact"
    status, _, said = post(worker, body(), x_ashore_cache="yes")
    assert status == 400
    assert b"use or off" in said


def test_a_wrong_key_gets_nothing_of_what_is_ready(worker: Worker) -> None:
    for _ in range(3):
        post(worker, body())
    answer = httpx.post(
        worker.root + "/v1/chat/completions", content=body(), headers={"authorization": "Bearer ash_wrong"}
    )
    assert answer.status_code == 401


def test_a_purge_by_another_process_holds_within_200_ms(worker: Worker, state: Database) -> None:
    for what in ({}, {"tenant": "default"}, {"alias": "echo"}):
        for _ in range(3):
            post(worker, body())
        with state.write() as connection:
            purge(connection, **what)
        time.sleep(0.3)
        assert label(worker, body()) == "miss"
    for what in ({"tenant": "other"}, {"alias": "slow"}):
        with state.write() as connection:
            purge(connection, **what)
        time.sleep(0.3)
        assert label(worker, body()) == "hit-exact"


def test_curated_pairs_come_and_go_while_it_runs(worker: Worker, state: Database) -> None:
    line = b'{"question": "When do you open?", "answer": "At nine."}'
    assert label(worker, body("when do you open")) == "miss"
    with state.write() as connection:
        save_pairs(connection, read_pairs([line], now_s=time.time()))
    eventually(lambda: post(worker, body("when do you open"))[1]["x-ashore-precision"] == "curated")
    for _ in range(3):
        _, given, said = post(worker, body("when do you open"))
        assert given["x-ashore-precision"] == "curated"
        assert json.loads(said)["choices"][0]["message"]["content"] == "At nine."


def test_errors_are_not_kept(worker: Worker) -> None:
    for _ in range(3):
        status, given, _ = post(worker, body("x" * 9000))
        assert status == 400
        assert "x-ashore-cache" not in given
    for _ in range(3):
        status, _, _ = worker.request("POST", "/v1/chat/completions", body().replace("echo", "nobody"))
        assert status == 404


def test_two_workers_share_answers_and_go_on_without_the_server(tmp_path: Path, state: Database) -> None:
    server = ValkeyServer(tmp_path, port=free_port()).start()
    redis = RedisSection(url=server.url, timeout_ms=100)
    try:
        with (
            http_worker(tmp_path / "one", state=state_link(tmp_path), redis=redis) as one,
            http_worker(tmp_path / "two", state=state_link(tmp_path), redis=redis, first_key=one.key) as two,
        ):
            assert label(one, body()) == "miss"
            time.sleep(0.2)
            assert label(two, body()) == "hit-exact"
            server.kill()
            took_s = []
            for number in range(30):
                began_s = time.perf_counter()
                assert label(two, body(f"after {number}")) == "miss"
                assert label(two, body(f"after {number}")) == "hit-exact"
                took_s.append(time.perf_counter() - began_s)
            assert statistics.median(took_s) < 1.0
            assert one.metric("ashore_shared_cache_up") in (0.0, 1.0)
            assert two.metric("ashore_shared_cache_up") == 0.0
            server.start()
            eventually(lambda: two.metric("ashore_shared_cache_up") == 1.0)
            assert label(two, body("back")) == "miss"
            eventually(lambda: label(one, body("back")) == "hit-exact")
    finally:
        server.kill()


def test_what_a_tenant_and_a_model_have_is_shown_and_goes_with_a_purge(worker: Worker, state: Database) -> None:
    def shown(query: str = "") -> dict[str, Any]:
        status, _, said = worker.request("GET", "/admin/v1/cache" + query)
        assert status == 200, said
        return dict(json.loads(said))

    def purged(**what: str) -> None:
        with state.write() as connection:
            purge(connection, **what)
        time.sleep(0.4)

    names = [post(worker, body())[1].get("x-ashore-cache-entry", "") for _ in range(3)]
    assert label(worker, body().replace('"echo"', '"slow"')) == "miss"
    rows = {(one["tenant"], one["model"]): one for one in shown()["shares"]}
    assert set(rows) == {("default", "echo"), ("default", "slow")}
    assert {name: rows["default", "echo"][name] for name in ("lookups", "misses", "hits_exact", "entries")} == {
        "lookups": 3, "misses": 1, "hits_exact": 2, "entries": 2,
    }  # fmt: skip
    one = shown("?model=slow&tenant=default")
    assert ([share["model"] for share in one["shares"]], one["items"][0]["lookups"]) == (["slow"], 1)
    assert worker.request("GET", "/admin/v1/cache?tenant=nobody")[0] == 404
    (held,) = shown(f"?entry={names[1]}")["held"]
    assert (held["entry"], held["tenant"], held["model"], held["release"]) == (names[1], "default", "echo", "echo-1")
    assert worker.request("GET", "/admin/v1/cache?colour=red")[0] == 400
    purged(entry_id=names[1])
    assert shown(f"?entry={names[1]}")["held"] == []
    assert [share["entries"] for share in shown("?model=echo")["shares"]] == [0]
    assert label(worker, body()) == "miss"
    assert shown("?model=slow")["items"][0]["entries"] == 1
    purged()
    assert [share["entries"] for share in shown()["shares"]] == [0, 0]


def test_without_a_key_this_machine_sees_figures_and_no_names_and_only_by_its_own_name(worker: Worker) -> None:
    def look(path: str, **headers: str) -> tuple[int, bytes]:
        status, _, said = worker.request("GET", path, None, {"authorization": "", **headers})
        return status, said

    label(worker, body())
    for path in ("/metrics", "/admin/v1/cache", "/openapi.json"):
        for host in ("127.0.0.1:8080", "localhost", "[::1]:8080", "LOCALHOST:1"):
            assert look(path, host=host)[0] == 200, (path, host)
        for host in (
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil",
        ):
            status, said = look(path, host=host)
            assert status == 403 and b"names the host" in said, (path, host)
            assert worker.request("GET", path, None, {"host": host})[0] == 200, "with a key that may, any name will do"
    status, said = look("/admin/v1/cache")
    assert (status, json.loads(said)["shares"]) == (200, []) and b"default" not in said
    assert look("/admin/v1/cache?tenant=default")[0] == 403
    assert json.loads(worker.request("GET", "/admin/v1/cache")[2])["shares"], "the first key sees whose they are"
