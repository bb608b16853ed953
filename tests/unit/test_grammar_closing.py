"""Objects in grammars have the properties that their schema declares; blanks in them are few."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from grammars import check_grammar
from grammars import takes as belongs
from test_serving_tools import Teaches

from ashore.core.chat import ToolSpec
from ashore.core.errors import InvalidGrammar
from ashore.data.engines import Grammar
from ashore.data.engines.closing import closed, closed_arguments
from ashore.data.path.tools import tool_call_grammar

NUMBER = {"type": "object", "properties": {"a": {"type": "integer"}}}
PARENT = {"properties": {"b": {"type": "integer"}}}


def takes(grammar: Grammar, answer: str) -> bool:
    check_grammar(grammar)
    return belongs(grammar, answer)[0]


def schema_takes(schema: dict[str, Any], value: object) -> bool:
    return takes(Grammar(kind="json_schema", text=json.dumps(schema)), json.dumps(value))


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (NUMBER, {"a": 1}, {"a": 1, "type": "integer"}),
        ({"type": "array", "items": NUMBER}, [{"a": 1}], [{"a": 1, "b": 2}]),
        ({"type": "object", "properties": {"n": NUMBER}}, {"n": {"a": 1}}, {"n": {"z": 1}}),
        ({"$ref": "#/$defs/n", "$defs": {"n": NUMBER}}, {"a": 1}, {"a": 1, "b": 2}),
        ({"anyOf": [NUMBER, {"type": "null"}]}, {"a": 1}, {"a": 1, "b": 2}),
    ],
)
def test_what_is_not_declared_is_not_written(schema: dict[str, Any], good: object, bad: object) -> None:
    assert schema_takes(schema, good)
    assert not schema_takes(schema, bad)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({**NUMBER, "additionalProperties": True}, {"a": 1, "b": 2}),
        ({**NUMBER, "additionalProperties": {"type": "string"}}, {"a": 1, "b": "c"}),
        ({"type": "object"}, {"free": 1}),
        ({"allOf": [NUMBER, PARENT]}, {"a": 1, "b": 2}),
        ({**NUMBER, "required": ["c"]}, {"a": 1, "c": 2}),
        ({**NUMBER, "patternProperties": {"^x": {"type": "integer"}}}, {"a": 1, "x1": 2}),
    ],
)
def test_what_a_schema_speaks_of_stays_open(schema: dict[str, Any], value: object) -> None:
    assert schema_takes(schema, value)


def test_objects_that_are_put_together_are_not_closed() -> None:
    for schema in ({**NUMBER, "$ref": "#/$defs/p", "$defs": {"p": PARENT}}, {"items": {"allOf": [NUMBER]}}):
        assert closed(schema) == schema


def test_a_tool_that_declares_nothing_gets_nothing() -> None:
    for given in ({}, {"type": "object"}, {"type": "object", "properties": {}}):
        assert closed_arguments(given)["additionalProperties"] is False
    assert closed_arguments({"type": "object", "additionalProperties": True})["additionalProperties"] is True
    for broken in ({"type": "no-such-type"}, {"properties": ["a"]}, {"required": ["a"]}):
        assert closed_arguments(broken) == broken, "what is wrong with it is for the grammar to say"


@pytest.mark.parametrize(("form", "key"), [("hermes", "arguments"), ("llama", "parameters"), ("deepseek", "")])
def test_the_call_of_a_tool_has_its_arguments_and_few_blanks(form: str, key: str) -> None:
    tools = (ToolSpec(name="f", parameters=json.dumps({**NUMBER, "required": ["a"]})), ToolSpec(name="g"))
    grammar = tool_call_grammar(tools, Teaches(form))

    def call(name: str, arguments: str) -> str:
        if form == "deepseek":
            return (
                f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}"
                "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
            )
        whole = f'{{"name": "{name}", "{key}": {arguments}}}'
        return f"<tool_call>\n{whole}\n</tool_call>" if form == "hermes" else whole

    assert takes(grammar, call("f", '{"a": 1}')) and takes(grammar, call("g", "{}"))
    assert not takes(grammar, call("f", '{"a": 1, "type": "integer"}'))
    assert not takes(grammar, call("g", '{"a": 1}'))
    assert takes(grammar, call("f", '{\n  "a": 1\n}'))
    assert not takes(grammar, call("f", '{"a":' + " " * 40 + "1}"))


def test_a_tool_cannot_set_the_grammar_s_own_options() -> None:
    tool = ToolSpec(name="f", parameters=json.dumps({**NUMBER, "x-guidance": {"whitespace_pattern": "[ ]*"}}))
    for form in ("hermes", "llama", "deepseek"):
        with pytest.raises(InvalidGrammar, match="x-guidance"):
            tool_call_grammar((tool,), Teaches(form))


@pytest.mark.parametrize("form", ["hermes", "llama", "deepseek"])
def test_a_keyword_that_no_grammar_holds_is_named_with_the_tool(form: str) -> None:
    tool = ToolSpec(name="f", parameters=json.dumps({"properties": {"a": {"not": {}}}}))
    with pytest.raises(InvalidGrammar, match=r"'not' at f\.parameters\.properties\.a"):
        tool_call_grammar((tool,), Teaches(form))


@pytest.mark.parametrize("form", ["hermes", "llama", "deepseek"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_tool_may_define_its_own_parts(form: str, count: int) -> None:
    """What pydantic writes for a model in a model."""
    schema = {
        "$defs": {"Place": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
        "properties": {"at": {"$ref": "#/$defs/Place"}},
        "required": ["at"],
        "type": "object",
    }
    tools = tuple(ToolSpec(name=f"f{n}", parameters=json.dumps(schema)) for n in range(count))
    grammar = tool_call_grammar(tools, Teaches(form))
    name = tools[-1].name

    def call(arguments: str) -> str:
        if form == "deepseek":
            return (
                f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}"
                "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
            )
        whole = f'{{"name": "{name}", "{"arguments" if form == "hermes" else "parameters"}": {arguments}}}'
        return f"<tool_call>\n{whole}\n</tool_call>" if form == "hermes" else whole

    assert takes(grammar, call('{"at": {"city": "Xi\'an"}}'))
    assert not takes(grammar, call('{"at": "Xi\'an"}'))
    assert not takes(grammar, call('{"at": {"city": "Xi\'an", "type": "object"}}'))


@pytest.mark.parametrize("kind", ["json_schema", "json_object"])
def test_blanks_are_bounded_wherever_they_may_stand(kind: Literal["json_schema", "json_object"]) -> None:
    grammar = Grammar(kind=kind, text='{"type": "object"}' if kind == "json_schema" else "")
    for wide, narrow in ((" " * 40, " "), ("\n" * 3, "\n"), ("\n" + " " * 17, "\n" + " " * 16), ("\t", " ")):
        for answer in ('{%s"a": [1]}', '{"a":%s[1]}', '{"a": [%s1]}', '{"a": [1]%s}'):
            assert takes(grammar, answer % narrow), answer % narrow
            assert not takes(grammar, answer % wide), answer % wide
    assert not takes(grammar, '{"a": 1}' + " " * 40)
