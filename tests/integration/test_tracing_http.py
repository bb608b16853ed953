"""Traces of a worker, at a collector that reads them with OpenTelemetry's own messages."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_worker import Worker, http_worker
from otlp_receiver import Receiver, TakenSpan, otlp_receiver
from waiting import eventually

from ashore.data.privacy import PrivacyPolicy

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
CARD = "4111 1111 1111 1111"
CHAT = "/v1/chat/completions"
TELLING = PrivacyPolicy(
    prompts={"bank_card": "allow"}, trace_content="masked"
)  # what the model may see is masked in a trace all the same


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with otlp_receiver() as one:
        yield one


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Worker]:
    run = tmp_path_factory.mktemp("worker")
    secret = run / "headers"
    secret.write_text("x-collector-key: k1\n")
    secret.chmod(0o600)
    section = {"endpoint": receiver.url, "headers_file": str(secret), "service_name": "models"}
    with http_worker(run, sections={"otel": section}, privacy=TELLING) as one:
        yield one


def ask(worker: Worker, text: str, headers: dict[str, str] | None = None, **body: Any) -> tuple[int, Any, Any]:
    asked = {"model": "echo", "messages": [{"role": "user", "content": text}], **body}
    headers = {"content-type": "application/json", **(headers or {})}
    status, answer_headers, answer = worker.request("POST", CHAT, json.dumps(asked), headers)
    return status, answer_headers, json.loads(answer)


def span_of(receiver: Receiver, request_id: str) -> TakenSpan:
    def found() -> list[TakenSpan]:
        return [one for one in receiver.spans if one.attributes.get("gen_ai.response.id") == request_id]

    eventually(found, 10)
    (one,) = found()
    return one


def test_a_request_is_a_span_of_the_callers_trace(worker: Worker, receiver: Receiver) -> None:
    traceparent = f"00-{TRACE}-{PARENT}-01"
    status, headers, _ = ask(
        worker, "hello", {"traceparent": traceparent, "x-request-id": "one"}, max_tokens=50, temperature=0.5, seed=7
    )
    assert status == 200 and headers["traceparent"] == traceparent
    span = span_of(receiver, "one")
    assert (span.name, span.kind, span.trace_id, span.parent_id) == ("chat echo", 2, TRACE, PARENT)
    assert span.span_id not in ("", PARENT)
    assert span.resource["service.name"] == "models" and span.resource["service.instance.id"].endswith("/0")
    told = span.attributes
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "ashore",
        "gen_ai.request.model": "echo",
        "gen_ai.response.model": "echo-1",
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.seed": 7,
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.response.finish_reasons": ["stop"],
        "http.route": CHAT,
        "ashore.outcome": "answered",
        "ashore.cache": "miss",
    }
    assert {name: told.get(name) for name in expected} == expected
    assert 0 <= told["gen_ai.latency.time_to_first_token"] <= told["gen_ai.latency.e2e"] <= span.seconds + 0.1
    assert receiver.headers[-1]["x-collector-key"] == "k1"


def test_texts_are_masked_whatever_the_model_may_see(worker: Worker, receiver: Receiver) -> None:
    status, _, answer = ask(worker, f"my card is {CARD}", {"x-request-id": "card"})
    assert status == 200 and "1111" in json.dumps(answer), "the policy lets the model see it, and the client gets it"
    told = span_of(receiver, "card").attributes
    asked, said = (json.loads(told[f"gen_ai.{way}.messages"]) for way in ("input", "output"))
    assert asked == [{"role": "user", "parts": [{"type": "text", "content": "my card is [BANK_CARD_1]"}]}]
    assert said[0]["role"] == "assistant" and said[0]["finish_reason"] == "stop"
    assert said[0]["parts"] == [{"type": "text", "content": "my card is [BANK_CARD_1]"}]
    assert "1111" not in json.dumps(told)


def test_a_refusal_is_an_error_and_a_kept_answer_a_span(worker: Worker, receiver: Receiver) -> None:
    assert ask(worker, "x" * 20_000, {"x-request-id": "long"})[0] == 400
    span = span_of(receiver, "long")
    assert (span.status, span.attributes["error.type"]) == (2, "context_length_exceeded")
    for number in range(3):
        assert ask(worker, "again", {"x-request-id": f"again-{number}"}, temperature=0)[0] == 200
    kept = [span_of(receiver, f"again-{number}").attributes["ashore.cache"] for number in range(3)]
    assert kept == ["miss", "hit-exact", "hit-exact"], "the last one is answered by its bytes alone"


def test_what_a_caller_does_not_follow_is_not_sent(worker: Worker, receiver: Receiver) -> None:
    assert ask(worker, "quiet", {"traceparent": f"00-{TRACE}-{PARENT}-00", "x-request-id": "quiet"})[0] == 200
    assert ask(worker, "loud", {"x-request-id": "loud"})[0] == 200
    span = span_of(receiver, "loud")
    assert span.parent_id == "" and len(span.trace_id) == 32
    assert not [one for one in receiver.spans if one.attributes["gen_ai.response.id"] == "quiet"]


def test_without_leave_of_the_policy_no_text_goes_out(tmp_path: Path, receiver: Receiver) -> None:
    with http_worker(tmp_path, sections={"otel": {"endpoint": receiver.url}}) as worker:
        assert ask(worker, "a word that is a secret", {"x-request-id": "silent"})[0] == 200
        assert "secret" not in json.dumps(span_of(receiver, "silent").attributes)
        began_s = time.monotonic()
        assert ask(worker, "last", {"x-request-id": "last"})[0] == 200
    assert span_of(receiver, "last"), "what is left is sent when a worker ends"
    assert time.monotonic() - began_s < 15


def test_a_dead_collector_costs_requests_nothing_and_is_told_once(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        nobody.listen(1)  # takes connections and never answers
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with http_worker(tmp_path, sections={"otel": {"endpoint": endpoint}}) as worker:
            for number in range(20):
                assert ask(worker, f"hello {number}")[0] == 200
            eventually(lambda: worker.metric('ashore_trace_spans_total{result="failed"}') > 0, 15)
            assert ask(worker, "still there")[0] == 200
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 10, "it waited for the collector"
        assert worker.said().count("takes no spans") == 1
        assert "Traceback" not in worker.said()
