"""Schemas and grammars made to break the compiler are refused as the client's, in a short message."""

from __future__ import annotations

import json
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from grammars import check_grammar
from tiny_models import make_tiny_model

from ashore.core.errors import InvalidGrammar
from ashore.data.engines import Grammar
from ashore.data.engines.grammar import prepared
from ashore.data.engines.grammarpaths import check_rules, longest_path
from ashore.data.engines.sampling.constraint import GrammarCompiler

BIG = 10**30


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": -BIG, "maximum": BIG},
        {"enum": [BIG]},
        {"const": {"a": BIG}},
        {"default": BIG},
        {"title": -BIG},
        {"type": "string", "minLength": BIG},
        {"type": "object", "minProperties": 2**70},
        {"type": "integer", "multipleOf": 2**64},
        {"const": float("inf")},
        {"type": "number", "minimum": float("nan")},
        {"const": "\ud800"},
        {"type": "string", "pattern": "\ud800"},
        {"properties": {"\ud800": {}}},
        {"type": "string", "maxLength": 2**40},
        {"type": "string", "pattern": "(" * 9000},
        {"$ref": "#/nowhere"},
        {"$ref": "x" * 9000},
        {"type": "x" * 9000},
        {"x" * 9000: 1},
        {"properties": {"x" * 9000: 5}},
        {"required": [1]},
        {"enum": []},
    ],
)
def test_a_hostile_schema_is_the_clients_error(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidGrammar) as caught:
        check_grammar(Grammar(kind="json_schema", text=json.dumps(schema)))
    assert len(caught.value.message) < 500 and "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json_schema", '{"const": 1e400}'),
        ("json_schema", '{"const": ' + "9" * 5000 + "}"),
        ("json_schema", '{"const": -Infinity}'),
        ("json_schema", '{"const":' + "[" * 100_000 + "]" * 100_000 + "}"),
        ("json_schema", '{"anyOf":[' * 9000),
        ("regex", "\ud800"),
        ("regex", "(" * 50_000),
        ("regex", r"\p{zz}"),
        ("lark", 'start: "\ud800"'),
        ("lark", "start: " + "(" * 50_000),
        ("lark", "%import x\nstart: y"),
        ("lark", f'start: "a" | %json {{"type":"integer","minimum":{BIG}}}'),
        ("lark", ""),
    ],
)
def test_a_hostile_grammar_is_the_clients_error(kind: Any, text: str) -> None:
    with pytest.raises(InvalidGrammar) as caught:
        check_grammar(Grammar(kind=kind, text=text))
    assert len(caught.value.message) < 500 and "\n" not in caught.value.message


CHAIN = {f"r{at}": {"$ref": f"#/$defs/r{at + 1}"} for at in range(4000)} | {"r4000": {"type": "string"}}
RULES = "".join(f'r{at}: "x" r{at + 1}\n' for at in range(4000))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json_schema", json.dumps({"$ref": "#/$defs/r0", "$defs": CHAIN})),
        ("json_schema", json.dumps({"$ref": "#r0", "$defs": {n: {"$anchor": n, **s} for n, s in CHAIN.items()}})),
        ("json_schema", json.dumps({"$ref": "#/default", "default": {"$ref": "#/$defs/r0"}, "$defs": CHAIN})),
        ("lark", f'start: r0\n{RULES}r4000: "y"\n'),
        ("lark", f'root ::= r0\n{RULES.replace(":", " ::=")}r4000 ::= "y"\n'),
        ("lark", f"start: %json {json.dumps({'$ref': '#/$defs/r0', '$defs': CHAIN})}"),
        ("lark", "start: %json " + '{"properties":{"a":' * 1500 + "{}" + "}}" * 1500),
    ],
)
def test_what_leads_deep_is_refused_before_it_is_compiled(kind: Any, text: str) -> None:
    """Each of these ended the process that compiled it."""
    with pytest.raises(InvalidGrammar, match=r"leads? through|points to no schema|nested more than"):
        check_grammar(Grammar(kind=kind, text=text))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "[" * 250_000},
        {"type": "string", "pattern": "[^" * 120_000},
        {"patternProperties": {"[" * 250_000: {}}},
        {"$id": "http://a/" + "b/" * 30_000, "$defs": {f"r{at}": {"$id": f"c{at}"} for at in range(7_000)}},
        {"$defs": {"n" * 100_000: {"$anchor": "a"}}, "anyOf": [{"$ref": "#a"}] * 10_000},
        {"$defs": {"n" * 100_000: {"$defs": {f"r{at}": {"$anchor": f"a{at}"} for at in range(5_000)}}}},
    ],
)
def test_a_schema_is_prepared_in_time_and_memory_in_proportion(schema: dict[str, Any]) -> None:
    """Each of these held the interpreter for minutes, or took gigabytes, before any process of a grammar began."""
    began = time.thread_time()
    with suppress(InvalidGrammar):
        assert len(prepared(Grammar(kind="json_schema", text=json.dumps(schema)))[1]) < 1 << 20
    assert time.thread_time() - began < 5


