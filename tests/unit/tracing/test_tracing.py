"""Traces without a collector: what `[otel]` takes, what a span says, and that nothing is loaded where they are off."""

from __future__ import annotations

import gc
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from ashore.core.chat import Message, ToolCall
from ashore.core.clock import SystemClock
from ashore.core.errors import InvalidSpec
from ashore.core.ids import RequestId
from ashore.data.audit import RequestNote
from ashore.data.path import Arrival, GenerationRequest
from ashore.data.tracing import OtelSection
from ashore.data.tracing.attributes import (
    INPUT,
    MOST_CHARS,
    input_messages,
    note_attributes,
    output_messages,
    read_messages,
    texts_of,
    with_texts,
)
from ashore.data.tracing.export import Careful, OtelTracer, RequestSpan, Texts
from ashore.machine.config.document import parse_spec

OFF = """
import asyncio, sys
from ashore.kit.rooms import Context
from ashore.data.path import Guards
from ashore.data.tracing.room import ROOM
opened = asyncio.run(ROOM.open(Context(told=lambda name: {})))
assert not opened.gives and opened.close is None and Guards().tracer is None
print(sorted(name for name in sys.modules if name.startswith("opentelemetry.exporter")))
"""


def test_nothing_is_loaded_where_traces_are_off() -> None:
    done = subprocess.run([sys.executable, "-c", OFF], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('endpoint = "127.0.0.1:4318"', "http://HOST:PORT"),
        ('endpoint = "http://127.0.0.1:4318?a=b"', "http://HOST:PORT"),
        ('endpoint = "http://collector.corp:4318"', "may not call"),
        ('endpoint = "http://127.0.0.1:4318"\nshare = 1.5', "share"),
        ('endpoint = "http://127.0.0.1:4318"\nheaders_file = "here"', "relative"),
        ('endpoint = "http://127.0.0.1:4318"\nheaders_file = "/nowhere/x"', "headers_file"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        parse_spec(f"[otel]\n{text}\n")


def test_a_collector_elsewhere_has_to_be_allowed() -> None:
    spec = parse_spec('[otel]\nendpoint = "https://collector.corp:4318"\n[egress]\nallow = ["collector.corp:4318"]\n')
    assert spec.sections()["otel"].calls == {"endpoint": "https://collector.corp:4318"}


def test_a_file_of_headers_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer a:b\n\nx-scope-orgid: bank\n")
    section = OtelSection(endpoint="http://127.0.0.1:4318", headers_file=str(file))
    file.chmod(0o644)
    with pytest.raises(InvalidSpec, match="read by others"):
        section.checked("[otel]")
    file.chmod(0o600)
    assert section.checked("[otel]").headers() == {"authorization": "Bearer a:b", "x-scope-orgid": "bank"}
    file.write_text("no header\n")
    with pytest.raises(InvalidSpec, match="name: value"):
        section.checked("[otel]")


def test_a_span_names_nobody() -> None:
    note = RequestNote(
        request_id="r", principal="alice", tenant="bank", alias="m", release="", outcome="failed", cache="miss",
        key="ash_1", origin="10.0.0.7", error_code="overloaded", masked={"bank_card": 2},
    )  # fmt: skip
    told = note_attributes(note)
    assert "alice" not in str(told) and "10.0.0.7" not in str(told)
    assert (told["error.type"], told["ashore.masked.bank_card"], told["ashore.tenant"]) == ("overloaded", 2, "bank")
    assert "gen_ai.response.model" not in told


def test_messages_have_the_form_of_the_conventions_and_their_texts_can_be_exchanged() -> None:
    call = ToolCall(id="c1", name="pay", arguments='{"to": "x"}')
    request = GenerationRequest(
        request_id=RequestId("r"),
        model="m",
        messages=(
            Message(role="system", content="be kind"),
            Message(role="assistant", content="", tool_calls=(call,)),
            Message(role="tool", content="done", tool_call_id="c1"),
            Message(role="user", content="y" * (MOST_CHARS + 5)),
        ),
    )
    told = input_messages(request)
    shown = json.loads(told)
    assert shown[0] == {"role": "system", "parts": [{"type": "text", "content": "be kind"}]}
    assert shown[1]["parts"] == [{"type": "tool_call", "id": "c1", "name": "pay", "arguments": '{"to": "x"}'}]
    assert shown[2]["parts"] == [{"type": "tool_call_response", "id": "c1", "response": "done"}]
    assert len(shown[3]["parts"][0]["content"]) == MOST_CHARS + 1
    messages = read_messages(told)
    upper = json.loads(with_texts(messages, [text.upper() for text in texts_of(messages)]))
    assert upper[0]["parts"][0]["content"] == "BE KIND" and upper[2]["parts"][0]["response"] == "DONE"
    assert json.loads(output_messages([("why", "text", "", "stop")])) == [
        {
            "role": "assistant",
            "parts": [{"type": "reasoning", "content": "why"}, {"type": "text", "content": "text"}],
            "finish_reason": "stop",
        }
    ]


class Keeps(SpanExporter):
    """Takes spans, or not."""

    def __init__(self) -> None:
        self.taken: list[ReadableSpan] = []
        self.takes = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += spans
        return SpanExportResult.SUCCESS if self.takes else SpanExportResult.FAILURE


def test_texts_that_cannot_be_masked_stay_here(caplog: pytest.LogCaptureFixture) -> None:
    def breaks(texts: Sequence[str]) -> Sequence[str]:
        raise ValueError("no")

    inner, counts = Keeps(), []
    careful = Careful(inner, "http://c", blacken=breaks, counted=lambda spans, sent: counts.append((spans, sent)))
    told = output_messages([("", "a secret", "", "stop")])
    careful.export([ReadableSpan(name="chat m", attributes={INPUT: told, "a": 1})])
    assert dict(inner.taken[0].attributes or {}) == {"a": 1} and counts == [(1, True)]
    assert "could not be masked" in caplog.text


def test_a_collector_that_is_gone_is_told_once_and_not_waited_for_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    inner = Keeps()
    careful = Careful(inner, "http://c", blacken=list, counted=lambda spans, sent: None)
    span = ReadableSpan(name="chat m")
    with caplog.at_level("INFO", "ashore.tracing"):
        for takes in (True, False, False, True, False):
            inner.takes = takes
            careful.export([span])
    said = [one.message for one in caplog.records]
    assert [("takes no spans" in one, "again" in one) for one in said] == [(True, False), (False, True), (True, False)]
    careful.closing = True
    assert careful.export([span]) is SpanExportResult.FAILURE and len(inner.taken) == 5


def test_texts_of_spans_that_wait_have_a_bound_and_give_it_back() -> None:
    texts, first, second = Texts(100), ReadableSpan(name="a"), ReadableSpan(name="b")
    assert texts.take(first, 60) and not texts.take(second, 60) and texts.take(second, 40)
    del first
    gc.collect()
    assert texts.take(second, 60) and not texts.take(second, 1)


def test_a_collector_that_never_answers_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashore.data.tracing.export.MOST_TEXT_CHARS", 100_000)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        section = OtelSection(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        tracer = OtelTracer(section, blacken=list, counted=lambda spans, sent: None, clock=SystemClock())
        note = RequestNote(
            request_id="r", principal="a", tenant="b", alias="m", release="", outcome="succeeded", cache="miss",
            key="k", origin="", error_code="", masked={},
        )  # fmt: skip
        message = Message(role="user", content="x" * MOST_CHARS)
        request = GenerationRequest(request_id=RequestId("r"), model="m", messages=(message,))
        kept = []
        for _ in range(20):
            span = tracer.begin("chat", "m", Arrival("127.0.0.1", "/v1/chat/completions"))
            assert isinstance(span, RequestSpan)
            span.asked(request, content=True)
            span.end(note)
            kept.append(span)
        assert sum(INPUT in (one._span.attributes or {}) for one in kept) == 100_000 // MOST_CHARS
        tracer.close()
