"""Candidates tried by `ashore up`: pairs without a person's data, the operator's judges, the guard of an objective."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import run_command
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
    done = run_command(*words, home=server.home, env={"ASHORE_API_KEY": key})
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask(server: Served, key: str, text: str) -> str:
    body = {"model": "chat", "messages": [{"role": "user", "content": text}]}
    return json.dumps(call(server, "POST", "/v1/chat/completions", key, body), ensure_ascii=False)


def check_burn_rates(server: Served, key: str) -> None:
    """See how fast the canary burnt its objective: one answer in twenty may be late."""
    found = call(server, "GET", "/admin/v1/releases/chat-3/burn", key)
    fast, slow = (one for one in found["items"] if not one["alone"])
    assert (fast["objective"], fast["long_window_s"], fast["short_window_s"]) == ("ttft", 60, 5)
    assert (fast["taken_back_from"], slow["long_window_s"], slow["taken_back_from"]) == (14.4, 360, 6)
    for one in (fast, slow):
        assert 5 <= one["bad"] <= one["requests"] and one["allowed_percent"] == 5
        assert one["long_rate"] == pytest.approx(one["bad"] / one["requests"] / 0.05, abs=0.006)
        assert one["long_rate"] > 6
    shown = re.search(r"burn rate of ttft: ([0-9.]+) over 60 s, ", ashore(server, key, "release", "show", "chat-3"))
    assert shown is not None and 6 < float(shown[1]) <= 20


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
        ashore(server, key, "release", "retire", "chat-2")
        # one that answers as the live one does, at the same pace, but late: nothing else speaks against it
        late = "fake:echo?tok_per_s=4000&delay_s=0.03"
        ashore(server, key, "release", "create", "--alias", "chat", "--model", late)
        ashore(server, key, "release", "canary", "chat-3", "--share", "50")
        deadline, asked = time.monotonic() + 60, 0
        while "canary" in ashore(server, key, "release", "list").partition("chat-3 ")[2].partition("\n")[0]:
            assert time.monotonic() < deadline, "the guard did not fire"
            for _ in range(10):
                asked += 1
                ask(server, key, f"第{asked}位")
        assert asked, "it was never a canary"
        status = ashore(server, key, "release", "status", "chat")
        assert "rollback chat-3 by system: burns its objective of ttft" in status
        history = call(server, "GET", "/admin/v1/aliases/chat/history?limit=1", key)["items"]
        assert history[0]["evidence"]["burn_rate_short"] >= 6  # type: ignore[index]
        check_burn_rates(server, key)
    finally:
        server.stop()
    states = [file for file in server.home.glob("state.db*") if file.is_file()]
    assert states and not any(ID.encode() in file.read_bytes() for file in states)
