"""Converts wire messages to our requests. Pure; every refusal names the field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal

from ashore.core.chat import Message, Role, ToolCall, ToolSpec
from ashore.core.errors import InvalidRequest
from ashore.core.ids import RequestId
from ashore.core.sampling import HIGHEST_BIAS, MOST_BIASES, RECOMMENDABLE, SAMPLING_FIELDS, Sampling, number_range
from ashore.data.bounds import (
    MOST_CHOICES,
    MOST_MESSAGES,
    MOST_NAME_CHARS,
    MOST_PRIORITY,
    MOST_STOP_CHARS,
    MOST_STOPS,
    MOST_TEMPLATE_OPTION_BYTES,
    MOST_TEXTS,
    MOST_TOKENS,
    MOST_TOOL_NAME_CHARS,
    MOST_TOOLS,
    MOST_TOP_LOGPROBS,
    TOOL_NAME,
    check_schema_size,
)
from ashore.data.engines import Grammar
from ashore.data.path import GenerationRequest

if TYPE_CHECKING:
    from ashore.data.grpc.gen import inference_pb2 as pb

COMPLETE_MAX_TOKENS: Final = 16
"""Default length of OpenAI's completions route."""

ROLES: Final[dict[int, Role]] = {1: "system", 2: "user", 3: "assistant", 4: "tool"}


def chat_request(wire: pb.ChatRequest, *, request_id: RequestId, deadline_s: float | None) -> GenerationRequest:
    """Return the request that `Chat` and `ChatStream` carry.

    Raises:
        InvalidRequest: it is malformed; `param` names the field.
    """
    _count("messages", len(wire.messages), 1, MOST_MESSAGES)
    _count("tools", len(wire.tools), 0, MOST_TOOLS)
    common = _common(wire.generation)
    return GenerationRequest(
        request_id=request_id,
        model=_model(wire.model),
        messages=tuple(_message(m, at) for at, m in enumerate(wire.messages)),
        tools=tuple(_tool(t, at) for at, t in enumerate(wire.tools)),
        tool_choice=_tool_choice(wire),
        deadline_s=deadline_s,
        template_options=_template_options(wire),
        **common,
    )


def _template_options(wire: pb.ChatRequest) -> dict[str, Any]:
    from google.protobuf import json_format

    if wire.template_options.ByteSize() > MOST_TEMPLATE_OPTION_BYTES:
        raise InvalidRequest(
            f"template_options is longer than {MOST_TEMPLATE_OPTION_BYTES:,} bytes",
            hint="send fewer options",
            param="template_options",
        )
    try:
        return dict(json_format.MessageToDict(wire.template_options))
    except (json_format.Error, ValueError) as fault:
        raise InvalidRequest(
            f"template_options is not a JSON object: {fault}",
            hint="set each value; numbers must be finite",
            param="template_options",
        ) from fault


def complete_request(wire: pb.CompleteRequest, *, request_id: RequestId, deadline_s: float | None) -> GenerationRequest:
    """Return the request that `Complete` and `CompleteStream` carry.

    Raises:
        InvalidRequest: it is malformed; `param` names the field.
    """
    prompt: str | tuple[int, ...]
    match wire.WhichOneof("prompt"):
        case "text":
            prompt = wire.text
        case "tokens":
            prompt = tuple(wire.tokens.ids)
        case _:
            raise InvalidRequest(
                "prompt is missing; expected text or tokens", hint="set either text or tokens", param="prompt"
            )
    if not prompt:
        raise InvalidRequest("prompt is empty", hint="expected at least one token", param="prompt")
    common = _common(wire.generation)
    if common["max_tokens"] is None:
        common["max_tokens"] = COMPLETE_MAX_TOKENS
    return GenerationRequest(
        request_id=request_id,
        model=_model(wire.model),
        prompt=prompt,
        echo=wire.echo,
        deadline_s=deadline_s,
        **common,
    )


