"""Grammars before they reach an engine: what is broken, or would be silently ignored, is refused with its name."""

from __future__ import annotations

import json
import math
from contextlib import AbstractContextManager
from typing import Any, Final

from ashore.core import foreign_errors
from ashore.engines.closing import JSON_STYLE, closed, closed_arguments
from ashore.engines.grammarpaths import MOST_NESTED, check_references, check_rules
from ashore.engines.model import Grammar
from ashore.engines.schemaform import BY_NAME, IN_LISTS, SINGLE, conditions, plain
from ashore.errors import InvalidGrammar

_MAX_BYTES = 256 * 1024
_MAX_DIGITS: Final = 20
_INT64: Final = 1 << 63
_MAX_REASON_CHARS: Final = 200
_MAX_SHOWN_CHARS: Final = 100
_KNOWN_REASONS: Final = {
    "NoExtensionBias": "it allows no output, or refers to itself without end",
    "Unsatisfiable schema: schema is false": "no value satisfies it",
    "oneOf constraints are not supported": "a value could satisfy several schemas of a 'oneOf'; use 'anyOf', or give "
    "each a property of its own with a 'const'",
    "Failed to generate regex for": "a bound ('minimum', 'exclusiveMinimum', 'maximum', 'exclusiveMaximum') has too "
    "many digits",
    "regex parse error": "the 'pattern' cannot be followed",
}
"""How a message of the library begins, and what is said instead."""

_ANNOTATIONS: Final = {"$schema", "$id", "$comment", "$anchor", "title", "description", "default", "examples"} | {
    *("deprecated", "readOnly", "writeOnly", "discriminator", "contentMediaType", "contentEncoding"),
    "contentSchema",
}
"""Keywords that assert nothing, so that ignoring them is right."""

