"""Routes and fields by which clients of other servers know theirs, against a worker process."""

from __future__ import annotations

import json
import threading
import time
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
    assert "echo, slow, dies" in fault["error"]["hint"]
    status, fault = post(worker, "/detokenize", model="echo", tokens=[999])
    assert (status, fault["error"]["param"]) == (400, "tokens")


def test_what_a_tokenizer_on_the_other_side_must_know(worker: Worker) -> None:
    status, _, body = worker.request("GET", "/tokenizer_info?model=echo")
    told = json.loads(body)
    assert (status, told["model_max_length"], told["bos_token_id"]) == (200, 4096, None)
    assert told["eos_token"] == "<|end|>"
    asked = {"model": "echo", "prompt": told["eos_token"]}
    bare = post(worker, "/tokenize", **asked, add_special_tokens=False)[1]
    assert (bare["count"], bare["tokens"]) == (1, [told["eos_token_id"]])
    assert post(worker, "/tokenize", **asked)[1]["count"] == len(told["eos_token"]), "a prompt has no control tokens"
    assert worker.request("GET", "/tokenizer_info")[0] == 400, "it serves three"


def test_what_others_ask_a_server(worker: Worker) -> None:
    assert worker.request("GET", "/ping", headers={"authorization": ""})[0] == 200
    assert json.loads(worker.request("GET", "/version")[2])["server"] == "ashore"
    assert worker.request("GET", "/version", headers={"authorization": ""})[0] == 401
    listed = [json.loads(worker.request("GET", "/v1/models")[2])["data"][0] for _ in range(2)]
    assert listed[0] == listed[1]
    assert (listed[0]["id"], listed[0]["created"], listed[0]["owned_by"]) == ("echo", 1, "ashore")
    assert listed[0]["context_length"] == listed[0]["max_model_len"] == 4096


def test_a_server_without_a_shared_cache_has_no_figure_of_one(worker: Worker) -> None:
    page = worker.request("GET", "/metrics")[2].decode()
    assert "\nashore_cache_bytes " in page
    assert "\nashore_shared_cache_up " not in page, "0 would raise the alert"


def test_a_browser_gets_a_page_that_says_how_to_ask(worker: Worker) -> None:
    nobody = {"authorization": "", "host": "models.corp<b>"}
    status, headers, page = worker.request("GET", "/", headers=nobody)
    assert status == 200 and "text/html" in headers["content-type"]
    assert "default-src 'none'" in headers["content-security-policy"]
    text = page.decode()
    assert "/v1/chat/completions" in text and "<code>echo</code>" in text
    assert "models.corp" not in text and "<b>" not in text, "only a host that HTML and a shell read as text is shown"
    _, _, shown = worker.request("GET", "/", headers=nobody | {"host": "models.corp:8080"})
    assert "models.corp:8080/v1" in shown.decode()
    assert "/admin/" not in text and "<script" not in text and "src=" not in text
    status, _, nothing = worker.request("HEAD", "/", headers=nobody)
    assert (status, nothing) == (200, b"")


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
    assert post(worker, "/v1/chat/completions", **chat, stop_token_ids=[98], ignore_eos=True)[0] == 200
    status, fault = post(worker, "/v1/chat/completions", **chat, stop_token_ids=[999])
    assert (status, fault["error"]["param"]) == (400, "stop_token_ids")


def test_token_ids_and_names_of_tokens_are_those_of_vllm(worker: Worker) -> None:
    asked = {"model": "echo", "prompt": "abc", "max_tokens": 2, "return_token_ids": True}
    [choice] = post(worker, "/v1/completions", **asked)[1]["choices"]
    assert (choice["text"], choice["token_ids"], choice["logprobs"]) == ("ab", [97, 98], None)
    assert choice["stop_reason"] is None
    for extra in ({"echo": True}, {"stop": "b"}):
        status, fault = post(worker, "/v1/completions", **asked, **extra)
        assert (status, fault["error"]["param"]) == (400, "return_token_ids")


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


X = [{"role": "user", "content": "x"}]
MANY = range(40_000)
HOSTILE: dict[str, tuple[str, dict[str, Any]]] = {
    "fields": (
        "/v1/chat/completions",
        {"messages": X, **{f"u{n}": 1 for n in range(400_000)}},
    ),
    "items": ("/v1/responses", {"input": [{"role": "user", "content": ""}] * 300_000}),
    "allowed": (
        "/v1/responses",
        {
            "input": "x",
            "tools": [{"type": "function", "name": f"a{n}"} for n in MANY],
            "tool_choice": {
                "type": "allowed_tools",
                "tools": [{"type": "function", "name": f"b{n}"} for n in MANY],
            },
        },
    ),
    "tokens": ("/detokenize", {"tokens": [120] * 999_999}),
    "pairs": ("/v1/rerank", {"query": "x", "documents": ["a"] * 2047}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nobody_waits_for_one_long_body(worker: Worker, name: str) -> None:
    path, body = HOSTILE[name]
    asked = threading.Thread(target=post, args=(worker, path), kwargs={"model": "echo", **body})
    asked.start()
    longest_s = 0.0
    while asked.is_alive():
        began_s = time.monotonic()
        assert worker.request("GET", "/healthz")[0] == 200
        longest_s = max(longest_s, time.monotonic() - began_s)
        time.sleep(0.01)
    asked.join()
    assert longest_s < 2.0  # 0.1 to 0.4 where nothing else runs; 3 to 30 where it was read on the loop
