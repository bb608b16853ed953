"""Routes and fields by which clients of other servers know theirs, against a worker process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from http_worker import Worker, http_worker
from waiting import eventually


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with http_worker(tmp_path_factory.mktemp("worker")) as one:
        yield one


def post(worker: Worker, path: str, **body: Any) -> Any:
    status, _, answer = worker.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    return status, json.loads(answer)


def test_tokens_there_and_back(worker: Worker) -> None:
    status, told = post(worker, "/tokenize", model="echo", prompt="你好", return_token_strs=True)
    assert (status, told["count"], told["max_model_len"]) == (200, 6, 4096)
    assert told["tokens"] == list("你好".encode())
    assert len(told["token_strs"]) == 6
    assert post(worker, "/detokenize", model="echo", tokens=told["tokens"]) == (200, {"prompt": "你好"})
    chat = [{"role": "user", "content": "abc"}]
    assert post(worker, "/tokenize", model="echo", messages=chat)[1]["tokens"] == list(b"abc")
    for body in ({"prompt": "a", "messages": chat}, {}):
        status, fault = post(worker, "/tokenize", model="echo", **body)
        assert (status, fault["error"]["param"]) == (400, "prompt")
    status, fault = post(worker, "/tokenize", prompt="a")
    assert (status, fault["error"]["param"]) == (400, "model")
    assert "dies, echo, slow" in fault["error"]["hint"]
    status, fault = post(worker, "/detokenize", model="echo", tokens=[999])
    assert (status, fault["error"]["param"]) == (400, "tokens")


def test_what_others_ask_a_server(worker: Worker) -> None:
    assert worker.request("GET", "/ping", headers={"authorization": ""})[0] == 200
    assert json.loads(worker.request("GET", "/version")[2])["server"] == "ashore"
    assert worker.request("GET", "/version", headers={"authorization": ""})[0] == 401
    listed = [json.loads(worker.request("GET", "/v1/models")[2])["data"][1] for _ in range(2)]
    assert listed[0] == listed[1]
    assert (listed[0]["id"], listed[0]["created"], listed[0]["owned_by"]) == ("echo", 1, "ashore")
    assert listed[0]["context_length"] == listed[0]["max_model_len"] == 4096


def test_a_begun_answer_is_taken_last_and_once(worker: Worker) -> None:
    asked, begun = {"role": "user", "content": "Say it"}, {"role": "assistant", "content": "It", "prefix": True}
    status, answer = post(worker, "/v1/chat/completions", model="echo", messages=[asked, begun])
    assert status == 200
    usage = answer["usage"]
    assert usage["prompt_cache_hit_tokens"] + usage["prompt_cache_miss_tokens"] == usage["prompt_tokens"]
    for messages in ([begun, asked], [{**asked, "prefix": True}]):
        status, fault = post(worker, "/v1/chat/completions", model="echo", messages=messages)
        assert status == 400 and "beginning of the answer" in fault["error"]["message"]
    status, fault = post(worker, "/v1/chat/completions", model="echo", messages=[asked], continue_final_message=True)
    assert status == 400


def test_a_gap_is_filled_from_both_sides(worker: Worker) -> None:
    status, answer = post(worker, "/v1/completions", model="echo", prompt="ab", suffix="cd", max_tokens=50)
    assert (status, answer["choices"][0]["text"]) == (200, "<PRE>ab<SUF>cd<MID>")
    assert post(worker, "/v1/completions", model="echo", prompt="ab", suffix="")[0] == 200
    for extra in ({"echo": True}, {"prompt": [1, 2]}):
        status, fault = post(worker, "/v1/completions", **{"model": "echo", "prompt": "ab", "suffix": "c", **extra})
        assert (status, fault["error"]["param"]) == (400, "suffix")


def test_stop_tokens_are_tokens_of_the_model(worker: Worker) -> None:
    chat = {"model": "echo", "messages": [{"role": "user", "content": "abc"}], "min_tokens": 0}
    assert post(worker, "/v1/chat/completions", **chat, stop_token_ids=[98])[0] == 200
    for extra in ({"stop_token_ids": [999]}, {"stop_token_ids": [98], "ignore_eos": True}):
        status, fault = post(worker, "/v1/chat/completions", **chat, **extra)
        assert (status, fault["error"]["param"]) == (400, "stop_token_ids")


def test_the_names_of_vllm_stand_beside_ours(worker: Worker) -> None:
    name = 'vllm:request_success_total{model_name="echo",engine="0",finished_reason="stop"}'
    before = worker.metric(name)
    post(worker, "/v1/chat/completions", model="echo", messages=[{"role": "user", "content": "count me"}])
    assert worker.metric(name) == before + 1
    for path in ("/metrics", "/v1/metrics"):
        page = worker.request("GET", path)[2]
        for expected in (
            b"vllm:num_requests_waiting{", b"vllm:request_queue_time_seconds_bucket{",
            b"vllm:request_generation_tokens_sum{", b"ashore_answer_seconds_count{", b"ashore_answers_total{",
        ):  # fmt: skip
            assert expected in page


def test_a_refusal_says_what_to_do_where_clients_look(worker: Worker) -> None:
    _, fault = post(worker, "/v1/chat/completions", model="ecko", messages=[{"role": "user", "content": "a"}])
    hint = fault["error"]["hint"]
    assert hint and fault["error"]["message"].endswith(f". Hint: {hint}")
    assert fault["error"]["message"].count(hint) == 1
    _, told = post(worker, "/v1/messages", model="ecko", max_tokens=1, messages=[{"role": "user", "content": "a"}])
    assert told["error"]["message"] == fault["error"]["message"]
    for method, path, allowed in (
        ("GET", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/v1/files/file-1", "DELETE, GET"),
    ):
        status, headers, _ = worker.request(method, path)
        assert (status, headers["allow"]) == (405, allowed)


def test_the_trace_of_a_caller_comes_back_and_is_logged(worker: Worker) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    given = f"00-{trace}-00f067aa0ba902b7-01"
    _, headers, _ = worker.request("GET", "/v1/models", headers={"traceparent": given})
    assert headers["traceparent"] == given
    assert "traceparent" not in worker.request("GET", "/v1/models", headers={"traceparent": "broken"})[1]
    eventually(lambda: f'"trace":"{trace}"' in worker.said())


def test_texts_are_sorted_by_how_well_they_answer(worker: Worker) -> None:
    documents = ["one", {"text": "what"}, "three"]
    sent = json.dumps({"model": "echo", "query": "what", "documents": documents, "top_n": 2, "max_chunks_per_doc": 3})
    status, headers, said = worker.request("POST", "/v1/rerank", sent)
    answer = json.loads(said)
    assert status == 200
    assert headers["x-ashore-score"] == "embedding-cosine"
    assert headers["x-ashore-ignored"] == "max_chunks_per_doc"
    best, second = answer["results"]
    assert (best["index"], best["document"]) == (1, {"text": "what"})
    assert best["relevance_score"] == pytest.approx(1)
    assert -1 <= second["relevance_score"] <= best["relevance_score"]
    assert answer["usage"]["total_tokens"] == len("what" + "one" + "what" + "three")
    bare = post(worker, "/v1/rerank", model="echo", query="a", documents=["a"], return_documents=False)[1]
    assert set(bare["results"][0]) == {"index", "relevance_score"}


def test_tei_gets_a_list_and_vllm_pairs(worker: Worker) -> None:
    status, ranked = post(worker, "/rerank", model="echo", query="b", texts=["a", "b"], return_text=True)
    assert status == 200
    assert [(one["index"], one["text"]) for one in ranked] == [(1, "b"), (0, "a")]
    assert "text" not in post(worker, "/rerank", model="echo", query="b", texts=["a"])[1][0]
    one = post(worker, "/v1/score", model="echo", text_1="a", text_2=["b", "a"])[1]["data"]
    assert [pair["index"] for pair in one] == [0, 1]
    assert one[1]["score"] == pytest.approx(1)
    assert one[0]["score"] < 0.99
    many = post(worker, "/v1/score", model="echo", text_1=["a", "b"], text_2=["a", "b"])[1]["data"]
    assert [pair["score"] for pair in many] == [pytest.approx(1)] * 2


def test_what_cannot_be_ranked_is_named(worker: Worker) -> None:
    for path, body, param in (
        ("/v1/rerank", {"query": "a", "documents": ["b"]}, "model"),
        ("/v1/rerank", {"model": "echo", "query": "a"}, "documents"),
        ("/v1/rerank", {"model": "echo", "query": "a", "documents": ["b", ""]}, "documents[1]"),
        ("/v1/rerank", {"model": "echo", "query": "", "documents": ["b"]}, "query"),
        ("/rerank", {"model": "echo", "query": "a", "texts": ["b" * 5000]}, "texts[0]"),
        ("/v1/score", {"model": "echo", "text_1": ["a", "b"], "text_2": ["c"]}, "text_1"),
        ("/v1/score", {"model": "echo", "text_1": "a", "text_2": [""]}, "text_2[0]"),
    ):
        status, fault = post(worker, path, **body)
        assert (status, fault["error"]["param"]) == (400, param), body