_ENFORCED: Final = {
    *("type", "enum", "const", "required", "$ref", "pattern", "format", "minLength", "maxLength", "multipleOf"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minItems", "maxItems", "minProperties", "maxProperties"),
    *("dependentRequired", *BY_NAME, *IN_LISTS, *SINGLE),
}

_TYPES: Final = ("string", "number", "integer", "boolean", "object", "array", "null")


def check_grammar(grammar: Grammar) -> None:
    """Return if an engine can hold an answer to `grammar` in full; costs milliseconds and needs no model.

    Raises:
        InvalidGrammar: it does not parse, or a keyword of the schema would be ignored; the message names it.
    """
    if not _is_text(grammar.text):
        raise InvalidGrammar(
            "the grammar has an incomplete character (a lone surrogate)", hint="send complete characters"
        )
    if len(grammar.text.encode()) > _MAX_BYTES:
        raise InvalidGrammar(
            f"the grammar is {len(grammar.text)} characters long; the limit is {_MAX_BYTES} bytes",
            hint="shorten it, for instance by moving repeated parts into $defs",
        )
    if grammar.kind == "json_schema":
        _check_schema(_parsed(grammar.text), "$", 0)
    import llguidance

    source = matcher_source(grammar)
    with compiling(grammar):
        broken, messages = llguidance.LLMatcher.validate_grammar_with_warnings(source, None, limits=parser_limits())
    if broken:
        raise InvalidGrammar(
            f"the {grammar.kind} grammar does not compile: {reason_of(messages[0])}",
            hint="correct it at the position in the message",
        )
    if messages and grammar.kind == "json_schema":
        raise InvalidGrammar(
            f"the schema cannot be enforced in full: {reason_of(messages[0])}",
            hint="remove the part that the message names",
        )


def parser_limits() -> Any:
    """Return what the library may spend on a grammar and on each mask, wherever it is called."""
    import llguidance

    return llguidance.LLParserLimits(
        max_items_in_row=1_000, step_max_items=10_000, max_lexer_states=50_000, max_grammar_size=200_000
    )


def compiling(grammar: Grammar) -> AbstractContextManager[None]:
    """Turn what the library raises for a grammar, instead of telling it, into `InvalidGrammar`."""
    return foreign_errors(
        f"the {grammar.kind} grammar cannot be compiled", InvalidGrammar, hint="simplify or correct it"
    )


def reason_of(message: str) -> str:
    """Return what the library says is wrong, without the state of its parser and the grammar as it reads it."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["it is not supported"]
    known = (said for begins, said in _KNOWN_REASONS.items() if lines[0].startswith(begins))
    said = next(known, lines[0].rstrip(":"))
    said = said if len(said) <= _MAX_REASON_CHARS else said[:_MAX_REASON_CHARS] + "…"
    faults = [line.removeprefix("error: ") for line in lines[1:] if line.startswith("error: ")]
    return f"{said}: {faults[0][:_MAX_REASON_CHARS]}" if faults else said


def lark_of(text: str) -> str:
    """Return a grammar in Lark's form; one in GBNF, which llama.cpp and vLLM's clients write, is translated.

    Raises:
        InvalidGrammar: it is in neither.
    """
    if "::=" not in text:
        return text
    from llguidance.gbnf_to_lark import gbnf_to_lark, is_lark_syntax

    try:
        if is_lark_syntax(text):
            return text
        return str(gbnf_to_lark(text))
    except Exception as fault:  # the library raises plain ones, too
        raise InvalidGrammar(
            f"the GBNF grammar cannot be read: {reason_of(str(fault))}", hint="correct it, or send it in Lark's form"
        ) from fault


def matcher_source(grammar: Grammar) -> str:
    """Return the grammar in the form that llguidance compiles.

    Raises:
        InvalidGrammar: a schema is not JSON.
    """
    import llguidance

    matcher = llguidance.LLMatcher
    with compiling(grammar):
        match grammar.kind:
            case "json_schema":
                source = matcher.grammar_from_json_schema(_taken(_parsed(grammar.text)), overrides=JSON_STYLE)
            case "json_object":
                source = matcher.grammar_from_json_schema({"type": "object"}, overrides=JSON_STYLE)
            case "regex":
                source = matcher.grammar_from_regex(grammar.text)
            case "lark":
                check_rules(grammar.text)
                source = matcher.grammar_from_lark(lark_of(grammar.text))
        return str(source)


def argument_schema(schema: dict[str, Any], *, tool: str, at: str) -> dict[str, Any]:
    """Return the schema of a tool's arguments as part of a larger schema, where `at` points to it.

    Raises:
        InvalidGrammar: a keyword would be ignored, or a `$ref` points to nothing; the message names it.
    """
    _check_schema(schema, f"{_shown(tool)}.parameters", 0)
    taken = plain(schema, at=at)
    check_references(taken, at=at)
    made: dict[str, Any] = conditions(closed_arguments(taken))
    return made


def _taken(schema: dict[str, Any]) -> Any:
    taken = plain(schema)
    check_references(taken)
    return conditions(closed(taken))


def _parsed(text: str) -> dict[str, Any]:
    with foreign_errors("the schema is not JSON", InvalidGrammar, hint="send the schema as a JSON object"):
        schema = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
    if not _is_text(json.dumps(schema, ensure_ascii=False)):
        raise InvalidGrammar(
            "the schema has an incomplete character (a lone surrogate)", hint="send complete characters"
        )
    if not isinstance(schema, dict):
        raise InvalidGrammar(
            f"the schema is {type(schema).__name__}; expected a JSON object", hint="send the schema as a JSON object"
        )
    return schema


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS or not -_INT64 <= int(text) < _INT64:
        raise InvalidGrammar(
            f"the schema has the number {text[:_MAX_DIGITS]}…; numbers must fit into 64 bits",
            hint="use a smaller number, or a string pattern of digits",
        )
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise InvalidGrammar(f"the schema has the number {text[:40]}, which is not finite", hint="remove it")
    return number


def _is_text(text: str) -> bool:
    """Tell whether a text has whole characters only."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_schema(schema: Any, path: str, depth: int) -> None:
    if isinstance(schema, bool):
        return
    if depth > MOST_NESTED:
        raise InvalidGrammar(
            f"the schema is nested more than {MOST_NESTED} levels deep at {_shown(path)}",
            hint="flatten it, or use $ref",
        )
    if not isinstance(schema, dict):
        raise InvalidGrammar(
            f"the schema at {_shown(path)} is {type(schema).__name__}; expected an object or true",
            hint="correct the schema at that path",
        )
    for keyword, value in schema.items():
        if keyword in _ANNOTATIONS or keyword.startswith("x-"):
            if keyword == "x-guidance":
                raise InvalidGrammar("the keyword 'x-guidance' is not allowed in a request", hint="remove it")
            continue
        if keyword not in _ENFORCED:
            raise InvalidGrammar(
                f"the keyword {_shown(keyword)!r} at {_shown(path)} cannot be enforced while generating",
                hint="remove it, and check the answer against it in your application",
            )
        _check_keyword(keyword, value, f"{path}.{keyword}", depth)


def _check_keyword(keyword: str, value: Any, path: str, depth: int) -> None:
    if keyword == "type":
        names = value if isinstance(value, list) else [value]
        unknown = [n for n in names if n not in _TYPES]
        if unknown or not names:
            raise InvalidGrammar(
                f"{_shown(path)} is {_shown(repr(value))}; expected one or more of {', '.join(_TYPES)}",
                hint="correct the schema at that path",
            )
    if keyword == "dependentRequired" and not (
        isinstance(value, dict) and all(isinstance(names, list) for names in value.values())
    ):
        raise InvalidGrammar(
            f"{_shown(path)} is {_shown(repr(value))}; expected lists of names", hint="correct the schema at that path"
        )
    if keyword in BY_NAME:
        if not isinstance(value, dict):
            raise InvalidGrammar(
                f"{_shown(path)} is {type(value).__name__}; expected an object of schemas",
                hint="correct the schema at that path",
            )
        for name, inner in value.items():
            _check_schema(inner, f"{path}.{name}", depth + 1)
    elif keyword in IN_LISTS:
        if not isinstance(value, list) or not value:
            raise InvalidGrammar(
                f"{_shown(path)} must be a list of schemas with at least one entry",
                hint="correct the schema at that path",
            )
        for index, inner in enumerate(value):
            _check_schema(inner, f"{path}[{index}]", depth + 1)
    elif keyword in SINGLE:
        if keyword == "items" and isinstance(value, list):
            for index, inner in enumerate(value):
                _check_schema(inner, f"{path}[{index}]", depth + 1)
        else:
            _check_schema(value, path, depth + 1)


def _shown(text: str) -> str:
    """Return a name or value of a request as messages repeat it."""
    return text if len(text) <= _MAX_SHOWN_CHARS else text[:_MAX_SHOWN_CHARS] + "…"
