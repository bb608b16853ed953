"""Schemas in the words of the grammar library: as much as they said before, or less, and never more."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grammars import check_grammar
from test_grammar_closing import schema_takes

from ashore.core.errors import InvalidGrammar
from ashore.data.engines import Grammar
from ashore.data.engines.schemaform import narrowed, plain

OBJECT: dict[str, Any] = {"type": "object"}
PAIR: dict[str, Any] = {**OBJECT, "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "array", "maxItems": 2.0}, [1, 2], [1, 2, 3]),
        (
            {**OBJECT, "propertyNames": {"type": "string"}, "additionalProperties": {"type": "integer"}},
            {"x": 1},
            {"x": ""},
        ),
        ({**OBJECT, "propertyNames": {"enum": ["a.b", "c"]}}, {"a.b": 1}, {"axb": 1}),
        ({**OBJECT, "propertyNames": {"const": "c"}}, {"c": 1}, {"d": 1}),
        (
            {**OBJECT, "propertyNames": {"pattern": "^x"}, "additionalProperties": {"type": "null"}},
            {"xy": None},
            {"y": None},
        ),
        ({**OBJECT, "propertyNames": {"maxLength": 2}}, {"ab": 1}, {"abc": 1}),
        ({**OBJECT, "propertyNames": {"minLength": 2, "maxLength": 3}}, {"ab": 1}, {"abcd": 1}),
        ({**OBJECT, "propertyNames": {"minLength": 2}}, {"abc": 1}, {"a": 1}),
        ({**OBJECT, "propertyNames": False}, {}, {"a": 1}),
        ({**PAIR, "dependentRequired": {"a": ["b"]}}, {"b": 1}, {"a": 1}),
        ({**PAIR, "dependentRequired": {"a": ["b"]}}, {"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}),
        ({**PAIR, "unevaluatedProperties": False}, {"a": 1}, {"c": 1}),
        ({"type": "array", "prefixItems": [{"type": "null"}], "unevaluatedItems": False}, [None], [None, 1]),
        ({"format": "date"}, "2024-02-29", "2023-02-29"),
        ({"format": "date"}, "2000-02-29", "1900-02-29"),
        ({"format": "date"}, "0004-02-29", "0000-01-01"),
        ({"format": "date-time"}, "2024-06-30T23:59:59.5+08:00", "2024-06-31T23:59:59Z"),
        ({"format": "time"}, "23:59:59Z", "23:59:60Z"),
    ],
)
def test_what_is_said_in_other_words_is_held(schema: dict[str, Any], good: object, bad: object) -> None:
    assert schema_takes(schema, good)
    assert not schema_takes(schema, bad)


def test_references_become_pointers() -> None:
    schema = {
        "$id": "https://a.example/tree",
        "properties": {
            "n": {"$ref": "node"},
            "k": {"$ref": "#leaf"},
            "t": {"$ref": "https://a.example/tree#/$defs/n"},
        },
        "$defs": {
            "n": {
                "$id": "node",
                "properties": {"up": {"$ref": "tree"}, "own": {"$ref": "#/$defs/x"}},
                "$defs": {"x": {}},
            },
            "l": {"$anchor": "leaf", "type": "integer"},
        },
    }
    made = plain(schema, at="#/here")
    assert made["properties"] == {
        "n": {"$ref": "#/here/$defs/n"},
        "k": {"$ref": "#/here/$defs/l"},
        "t": {"$ref": "#/here/$defs/n"},
    }
    assert made["$defs"]["n"]["properties"] == {
        "up": {"$ref": "#/here"},
        "own": {"$ref": "#/here/$defs/n/$defs/x"},
    }
    assert "$id" not in json.dumps(made)


def test_a_reference_to_nothing_is_named() -> None:
    for reference in ("https://b.example/x", "#nowhere", "other"):
        with pytest.raises(InvalidGrammar, match="points to nothing inside the schema"):
            plain({"properties": {"a": {"$ref": reference}}})


def test_two_of_one_name_do_not_count_twice() -> None:
    """The library counts `{"a": 1, "a": 2}` as two properties."""
    with pytest.raises(InvalidGrammar, match="minProperties"):
        check_grammar(Grammar(kind="json_schema", text=json.dumps({**OBJECT, "minProperties": 2})))
    assert schema_takes({**PAIR, "minProperties": 2, "required": ["a", "b"]}, {"a": 1, "b": 2})
    assert schema_takes({**OBJECT, "minProperties": 1}, {"x": 1})
    assert schema_takes({**OBJECT, "minProperties": 2, "required": ["a", "b"]}, {"a": 1, "b": 2})


@pytest.mark.parametrize(
    "schema",
    [
        {**PAIR, "unevaluatedProperties": False, "allOf": [{}]},
        {**PAIR, "propertyNames": {"pattern": "a"}},
        {**OBJECT, "propertyNames": {"format": "email"}},
        {"type": "array", "unevaluatedItems": False, "$ref": "#/$defs/a", "$defs": {"a": {}}},
    ],
)
def test_what_cannot_be_said_otherwise_is_refused_by_name(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidGrammar, match=r"unevaluated(Properties|Items)|propertyNames"):
        plain(schema)


@pytest.mark.parametrize("broken", [{"enum": 3}, {"pattern": 3}, {"maxLength": "x"}, 7, ["a"]])
def test_names_of_a_wrong_kind_are_the_clients_error(broken: object) -> None:
    with pytest.raises(InvalidGrammar):
        check_grammar(Grammar(kind="json_schema", text=json.dumps({**OBJECT, "propertyNames": broken})))
    with pytest.raises(InvalidGrammar):
        check_grammar(Grammar(kind="json_schema", text=json.dumps({**OBJECT, "dependentRequired": broken})))


def test_classes_hold_what_both_dialects_count_among_them() -> None:
    schema = {"type": "string", "pattern": r"^\S\W\D[^\s\d\w]$"}
    assert schema_takes(schema, "a-b-")
    for bad in ("\ufeff-b-", "aéb-", "a-٣-", "a-b\ufeff"):
        assert not schema_takes(schema, bad), bad
    assert narrowed(r"[\\s]\\S") == r"[\\s]\\S", "a backslash is no class"
