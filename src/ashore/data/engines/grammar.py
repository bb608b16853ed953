"""Checks grammars before they reach an engine: errors, and keywords that would be silently ignored, are refused by
name.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import OrderedDict
from typing import Any, Final

from ashore.core.errors import InvalidGrammar
from ashore.core.foreign import foreign_errors
from ashore.data.engines.closing import closed, closed_arguments
from ashore.data.engines.grammarpaths import MOST_NESTED, check_references, check_rules
from ashore.data.engines.grammarprocess import GrammarProcess
from ashore.data.engines.model import Grammar
from ashore.data.engines.schemaform import BY_NAME, IN_LISTS, SINGLE, conditions, plain

MOST_GRAMMAR_BYTES: Final = 256 * 1024
_KEPT_GOOD: Final = 64
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
"""Beginnings of the library's messages, and the message given instead."""

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


class GrammarChecker:
    """Checks whether an engine can fully enforce a grammar. Needs no model; any thread may call."""

    def __init__(self) -> None:
        """Create it; the process starts with the first grammar."""
        self._process = GrammarProcess()
        self._good: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, grammar: Grammar) -> None:
        """Check that it compiles: mostly in milliseconds, limited to `COMPILE_S` of processor time.

        Raises:
            InvalidGrammar: it does not compile, a keyword of the schema would be ignored (the message names it), it
                crashes the library, or it takes too much time or memory.
            NotReady: no process can be made.
        """
        key = hashlib.sha256(f"{grammar.kind} {grammar.text}".encode(errors="surrogatepass")).digest()
        with self._lock:
            if key in self._good:
                self._good.move_to_end(key)
                return
        line = self._process.begin(*prepared(grammar))
        try:
            warnings = line.compiled()
        except InvalidGrammar as fault:
            raise refused(f"the {grammar.kind} grammar does not compile", fault) from fault
        finally:
            line.close()
        if warnings and grammar.kind == "json_schema":
            raise InvalidGrammar(
                f"the schema cannot be enforced in full: {_reason_of(warnings[0])}",
                hint="remove the part that the message names",
            )
        with self._lock:
            self._good[key] = None
            while len(self._good) > _KEPT_GOOD:
                self._good.popitem(last=False)

    def close(self) -> None:
        """End the process. May be called twice."""
        self._process.close()


def prepared(grammar: Grammar) -> tuple[str, str]:
    """Return the kind and text for the library. Needs no process and no deep stack.

    Raises:
        InvalidGrammar: it is too long, nests too deep, or a keyword of the schema would be ignored.
    """
    if not _is_text(grammar.text):
        raise InvalidGrammar(
            "the grammar has an incomplete character (a lone surrogate)", hint="send complete characters"
        )
    if len(grammar.text.encode()) > MOST_GRAMMAR_BYTES:
        raise InvalidGrammar(
            f"the grammar is {len(grammar.text)} characters long; the limit is {MOST_GRAMMAR_BYTES} bytes",
            hint="shorten it, for instance by moving repeated parts into $defs",
        )
    match grammar.kind:
        case "json_object":
            return "json_schema", '{"type":"object"}'
        case "json_schema":
            schema = _parsed(grammar.text)
            _check_schema(schema, "$", 0)
            taken = plain(schema)
            check_references(taken)
            return "json_schema", json.dumps(conditions(closed(taken)), ensure_ascii=False)
        case "lark":
            check_rules(grammar.text)
    return grammar.kind, grammar.text


def refused(what: str, fault: InvalidGrammar) -> InvalidGrammar:
    """Return the error for the library's message about a grammar, or for how its process ended."""
    if fault.hint:
        return fault
    return InvalidGrammar(f"{what}: {_reason_of(fault.message)}", hint="correct it at the position in the message")


def _reason_of(message: str) -> str:
    """Return the reason from the library's message, without its parser state and its copy of the grammar."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["it is not supported"]
    known = (said for begins, said in _KNOWN_REASONS.items() if lines[0].startswith(begins))
    said = next(known, lines[0].rstrip(":"))
    said = said if len(said) <= _MAX_REASON_CHARS else said[:_MAX_REASON_CHARS] + "…"
    faults = [line.removeprefix("error: ") for line in lines[1:] if line.startswith("error: ")]
    return f"{said}: {faults[0][:_MAX_REASON_CHARS]}" if faults else said


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
    """Return whether a text has whole characters only."""
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
    """Return a name or value of a request in the form used in messages."""
    return text if len(text) <= _MAX_SHOWN_CHARS else text[:_MAX_SHOWN_CHARS] + "…"