def embed_inputs(inputs: Iterable[pb.EmbedInput]) -> list[str | list[int]]:
    """Return the inputs of `Embed`.

    Raises:
        InvalidRequest: there is none, or one is empty.
    """
    found: list[str | list[int]] = []
    for at, one in enumerate(inputs):
        value = one.text if one.WhichOneof("input") == "text" else list(one.tokens.ids)
        if not value:
            raise InvalidRequest("an input is empty", hint="omit it", param=f"inputs[{at}]")
        found.append(value)
    _count("inputs", len(found), 1, MOST_TEXTS)
    return found


def _model(name: str) -> str:
    if not name:
        raise InvalidRequest(
            "model is empty; expected the name of a model", hint="call Models to list the names", param="model"
        )
    if len(name) > MOST_NAME_CHARS:
        raise InvalidRequest(
            f"model has {len(name):,} characters; expected at most {MOST_NAME_CHARS}",
            hint="call Models to list the names",
            param="model",
        )
    return name


def _common(wire: pb.Generation) -> dict[str, Any]:
    """Return the fields of a GenerationRequest that Chat and Complete share."""
    _count("generation.stop", len(wire.stop), 0, MOST_STOPS)
    for stop in wire.stop:
        if not 0 < len(stop) <= MOST_STOP_CHARS:
            raise InvalidRequest(
                f"a stop string has {len(stop)} characters; expected 1 to {MOST_STOP_CHARS}",
                hint="shorten it, or omit it",
                param="generation.stop",
            )
    num_choices = wire.num_choices if wire.HasField("num_choices") else 1
    _within("num_choices", num_choices, 1, MOST_CHOICES)
    top_logprobs = wire.top_logprobs if wire.HasField("top_logprobs") else None
    if top_logprobs is not None:
        _within("top_logprobs", top_logprobs, 0, MOST_TOP_LOGPROBS)
    max_tokens = wire.max_tokens if wire.HasField("max_tokens") else None
    if max_tokens is not None:
        _within("max_tokens", max_tokens, 1, MOST_TOKENS)
    _within("priority", wire.priority, -MOST_PRIORITY, MOST_PRIORITY)
    return {
        "sampling": _sampling(wire.sampling),
        "left_out": frozenset(name for name in RECOMMENDABLE if not wire.sampling.HasField(name)),
        "max_tokens": max_tokens,
        "stop": tuple(dict.fromkeys(wire.stop)),
        "num_choices": num_choices,
        "top_logprobs": top_logprobs,
        "grammar": _grammar(wire.grammar) if wire.HasField("grammar") else None,
        "priority": wire.priority,
        "ignore_eos": wire.ignore_eos,
    }


def _sampling(wire: pb.Sampling) -> Sampling:
    values: dict[str, Any] = {}
    for name in SAMPLING_FIELDS:
        if name != "logit_bias" and wire.HasField(name):
            value = getattr(wire, name)
            values[name] = _plain_float(value) if isinstance(value, float) else value
            if (bounds := number_range(name)) is not None:
                _within(f"sampling.{name}", values[name], *bounds)
    if len(wire.logit_bias) > MOST_BIASES:
        raise InvalidRequest(
            f"logit_bias has {len(wire.logit_bias)} entries; expected at most {MOST_BIASES}",
            hint="keep the largest ones",
            param="generation.sampling.logit_bias",
        )
    for bias in wire.logit_bias.values():
        _within("sampling.logit_bias", bias, -HIGHEST_BIAS, HIGHEST_BIAS)
    if wire.logit_bias:
        values["logit_bias"] = {int(k): _plain_float(v) for k, v in wire.logit_bias.items()}
    return Sampling(**values)


