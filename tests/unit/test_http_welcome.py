"""What a browser sees at the address of a server: an example that works, and nothing from elsewhere."""

from __future__ import annotations

import asyncio
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest

from ashore.control.console.chatting import chat_page
from ashore.control.faces.table import ROUTES
from ashore.core.kinds import EngineKind
from ashore.data.http.openapi import describe
from ashore.data.http.welcome import docs_of, page_of
from ashore.data.path import ModelCard

BASE = "http://127.0.0.1:8080"


def card(alias: str, *, embedder: bool = False, kind: EngineKind = "fake") -> ModelCard:
    return ModelCard(alias=alias, release=f"{alias}-1", kind=kind, created_s=0, ready=True, embedder=embedder)


RISK = card("risk", kind="tabular")


@pytest.mark.parametrize(
    ("cards", "path", "asks"),
    [
        ([card("fake:agent"), card("minilm", embedder=True), card("qwen3")], "chat/completions", '"model": "qwen3"'),
        ([card("fake:agent"), card("minilm", embedder=True)], "chat/completions", '"model": "fake:agent"'),
        ([card("minilm", embedder=True)], "embeddings", '"model": "minilm"'),
        ([RISK, card("smollm2")], "chat/completions", '"model": "smollm2"'),
        ([RISK], "heads/risk", "/v1/heads/risk -H"),
        ([], "chat/completions", '"model": "MODEL"'),
    ],
)
def test_the_example_asks_a_model_that_can_answer(cards: list[ModelCard], path: str, asks: str) -> None:
    page = page_of(BASE, cards, has_console=True).replace("&quot;", '"')
    assert f"curl {BASE}/v1/{path}" in page and asks in page
    assert all(f"<code>{one.alias}</code>" in page for one in cards)


def test_the_console_offers_neither_a_head_nor_an_embedder_for_chat() -> None:
    """A head was offered, and refused every message."""
    shown: list[dict[str, Any]] = []
    serving = SimpleNamespace(models=lambda *_: [RISK, card("minilm", embedder=True)])
    reader: Any = SimpleNamespace(
        acts=SimpleNamespace(serving=serving), session=SimpleNamespace(principal=None),
        asked=SimpleNamespace(query=[]), page=lambda *_, **told: shown.append(told),
        words=lambda key: key,
    )  # fmt: skip
    asyncio.run(chat_page(reader, None, ""))
    assert (shown[0]["models"], shown[0]["served"]) == ([], False)


def test_the_first_page_leads_to_the_console_where_there_is_one_and_to_the_routes() -> None:
    assert "href='/console'" in page_of(BASE, [], has_console=True)
    assert "href='/console'" not in page_of(BASE, [], has_console=False)
    assert "href='/docs'" in page_of(BASE, [], has_console=False)


def test_the_page_of_routes_has_those_that_clients_use() -> None:
    page = docs_of(BASE, ROUTES)
    assert "POST /v1/chat/completions" in page and f"{BASE}/v1" in page and "/openapi.json" in page
    assert "/admin/" not in page and "/console" not in page


@pytest.mark.parametrize("page", [page_of(BASE, [card("a")], has_console=True), docs_of(BASE, ROUTES)])
def test_nothing_is_loaded_and_no_link_leaves_the_server(page: str) -> None:
    assert "<script" not in page and "<img" not in page and "url(" not in page
    assert all(link.startswith("/") for link in re.findall(r"(?:href|src)=['\"]([^'\"]*)", page))


def test_the_document_forbids_no_field_that_is_left_out_and_asks_for_no_body_that_may_be_missing() -> None:
    document = json.loads(describe(ROUTES))
    schemas = document["components"]["schemas"]
    for name in ("MessagesRequest", "ResponsesRequest", "ConversationRequest", "ConversationUpdate"):
        assert "additionalProperties" not in schemas[name]
    assert schemas["ChatRequest"]["additionalProperties"] is False
    bodies = {path: said["post"]["requestBody"]["required"] for path, said in document["paths"].items()
              if "requestBody" in said.get("post", {})}  # fmt: skip
    assert bodies["/v1/conversations"] is False and bodies["/v1/conversations/{conversation}"] is True
