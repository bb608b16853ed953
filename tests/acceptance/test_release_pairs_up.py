"""Candidates tried by `ashore up`: pairs without a person's data, the operator's judges, the guard of an objective."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from served import Served, start_served
from test_release_page import call, owner_key

ID = "11010519491231002X"
CONFIG = """
[release]
pairs = 3

[[release.judge]]
name = "numbered"
must_match = "第[0-9]+位"

[release.slo]
ttft_ms = 1
window_s = 60

[privacy.prompts]
id_card = "allow"

[[model]]
name = "fake:echo?tok_per_s=4000"
alias = "chat"
"""


def ashore(server: Served, key: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ashore.cli.main", *words],
        env={**os.environ, "ASHORE_HOME": str(server.home), "ASHORE_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask(server: Served, key: str, text: str) -> str:
    body = {"model": "chat", "messages": [{"role": "user", "content": text}]}
    return json.dumps(call(server, "POST", "/v1/chat/completions", key, body), ensure_ascii=False)


def test_a_candidate_is_tried(tmp_path: Path, free_port: Callable[[], int]) -> None:
    server = start_served(tmp_path / "home", (), store=None, port=free_port(), grpc_port=0, config=CONFIG)
    try:
        key = owner_key(server)
        ashore(server, key, "release", "create", "--alias", "chat", "--model", "fake:random?tok_per_s=100&tokens=9")
        ashore(server, key, "release", "shadow", "chat-2", "--share", "100")
        for number in range(6):
            assert ID in ask(server, key, f"第{number}位，身份证号{ID}"), (
                "the policy lets it through; the fake repeats it"
            )
        deadline = time.monotonic() + 30
        while not (found := json.loads(ashore(server, key, "release", "pairs", "chat-2", "--json"))["items"]):
            assert time.monotonic() < deadline, "no pair came"
        one = found[0]
        assert len(found) <= 3 and ID not in json.dumps(found)
        assert "[ID_CARD_1]" in one["prompt"] and "[ID_CARD_1]" in one["live"]
        assert 0 < one["distance"] <= 1 and one["candidate"] and one["tenant"]
        text = ashore(server, key, "release", "pairs", "chat-2")
        assert "[ID_CARD_1]" in text and "candidate  " in text and ID not in text
        shown = ashore(server, key, "release", "show", "chat-2")
        assert "ashore release pairs chat-2" in shown
        assert "judge numbered mean 1" in shown, "no answer of the candidate has what the judge asks for"
        ashore(server, key, "release", "canary", "chat-2", "--share", "50")
        deadline, asked = time.monotonic() + 60, 0
        while "chat-2  canary" in ashore(server, key, "release", "list"):
            assert time.monotonic() < deadline, "the guard did not fire"
            for _ in range(10):
                asked += 1
                ask(server, key, f"第{asked}位")
        status = ashore(server, key, "release", "status", "chat")
        assert "rollback chat-2 by system: burns its objective of ttft" in status
        history = call(server, "GET", "/admin/v1/aliases/chat/history?limit=1", key)["items"]
        assert history[0]["evidence"]["burn_rate_short"] >= 6  # type: ignore[index]
    finally:
        server.stop()
    states = [file for file in server.home.glob("state.db*") if file.is_file()]
    assert states and not any(ID.encode() in file.read_bytes() for file in states)