def _plain_float(value: float) -> float:
    """Return the shortest decimal of a 32-bit float as a 64-bit one, so that 0.7 equals the 0.7 of HTTP."""
    return float(f"{value:.7g}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also refuses NaN
        raise InvalidRequest(
            f"{name} is {value:g}; expected {low:g} to {high:g}",
            hint="choose a value in that range, or omit it",
            param=f"generation.{name}",
        )


def _count(name: str, number: int, low: int, high: int) -> None:
    if not low <= number <= high:
        what = "is empty" if number == 0 else f"has {number} entries"
        raise InvalidRequest(
            f"{name} {what}; expected {low} to {high}", hint=f"send {low} to {high} entries", param=name
        )


def _grammar(wire: pb.Grammar) -> Grammar:
    kind: Literal["json_schema", "json_object", "regex", "lark"] | None = wire.WhichOneof("language")
    match kind:
        case "json_object":
            if not wire.json_object:
                raise InvalidRequest(
                    "json_object is false; expected true", hint="omit grammar instead", param="generation.grammar"
                )
            return Grammar(kind="json_object")
        case "json_schema" | "regex" | "lark":
            text: str = getattr(wire, kind)
            check_schema_size(len(text.encode()), f"generation.grammar.{kind}")
            return Grammar(kind=kind, text=text)
        case _:
            raise InvalidRequest(
                "grammar is empty; expected json_schema, json_object, regex or lark",
                hint="set one of them, or omit grammar",
                param="generation.grammar",
            )


def _message(wire: pb.Message, at: int) -> Message:
    role = ROLES.get(wire.role)
    if role is None:
        raise InvalidRequest(
            f"role is {wire.role}; expected system, user, assistant or tool",
            hint="set a role",
            param=f"messages[{at}].role",
        )
    if wire.tool_calls and role != "assistant":
        raise InvalidRequest(
            f"a {role} message has tool_calls",
            hint="only assistant messages can have tool_calls",
            param=f"messages[{at}].tool_calls",
        )
    if role == "tool" and not wire.tool_call_id:
        raise InvalidRequest(
            "a tool message needs tool_call_id",
            hint="set it to the id of the tool call that this message answers",
            param=f"messages[{at}].tool_call_id",
        )
    return Message(
        role=role,
        content=wire.content,
        reasoning=wire.reasoning,
        tool_calls=tuple(ToolCall(id=c.id, name=c.name, arguments=c.arguments) for c in wire.tool_calls),
        tool_call_id=wire.tool_call_id,
        name=wire.name,
    )


def _tool(wire: pb.Tool, at: int) -> ToolSpec:
    if len(wire.name) > MOST_TOOL_NAME_CHARS or re.fullmatch(TOOL_NAME, wire.name) is None:
        raise InvalidRequest(
            f"the tool name is {wire.name[:80]!r}; expected 1 to 64 letters, digits, _ . or -",
            hint="rename it",
            param=f"tools[{at}].name",
        )
    check_schema_size(len(wire.parameters.encode()), f"tools[{at}].parameters")
    if not wire.parameters:
        return ToolSpec(name=wire.name, description=wire.description, strict=wire.strict)
    try:
        schema = json.loads(wire.parameters)
    except json.JSONDecodeError as fault:
        raise InvalidRequest(
            f"the schema of {wire.name!r} is not valid JSON: {fault}",
            hint="send a JSON Schema as an object",
            param=f"tools[{at}].parameters",
        ) from fault
    if not isinstance(schema, dict):
        raise InvalidRequest(
            f"the schema of {wire.name!r} is not a JSON object",
            hint="send a JSON Schema as an object",
            param=f"tools[{at}].parameters",
        )
    return ToolSpec(name=wire.name, description=wire.description, parameters=wire.parameters, strict=wire.strict)


def _tool_choice(wire: pb.ChatRequest) -> str:
    if wire.WhichOneof("tool_choice") == "tool_name":
        return f"tool:{wire.tool_name}"
    modes = {0: "auto", 1: "none", 2: "required"}
    if wire.tool_mode not in modes:
        raise InvalidRequest(
            f"tool_mode is {wire.tool_mode}; expected 0, 1 or 2",
            hint="use a value of the ToolMode enum",
            param="tool_mode",
        )
    return modes[wire.tool_mode]
