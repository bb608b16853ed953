"""The first requests of the clients that people already have, as they were recorded or built from public source.

Each file of `tests/clients/NAME/` is one request. To add one, see `tests/support/record_client.py`.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from client_app import Answer, client_app
from client_page import CLIENTS, FIELDS, clients, page

from ashore.data.path import Limits

FILES = sorted(CLIENTS.glob("*/*.json"))
FIRST_EVENTS = {"/v1/messages": "message_start", "/v1/responses": "response.created", "/v1/chat/completions": ""}
LAST_EVENTS = {"/v1/messages": "message_stop", "/v1/responses": "response.completed", "/v1/chat/completions": ""}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Answer]:
    """Every file's answer, all from one application."""

    async def all_of_them() -> dict[Path, Answer]:
        found = {}
        async with client_app(tmp_path_factory.mktemp("files"), Limits(ollama=True)) as app:
            for file in FILES:
                asked = json.loads(file.read_text())
                found[file] = await app.ask("POST" if "body" in asked else "GET", asked["path"], asked.get("body"))
        return found

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_client_is_answered_as_it_expects(file: Path, answers: dict[Path, Answer]) -> None:
    asked, answer = json.loads(file.read_text()), answers[file]
    assert set(asked) <= FIELDS, "see client_page.FIELDS"
    assert answer.status == asked["status"], answer.body
    assert sorted(answer.ignored) == sorted(asked["ignored"])
    if asked["status"] >= 400:
        error = json.loads(answer.body)["error"]
        assert asked["refused"] in error["message"] and (error.get("hint") or asked["path"] == "/v1/messages")
    elif asked.get("body", {}).get("stream"):
        check_stream(asked, answer)
    else:
        said = json.dumps(json.loads(answer.body), ensure_ascii=False)
        assert all(f'"{word}"' in said for word in (asked.get("calls", ()))), said


def check_stream(asked: dict[str, Any], answer: Answer) -> None:
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.events
    assert events[0][0] == FIRST_EVENTS[asked["path"]]
    assert events[-1][0] == LAST_EVENTS[asked["path"]]
    if asked["path"] == "/v1/chat/completions":
        assert events[-1][1] == "[DONE]"
        assert all(data["object"] == "chat.completion.chunk" for _, data in events[:-1])
        asks_usage = asked["body"].get("stream_options", {}).get("include_usage", False)
        assert bool(events[-2][1].get("usage")) == asks_usage
    else:
        assert all(name == data["type"] for name, data in events)
    said = json.dumps([data for _, data in events], ensure_ascii=False)
    assert all(f'"{word}"' in said for word in asked.get("calls", ())), said


def test_the_table_has_a_row_for_every_folder() -> None:
    assert sorted(one.folder for one in clients()) == sorted({file.parent.name for file in FILES})


def test_the_page_of_clients_says_what_was_replayed() -> None:
    kept = Path(__file__).parents[2] / "docs" / "reference" / "clients.md"
    assert kept.read_text() == page(), "run: python tests/support/client_page.py"
