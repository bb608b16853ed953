"""What a worker passes on to another process: all of it, in pieces, and nothing that only our processes may say."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ashore.control.faces.chat import WorkerChat
from ashore.core.errors import PortTaken
from ashore.core.ids import TenantId
from ashore.data.authority import OpenDoor, Principal
from ashore.data.http import Face, HttpServer, Relay, listen
from ashore.data.http import relay as relay_module
from ashore.data.http.exchange import Exchange, Receive, Scope, Send
from ashore.data.http.relay import Peers
from ashore.data.path import HttpListen, Limits
from ashore.kit.metrics import Metrics

LIMITS = Limits(max_body_bytes=100_000)
ANN = Principal(id="ann", tenant=TenantId("acme"), kind="key", key_id="ash_1")


class Front(Face):
    """An application that passes everything on."""

    def __init__(self, relay: Relay) -> None:
        super().__init__(None, OpenDoor(), Metrics(), (), limits=LIMITS)  # type: ignore[arg-type]
        self.relay = relay

    async def _pass_on(self, exchange: Exchange) -> bool:
        await self.relay.pass_on(exchange, LIMITS, whose=exchange.headers.get(b"x-whose", b"").decode())
        return True


class Chats(Front):
    """One that asks as the page Chat does."""

    async def _pass_on(self, exchange: Exchange) -> bool:
        await WorkerChat(self.relay, "inner-token")(self, exchange, ANN)
        return True


async def told(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what was asked."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    said = {
        "method": scope["method"], "path": scope["raw_path"].decode(), "query": scope["query_string"].decode(),
        "client": scope["client"], "scheme": scope["scheme"], "length": len(body),
        "headers": {name.decode(): value.decode() for name, value in scope["headers"]},
    }  # fmt: skip
    out = json.dumps(said).encode()
    headers = [(b"content-length", b"%d" % len(out)), (b"x-more", b"a"), (b"x-more", b"b")]
    await send({"type": "http.response.start", "status": 207, "headers": headers})
    await send({"type": "http.response.body", "body": out, "more_body": False})


@asynccontextmanager
async def running(
    behind: Callable[..., Awaitable[None]] | None, front: type[Front] = Front
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a front on a port, whose other process runs `behind`; None: there is none."""
    with tempfile.TemporaryDirectory(prefix="ashore-") as folder:
        path = str(Path(folder) / "control.sock")
        servers = []
        if behind is not None:
            servers.append(HttpServer(Peers(behind), listen(HttpListen(uds=path)), LIMITS))
        sock = listen(HttpListen(port=0))
        port = sock.getsockname()[1]
        servers.append(HttpServer(front(Relay(path)), sock, LIMITS))
        for one in servers:
            one.start()
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                yield client
        finally:
            for one in servers:
                await one.stop(0.1)


def run(
    test: Callable[[httpx.AsyncClient], Awaitable[Any]],
    behind: Callable[..., Awaitable[None]] | None,
    front: type[Front] = Front,
) -> Any:
    async def all_of_it() -> Any:
        async with running(behind, front) as client:
            return await test(client)

    return asyncio.run(all_of_it())


def test_a_request_and_its_answer_pass_as_they_are_and_nobody_speaks_for_our_processes() -> None:
    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        headers = {"x-ashore-internal-peer": "10.9.9.9", "x-ashore-internal-scheme": "https", "cookie": "a=b"}
        return await client.post("/console/a%2Fb?x=1&y=%20", content=b"x" * 90_000, headers=headers)

    answer = run(ask, told)
    assert answer.status_code == 207 and answer.headers.get_list("x-more") == ["a", "b"]
    said = answer.json()
    assert (said["method"], said["path"], said["query"]) == ("POST", "/console/a%2Fb", "x=1&y=%20")
    assert said["client"] == ["127.0.0.1", 0] and said["scheme"] == "http" and said["length"] == 90_000
    assert said["headers"]["cookie"] == "a=b" and said["headers"]["host"].startswith("127.0.0.1:")
    assert said["headers"]["x-ashore-internal-peer"] == "127.0.0.1"


