"""`ashore launch`: the setup of a client for one run, and what it refuses."""

from __future__ import annotations

import json
import os
import shlex
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ashore.cli.launch import CLIENTS, launch
from ashore.core.errors import ContextTooLong, InvalidRequest, NotReady, UnknownModel

MODELS = [
    {"id": "{file:~/.ssh/id_ed25519}", "features": [], "max_model_len": 200_000},
    {"id": "minilm", "features": ["embed"], "max_model_len": 512},
    {"id": "small", "features": [], "max_model_len": 8192},
    {"id": "large", "features": [], "max_model_len": 131_072},
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server that lists its models, and nothing more."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"object": "list", "data": MODELS}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("client", sorted(CLIENTS))
def test_a_client_gets_the_first_model_with_enough_context_and_no_key_is_printed(
    client: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(client, "run", "two words", url=url, key="secret-key", print_=True) == 0
    said = capsys.readouterr().out
    assert url in said and "large" in said and "small\n" not in said
    assert "secret-key" not in said and "{file:" not in said
    assert shlex.split(said.splitlines()[-1])[0] == CLIENTS[client].program
    assert shlex.split(said.splitlines()[-1])[-2:] == ["run", "two words"]


def test_the_client_is_started_with_the_key_in_its_environment(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    def run(*given: Any) -> None:
        started.extend(given)
        raise SystemExit(0)

    program = tmp_path / "claude"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "execvpe", run)
    with pytest.raises(SystemExit):
        launch("claude", "-p", "hi", url=url, key="secret-key")
    program_name, words, env = started
    assert (program_name, words) == ("claude", ["claude", "-p", "hi"])
    assert (env["ANTHROPIC_BASE_URL"], env["ANTHROPIC_AUTH_TOKEN"]) == (url, "secret-key")
    assert env["ANTHROPIC_MODEL"] == "large"


def test_a_key_that_may_use_no_model_is_told_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_cli_launch.MODELS", [])
    with pytest.raises(NotReady, match="no model that can chat to this key") as refused:
        launch("claude", url=url, print_=True)
    assert "developer" in (refused.value.hint or "")


def test_a_context_too_short_for_the_client_is_refused_with_the_remedy(url: str) -> None:
    with pytest.raises(ContextTooLong, match="needs a context of 64,000 tokens, and that of small is 8,192") as refused:
        launch("claude", model="small", url=url, print_=True)
    assert "context_tokens" in (refused.value.hint or "")


def test_what_there_is_not_is_named(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no client 'claud'") as refused:
        launch("claud", url=url)
    assert "claude" in (refused.value.hint or "")
    with pytest.raises(UnknownModel, match="id_ed25519"):
        launch("opencode", model="{file:~/.ssh/id_ed25519}", url=url)
    with pytest.raises(UnknownModel, match="larg"):
        launch("codex", model="larg", url=url)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotReady, match="codex is not installed") as missing:
        launch("codex", url=url)
    assert "npm install -g @openai/codex" in (missing.value.hint or "")
