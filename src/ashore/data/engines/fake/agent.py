"""Answers by rule, as a capable model would: a call of the requested tool, JSON for a schema, or an echo.

Arguments come from the question: its quoted texts and its numbers, in order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any, Final

from ashore.core.errors import InvalidGrammar, UnsupportedByEngine
from ashore.core.foreign import foreign_errors
from ashore.data.engines.fake.files import END, SYSTEM, USER
from ashore.data.engines.grammar import prepared, refused
from ashore.data.engines.grammarprocess import GrammarProcess
from ashore.data.engines.model import Grammar

_TOOLS: Final = "Tools: "
_QUOTED: Final = re.compile(r"(?<!\w)['\"“「]([^'\"”」]+)['\"”」](?!\w)")
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")
_WORD: Final = re.compile(r"[^\W_]{4,}")
_MOST_DEEP: Final = 16
_MOST_VALUES: Final = 10_000
_MOST_CHARS: Final = 4096


def reply(prompt_ids: Sequence[int], grammar: Grammar | None, grammars: GrammarProcess) -> str:
    """Return the answer to a conversation in the fake's own chat template, which must match `grammar`.

    Raises:
        UnsupportedByEngine: none of its answers matches `grammar`.
        InvalidGrammar: `grammar` cannot be compiled or followed.
    """
    turns = list(_turns(prompt_ids))
    question = next((text for role, text in reversed(turns) if role == USER), "")
    tools = [tool for role, text in turns if role == SYSTEM and text.startswith(_TOOLS) for tool in _tools(text)]
    last = turns[-1] if turns else (USER, question)
    if grammar is None:
        called = [tool for tool in tools if _is_about(tool, question)] if last[0] == USER else []
        return _call(called[0], question) if called else last[1]
    line = grammars.begin(*prepared(grammar))
    try:
        line.compiled()
        for said in _candidates(question, tools, grammar):
            if line.belongs(said.encode()):
                return said
    except InvalidGrammar as fault:
        raise refused(f"the {grammar.kind} grammar cannot be followed", fault) from fault
    finally:
        line.close()
    raise UnsupportedByEngine(
        f"fake:agent knows no answer for this {grammar.kind} grammar",
        hint="serve a real model, or use tools or a schema",
    )


def instance(schema: Any, question: str) -> Any:
    """Return a value for a schema: from the question, otherwise the minimum that the schema requires."""
    texts = [found.group(1) for found in _QUOTED.finditer(question)] or [question]
    numbers = [float(found.group()) for found in _NUMBER.finditer(question)] or [1.0]
    with foreign_errors("fake:agent cannot fill this schema", UnsupportedByEngine, hint="serve a real model"):
        return _Filler(schema, chain(texts, repeat(texts[-1])), chain(numbers, repeat(numbers[-1]))).value(schema, 0)


class _Filler:
    """Fills a schema. Beyond `_MOST_VALUES` values the rest is left empty."""

    def __init__(self, root: Any, texts: Iterator[str], numbers: Iterator[float]) -> None:
        self._root, self._texts, self._numbers = root, texts, numbers
        self._left = _MOST_VALUES

    def value(self, schema: Any, depth: int) -> Any:
        self._left -= 1
        if not isinstance(schema, dict) or depth > _MOST_DEEP or self._left < 0:
            return {}
        if "const" in schema or "enum" in schema:
            return schema["const"] if "const" in schema else schema["enum"][0]
        part = schema
        if "$ref" in schema:
            part = self._root
            for step in schema["$ref"].split("/")[1:]:
                part = part[step]
        for keyword in ("anyOf", "oneOf", "allOf"):
            part = schema[keyword][0] if keyword in schema else part
        if part is not schema:
            return self.value(part, depth + 1)
        kinds = schema.get("type", "object")
        match kinds[0] if isinstance(kinds, list) else kinds:
            case "string":
                said = next(self._texts)[: schema.get("maxLength", _MOST_CHARS)]
                return said.ljust(min(schema.get("minLength", 0), _MOST_CHARS), ".")
            case "integer":
                number = int(next(self._numbers))
                return min(max(number, schema.get("minimum", -(2**53))), schema.get("maximum", 2**53))
            case "number":
                return min(max(next(self._numbers), schema.get("minimum", -1e300)), schema.get("maximum", 1e300))
            case "boolean":
                return True
            case "null":
                return None
            case "array":
                count = max(1, schema.get("minItems", 1)) if schema.get("maxItems", 1) else 0
                return [self.value(schema.get("items", {}), depth + 1) for _ in range(min(count, _MOST_VALUES))]
            case _:
                declared = schema.get("properties", {})
                wanted: Any = schema.get("required", list(declared))
                return {name: self.value(part, depth + 1) for name, part in declared.items() if name in wanted}


def _candidates(question: str, tools: Sequence[dict[str, Any]], grammar: Grammar) -> Iterator[str]:
    for tool in sorted(tools, key=lambda tool: tool["name"] not in question):
        yield _call(tool, question)
    if grammar.kind == "json_schema":
        yield json.dumps(instance(json.loads(grammar.text), question), ensure_ascii=False)
    if grammar.kind == "json_object":
        yield json.dumps({found.group(1): question for found in _QUOTED.finditer(question)}, ensure_ascii=False)
    yield from (found.group(1) for found in _QUOTED.finditer(question))
    yield question


def _call(tool: dict[str, Any], question: str) -> str:
    made = {"name": tool["name"], "arguments": instance(tool.get("parameters") or {}, question)}
    return f"<tool_call>\n{json.dumps(made, ensure_ascii=False)}\n</tool_call>"


def _is_about(tool: dict[str, Any], question: str) -> bool:
    """Return whether a question contains a tool's name, or a long word of it."""
    said = question.lower()
    return tool["name"].lower() in said or any(word.lower() in said for word in _WORD.findall(tool["name"]))


def _tools(text: str) -> list[dict[str, Any]]:
    found = json.loads(text.removeprefix(_TOOLS))
    return [one.get("function", one) for one in found]


def _turns(ids: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Yield the role and the text of each completed turn."""
    role, said = USER, bytearray()
    for token_id in ids:
        if token_id < END:
            said.append(token_id)
        elif token_id == END:
            yield role, said.decode("utf-8", "replace")
            said = bytearray()
        else:
            role, said = token_id, bytearray()
    if said:
        yield role, said.decode("utf-8", "replace")