def test_a_body_without_a_length_passes_in_pieces_and_one_that_is_too_long_is_refused() -> None:
    async def pieces(number: int) -> AsyncIterator[bytes]:
        for _ in range(number):
            yield b"x" * 10_000

    async def ask(client: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        return await client.post("/a", content=pieces(5)), await client.post("/a", content=pieces(30))

    short, long = run(ask, told)
    assert short.json()["length"] == 50_000
    assert long.status_code == 413 and long.json()["error"]["code"] == "payload_too_large"


def test_pieces_of_an_answer_pass_when_they_come_and_what_breaks_off_is_not_whole() -> None:
    go_on = asyncio.Event()

    async def streams(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await go_on.wait()
        if scope["path"] == "/whole":
            await send({"type": "http.response.body", "body": b"two", "more_body": False})
        # else it ends here: the connection is cut

    async def ask(client: httpx.AsyncClient) -> bytes:
        got = b""
        for path in ("/whole", "/cut"):
            go_on.clear()
            async with client.stream("GET", path) as answer:
                async for piece in answer.aiter_raw():
                    got += piece
                    go_on.set()
        return got

    with pytest.raises(httpx.RemoteProtocolError):
        run(ask, streams)


def test_a_head_of_an_answer_without_a_body_passes() -> None:
    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        return await client.head("/a")

    answer = run(ask, told)
    assert answer.status_code == 207 and int(answer.headers["content-length"]) > 0 and answer.content == b""


def test_where_the_other_process_is_away_the_client_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "CONNECT_S", 0.0)

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        return await client.get("/a")

    answer = run(ask, None)
    assert answer.status_code == 503 and answer.headers["retry-after"]
    assert answer.json()["error"]["code"] == "not_ready" and "does not answer" in answer.json()["error"]["message"]


def test_no_more_than_a_number_of_requests_wait_for_a_process_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "MOST_AT_ONCE", 3)
    monkeypatch.setattr(relay_module, "MOST_OF_ONE", 2)
    began, go_on = asyncio.Event(), asyncio.Event()
    asked = 0

    async def hangs(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal asked
        asked += 1
        if asked in (2, 3):
            began.set()
        await go_on.wait()
        await told(scope, receive, send)

    async def ask(client: httpx.AsyncClient) -> list[int]:
        waiting = [asyncio.create_task(client.get("/a")) for _ in range(2)]
        await began.wait()
        began.clear()
        of_one = await client.get("/a")
        waiting.append(asyncio.create_task(client.get("/a", headers={"x-whose": "another"})))
        await began.wait()
        of_all = await client.get("/a", headers={"x-whose": "a third"})
        go_on.set()
        ended = await asyncio.gather(*waiting)
        return [of_one.status_code, of_all.status_code, *(one.status_code for one in (*ended, await client.get("/a")))]

    assert run(ask, hangs) == [429, 429, 207, 207, 207, 207]


def test_a_browser_says_nothing_beside_the_token_with_which_a_worker_is_asked_for_a_person() -> None:
    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        forged = ("authorization", "x-ashore-on-behalf-of", "x-ashore-urgency", "x-forwarded-for", "cookie")
        headers = dict.fromkeys((*forged, "x-ashore-job", "x-ashore-attempt"), "forged")
        return await client.post("/console/ask", content=b"{}", headers=headers)

    said = run(ask, told, Chats).json()
    assert said["path"] == "/v1/chat/completions" and said["headers"]["authorization"] == "Bearer inner-token"
    assert said["headers"]["x-ashore-on-behalf-of"] == "ann%23key%3Dash_1/acme"
    assert said["headers"]["x-ashore-urgency"] == "interactive"
    assert "forged" not in said["headers"].values()


def test_few_of_many_requests_connect_at_a_time_and_the_loop_has_turns_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_module, "MOST_STARTING", 2)
    starting, most = 0, 0
    connect = asyncio.open_unix_connection

    async def counted(*words: Any, **more: Any) -> Any:
        nonlocal starting, most
        starting += 1
        most = max(most, starting)
        await asyncio.sleep(0)
        try:
            return await connect(*words, **more)
        finally:
            starting -= 1

    monkeypatch.setattr(asyncio, "open_unix_connection", counted)

    async def ask(client: httpx.AsyncClient) -> list[int]:
        return [one.status_code for one in await asyncio.gather(*(client.get("/a") for _ in range(12)))]

    assert run(ask, told) == [207] * 12 and most == 2


def test_a_file_in_place_of_a_socket_is_not_deleted_but_named(tmp_path: Path) -> None:
    (tmp_path / "control.sock").write_text("mine")
    with pytest.raises(PortTaken) as refused:
        listen(HttpListen(uds=str(tmp_path / "control.sock")))
    assert refused.value.hint == "remove it: it is not a socket" and (tmp_path / "control.sock").read_text() == "mine"
