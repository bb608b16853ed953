"""Budgets of a running `ashore up`: refused in every protocol, and exact when the API worker is killed in an answer."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from home_processes import processes_of
from served import Served
from waiting import eventually

from ashore.core.clock import SystemClock
from ashore.data.authority.budgets import BudgetRule, SqlAuthority
from ashore.kit.state import open_database

Start = Callable[..., Served]
SLOW = "fake:random?tok_per_s=40&tokens=400"


@contextmanager
def authority_of(server: Served) -> Iterator[SqlAuthority]:
    state = open_database(server.home / "state.db", snapshots=server.home / "snapshots", clock=SystemClock())
    try:
        yield SqlAuthority(state)
    finally:
        state.close()


def post(server: Served, path: str, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {server.key}"}
    return httpx.post(f"{server.base_url}{path}", json=body, headers=headers, timeout=30, trust_env=False)


def test_a_refusal_in_every_protocol_and_usage_at_the_end(served: Start) -> None:
    import grpc

    from ashore.data.grpc.gen import inference_pb2 as pb

    server = served("fake:echo")
    rule = BudgetRule(kind="tokens", window="day", cap=120, tenant="*")
    with authority_of(server) as authority:
        authority.put_rule(rule)
        time.sleep(0.3)
        asked = {"model": "fake:echo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 60}
        good = post(server, "/chat/completions", **asked)
        used = good.json()["usage"]["total_tokens"]
        assert good.status_code == 200 and good.headers["x-ratelimit-limit-tokens"] == "120"
        long = "x" * 100  # with the shortest answer that is worth it more than is left, and less than the cap
        asked["messages"] = [{"role": "user", "content": long}]
        for path in ("/chat/completions", "/messages"):
            refused = post(server, path, **asked)
            assert (refused.status_code, refused.headers["x-ashore-budget"]) == (429, rule.rule_id)
            assert refused.headers["x-ratelimit-remaining-tokens"] == str(120 - used)
            assert 0 < int(refused.headers["retry-after"]) <= 86_400
            assert "budget_exceeded" in refused.text
        with grpc.insecure_channel(server.grpc_address) as channel:
            chat = channel.unary_unary(
                "/ashore.v1.Inference/Chat",
                request_serializer=pb.ChatRequest.SerializeToString,
                response_deserializer=bytes,
            )
            question = pb.ChatRequest(model="fake:echo", messages=[pb.Message(role=pb.ROLE_USER, content=long)])
            with pytest.raises(grpc.RpcError) as caught:
                chat(question, metadata=(("authorization", f"Bearer {server.key}"),))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(caught.value.trailing_metadata())["x-ashore-budget"] == rule.rule_id
        assert server.stop() == 0
        (row,) = authority.usage(first_day="2026-01-01", last_day="9999-12-31")
        assert (row.requests, row.refused, row.prompt_tokens + row.completion_tokens) == (1, 3, used)


def test_an_answer_cut_off_by_a_kill_is_charged_as_far_as_it_went(served: Start) -> None:
    server = served(SLOW)
    rule = BudgetRule(kind="tokens", window="total", cap=1000, tenant="*")
    with authority_of(server) as authority:
        authority.put_rule(rule)
        time.sleep(0.3)
        body = {"model": SLOW, "messages": [{"role": "user", "content": "go"}], "max_tokens": 400, "stream": True}
        headers = {"authorization": f"Bearer {server.key}"}
        pieces, killed = 0, False
        with (
            pytest.raises(httpx.HTTPError),
            httpx.stream(
                "POST", f"{server.base_url}/chat/completions", json=body, headers=headers, timeout=30, trust_env=False
            ) as answer,
        ):
            for line in answer.iter_lines():
                if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                    pieces += 1
                if pieces == 10 and not killed:
                    killed = True
                    os.kill(processes_of(server.home, "ashore.data.worker")[0], signal.SIGKILL)
        assert pieces >= 10
        eventually(server.ready)
        eventually(lambda: bool(authority.counts(rule.rule_id, 0)) and authority.counts(rule.rule_id, 0)[0].open == 0)
        (count,) = authority.counts(rule.rule_id, 0)
        assert pieces <= count.settled < 200, "what was made, and not what was set aside"
        small = post(server, "/chat/completions", **{**body, "stream": False, "max_tokens": 3})
        assert small.headers["x-ratelimit-limit-tokens"] == "1000"