def test_recursion_and_many_references_are_taken() -> None:
    node = {"type": "object", "properties": {"left": {"$ref": "#/$defs/node"}, "right": {"$ref": "#/$defs/node"}}}
    wide = {f"f{at}": {"$ref": "#/$defs/node"} for at in range(200)}
    schema = {"$defs": {"node": node}, "type": "object", "properties": wide, "required": ["f0"]}
    check_grammar(Grammar(kind="json_schema", text=json.dumps(schema)))
    check_grammar(Grammar(kind="lark", text='start: a\na: "(" b ")" | "x"\nb: a b | a\n'))
    check_grammar(Grammar(kind="lark", text='root ::= "(" root ")" | [a-z]+ | other\nother ::= "x" root'))


@pytest.mark.parametrize(
    ("edges", "nodes"),
    [
        ({}, 0),
        ({"a": ["b"]}, 2),
        ({"a": ["a", "u"]}, 2),
        ({"a": ["b"], "b": ["a"]}, 2),
        ({"a": ["b", "c"], "b": ["c"], "c": ["d"]}, 4),
        ({"d": [], "c": ["d"], "a": ["d", "b"], "b": ["".join("c")]}, 4),
        ({str(at): [str(at + 1)] for at in range(50_000)}, 50_001),
    ],
)
def test_the_longest_path_is_found_without_recursion(edges: dict[str, list[str]], nodes: int) -> None:
    assert longest_path(edges) == nodes


@pytest.mark.parametrize("unit", ['"', "/", "[", "a", "a ", "a:", "a\n", '\\"', "?", "a[", "a::b", "%json ", "\n"])
@pytest.mark.parametrize("end", ["", "::="])
def test_rules_are_read_in_one_pass(unit: str, end: str) -> None:
    began = time.thread_time()
    with suppress(InvalidGrammar):
        check_rules(unit * (250_000 // len(unit)) + end)
    assert time.thread_time() - began < 5


def test_a_schema_that_refers_to_itself_ends_without_the_parsers_state(tmp_path: Path) -> None:
    compiler = GrammarCompiler(make_tiny_model(tmp_path / "tiny", "llama"), vocab_size=320)
    try:
        for schema in ({"$ref": "#"}, {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}):
            with pytest.raises(InvalidGrammar, match="refers to itself") as caught:
                compiler.compile(Grammar(kind="json_schema", text=json.dumps(schema))).result()
            assert "lexer" not in caught.value.message and "\n" not in caught.value.message
    finally:
        compiler.close()


def test_schemas_by_chance_compile_or_are_refused() -> None:
    rng = random.Random(7)
    odd = (None, True, -1, 0, 2**31, 2**62, 2**63, BIG, 1.5, "", "(", "#", "#/a", "x", "date", [], {}, [[]], ["string"])
    keys = ("type", "enum", "const", "minimum", "maxLength", "pattern", "format", "required", "$ref", "items", "anyOf")
    keys += (
        "properties",
        "$defs",
        "multipleOf",
        "minItems",
        "additionalProperties",
        "prefixItems",
        "patternProperties",
    )

    def schema(depth: int) -> Any:
        if depth == 0 or rng.randrange(4) == 0:
            return rng.choice(odd)
        inner = {rng.choice(keys): schema(depth - 1) for _ in range(rng.randint(1, 3))}
        return rng.choice((inner, {"a": inner}, [inner], inner))

    for _ in range(400):
        text = json.dumps({"type": rng.choice(("object", "string", "integer", "array")), rng.choice(keys): schema(3)})
        try:
            check_grammar(Grammar(kind="json_schema", text=text))
        except InvalidGrammar as error:
            assert len(error.message) < 500, text
