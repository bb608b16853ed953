"""What clients of DeepSeek, vLLM, Jina and TEI ask, of the real demo model: one server for all of it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Served, call

pytestmark = pytest.mark.model
QUESTION = {"role": "user", "content": "What is the capital of France?"}

BEGUN = {"role": "assistant", "content": "The capital of France is the city of", "prefix": True}


@pytest.fixture(scope="module")
def began_s(demo_home: Path) -> float:
    """Before the server starts, and after its models came into the store."""
    return time.time()


@pytest.fixture(scope="module")
def server(began_s: float, served_for_all: Callable[..., Served]) -> Iterator[Served]:
    yield served_for_all()


def post(server: Served, path: str, **body: Any) -> Any:
    return call(server, "POST", path, server.key, body)


def chat(server: Served, **body: Any) -> Any:
    body = {"model": "smollm2", "messages": [QUESTION], "temperature": 0, "max_tokens": 24, **body}
    return post(server, "/v1/chat/completions", **body)["choices"][0]["message"]


def test_an_answer_goes_on_where_it_was_begun(server: Served) -> None:
    assert chat(server, messages=[QUESTION, BEGUN])["content"].lstrip().startswith("Paris")


def test_a_gap_is_a_clear_refusal_where_the_model_knows_none(server: Served) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(server, "/v1/completions", model="smollm2", prompt="def f(", suffix="return x")
    fault = json.load(caught.value)["error"]
    assert (caught.value.code, fault["param"]) == (400, "suffix")
    assert "Qwen-Coder" in fault["hint"]


def test_a_stop_token_ends_the_answer(server: Served) -> None:
    (paris,) = post(server, "/tokenize", model="smollm2", prompt=" Paris")["tokens"]
    assert post(server, "/detokenize", model="smollm2", tokens=[paris]) == {"prompt": " Paris"}
    assert "Paris" in chat(server, messages=[QUESTION, BEGUN])["content"]
    assert chat(server, messages=[QUESTION, BEGUN], stop_token_ids=[paris])["content"] == ""
    assert post(server, "/tokenize", model="smollm2", messages=[QUESTION])["count"] > 10


def test_a_small_model_writes_the_arguments_that_a_tool_declares(server: Served) -> None:
    parameters = {"type": "object", "properties": {"input": {"type": "integer"}}, "required": ["input"]}
    tools = [
        {"type": "function", "function": {"name": "magic", "description": "Apply magic", "parameters": parameters}},
        {"type": "function", "function": {"name": "now", "description": "Tell the time"}},
    ]
    asked = [{"role": "user", "content": "What is magic of 3? Use the tool."}]
    for tool, keys in (("magic", {"input"}), ("now", set())):
        named = {"type": "function", "function": {"name": tool}}
        (made,) = chat(server, messages=asked, tools=tools, tool_choice=named, max_tokens=100)["tool_calls"]
        assert set(json.loads(made["function"]["arguments"])) == keys


def test_texts_are_ranked_by_meaning(server: Served) -> None:
    texts = ["interest rates rose", "a kitten rests on a rug", "the train is late"]
    ranked = post(server, "/v1/rerank", query="a cat sat on the mat", documents=texts)
    assert ranked["results"][0]["index"] == 1
    assert ranked["model"] == "minilm"
    assert ranked["results"][0]["relevance_score"] > ranked["results"][1]["relevance_score"] + 0.2


def test_a_model_is_as_old_as_its_files(server: Served, began_s: float) -> None:
    listed = call(server, "GET", "/v1/models", server.key)["data"]
    assert [one["id"] for one in listed] == ["smollm2", "minilm"]
    assert all(0 < one["created"] <= began_s for one in listed), "it is the same after the next start"


def test_a_board_made_for_vllm_is_filled(server: Served) -> None:
    chat(server)
    with urllib.request.urlopen(f"{server.root_url}/metrics", timeout=20) as answer:
        page = answer.read().decode()
    values = dict(line.rpartition(" ")[::2] for line in page.splitlines() if line.startswith("vllm:"))
    model = 'model_name="smollm2",engine="0"'
    assert float(values[f"vllm:e2e_request_latency_seconds_count{{{model}}}"]) > 0
    assert float(values[f"vllm:generation_tokens_total{{{model}}}"]) > 0
    assert 0 <= float(values[f"vllm:kv_cache_usage_perc{{{model}}}"]) <= 1
    assert any(name.startswith("vllm:cache_config_info{" + model) for name in values)
