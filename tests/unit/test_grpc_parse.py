"""What the wire may say, and what it may not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

import ashore.data.grpc.gen
from ashore.core import errors
from ashore.core.errors import AshoreError, InvalidRequest
from ashore.core.ids import RequestId
from ashore.data.engines import Sampling
from ashore.data.grpc.gen import inference_pb2 as pb
from ashore.data.grpc.parse import chat_request, complete_request, embed_inputs
from ashore.data.grpc.reception import decoded, request_id_of, token_of
from ashore.data.grpc.render import whole_answer
from ashore.data.grpc.status import header_text, status_code, trailing_metadata
from ashore.data.http.errors import error_headers
from ashore.data.path import ChoiceEnded, Delta, Started, ToolCallDelta, Usage

ID = RequestId("req_1")
USER = pb.Message(role=pb.ROLE_USER, content="hi")


def parse(**fields: object) -> object:
    return chat_request(pb.ChatRequest(**{"model": "m", "messages": [USER]} | fields), request_id=ID, deadline_s=None)


def test_a_message_of_many_parts_is_refused_before_the_library_reads_it() -> None:
    """It puts keys that share their lowest bits into one line: 65,536 of them, sent four times in 4 MB, held every
    request until the worker was killed. An empty message of two bytes takes a hundred."""
    keys = b"".join(pb.Sampling(logit_bias={n << 16: 1}).SerializeToString() for n in range(1, 32_768))
    began = time.thread_time()
    with pytest.raises(InvalidRequest, match="more than 4,096 entries in maps"):
        decoded(pb.Sampling, keys * 4)
    with pytest.raises(InvalidRequest, match="more than 100,000 fields"):
        decoded(pb.ChatRequest, b"\x12\x00" * 2_000_000)
    assert time.thread_time() - began < 2


def test_a_message_is_read_whole_or_refused() -> None:
    request = pb.ChatRequest(model="m", messages=[USER] * 50, generation=pb.Generation(stop=["a", ""]))
    request.template_options.update({"a": {"b": [1, "x", None, {"c": True}]}})
    request.generation.sampling.logit_bias.update(dict.fromkeys(range(1024), 1.0))
    raw = request.SerializeToString()
    assert decoded(pb.ChatRequest, raw) == request
    for wrong in (raw[:-1], b"\x0b\x0c", b"\x12\x7f", b"\x12" + b"\xff" * 10 + b"\x01", b"\x12", b"\x0d\x00"):
        with pytest.raises(InvalidRequest, match=r"not a valid ashore\.v1\.ChatRequest"):
            decoded(pb.ChatRequest, wrong)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_options_of_a_template_have_finite_numbers(number: float) -> None:
    with pytest.raises(InvalidRequest, match="template_options is not a JSON object"):
        parse(template_options={"a": [number]})


def test_what_is_left_out_changes_nothing() -> None:
    request = parse()
    assert request.sampling == Sampling()
    assert (request.num_choices, request.max_tokens, request.top_logprobs, request.stop) == (1, None, None, ())
    assert (request.tool_choice, request.grammar, request.template_options) == ("auto", None, {})
    raw = complete_request(pb.CompleteRequest(model="m", text="x"), request_id=ID, deadline_s=3.0)
    assert (raw.prompt, raw.max_tokens, raw.deadline_s) == ("x", 16, 3.0)


def test_zero_is_something_else_than_left_out() -> None:
    request = parse(generation=pb.Generation(sampling=pb.Sampling(temperature=0.0), top_logprobs=0))
    assert request.sampling.temperature == 0.0
    assert request.top_logprobs == 0


def test_a_float_is_the_same_as_over_http() -> None:
    request = parse(generation=pb.Generation(sampling=pb.Sampling(temperature=0.1)))
    assert request.sampling.temperature == 0.1


def test_conversation_and_tools() -> None:
    messages = [
        pb.Message(role=pb.ROLE_SYSTEM, content="s"),
        USER,
        pb.Message(role=pb.ROLE_ASSISTANT, tool_calls=[pb.ToolCall(id="c1", name="f", arguments="{}")], reasoning="r"),
        pb.Message(role=pb.ROLE_TOOL, tool_call_id="c1", content="42"),
    ]
    tool = pb.Tool(name="f", description="d", parameters='{"type":"object"}', strict=True)
    request = parse(messages=messages, tools=[tool], tool_name="f", template_options={"thinking": True})
    assert [m.role for m in request.messages] == ["system", "user", "assistant", "tool"]
    assert request.messages[2].tool_calls[0].name == "f"
    assert request.messages[3].tool_call_id == "c1"
    assert request.tools[0].strict and request.tools[0].parameters == '{"type":"object"}'
    assert request.tool_choice == "tool:f"
    assert request.template_options == {"thinking": True}
    assert parse(tool_mode=pb.TOOL_MODE_REQUIRED).tool_choice == "required"


@pytest.mark.parametrize(
    ("grammar", "kind", "text"),
    [
        (pb.Grammar(json_schema='{"type":"integer"}'), "json_schema", '{"type":"integer"}'),
        (pb.Grammar(json_object=True), "json_object", ""),
        (pb.Grammar(regex="a+"), "regex", "a+"),
        (pb.Grammar(lark='start: "a"'), "lark", 'start: "a"'),
    ],
)
def test_grammars(grammar: pb.Grammar, kind: str, text: str) -> None:
    found = parse(generation=pb.Generation(grammar=grammar)).grammar
    assert (found.kind, found.text) == (kind, text)


def sampling(**fields: object) -> dict[str, object]:
    return {"generation": pb.Generation(sampling=pb.Sampling(**fields))}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": "m" * 257}, "model"),
        ({"tools": [pb.Tool(name="f", parameters='{"a":"' + "\u00e9" * (128 << 10) + '"}')]}, "tools[0].parameters"),
        ({"messages": []}, "messages"),
        ({"messages": [pb.Message(content="x")]}, "messages[0].role"),
        ({"messages": [USER, pb.Message(role=pb.ROLE_TOOL)]}, "messages[1].tool_call_id"),
        ({"messages": [pb.Message(role=pb.ROLE_USER, tool_calls=[pb.ToolCall()])]}, "messages[0].tool_calls"),
        ({"tools": [pb.Tool(name="f g")]}, "tools[0].name"),
        ({"tools": [pb.Tool()]}, "tools[0].name"),
        ({"tools": [pb.Tool(name="f", parameters="{")]}, "tools[0].parameters"),
        ({"tools": [pb.Tool(name="f", parameters="[]")]}, "tools[0].parameters"),
        (sampling(temperature=2.5), "generation.sampling.temperature"),
        (sampling(temperature=float("nan")), "generation.sampling.temperature"),
        (sampling(top_p=-0.1), "generation.sampling.top_p"),
        (sampling(min_p=1.5), "generation.sampling.min_p"),
        (sampling(presence_penalty=-3), "generation.sampling.presence_penalty"),
        (sampling(repetition_penalty=0), "generation.sampling.repetition_penalty"),
        (sampling(logit_bias={1: 101}), "generation.sampling.logit_bias"),
        ({"generation": pb.Generation(num_choices=0)}, "generation.num_choices"),
        ({"generation": pb.Generation(top_logprobs=21)}, "generation.top_logprobs"),
        ({"generation": pb.Generation(max_tokens=0)}, "generation.max_tokens"),
        ({"generation": pb.Generation(stop=[""])}, "generation.stop"),
        ({"generation": pb.Generation(priority=101)}, "generation.priority"),
        ({"generation": pb.Generation(grammar=pb.Grammar())}, "generation.grammar"),
    ],
)
def test_what_is_refused_names_the_field(fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(**fields)
    assert refused.value.param == param
    assert refused.value.hint


@pytest.mark.parametrize("wire", [pb.CompleteRequest(model="m"), pb.CompleteRequest(model="m", tokens=pb.TokenIds())])
def test_complete_needs_a_prompt(wire: pb.CompleteRequest) -> None:
    with pytest.raises(InvalidRequest, match="prompt"):
        complete_request(wire, request_id=ID, deadline_s=None)


@pytest.mark.parametrize("inputs", [[], [pb.EmbedInput()], [pb.EmbedInput(text="a"), pb.EmbedInput(text="")]])
def test_embed_needs_inputs(inputs: list[pb.EmbedInput]) -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        embed_inputs(inputs)


def test_pieces_of_a_tool_call_add_up() -> None:
    events = [
        Started(model="m", release="m-1", precision="int8", prompt_tokens=3, created_s=1),
        Delta(choice=1, text="b"),
        Delta(choice=0, reasoning="because", tool_calls=(ToolCallDelta(index=0, id="c", name="f", arguments='{"a'),)),
        Delta(
            choice=0, tool_calls=(ToolCallDelta(index=0, arguments='":1}'), ToolCallDelta(index=1, id="d", name="g"))
        ),
        ChoiceEnded(choice=0, reason="tool_calls"),
        ChoiceEnded(choice=1, reason="length"),
        Usage(prompt_tokens=3, cached_tokens=1, completion_tokens=9, reasoning_tokens=2),
    ]
    answer = whole_answer(events, ID)
    assert [c.index for c in answer.choices] == [0, 1]
    assert [(c.id, c.name, c.arguments) for c in answer.choices[0].tool_calls] == [
        ("c", "f", '{"a":1}'),
        ("d", "g", ""),
    ]
    assert answer.choices[0].finish_reason == pb.FINISH_REASON_TOOL_CALLS
    assert answer.usage.reasoning_tokens == 2


def all_errors(base: type[AshoreError]) -> list[type[AshoreError]]:
    return [base, *(e for sub in base.__subclasses__() for e in all_errors(sub))]


@pytest.mark.parametrize("kind", all_errors(AshoreError))
@pytest.mark.parametrize(("given_s", "told"), [(None, "1"), (0.2, "1"), (4.1, "5")])
def test_both_protocols_say_alike_when_to_come_back(kind: type[AshoreError], given_s: float | None, told: str) -> None:
    error = kind(retry_after_s=given_s)
    wanted = told if kind.retryable or given_s is not None else None
    over_grpc = dict(trailing_metadata(error))
    assert over_grpc.get("retry-after") == wanted
    assert dict(error_headers(error)).get(b"retry-after") == (wanted.encode() if wanted else None)
    assert (b"google.rpc.RetryInfo" in bytes(over_grpc["grpc-status-details-bin"])) == (wanted is not None)


def test_every_error_has_a_status() -> None:
    codes = {error.__name__: status_code(error()).name for error in all_errors(AshoreError)}
    wanted = {
        "InvalidRequest": "INVALID_ARGUMENT",
        "ContextTooLong": "INVALID_ARGUMENT",
        "Unauthenticated": "UNAUTHENTICATED",
        "PermissionDenied": "PERMISSION_DENIED",
        "UnknownModel": "NOT_FOUND",
        "Overloaded": "RESOURCE_EXHAUSTED",
        "Draining": "UNAVAILABLE",
        "HostDied": "UNAVAILABLE",
        "DeadlineExceeded": "DEADLINE_EXCEEDED",
        "Bug": "INTERNAL",
    }
    assert {name: codes[name] for name in wanted} == wanted
    assert "OK" not in codes.values()
    retryable = {e.__name__ for e in all_errors(errors.AshoreError) if e.retryable}
    assert {codes[name] for name in retryable} <= {"RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert grpc.StatusCode.UNAVAILABLE.value[0] == 14


@pytest.mark.parametrize(
    ("metadata", "token"),
    [
        ({"authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bearer  abc "}, "abc"),
        ({"x-api-key": "abc"}, "abc"),
        ({"authorization": "Basic abc", "x-api-key": "def"}, "def"),
        ({"authorization": "Bearer "}, None),
        ({}, None),
    ],
)
def test_where_the_key_is(metadata: dict[str, str | bytes], token: str | None) -> None:
    assert token_of(metadata) == token


def test_request_ids_of_clients_are_taken_when_harmless() -> None:
    assert request_id_of({"x-request-id": "abc-1"}) == "abc-1"
    for bad in ("", "x" * 129, "a\nb", "é"):
        assert request_id_of({"x-request-id": bad}).startswith("req_")
    assert header_text("naïve\n") == "na?ve?"


def test_generated_code_is_what_the_proto_files_give(tmp_path: Path) -> None:
    project = Path(__file__).parents[2]
    checked_in = Path(ashore.data.grpc.gen.__file__).parent
    command = [str(project / "proto" / "generate.sh"), str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHON": sys.executable}, timeout=60)
    made = sorted(p.name for p in tmp_path.iterdir())
    assert made == sorted(p.name for p in checked_in.glob("*_pb2*"))
    for name in made:
        assert (tmp_path / name).read_text() == (checked_in / name).read_text(), f"run proto/generate.sh: {name}"
