"""A head behind the same key, budget, releases and audit log as any other model, over HTTP and gRPC."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from benchmarks.inference_stub import InferenceStub
from commands import run_command
from served import Served, owner_key, start_served
from tiny_head import ROW, WEIGHTS, sealed_row, write_head

from ashore.data.grpc.gen import inference_pb2 as pb


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("heads-home")
    challenger = [[one - 60 for one in WEIGHTS[0]]]
    for name, weights in (("risk", WEIGHTS), ("stricter", challenger)):
        folder = write_head(tmp_path_factory.mktemp(name), weights=weights)
        pulled = run_command("model", "pull", str(folder), "--name", name, home=home)
        assert pulled.returncode == 0, pulled.stderr
    one = start_served(home, ["risk", "fake:echo"], store=None, port=free_port(), grpc_port=free_port())
    yield one
    one.stop()


def ask(server: Served, path: str, body: bytes | None = None, key: str = "") -> tuple[int, bytes]:
    headers = {"authorization": f"Bearer {key or server.key}", "content-type": "application/json"}
    request = urllib.request.Request(server.base_url + path, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as fault:
        return fault.code, fault.read()


def score(server: Served, *rows: Any, key: str = "") -> tuple[int, Any]:
    status, said = ask(server, "/heads/risk/score", json.dumps({"rows": rows}).encode(), key)
    return status, json.loads(said)


def ashore(server: Served, *words: str, key: str = "") -> str:
    done = run_command(*words, home=server.home, env={"ASHORE_API_KEY": key} if key else {})
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_the_closing_lines_of_up_offer_no_head_for_chat(server: Served) -> None:
    while "Ctrl-C stops it." not in server.said():
        assert server.process.poll() is None, server.said()
        time.sleep(0.05)
    assert '"model": "fake:echo", "stream"' in server.said()


def test_rows_are_scored_over_http_and_grpc_and_in_the_audit_log(server: Served) -> None:
    status, said = score(server, ROW)
    assert (status, said["scores"], said["decisions"]) == (200, [56], ["approve"])
    with grpc.insecure_channel(server.grpc_address) as channel:
        generation = pb.Generation(max_tokens=4096, sampling=pb.Sampling(temperature=0))
        request = pb.CompleteRequest(model="risk", text=json.dumps({"rows": [ROW]}), generation=generation)
        answer = InferenceStub(channel).Complete(
            request, metadata=[("authorization", f"Bearer {server.key}")], timeout=30
        )
    assert json.loads(answer.choices[0].text) == said
    assert '"risk-1"' in ashore(server, "audit", "search", "--json")


def test_a_wrong_row_a_wrong_model_and_a_model_of_another_kind(server: Served) -> None:
    status, fault = score(server, {**ROW, "age": "=1+1"})
    assert (status, fault["error"]["param"]) == (400, "rows[0].age")
    assert score(server)[0] == 400
    assert score(server, *[ROW] * 257)[0] == 400
    assert ask(server, "/heads/risk/score", b'{"rows":[{"age":NaN}]}')[0] == 400
    assert ask(server, "/heads/nobody/score", b'{"rows":[{}]}')[0] == 404
    status, said = ask(server, "/heads/fake:echo/score", b'{"rows":[{}]}')
    assert status == 400 and b"is not a head" in said
    assert ask(server, "/heads/fake:echo/score-encrypted", b"x")[0] == 400


def test_an_encrypted_row_gets_the_score_of_the_clear_one(server: Served) -> None:
    pytest.importorskip("tenseal", reason="needs ashore[examples]")
    card = json.loads(ask(server, "/heads/risk")[1])
    ciphertext, opened = sealed_row(card["encrypted"], [0, 1, 0, 0, 1, 0, 4, 50, -25, 127])
    status, answer = ask(server, "/heads/risk/score-encrypted", ciphertext)
    assert (status, opened(answer)) == (200, [56])
    status, fault = ask(server, "/heads/risk/score-encrypted", ciphertext[:-9])
    assert status == 400 and json.loads(fault)["error"]["param"] == "body"


def test_a_challenger_answers_copies_then_everything_and_is_rolled_back(server: Served) -> None:
    owner = owner_key(server)
    ashore(server, "release", "create", "risk-2", "--model", "stricter", "--alias", "risk", key=owner)
    ashore(server, "release", "shadow", "risk-2", "--share", "100", "--no-automatic", key=owner)
    deadline = time.monotonic() + 60
    while "agreement" not in (told := ashore(server, "release", "evidence", "risk-2", "--json", key=owner)):
        for debts in range(20):
            assert score(server, {**ROW, "debts": debts * 10})[1]["decisions"] == ["approve"]
        assert time.monotonic() < deadline, told
    ashore(server, "release", "promote", "risk-2", key=owner)
    assert score(server, ROW)[1]["decisions"] == ["refuse"]
    ashore(server, "release", "rollback", "risk", key=owner)
    assert score(server, ROW)[1]["decisions"] == ["approve"]
