"""A candidate with the chat template of another model: found by its answers as a shadow, and taken back by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import Served, call, owner_key, start_served

from ashore.cli.bootstrap import build_store, prepare_variant
from ashore.kit.settings import Home, read_settings

MOST_REQUESTS = 500
RULE = "You answer in one short sentence."
QUESTIONS = (
    "Name three fruits that are red.", "What is the capital of France?", "Why is the sky blue?",
    "Write one sentence about the sea.", "How many days has a week?", "Say hello in Spanish.",
)  # fmt: skip


def shadowed(server: Served, key: str, model: str) -> None:
    """Make `chat-2` of a model, and have it see a copy of every request."""
    call(server, "POST", "/admin/v1/releases", key, {"alias": "chat", "model": model})
    call(server, "POST", "/admin/v1/releases/chat-2/shadow", key, {"share_percent": 100})
    until_s = time.monotonic() + 120
    while (found := call(server, "GET", "/admin/v1/releases/chat-2", key))["state"] == "warming":
        assert time.monotonic() < until_s, "it did not load"
        time.sleep(0.1)
    assert found["state"] == "shadow", found["why"]


def requests_until_taken_back(server: Served, key: str, *, tokens: int, most: int = MOST_REQUESTS) -> int:
    """Ask until the candidate has failed; return how many requests that took, 0: more than `most`."""
    for number in range(1, most + 1):
        asked = f"{QUESTIONS[number % len(QUESTIONS)]} ({number})"
        messages = [{"role": "system", "content": RULE}, {"role": "user", "content": asked}]
        body: dict[str, Any] = {"model": "chat", "messages": messages, "max_tokens": tokens, "temperature": 0}
        assert call(server, "POST", "/v1/chat/completions", key, body)["system_fingerprint"] == "chat-1"
        time.sleep(0.02)  # for the copy
        if call(server, "GET", "/admin/v1/releases/chat-2", key)["state"] != "shadow":
            return number
    return 0


def check(server: Served, key: str, measure: str) -> None:
    found = call(server, "GET", "/admin/v1/releases/chat-2", key)
    assert found["state"] == "failed"
    assert found["why"].startswith("found worse after ") and measure in found["why"]
    last = call(server, "GET", "/admin/v1/aliases/chat/history?limit=1", key)["items"][0]
    assert (last["release"], last["actor"], last["evidence"]["measure"]) == ("chat-2", "system", measure)
    (seen,) = call(server, "GET", "/admin/v1/releases/chat-2/evidence", key)["items"]
    assert (seen["details"]["cut-offs of candidate mean"], seen["details"]["cut-offs of live mean"]) == (1, 0)
    assert call(server, "GET", "/admin/v1/aliases/chat", key)["weights_percent"] == {"chat-1": 100.0}


@pytest.mark.parametrize("wrong", [True, False])
def test_it_is_found_by_answers_that_run_into_their_limit(
    tmp_path: Path, free_port: Callable[[], int], wrong: bool
) -> None:
    """The echo repeats every turn where its template marks none; with the right one it is let be."""
    config = '[[model]]\nname = "fake:echo"\nalias = "chat"\n[cache]\nmode = "off"\n'
    server = start_served(tmp_path / "home", (), store=None, port=free_port(), grpc_port=0, config=config)
    try:
        key = owner_key(server)
        shadowed(server, key, "fake:echo?wrong_template=1" if wrong else "fake:echo?seed=1")
        if not wrong:
            assert not requests_until_taken_back(server, key, tokens=48, most=100)
            return
        count = requests_until_taken_back(server, key, tokens=48)
        print(f"found after {count} requests")
        assert 0 < count <= MOST_REQUESTS
        check(server, key, "defects")
    finally:
        server.stop()


WRONG_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}<<SYS>>{{ m['content'] }}<</SYS>>"
    "{% elif m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
)
"""That of another family."""


def with_template(gguf: Path, template: str, to: Path) -> Path:
    """Write a GGUF file with another chat template, filled up to the length of its own."""
    data = gguf.read_bytes()
    key = b"tokenizer.chat_template"
    at = data.index(key) + len(key) + 4  # behind the type of the value
    length = int.from_bytes(data[at : at + 8], "little")
    text = template.encode()
    assert len(text) + 4 <= length, "no room"
    filled = text + b"{#" + b" " * (length - len(text) - 4) + b"#}"
    to.write_bytes(data[: at + 8] + filled + data[at + 8 + length :])
    return to


@pytest.mark.full
def test_a_real_model_with_the_template_of_another_family_is_found(
    demo_home: Path, tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    store = build_store(read_settings().home)
    files = build_store(Home(root=demo_home)).open("smollm2")
    gguf = Path(files.directory) / files.weights
    right = store.pull(str(gguf), name="right")
    wrong = store.pull(str(with_template(gguf, WRONG_TEMPLATE, tmp_path / "wrong.gguf")), name="wrong")
    for model in (right, wrong):
        prepare_variant(store, model, "int8")
    config = '[[model]]\nname = "right@int8"\nalias = "chat"\n[cache]\nmode = "off"\n'
    server = start_served(tmp_path / "home", (), store=None, port=free_port(), grpc_port=0, config=config)
    try:
        key = owner_key(server)
        shadowed(server, key, "wrong@int8")
        count = requests_until_taken_back(server, key, tokens=32)
        found = call(server, "GET", "/admin/v1/releases/chat-2", key)
        print(f"found after {count} requests: {found['why']}")
        assert 0 < count <= MOST_REQUESTS and found["state"] == "failed"
        assert call(server, "GET", "/admin/v1/aliases/chat", key)["weights_percent"] == {"chat-1": 100.0}
    finally:
        server.stop()
