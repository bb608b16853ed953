r"""Syntax of tool calls, and its parsers. Pure functions over one complete block.

Forms
    deepseek   <｜tool▁calls▁begin｜>CALLS<｜tool▁calls▁end｜>, where each of CALLS is, in V3 and R1,
               <｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\n{...}\n```<｜tool▁call▁end｜>, in V3.1
               <｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{...}<｜tool▁call▁end｜>
    dsml       V3.2, V4: <｜DSML｜function_calls> or <｜DSML｜tool_calls>, with invoke and parameter elements
    hermes     Qwen, Hermes: <tool_call>{"name": ..., "arguments": {...}}</tool_call>
    llama      Llama 3: the answer is {"name": ..., "parameters": {...}}, or follows <|python_tag|>

Source: the chat templates that DeepSeek, Qwen and Meta publish with these models.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

ToolForm = Literal["deepseek", "dsml", "hermes", "llama"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A tool call as the model wrote it."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Start and end of a block of tool calls in the answer."""

    form: ToolForm
    opener: str
    closer: str
    """Empty: the block goes on to the end of the answer."""


BLOCKS: tuple[Block, ...] = (
    Block(form="deepseek", opener="<｜tool▁calls▁begin｜>", closer="<｜tool▁calls▁end｜>"),
    Block(form="deepseek", opener="<｜tool▁call▁begin｜>", closer="<｜tool▁call▁end｜>"),
    Block(form="dsml", opener="<｜DSML｜function_calls>", closer="</｜DSML｜function_calls>"),
    Block(form="dsml", opener="<｜DSML｜tool_calls>", closer="</｜DSML｜tool_calls>"),
    Block(form="hermes", opener="<tool_call>", closer="</tool_call>"),
    Block(form="llama", opener="<|python_tag|>", closer=""),
)

MARKERS: dict[ToolForm, frozenset[str]] = {
    "deepseek": frozenset(
        {
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁calls▁end｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁call▁end｜>",
            "<｜tool▁sep｜>",
        }
    ),
    "dsml": frozenset({"｜DSML｜"}),
    "hermes": frozenset({"<tool_call>", "</tool_call>"}),
    "llama": frozenset({"<|python_tag|>"}),
}
"""Tokens that are part of the syntax: the parser sees their text although other special tokens are left out."""

_SIGNS: dict[ToolForm, tuple[str, ...]] = {
    "deepseek": ("<｜tool▁calls▁begin｜>",),
    "dsml": ("｜DSML｜",),
    "hermes": ("<tool_call>",),
    "llama": ("<|python_tag|>", '"parameters": '),
}
"""Signs in a chat template that it uses a form."""

LLAMA_KEYS = ("name", "parameters", "arguments", "type", "function", "id")
_FENCE = "```"
_DEEPSEEK_CALL = re.compile(
    r"\s*+(?:<｜tool▁call▁begin｜>)?(?P<left>[^<]*+)<｜tool▁sep｜>(?P<right>.*?)(?P<end><｜tool▁call▁end｜>|\Z)",
    re.DOTALL,
)
_INVOKE = re.compile(r'\s*<｜DSML｜invoke name="(?P<name>[^"]+)">(?P<body>.*?)</｜DSML｜invoke>\s*', re.DOTALL)
_PARAMETER = re.compile(
    r'\s*<｜DSML｜parameter name="(?P<name>[^"]+)" string="(?P<string>true|false)">'
    r"(?P<value>.*?)</｜DSML｜parameter>\s*",
    re.DOTALL,
)
_BUILTIN = re.compile(r"\s*(?P<name>\w+)\.call\((?P<arguments>.*)\)\s*", re.DOTALL)
_KEYWORD = re.compile(r'\s*(?P<key>\w+)\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|[\w.+-]+)\s*(?:,|\Z)', re.DOTALL)
_BETWEEN = re.compile(r"[\s;]*")


def forms_of(template: str, tokens: frozenset[str]) -> tuple[ToolForm, ...]:
    """Return the forms that a model with this chat template and these added tokens may write, likeliest first.

    Forms in the template go before those in the vocabulary: R1-Distill-Qwen has Qwen's tokens but uses DeepSeek's form.
    `hermes` is always included: it is described to models whose template supports no tools.
    """
    taught: list[ToolForm] = [form for form, signs in _SIGNS.items() if any(sign in template for sign in signs)]
    known: list[ToolForm] = [form for form, markers in MARKERS.items() if markers & tokens]
    return tuple(dict.fromkeys([*taught, *known, "hermes"]))


def read_block(form: ToolForm, body: str, *, closed: bool) -> tuple[Call, ...] | None:
    """Return the calls of a block without its opener and closer; None when its syntax is broken.

    A block that is not `closed` was cut off with the answer: a call with incomplete arguments is dropped.
    """
    match form:
        case "deepseek":
            return _read_deepseek(body, closed=closed)
        case "dsml":
            return _read_dsml(body)
        case "hermes":
            return _read_objects(body)
        case "llama":
            return _read_objects(body) or _read_builtin(body)


