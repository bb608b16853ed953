"""The official clients, unchanged, against a worker process."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from http_worker import Worker, http_worker
from waiting import eventually


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with http_worker(tmp_path_factory.mktemp("worker")) as one:
        yield one


@pytest.fixture(scope="module")
def client(worker: Worker) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{worker.root}/v1", api_key=worker.key, max_retries=0, timeout=20) as one:
        yield one


@pytest.fixture(scope="module")
def claude(worker: Worker) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=worker.root, api_key=worker.key, max_retries=0, timeout=20) as one:
        yield one


def user(text: Any) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_chat_streams_and_counts(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="echo", messages=user("Grüezi 你好 🙂"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Grüezi 你好 🙂"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 2 * len("Grüezi 你好 🙂".encode())
    assert len({c.id for c in chunks}) == 1


def test_moderations_have_the_form_of_openai(client: openai.OpenAI) -> None:
    made = client.moderations.create(input=["Hi", "there"], model="omni-moderation-latest")
    assert made.id.startswith("modr-") and [one.flagged for one in made.results] == [False, False]
    assert made.results[0].categories.self_harm_intent is False and made.results[0].category_scores.violence == 0
    parts: list[Any] = [{"type": "text", "text": "one"}, {"type": "text", "text": "message"}]
    assert len(client.moderations.create(input=parts).results) == 1
    picture: list[Any] = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    with pytest.raises(openai.BadRequestError, match="has a picture"):
        client.moderations.create(input=picture)


def test_what_changes_nothing_is_left_out_and_named(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    whole = client.chat.completions.with_raw_response.create(
        model="echo", messages=user("Hi"), extra_body={"usage": {"include": True}, "seed": None}
    )
    assert whole.headers["x-ashore-ignored"] == "usage"
    streamed = client.chat.completions.with_raw_response.create(
        model="echo", messages=user("Hi"), stream=True, extra_body={"keep_alive": "5m"}
    )
    assert streamed.headers["x-ashore-ignored"] == "keep_alive"
    message = claude.messages.with_raw_response.create(
        model="echo", max_tokens=9, messages=user("Hi"), extra_body={"context_management": {}, "of_tomorrow": 1}
    )
    assert message.headers["x-ashore-ignored"] == "context_management, of_tomorrow"
    response = client.responses.with_raw_response.create(
        model="echo", input=user("Hi"), extra_body={"client_metadata": {"a": "b"}}
    )
    assert response.headers["x-ashore-ignored"] == "client_metadata"
    assert (
        "x-ashore-ignored"
        not in client.chat.completions.with_raw_response.create(model="echo", messages=user("Hi")).headers
    )


def test_chat_whole_with_every_parameter(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="echo",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "bc. d"}]},
        ],
        temperature=0.5,
        top_p=0.9,
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        logit_bias={"65": -100},
        seed=-7,
        stop=["."],
        n=2,
        max_completion_tokens=10,
        logprobs=True,
        top_logprobs=2,
        user="someone",
        store=True,
        metadata={"a": "b"},
        service_tier="auto",
        parallel_tool_calls=True,
        reasoning_effort="low",
        verbosity="low",
        modalities=["text"],
        prompt_cache_key="k",
        prompt_cache_retention="24h",
        prompt_cache_options={},
        extra_body={"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "ignore_eos": False},
        extra_headers={"x-ashore-priority": "5", "x-ashore-deadline-ms": "10000", "x-request-id": "my-id"},
    )
    assert [c.message.content for c in answer.choices] == ["abc", "abc"]
    assert answer.id == "chatcmpl-my-id"
    first = answer.choices[0].logprobs
    assert first is not None
    assert first.content is not None
    assert first.content[0].token == "a"
    assert len(first.content[0].top_logprobs) == 2
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.completion_tokens_details is not None


def test_what_the_model_said_can_be_sent_back(client: openai.OpenAI) -> None:
    said = client.chat.completions.create(model="echo", messages=user("x")).choices[0].message
    history = [*user("x"), said.model_dump(), *user("y")]
    assert client.chat.completions.create(model="echo", messages=history).choices[0].message.content == "y"


def test_headers_tell_what_answered(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="echo", messages=user("x"))
    assert raw.headers["x-ashore-release"] == "echo-1"
    assert raw.headers["x-ashore-precision"] == "none"
    assert raw.headers["x-ashore-cache"] == "miss"
    assert raw.headers["x-request-id"].startswith("req_")


def test_plain_completions(client: openai.OpenAI) -> None:
    assert client.completions.create(model="echo", prompt="abc").choices[0].text == "abc"
    assert client.completions.create(model="echo", prompt=[97, 98]).choices[0].text == "ab"
    several = client.completions.create(model="echo", prompt=["ab", "cd"], echo=True, n=2, max_tokens=1)
    assert [c.text for c in several.choices] == ["aba", "aba", "cdc", "cdc"]
    assert [c.finish_reason for c in several.choices] == ["length"] * 4
    with_logprobs = client.completions.create(model="echo", prompt="ab", logprobs=2).choices[0].logprobs
    assert with_logprobs is not None
    assert with_logprobs.tokens == ["a", "b"]
    assert with_logprobs.text_offset == [0, 1]
    scored = client.completions.create(model="echo", prompt="abc", echo=True, max_tokens=0, logprobs=2).choices[0]
    assert (scored.text, scored.finish_reason) == ("abc", "length")
    assert scored.logprobs is not None and scored.logprobs.tokens == ["a", "b", "c"]
    assert scored.logprobs.token_logprobs is not None and scored.logprobs.token_logprobs[0] is None
    assert scored.logprobs.top_logprobs is not None and scored.logprobs.top_logprobs[0] is None
    assert scored.logprobs.token_logprobs[1:] == [-0.1, -0.1] and scored.logprobs.text_offset == [0, 1, 2]
    with pytest.raises(openai.BadRequestError, match="without a stream"):
        client.completions.create(model="echo", prompt="a" * 16_385, echo=True, logprobs=0, stream=True)
    both = client.completions.create(model="echo", prompt="ab", echo=True, max_tokens=1, logprobs=0).choices[0]
    assert both.logprobs is not None
    assert (both.text, both.logprobs.tokens, both.logprobs.text_offset) == ("aba", ["a", "b", "a"], [0, 1, 2])
    streamed = list(client.completions.create(model="echo", prompt="abc", stream=True, logprobs=0))
    assert "".join(c.choices[0].text for c in streamed) == "abc"
    assert [c.choices[0].logprobs.text_offset for c in streamed if c.choices[0].logprobs] == [[0], [1], [2]]


def test_embeddings_as_numbers_and_as_base64(client: openai.OpenAI, worker: Worker) -> None:
    numbers = client.embeddings.create(model="echo", input=["a", "b"], encoding_format="float")
    assert [d.index for d in numbers.data] == [0, 1]
    text = client.embeddings.create(model="echo", input=["a", "b"], encoding_format="base64")
    raw = base64.b64decode(str(text.data[1].embedding))
    assert struct.unpack("<8f", raw) == pytest.approx(numbers.data[1].embedding, abs=1e-6)
    plain = client.embeddings.create(model="echo", input="a", dimensions=4)  # the client asks for base64 by itself
    assert len(plain.data[0].embedding) == 4
    assert plain.usage.prompt_tokens == 1


def test_models(client: openai.OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["echo", "slow", "dies"], "in the order of the file"
    echo = client.models.retrieve("echo")
    assert echo.owned_by == "ashore"
    assert echo.model_dump()["max_model_len"] == echo.model_dump()["context_tokens"] == 4096
    with pytest.raises(openai.NotFoundError) as unknown:
        client.models.retrieve("ecko")
    assert "did you mean 'echo'" in str(unknown.value.body)


def test_errors_are_the_clients_own(client: openai.OpenAI, worker: Worker) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-4", messages=user("x"))
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model="echo", messages=user("x" * 5000))
    assert long.value.code == "context_length_exceeded"
    assert "5000" in long.value.message
    assert "4096" in long.value.message
    clamped = client.chat.completions.with_raw_response.create(model="echo", messages=user("hello"), max_tokens=32_000)
    assert clamped.headers["x-ashore-clamped"] == "max_tokens=4091"
    with (
        openai.OpenAI(base_url=f"{worker.root}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError) as denied,
    ):
        stranger.models.list()
    assert denied.value.code == "invalid_api_key"


def test_a_stream_that_breaks_off_is_an_error_and_never_done(client: openai.OpenAI, worker: Worker) -> None:
    stream = client.chat.completions.create(model="dies", messages=user("hello world"), stream=True)
    seen = ""
    with pytest.raises(openai.APIError, match="host died"):
        for chunk in stream:
            seen += chunk.choices[0].delta.content or ""
    assert seen and "hello world".startswith(seen) and seen != "hello world"
    body = json.dumps({"model": "dies", "messages": user("hello world"), "stream": True})
    _, _, raw = worker.request("POST", "/v1/chat/completions", body)
    assert b'"code":"host_died"' in raw
    assert b"[DONE]" not in raw
    assert b'"finish_reason":"stop"' not in raw


def test_whole_answers_that_break_off_are_errors_with_a_status(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as broken:
        client.chat.completions.create(model="dies", messages=user("hello world"))
    assert broken.value.status_code == 503


def test_anthropic_whole(claude: anthropic.Anthropic) -> None:
    answer = claude.messages.create(
        model="echo",
        max_tokens=100,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=user([{"type": "text", "text": "one two"}]),
        stop_sequences=[" tw"],
        metadata={"user_id": "x"},
        extra_body={"temperature": 0.2, "top_k": 5, "top_p": 0.9},
    )
    assert answer.content[0].type == "text"
    assert answer.content[0].text == "one"
    assert answer.stop_reason == "stop_sequence"
    assert answer.stop_sequence == " tw"
    assert answer.usage.input_tokens == 7
    short = claude.messages.create(model="echo", max_tokens=2, messages=user("abc"))
    assert short.stop_reason == "max_tokens"


def test_anthropic_streams(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model="echo", max_tokens=100, messages=user("hällo")) as stream:
        assert "".join(stream.text_stream) == "hällo"
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == 6


def test_anthropic_history_with_tools(claude: anthropic.Anthropic) -> None:
    tool = {"name": "weather", "description": "d", "input_schema": {"type": "object", "properties": {}}}
    answer = claude.messages.create(
        model="echo",
        max_tokens=10,
        tools=[tool],  # type: ignore[list-item]
        tool_choice={"type": "auto"},
        messages=[
            {"role": "user", "content": "how is it?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me look."},
                    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bern"}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}]},
        ],
    )
    assert answer.content[0].type == "text"
    assert answer.content[0].text == "sunny"


def test_anthropic_counts(claude: anthropic.Anthropic) -> None:
    assert claude.messages.count_tokens(model="echo", messages=user("x" * 9000)).input_tokens == 9000


def test_anthropic_errors(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        claude.messages.create(model="ecko", max_tokens=5, messages=user("x"))
    assert unknown.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    with pytest.raises(anthropic.BadRequestError, match="image"):
        claude.messages.create(model="echo", max_tokens=5, messages=user([{"type": "image", "source": {}}]))
    with pytest.raises(anthropic.APIStatusError, match="host died"):  # noqa: SIM117 - the stream must be read inside
        with claude.messages.stream(model="dies", max_tokens=100, messages=user("hello world")) as stream:
            list(stream.text_stream)


def test_tool_calls_reach_both_clients(client: openai.OpenAI, claude: anthropic.Anthropic, worker: Worker) -> None:
    """A required tool is enforced; over an echo we only see that the schema arrives, so a bad one is refused."""
    bad = {"type": "function", "function": {"name": "f", "parameters": {"type": "no-such-type"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="echo", messages=user("x"), tools=[bad], tool_choice="required")  # type: ignore[list-item]
    assert refused.value.code == "invalid_grammar"
    with pytest.raises(openai.BadRequestError) as schema:
        client.chat.completions.create(
            model="echo",
            messages=user("x"),
            response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "nope"}}},
        )
    assert schema.value.code == "invalid_grammar"
    fine = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}
    assert client.chat.completions.create(model="echo", messages=user("{}"), response_format=fine)  # type: ignore[call-overload]


def test_openapi_is_whole(worker: Worker) -> None:
    status, _, body = worker.request("GET", "/openapi.json")
    assert status == 200
    document = json.loads(body)
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) >= {"/v1/chat/completions", "/v1/messages", "/v1/models/{model}", "/healthz"}
    names = set(document["components"]["schemas"])

    def refs(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for value in node.values():
                yield from refs(value)
        elif isinstance(node, list):
            for value in node:
                yield from refs(value)

    assert {ref.removeprefix("#/components/schemas/") for ref in refs(document)} <= names
    assert {"ChatRequest", "MessagesRequest"} <= names
    operations = [op["operationId"] for path in document["paths"].values() for op in path.values()]
    assert len(operations) == len(set(operations))


def test_the_access_log_has_no_word_of_a_prompt(worker: Worker, client: openai.OpenAI, tmp_path: Path) -> None:
    client.chat.completions.create(model="echo", messages=user("a-very-secret-word"))
    eventually(lambda: '"route":"/v1/chat/completions"' in worker.said())
    assert '"by":"first-key"' in worker.said()
    assert "secret" not in worker.said()
    assert worker.key not in worker.said()
