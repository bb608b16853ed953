"""What anybody on the machine may ask for is made once, however many ask."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from admin_app import AdminApp
from direct import Direct


def ask(app: AdminApp, path: str, times: int) -> list[bytes]:
    async def one() -> bytes:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"authorization", b"Bearer x")]
        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
        await app.app({**scope, "client": ("10.0.0.9", 1), "ashore.direct": Direct(send)}, receive, send)
        assert sent[0]["status"] == 200
        return b"".join(message.get("body", b"") for message in sent)

    async def all_of_them() -> list[bytes]:
        return await asyncio.gather(*(one() for _ in range(times)))

    return asyncio.run(all_of_them())


def test_the_description_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def describe(routes: object) -> bytes:
        nonlocal made
        made += 1
        return b"{}"

    monkeypatch.setattr("ashore.data.http.openapi.describe", describe)
    app = AdminApp("viewer")
    assert ask(app, "/openapi.json", 50) + ask(app, "/openapi.json", 1) == [b"{}"] * 51 and made == 1


def test_those_who_ask_for_metrics_at_once_share_a_page() -> None:
    app = AdminApp("viewer")
    pages = ask(app, "/metrics", 50)
    assert len(set(pages)) == 1, "counters moved on, and one page was made"
    assert ask(app, "/metrics", 1) != pages[:1], "a later one is made anew"
