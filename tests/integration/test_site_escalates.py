"""A site's worker asks its centre for what it is too small or too busy for. A cut link costs nothing that it could
answer."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from http_worker import Worker, http_worker, state_link

from ashore.core.chat import Message
from ashore.core.clock import ManualClock
from ashore.core.ids import RequestId, TenantId
from ashore.data.authority import Decision, PolicyAuthority, Principal
from ashore.data.path import AdmissionSection
from ashore.data.path.centre import Centre as Asking
from ashore.data.path.centre import CentreSettings
from ashore.data.path.model import GenerationRequest, Usage

ID = "11010519491231002X"
TOO_LONG = "x" * 5000
"""The context of the site's model has 4096 tokens, and a byte is one."""


class Centre(BaseHTTPRequestHandler):
    """Echoes the last message as an OpenAI stream, or fails as `mode` says."""

    mode = "answers"
    bodies: list[dict[str, Any]] = []  # noqa: RUF012
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.bodies.append(body | {"key": self.headers["authorization"], "path": self.path})
        if self.mode == "hangs":
            time.sleep(8)
        if self.mode in ("hangs", "refuses"):
            self.send_response(429)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        text = body["messages"][-1]["content"][:200]
        for number, piece in enumerate((text[:7], text[7:])):
            self._say({"choices": [{"index": 0, "delta": {"content": piece}}]})
            if self.mode == "breaks" and number == 0:
                self.close_connection = True
                return
        self._say({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage: dict[str, Any] = {"prompt_tokens": 70, "completion_tokens": 30, "total_tokens": 100}
        if self.mode == "lies":
            usage = {"prompt_tokens": 1 << 60, "completion_tokens": 1 << 60,
                     "prompt_tokens_details": {"cached_tokens": 1 << 61}}  # fmt: skip
        self._say({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _say(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Centre)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def site(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("site")
    sites = {
        "role": "site", "centre": address, "escalate": "quality", "escalate_key": "ask-me", "name": "shanghai",
        "escalate_to": {"chat": "chat-large"}, "escalate_first": ["best"],
    }  # fmt: skip
    with http_worker(
        folder / "run", models={"chat": "slow-60", "best": "echo"}, state=state_link(folder), home=str(folder),
        admission=AdmissionSection(max_running=1, max_waiting=0), sections={"sites": sites},
    ) as running:  # fmt: skip
        yield running


@pytest.fixture(autouse=True)
def answers() -> None:
    Centre.mode = "answers"
    Centre.bodies.clear()


def ask(site: Worker, text: str, *, model: str = "chat", **fields: Any) -> tuple[int, dict[str, str], Any]:
    body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
    status, headers, said = site.request(
        "POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"}
    )
    return status, headers, said.decode() if fields.get("stream") else json.loads(said)


def text_of(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def streamed(said: str) -> str:
    pieces = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: {")]
    return "".join(c["delta"].get("content") or "" for p in pieces for c in p.get("choices", ()))


@contextmanager
def busy(site: Worker) -> Iterator[None]:
    """Fill the only place of `chat`."""
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(ask, site, f"{time.monotonic()} takes a while " + "and more " * 20)
        deadline = time.monotonic() + 10
        while site.metric('ashore_running_sequences{model="chat"}') < 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        yield
        assert held.result()[0] == 200


def test_a_prompt_that_is_too_long_here_is_answered_by_the_centre_masked(site: Worker) -> None:
    status, headers, answer = ask(site, f"{ID} {TOO_LONG}", max_tokens=20)
    assert status == 200 and headers["x-ashore-answered-by"] == headers["x-ashore-release"] == "centre"
    assert text_of(answer).startswith(f"{ID} xxx")
    assert answer["usage"]["prompt_tokens"] == 70 and answer["usage"]["completion_tokens"] == 30
    (seen,) = Centre.bodies
    assert ID not in json.dumps(seen) and "[ID_CARD_1]" in seen["messages"][0]["content"]
    assert (seen["model"], seen["key"], seen["path"]) == ("chat-large", "Bearer ask-me", "/v1/chat/completions")
    assert seen["max_completion_tokens"] == 20


def test_what_was_masked_is_put_back_in_a_stream(site: Worker) -> None:
    status, headers, said = ask(site, f"ab {ID} {TOO_LONG}", stream=True)
    assert status == 200 and headers["x-ashore-answered-by"] == "centre"
    assert streamed(said).startswith(f"ab {ID} xxx") and said.rstrip().endswith("[DONE]")


def test_what_finds_no_room_goes_to_the_centre_and_is_not_cached_here(site: Worker) -> None:
    with busy(site):
        for _ in range(2):
            status, headers, answer = ask(site, "where to?")
            assert (status, text_of(answer), headers.get("x-ashore-answered-by")) == (200, "where to?", "centre")
    assert len(Centre.bodies) == 2
    status, headers, _ = ask(site, "here")
    assert status == 200 and "x-ashore-answered-by" not in headers


def test_without_the_centre_the_site_says_honestly_that_it_is_full_and_answers_what_it_can(site: Worker) -> None:
    Centre.mode = "refuses"
    with busy(site):
        status, _, answer = ask(site, "no room anywhere")
        assert (status, answer["error"]["code"]) == (429, "overloaded")
    Centre.mode = "breaks"
    status, _, said = ask(site, f"breaks {TOO_LONG}", stream=True)
    assert status == 200 and "[DONE]" not in said and "engine_failed" in said
    tried, status = len(Centre.bodies), 0
    status, _, answer = ask(site, TOO_LONG)  # the breaker is open
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded") and len(Centre.bodies) == tried
    began_s = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: ask(site, f"best {n}", model="best", max_tokens=8)[0], range(4)))
    assert time.monotonic() - began_s < 10 and set(found) <= {200, 429}


def test_a_marked_alias_is_asked_of_the_centre_first_and_answered_here_if_that_hangs(
    address: str, tmp_path: Path
) -> None:
    sites = {"role": "site", "centre": address, "escalate": "quality", "escalate_first": ["best"],
             "escalate_wait_s": 5}  # fmt: skip
    with http_worker(
        tmp_path / "run", models={"best": "echo"}, state=state_link(tmp_path), home=str(tmp_path),
        sections={"sites": sites},
    ) as site:  # fmt: skip
        status, headers, answer = ask(site, "which is best?", model="best")
        assert (status, headers["x-ashore-answered-by"], text_of(answer)) == (200, "centre", "which is best?")
        Centre.mode = "hangs"
        status, headers, answer = ask(site, "and now?", model="best")
        assert (status, text_of(answer)) == (200, "and now?") and "x-ashore-answered-by" not in headers
        tried = len(Centre.bodies)
        assert ask(site, "and then?", model="best")[0] == 200 and len(Centre.bodies) == tried
        Centre.mode = "answers"


def test_a_site_without_news_serves_as_long_as_its_centre_allows(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites/until").write_text(f"{time.time() - 5:.0f} 30 centre.example")
    with http_worker(
        tmp_path / "run", models={"chat": "echo"}, state=state_link(tmp_path), home=str(tmp_path),
        sections={"sites": {"role": "site"}},
    ) as site:  # fmt: skip
        status, _, answer = ask(site, "still there?")
        assert status == 503 and "centre.example" in answer["error"]["message"]
        assert "30 days" in answer["error"]["message"]
    (tmp_path / "sites/until").write_text(f"{time.time() + 600:.0f} 30 centre.example")
    with http_worker(
        tmp_path / "run2", models={"chat": "echo"}, state=state_link(tmp_path / "run2"), home=str(tmp_path),
        sections={"sites": {"role": "site"}},
    ) as site:  # fmt: skip
        assert ask(site, "still there?")[0] == 200


@pytest.mark.parametrize(("rule", "expected"), [("", True), ("deny infer on model/*:centre for tenant/north", False)])
def test_a_tenant_whose_policy_forbids_it_is_never_asked_for(tmp_path: Path, rule: str, expected: bool) -> None:
    class Ruled(PolicyAuthority):
        def decide(self, principal: Principal, action: str, resource: str) -> Decision:
            assert (action, resource) == ("infer", "model/chat:centre")
            return Decision(allowed=False, action=action, resource=resource, why="so it is", rule=rule)

    settings = CentreSettings(role="site", centre="http://127.0.0.1:1", escalate="quality")
    centre = Asking(settings, folder=tmp_path, authority=Ruled(), clock=ManualClock())
    request = GenerationRequest(request_id=RequestId("r"), model="chat", messages=(Message(role="user", content="a"),))
    ann = Principal(id="ann", kind="user", tenant=TenantId("north"))
    assert centre.allowed("overflow", request, ann) is expected
    for word, why, allows in (("overflow", "quality", False), ("overflow", "overflow", expected),
                              ("never", "overflow", False), ("", "overflow", False)):  # fmt: skip
        (tmp_path / "escalate").write_text(word)
        centre.look()
        assert centre.allowed(why, request, ann) is allows


def test_a_centre_cannot_charge_for_more_tokens_than_there_are_bytes(address: str, tmp_path: Path) -> None:
    Centre.mode = "lies"
    settings = CentreSettings(role="site", centre=address, escalate="quality")
    request = GenerationRequest(
        request_id=RequestId("r"), model="chat", messages=(Message(role="user", content="x" * 5000),)
    )

    async def ask_it() -> list[Any]:
        centre = Asking(settings, folder=tmp_path, authority=PolicyAuthority(), clock=ManualClock())
        try:
            return [one async for one in centre.ask(request, first_s=60)]
        finally:
            await centre.close()

    usage = asyncio.run(ask_it())[-1]
    assert isinstance(usage, Usage) and usage.cached_tokens <= usage.prompt_tokens
    assert 5_000 < usage.prompt_tokens < 6_000 and 200 < usage.completion_tokens < 1_000
