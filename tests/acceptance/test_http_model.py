"""The parameters of the HTTP interface on the real demo model, through the official clients."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pydantic
import pytest
from served import Served, start_served

pytestmark = pytest.mark.model

FRANCE: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = start_served(
        tmp_path_factory.mktemp("home"),
        ["smollm2"],
        store=demo_home / "store",
        port=_free_port(),
        grpc_port=_free_port(),
    )
    yield one
    one.stop()


@pytest.fixture(scope="module")
def ask(server: Served) -> Iterator[Callable[..., Any]]:
    with openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0, timeout=60) as client:

        def create(messages: list[Any] = FRANCE, **fields: Any) -> Any:
            fields = {"temperature": 0, "max_tokens": 40, **fields}
            return client.chat.completions.create(model="smollm2", messages=messages, **fields)

        yield create


@pytest.fixture
def client(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0, timeout=60) as one:
        yield one


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"guided_choice": ["Paris", "Rome"]}, r"Paris|Rome"),
        ({"guided_regex": "[A-Z]{3}-[0-9]{2}"}, r"[A-Z]{3}-[0-9]{2}"),
        ({"guided_grammar": 'root ::= "yes" | "no, " [a-c]'}, r"yes|no, [a-c]"),
        ({"response_format": {"type": "grammar", "grammar": 'start: "(" /[0-9]{1,3}/ ")"'}}, r"\([0-9]{1,3}\)"),
    ],
)
def test_an_answer_is_of_the_language_that_vllms_clients_ask_for(
    ask: Callable[..., Any], sent: dict[str, Any], expected: str
) -> None:
    answer = ask(extra_body=sent).choices[0]
    assert answer.finish_reason == "stop" and re.fullmatch(expected, answer.message.content), answer


def test_a_generator_ranks_by_yes_against_no(server: Served) -> None:
    body = {
        "model": "smollm2",
        "query": "What is the capital of France?",
        "documents": ["Paris is the capital of France.", "Bananas are yellow."],
    }
    headers = {"authorization": f"Bearer {server.key}"}
    answer = httpx.post(f"{server.base_url}/rerank", json=body, headers=headers, timeout=60)
    assert (answer.status_code, answer.headers["x-ashore-score"]) == (200, "yes-no")
    scores = [one["relevance_score"] for one in answer.json()["results"]]
    assert all(0 < score < 1 for score in scores) and scores == sorted(scores, reverse=True)


class City(pydantic.BaseModel):
    """What the model shall say."""

    name: str
    population: int


class GetWeather(pydantic.BaseModel):
    """Get the weather of a city."""

    city: str


def text(answer: Any, choice: int = 0) -> str:
    return str(answer.choices[choice].message.content)


def test_paris_streamed_and_whole(ask: Callable[..., Any]) -> None:
    whole = text(ask())
    assert "Paris" in whole
    streamed = "".join(c.choices[0].delta.content or "" for c in ask(stream=True) if c.choices)
    assert streamed == whole


def test_a_request_that_says_no_temperature_is_answered_as_the_makers_recommend(
    ask: Callable[..., Any], server: Served
) -> None:
    question = [{"role": "user", "content": "Name the capital of France in a full sentence."}]
    answers = [text(ask(question, temperature=openai.omit, seed=seed)) for seed in range(12)]
    assert all("Paris" in answer for answer in answers), "at temperature 0.2 40 of 40 were right, at 1 27"
    with httpx.Client(base_url=server.base_url, headers={"authorization": f"Bearer {server.key}"}) as api:
        said = api.get("/models/smollm2").json()
        body = {"model": "smollm2", "messages": FRANCE, "max_tokens": 8, "seed": 7}
        kept = [api.post("/chat/completions", json=body).headers["x-ashore-cache"] for _ in range(2)]
    assert said["sampling_defaults"] == {"temperature": 0.2, "top_p": 0.9}
    assert said["sampling_defaults_from"] == "catalogue"
    assert kept == ["miss", "miss"], "0.2 is above what the cache keeps"


def test_json_schema_is_kept(ask: Callable[..., Any]) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "large": {"type": "boolean"}},
        "required": ["city", "large"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}
    said = json.loads(text(ask(response_format=form, temperature=1.5, seed=3, max_tokens=80)))
    assert set(said) == {"city", "large"}
    assert isinstance(said["large"], bool)


def test_a_required_tool_is_called(ask: Callable[..., Any], server: Served) -> None:
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    }
    tools = [
        {
            "type": "function",
            "function": {"name": "get_weather", "description": "Tell the weather", "parameters": parameters},
        }
    ]
    question = [{"role": "user", "content": "How is the weather in Paris?"}]
    answer = ask(question, tools=tools, tool_choice="required", max_tokens=100)
    call = answer.choices[0].message.tool_calls[0]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"city"}
    pieces = [
        piece
        for chunk in ask(question, tools=tools, tool_choice="required", max_tokens=100, stream=True)
        for piece in chunk.choices[0].delta.tool_calls or ()
    ]
    assert pieces[0].function.name == "get_weather"
    assert json.loads("".join(p.function.arguments for p in pieces)) == json.loads(call.function.arguments)
    with anthropic.Anthropic(base_url=server.root_url, api_key=server.key, max_retries=0) as claude:
        message = claude.messages.create(
            model="smollm2",
            max_tokens=100,
            messages=question,  # type: ignore[arg-type]
            tools=[{"name": "get_weather", "input_schema": parameters}],  # type: ignore[list-item]
            tool_choice={"type": "any"},
        )
    assert message.stop_reason == "tool_use"
    assert message.content[-1].type == "tool_use"


def test_helpers_of_the_client_get_objects(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "smollm2", "temperature": 0, "max_tokens": 60}
    messages: list[Any] = [{"role": "user", "content": "Name a city and its population as JSON."}]
    whole = client.chat.completions.parse(messages=messages, response_format=City, **asked)
    with client.chat.completions.stream(messages=messages, response_format=City, **asked) as events:
        assert [event.type for event in events][-1] == "content.done"
        streamed = events.get_final_completion()
    assert isinstance(whole.choices[0].message.parsed, City)
    assert streamed.choices[0].message.parsed == whole.choices[0].message.parsed
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(messages=messages, response_format=City, **{**asked, "max_tokens": 3})

    tool = openai.pydantic_function_tool(GetWeather)
    weather: list[Any] = [{"role": "user", "content": "Weather in Paris?"}]
    said = client.chat.completions.parse(messages=weather, tools=[tool], tool_choice="required", **asked)
    (call,) = said.choices[0].message.tool_calls or ()
    assert isinstance(call.function.parsed_arguments, GetWeather)

    asked = {"model": "smollm2", "temperature": 0, "max_output_tokens": 60, "input": "Name a city."}
    parsed = client.responses.parse(text_format=City, **asked).output_parsed
    with client.responses.stream(text_format=City, **asked) as items:
        assert [event.type for event in items][-1] == "response.completed"
        assert isinstance(parsed, City) and items.get_final_response().output_parsed == parsed


def test_an_answer_with_a_tool_call_is_never_kept(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool: Any = {"type": "function", "name": "get_weather", "parameters": schema}
    asked: dict[str, Any] = {
        "model": "smollm2",
        "input": "Weather in Paris?",
        "temperature": 0,
        "max_output_tokens": 60,
    }
    labels = []
    for _ in range(3):
        raw = client.responses.with_raw_response.create(**asked, tools=[tool], tool_choice="required", store=True)
        labels.append(raw.headers["x-ashore-cache"])
    assert labels == ["miss"] * 3
    first = raw.parse()
    (call,) = first.output
    assert call.type == "function_call" and "city" in json.loads(call.arguments)
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
    later = client.responses.create(**{**asked, "input": result, "previous_response_id": first.id})
    counted = client.responses.input_tokens.count(model="smollm2", input=result, previous_response_id=first.id)
    assert later.output_text and later.usage is not None and counted.input_tokens == later.usage.input_tokens
    assert later.usage.input_tokens > client.responses.input_tokens.count(model="smollm2", input="sunny").input_tokens


def test_logprobs_are_sorted_and_the_chosen_token_is_the_best(ask: Callable[..., Any]) -> None:
    answer = ask(logprobs=True, top_logprobs=20, max_tokens=5)
    for token in answer.choices[0].logprobs.content:
        assert len(token.top_logprobs) == 20
        values = [t.logprob for t in token.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert token.token == token.top_logprobs[0].token
    assert "".join(t.token for t in answer.choices[0].logprobs.content) == text(answer)


def test_stop_strings_bias_and_choices(ask: Callable[..., Any]) -> None:
    assert "Paris" not in text(ask(stop=["Paris"]))
    whole = ask(max_tokens=1, logprobs=True, top_logprobs=0)
    first = text(whole)
    other = ask(max_tokens=1, temperature=1, top_p=1, n=4, seed=11)
    assert len(other.choices) == 4
    assert text(ask(max_tokens=1, seed=1)) == first


def test_the_second_request_reads_the_prefix_from_the_cache(ask: Callable[..., Any]) -> None:
    long = [{"role": "system", "content": "Be brief. " * 100}, *FRANCE]
    ask(long, max_tokens=2)
    usage = ask(long, max_tokens=2).usage
    assert usage.prompt_tokens_details.cached_tokens > 100
    stopped = ask(long, max_tokens=20, stop=["Paris"]).usage
    assert stopped.completion_tokens < 20


def test_a_prompt_longer_than_the_context(ask: Callable[..., Any]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask([{"role": "user", "content": "word " * 20_000}])
    assert refused.value.code == "context_length_exceeded"
