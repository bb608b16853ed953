"""Masking over HTTP: every protocol, streams, the administration, a policy that changes while requests run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_worker import Worker, http_worker
from waiting import eventually

from ashore.data.path import StateLink
from ashore.data.privacy import PrivacyPolicy

ID = "11010519491231002X"


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("privacy")
    policy = PrivacyPolicy(prompts={"email": "block"})
    with http_worker(folder / "run", state=StateLink(path=str(folder / "state.db")), privacy=policy) as running:
        yield running


def post(worker: Worker, path: str, body: dict[str, Any], method: str = "POST") -> tuple[int, Any]:
    status, _, said = worker.request(method, path, json.dumps(body), {"content-type": "application/json"})
    return status, json.loads(said) if said[:1] in b"{[" else said


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **fields}


def masked_so_far(worker: Worker, kind: str) -> float:
    return worker.metric(f'ashore_masked_entities_total{{action="mask",kind="{kind}",where="prompt"}}')


def test_chat_completions_and_its_stream(worker: Worker) -> None:
    before = masked_so_far(worker, "id_card")
    status, answer = post(worker, "/v1/chat/completions", chat(f"我是{ID}。"))
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == f"我是{ID}。"
    assert answer["usage"]["prompt_tokens"] == len("我是[ID_CARD_1]。".encode())  # bytes are its tokens
    status, stream = post(worker, "/v1/chat/completions", chat(f"{ID} and {ID}", stream=True))
    pieces = [json.loads(line[6:]) for line in stream.decode().splitlines() if line.startswith("data: {")]
    text = "".join(c["delta"].get("content", "") for p in pieces for c in p["choices"])
    assert text == f"{ID} and {ID}"
    assert masked_so_far(worker, "id_card") == before + 3


def test_completions_responses_and_messages(worker: Worker) -> None:
    status, answer = post(worker, "/v1/completions", {"model": "echo", "prompt": f"x {ID}", "max_tokens": 64})
    assert (status, answer["choices"][0]["text"]) == (200, f"x {ID}")
    status, answer = post(worker, "/v1/responses", {"model": "echo", "input": f"y {ID}", "store": False})
    assert (status, answer["output"][0]["content"][0]["text"]) == (200, f"y {ID}")
    body = {"model": "echo", "max_tokens": 64, "messages": [{"role": "user", "content": f"z {ID}"}]}
    status, answer = post(worker, "/v1/messages", body)
    assert (status, answer["content"][0]["text"]) == (200, f"z {ID}")


def test_a_blocked_request_says_kinds_and_no_values(worker: Worker) -> None:
    status, answer = post(worker, "/v1/chat/completions", chat("write to li.lei@example.org"))
    assert status == 403
    assert answer["error"]["code"] == "personal_data_blocked"
    assert "1 email" in answer["error"]["message"] and "li.lei" not in json.dumps(answer)
    assert "li.lei" not in worker.said() and ID not in worker.said()


def test_the_administration_is_not_for_everybody(worker: Worker) -> None:
    status, answer = post(worker, "/admin/v1/privacy/detect", {"text": ID})
    assert (status, answer["error"]["code"]) == (403, "permission_denied")
    assert post(worker, "/admin/v1/privacy/policy", {"replaces": 0, "policy": None}, "PUT")[0] == 403


def test_a_policy_in_the_state_is_in_force_in_a_running_server(worker: Worker) -> None:
    from ashore.core.clock import SystemClock
    from ashore.core.ids import TenantId
    from ashore.core.principal import Principal
    from ashore.data.privacy import Privacy, PrivacyDesk
    from ashore.kit.call import Actor
    from ashore.kit.recorder import MemoryRecorder
    from ashore.kit.state import open_database

    question = chat("电话13812345678。", temperature=0)

    def seen_tokens() -> int:
        return int(post(worker, "/v1/chat/completions", question)[1]["usage"]["prompt_tokens"])

    whole = len("电话13812345678。".encode())
    assert seen_tokens() == whole
    state = open_database(Path(worker.topology.state.path), snapshots=None, clock=SystemClock())
    try:
        policy = PrivacyPolicy(prompts={"phone": "mask"})
        privacy = Privacy(policy, secret=b"x" * 32)
        desk = PrivacyDesk(privacy, policy, state, clock=SystemClock(), recorder=MemoryRecorder())
        desk.change(policy, replaces=0, actor=Actor(principal=Principal(id="tester", tenant=TenantId(""))))
        eventually(lambda: seen_tokens() == len("电话[PHONE_1]。".encode()))
        desk.change(None, replaces=1, actor=Actor(principal=Principal(id="tester", tenant=TenantId(""))))
        eventually(lambda: seen_tokens() == whole)
    finally:
        state.close()


def test_generated_answers_are_labelled_where_the_policy_says_so(tmp_path: Path) -> None:
    policy = PrivacyPolicy(label="notice")
    with http_worker(tmp_path / "run", state=StateLink(path=str(tmp_path / "state.db")), privacy=policy) as one:
        status, headers, said = one.request("POST", "/v1/chat/completions", json.dumps(chat("hello")))
        assert status == 200
        assert json.loads(headers["x-ashore-aigc"])["AIGC"]["Label"] == "1"
        assert json.loads(said)["choices"][0]["message"]["content"].endswith("AI-generated）")