def may_be_llama(text: str) -> bool:
    """Return whether an answer that starts with `text` (a brace first) may still become a bare JSON tool call."""
    inner = text.lstrip()[1:].lstrip()
    if not inner:
        return True
    if inner[0] != '"':
        return False
    key, quote, _ = inner[1:].partition('"')
    return key in LLAMA_KEYS if quote else any(k.startswith(key) for k in LLAMA_KEYS)


def ends_inside_string(text: str, inside: bool = False) -> bool:
    """Return whether JSON text ends inside a string, so that a closer found there belongs to the string.

    `inside`: whether the text before this piece did.
    """
    escaped = False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = inside
        elif char == '"':
            inside = not inside
    return inside


def _object(text: str) -> dict[str, object] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _as_call(value: object) -> Call | None:
    if not isinstance(value, dict):
        return None
    inner = value.get("function")
    if isinstance(inner, dict):
        value = inner
    name = value.get("name", inner)
    if "arguments" not in value and "parameters" not in value:
        return None
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        text = arguments if _object(arguments) is not None else None
    else:
        text = json.dumps(arguments or {}, ensure_ascii=False) if isinstance(arguments or {}, dict) else None
    return Call(name=name, arguments=text) if isinstance(name, str) and name and text is not None else None


def _read_objects(body: str) -> tuple[Call, ...] | None:
    """Parse one or more JSON objects, or one list of them, with white space or semicolons between them."""
    decoder, calls = json.JSONDecoder(), []
    at = _end(_BETWEEN.match(body))
    while at < len(body):
        try:
            value, at = decoder.raw_decode(body, at)
        except (ValueError, RecursionError):
            return None
        for one in value if isinstance(value, list) else [value]:
            call = _as_call(one)
            if call is None:
                return None
            calls.append(call)
        at = _end(_BETWEEN.match(body, at))
    return tuple(calls) or None


def _end(match: re.Match[str] | None) -> int:
    return match.end() if match else 0


def _read_deepseek(body: str, *, closed: bool) -> tuple[Call, ...] | None:
    calls, at = [], 0
    while body[at:].strip():
        found = _DEEPSEEK_CALL.match(body, at)
        cut = found is not None and not found["right"].strip() and not (closed or found["end"])
        call = _deepseek_call(found["left"], found["right"]) if found and not cut else None
        if found is None or call is None:
            return None
        calls.append(call)
        at = found.end()
    return tuple(calls) or None


def _deepseek_call(left: str, right: str) -> Call | None:
    name, arguments = _fenced(right) or (left.strip(), right.strip())
    arguments = arguments.strip() or "{}"
    if not name or _object(arguments) is None:
        return None
    return Call(name=name, arguments=arguments)


def _fenced(text: str) -> tuple[str, str] | None:
    """Return the name and the arguments of a call whose arguments stand in a fenced block, by a look at each end."""
    name, _, block = text.strip().partition("\n")
    language, line, arguments = block.strip().removeprefix(_FENCE).partition("\n")
    is_fenced = block.lstrip().startswith(_FENCE) and line and arguments.endswith(_FENCE)
    if not is_fenced or "`" in name or language.rstrip() not in ("", "json"):
        return None
    return name.rstrip(), arguments.removesuffix(_FENCE)


def _read_dsml(body: str) -> tuple[Call, ...] | None:
    calls, at = [], 0
    while body[at:].strip():
        invoke = _INVOKE.match(body, at)
        arguments = _dsml_arguments(invoke["body"]) if invoke else None
        if invoke is None or arguments is None:
            return None
        calls.append(Call(name=invoke["name"], arguments=arguments))
        at = invoke.end()
    return tuple(calls) or None


def _dsml_arguments(body: str) -> str | None:
    arguments: dict[str, object] = {}
    at = 0
    while body[at:].strip():
        found = _PARAMETER.match(body, at)
        if found is None:
            return None
        value: object = found["value"]
        if found["string"] == "false":
            try:
                value = json.loads(found["value"])
            except (ValueError, RecursionError):
                return None
        arguments[found["name"]] = value
        at = found.end()
    return json.dumps(arguments, ensure_ascii=False)


def _read_builtin(body: str) -> tuple[Call, ...] | None:
    """Parse Llama's call of a built-in tool, `brave_search.call(query="...")`."""
    found = _BUILTIN.fullmatch(body)
    if found is None:
        return None
    arguments: dict[str, object] = {}
    at = 0
    while found["arguments"][at:].strip():
        pair = _KEYWORD.match(found["arguments"], at)
        if pair is None:
            return None
        try:
            arguments[pair["key"]] = json.loads(pair["value"])
        except ValueError:
            arguments[pair["key"]] = pair["value"]
        at = pair.end()
    return (Call(name=found["name"], arguments=json.dumps(arguments, ensure_ascii=False)),)
