"""Measures how deep a grammar nests: through schemas, through `$ref`, and through rules that name rules.

The grammar library follows all three on its native stack, so one long path crashes the process that compiles it. The
checks here need no recursion and run in linear time.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import unquote

from ashore.core.errors import InvalidGrammar
from ashore.data.engines.schemaform import parts

_K = TypeVar("_K", bound=Hashable)

MOST_NESTED: Final = 64
"""Levels of schemas that stand in each other."""
MOST_STEPS: Final = 200
"""Schemas or rules on one path. The library's stack ends between 500 and 4,000; a language's grammar takes some 60."""

_TOKENS: Final = r"""
      (?P<json>%json\b)
    | (?P<quoted>"(?:[^"\\\n]|\\.)*+"?|/(?![/*])(?:[^/\\\n]|\\.)*+/?)
    | (?P<comment>(?://|\#)[^\n]*+)
    | (?P<defined>^[ \t]*+[?!]?[A-Za-z_][\w-]*+(?=(?:\[[^\]\n]*+\]|\{[^}\n]*+\}|\.\d++|::(?!=)[^\s:]++)?[ \t]*+:))
    | (?P<name>[A-Za-z_][\w-]*+)
"""
_LARK: Final = re.compile(_TOKENS, re.VERBOSE | re.MULTILINE)
_GBNF: Final = re.compile(_TOKENS + r"| \[(?:[^\]\\\n]|\\.)*+\]?", re.VERBOSE | re.MULTILINE)
"""What is quoted ends with its line where nothing ends it before, so that each character is read once."""


def check_rules(text: str) -> None:
    """Check that no chain of rules, in Lark's form or in GBNF, and no schema inside is too deep.

    Raises:
        InvalidGrammar: one does, or what follows `%json` is not JSON.
    """
    edges: dict[str, list[str]] = defaultdict(list)
    rule, at = "", 0
    tokens = _GBNF if "::=" in text else _LARK
    while (found := tokens.search(text, at)) is not None:
        at = found.end()
        match found.lastgroup:
            case "defined":
                rule = found.group().lstrip(" \t?!")
            case "name":
                edges[rule].append(found.group())
            case "json":
                at = _check_inline(text, at)
    if (steps := longest_path(edges)) > MOST_STEPS:
        raise InvalidGrammar(
            f"the rules of the grammar lead through {steps} rules; the limit is {MOST_STEPS}",
            hint="shorten the chain of rules that name each other",
        )


def check_references(schema: Any, *, at: str = "#") -> None:
    """Check that no path through a schema's parts and references is too long.

    Args:
        schema: Result of `plain`, in which each `$ref` is a pointer.
        at: Pointer to its place.

    Raises:
        InvalidGrammar: one is, or a `$ref` points to something other than a schema.
    """
    edges: dict[int, list[int]] = {}
    references: list[dict[str, Any]] = []
    ahead = [schema]
    while ahead:
        part = ahead.pop()
        if isinstance(part, dict):
            inner = [one for one, _ in parts(part)]
            edges[id(part)] = [id(one) for one in inner]
            ahead += inner
            if isinstance(part.get("$ref"), str):
                references.append(part)
    for part in references:
        target = _target(schema, part["$ref"].removeprefix(at))
        if isinstance(target, bool):
            continue
        if id(target) not in edges:
            raise InvalidGrammar(
                f"the $ref {part['$ref'][:100]!r} points to no schema",
                hint="put the schema that it means into $defs",
            )
        edges[id(part)].append(id(target))
    if (steps := longest_path(edges)) > MOST_STEPS:
        raise InvalidGrammar(
            f"the schema leads through {steps} parts and references in a row; the limit is {MOST_STEPS}",
            hint="flatten it, or shorten the chain of $ref",
        )


def check_nesting(schema: Any) -> None:
    """Check that a schema's parts are not nested too deep.

    Raises:
        InvalidGrammar: they do.
    """
    level = [schema]
    for _ in range(MOST_NESTED + 1):
        level = [inner for part in level for inner, _ in parts(part) if isinstance(inner, dict)]
    if level:
        raise InvalidGrammar(
            f"the schema is nested more than {MOST_NESTED} levels deep", hint="flatten it, or use $ref"
        )


def longest_path(edges: Mapping[_K, Sequence[_K]]) -> int:
    """Return the nodes on the longest path. A step back to a node of the path does not count; in a cycle, the path
    is the one that the search finds, and a longer one may exist."""
    longest: dict[_K, int] = {}
    for start in edges:
        path = [(start, iter(edges[start]))] if start not in longest else []
        longest.setdefault(start, 0)
        while path:
            node, rest = path[-1]
            for ahead in rest:
                if ahead not in longest:
                    longest[ahead] = 0  # on the path
                    path.append((ahead, iter(edges.get(ahead, ()))))
                    break
            else:
                longest[node] = 1 + max((longest[one] for one in edges.get(node, ())), default=0)
                path.pop()
    return max(longest.values(), default=0)


def _check_inline(text: str, at: int) -> int:
    """Check the schema that begins after `at`; return where it ends."""
    while text[at : at + 1].isspace():
        at += 1
    try:
        schema, end = json.JSONDecoder().raw_decode(text, at)
    except (ValueError, RecursionError) as fault:
        raise InvalidGrammar("what follows %json is not JSON", hint="correct it") from fault
    check_nesting(schema)
    check_references(schema)
    return end


def _target(schema: Any, pointer: str) -> Any:
    """Return the target of a pointer in a schema, None if there is none."""
    for step in unquote(pointer).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list):
            schema = schema[int(name)] if name.isdecimal() and len(name) < 8 and int(name) < len(schema) else None
        else:
            schema = schema.get(name) if isinstance(schema, dict) else None
    return schema
