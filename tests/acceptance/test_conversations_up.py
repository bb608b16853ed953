"""Conversations and streams of background responses: the official client against a running `ashore up`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from served import Served, start_served, words_of
from waiting import eventually

ECHO, SLOW = "fake:tools", "fake:echo?tok_per_s=25"
"""The first one reads every turn."""

LONG = "a text of some length, which takes a while"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("conversations-home")
    models = [ECHO, SLOW]
    one = start_served(home, models, store=None, port=free_port(), grpc_port=free_port())
    yield one
    one.stop()


@pytest.fixture
def client(server: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0) as one:
        yield one


def texts_of(client: OpenAI, conversation: str) -> list[tuple[str, str]]:
    """Return who said what in a conversation, the first first."""
    items: Any = client.conversations.items.list(conversation, order="asc", limit=2)
    return [(item.role, item.content[0].text) for item in items]


def test_a_conversation_is_made_shown_changed_and_deleted(client: OpenAI) -> None:
    made = client.conversations.create(
        metadata={"topic": "tea"}, items=[{"type": "message", "role": "user", "content": "Hello"}]
    )
    assert made.id.startswith("conv_") and made.object == "conversation" and made.metadata == {"topic": "tea"}
    assert client.conversations.retrieve(made.id) == made
    assert client.conversations.update(made.id, metadata={"topic": "coffee"}).metadata == {"topic": "coffee"}
    assert texts_of(client, made.id) == [("user", "Hello")]
    assert client.conversations.delete(made.id).deleted
    for ask in (client.conversations.retrieve, client.conversations.items.list, client.conversations.delete):
        with pytest.raises(NotFoundError, match="no conversation"):
            ask(made.id)
    assert client.conversations.create().metadata == {}


def test_items_are_added_listed_in_pages_shown_and_deleted(client: OpenAI) -> None:
    made = client.conversations.create()
    turns: Any = [{"role": "user", "content": f"turn {number}"} for number in range(5)]
    added = client.conversations.items.create(made.id, items=turns)
    assert [item.content[0].text for item in added.data] == [f"turn {n}" for n in range(5)]  # type: ignore[union-attr]
    assert texts_of(client, made.id) == [("user", f"turn {number}") for number in range(5)]
    newest: Any = client.conversations.items.list(made.id, limit=2)
    assert [item.content[0].text for item in newest.data] == ["turn 4", "turn 3"] and newest.has_more
    second = added.data[1]
    assert second.id is not None and second.id.startswith("msg_")
    assert client.conversations.items.retrieve(second.id, conversation_id=made.id) == second
    assert client.conversations.items.delete(second.id, conversation_id=made.id).id == made.id
    with pytest.raises(NotFoundError, match="no item"):
        client.conversations.items.retrieve(second.id, conversation_id=made.id)
    assert [text for _, text in texts_of(client, made.id)] == ["turn 0", "turn 2", "turn 3", "turn 4"]
    again = client.conversations.items.create(made.id, items=[{**second.to_dict(), "status": None}])  # type: ignore[typeddict-item]
    assert again.data[0].id == second.id
    twice = client.conversations.items.create(made.id, items=[{**second.to_dict(), "status": None}])  # type: ignore[typeddict-item]
    assert twice.data[0].id != second.id
    with pytest.raises(BadRequestError, match=r"items\[0\]"):
        client.conversations.items.create(made.id, items=[{"role": "nobody", "content": "x"}])  # type: ignore[typeddict-item]


def test_responses_read_the_conversation_and_add_to_it(client: OpenAI) -> None:
    made = client.conversations.create(items=[{"role": "user", "content": "one"}])
    asked = {"model": ECHO, "conversation": made.id}
    whole = client.responses.create(input="two", **asked)  # type: ignore[call-overload]
    assert whole.conversation is not None and whole.conversation.id == made.id
    alone = client.responses.input_tokens.count(model=ECHO, input="two")
    assert whole.usage.input_tokens >= alone.input_tokens + len("one")
    with client.responses.stream(input="three", **asked) as stream:  # type: ignore[call-overload]
        assert [event.type for event in stream][-1] == "response.completed"
    expected = [("user", "one"), ("user", "two"), ("assistant", "two"), ("user", "three"), ("assistant", "three")]
    assert texts_of(client, made.id) == expected
    counted = client.responses.input_tokens.count(input="x", **asked)  # type: ignore[arg-type]
    assert counted.input_tokens > len("onetwotwothreethreex")
    begun = client.responses.create(input="four", background=True, **asked)  # type: ignore[call-overload]
    eventually(lambda: client.responses.retrieve(begun.id).status == "completed")
    assert texts_of(client, made.id) == [*expected, ("user", "four"), ("assistant", "four")]


def test_what_a_conversation_cannot_be_used_for_is_refused(client: OpenAI) -> None:
    made = client.conversations.create()
    stored = client.responses.create(model=ECHO, input="x", store=True)
    with pytest.raises(BadRequestError, match="previous_response_id"):
        client.responses.create(model=ECHO, input="x", conversation=made.id, previous_response_id=stored.id)
    for background in (False, True):
        with pytest.raises(NotFoundError, match="no conversation") as caught:
            client.responses.create(model=ECHO, input="x", conversation="conv_no", background=background)
        assert caught.value.param == "conversation"
    with pytest.raises(NotFoundError):
        client.responses.create(model="nobody", input="x", conversation=made.id)
    assert texts_of(client, made.id) == []


def test_a_background_response_is_streamed_from_its_creation_to_its_end(client: OpenAI) -> None:
    events = list(client.responses.create(model=SLOW, input=LONG, background=True, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == ["response.created", "response.queued", "response.in_progress", "response.output_item.added"]
    assert kinds[-1] == "response.completed"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == LONG
    last: Any = events[-1]
    assert last.response == client.responses.retrieve(last.response.id)
    again = list(client.responses.retrieve(last.response.id, stream=True))
    assert again == events
    for after in (0, 1, 7, len(events) - 2, len(events) - 1):
        rest = list(client.responses.retrieve(last.response.id, stream=True, starting_after=after))
        assert rest == events[after + 1 :]


def test_a_stream_is_left_and_taken_up_again(client: OpenAI) -> None:
    seen: list[Any] = []
    with client.responses.create(model=SLOW, input=LONG, background=True, stream=True) as stream:
        for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
    response_id, number = seen[0].response.id, seen[-1].sequence_number
    assert client.responses.retrieve(response_id).status == "in_progress"
    seen += client.responses.retrieve(response_id, stream=True, starting_after=number)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert "".join(event.delta for event in seen if event.type == "response.output_text.delta") == LONG


def test_a_cancelled_response_ends_its_stream(client: OpenAI) -> None:
    with client.responses.create(model=SLOW, input=LONG, background=True, stream=True) as stream:
        events: list[Any] = []
        for event in stream:
            events.append(event)
            if event.type == "response.in_progress":
                client.responses.cancel(event.response.id)
    assert events[-1].type == "response.failed" and events[-1].response.status == "cancelled"


def test_only_a_response_that_was_made_to_be_streamed_is(client: OpenAI) -> None:
    plain = client.responses.create(model=ECHO, input="x", background=True)
    with pytest.raises(BadRequestError, match="background: true and stream: true"):
        client.responses.retrieve(plain.id, stream=True)
    for query, param in (({"stream": "odd"}, "stream"), ({"starting_after": "3"}, "starting_after")):
        with pytest.raises(BadRequestError) as caught:
            client.responses.retrieve(plain.id, extra_query=query)
        assert caught.value.param == param
    with pytest.raises(BadRequestError, match="starting_after"):
        client.responses.retrieve(plain.id, stream=True, extra_query={"starting_after": "-"})


def test_an_attempt_that_was_lost_is_followed_by_another_with_higher_numbers(client: OpenAI, server: Served) -> None:
    seen: list[Any] = []
    try:
        for event in client.responses.create(model=SLOW, input=LONG, background=True, stream=True):
            seen.append(event)
            if len(seen) == 8:
                os.kill(worker_of(server), signal.SIGKILL)
    except (openai.APIError, OSError, Exception) as fault:  # noqa: BLE001 - however the connection ends
        assert seen, fault
    server.wait_ready()
    assert seen[-1].type != "response.completed"
    response_id, number = seen[0].response.id, seen[-1].sequence_number
    rest: list[Any] = list(client.responses.retrieve(response_id, stream=True, starting_after=number))
    assert rest[-1].type == "response.completed" and rest[-1].response.output_text == LONG
    numbers = [event.sequence_number for event in rest]
    assert numbers == sorted(set(numbers)) and numbers[0] > number
    begins = next(at for at, event in enumerate(rest) if event.type == "response.created")
    said = "".join(event.delta for event in rest[begins:] if event.type == "response.output_text.delta")
    assert said == LONG


def worker_of(server: Served) -> int:
    """Return the process of the API worker."""
    for folder in Path("/proc").iterdir():
        words = words_of(folder) if folder.name.isdigit() else []
        if "ashore.data.worker" in words and any(str(server.home) in word for word in words):
            return int(folder.name)
    raise AssertionError("there is no API worker")
