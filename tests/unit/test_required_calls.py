"""`tool_choice: "required"`: whatever the model would rather say, one valid call of an offered tool comes out of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
from grammars import check_grammar
from jsonschema import Draft202012Validator
from schema_suite import RandomModel
from test_serving_tools import Teaches

from ashore.core.chat import ToolSpec
from ashore.data.engines.fake.files import VOCAB_SIZE, fake_model_files
from ashore.data.engines.sampling import GrammarCompiler
from ashore.data.path.tools import tool_call_grammar
from ashore.data.text import TextModel

SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "now": {},
    "add": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "maximum": 9}},
        "required": ["a", "b"],
    },
    "go": {
        "$defs": {
            "Place": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 8}, "next": {"$ref": "#/$defs/Place"}},
                "required": ["city"],
            }
        },
        "type": "object",
        "properties": {"to": {"$ref": "#/$defs/Place"}, "by": {"enum": ["train", "car"]}},
        "required": ["to"],
    },
}
TOOLS: Final = tuple(ToolSpec(name=name, parameters=json.dumps(schema)) for name, schema in SCHEMAS.items())
DRAWS: Final = 12


def call_in(form: str, answer: str) -> tuple[str, Any]:
    """Return the name and the arguments of the one call that an answer is."""
    if form == "deepseek":
        found = re.fullmatch(
            r"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>(\w+)<｜tool▁sep｜>(.*)<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            answer,
            re.DOTALL,
        )
        assert found, answer
        return found.group(1), json.loads(found.group(2))
    whole = re.fullmatch(r"<tool_call>\n(.*)\n</tool_call>" if form == "hermes" else r"(.*)", answer, re.DOTALL)
    assert whole, answer
    call = json.loads(whole.group(1))
    arguments = call.pop("arguments" if form == "hermes" else "parameters")
    assert list(call) == ["name"]
    return call["name"], arguments


@pytest.mark.parametrize("form", ["hermes", "llama", "deepseek"])
@pytest.mark.parametrize("offered", [TOOLS, TOOLS[2:]], ids=["three tools", "one tool"])
def test_a_random_model_makes_one_valid_call(form: str, offered: tuple[ToolSpec, ...], tmp_path: Path) -> None:
    fake_model_files("fake:random", tmp_path)
    compiler = GrammarCompiler(tmp_path, vocab_size=VOCAB_SIZE)
    model = RandomModel(TextModel.load(tmp_path), vocab_size=VOCAB_SIZE, seed=5)
    grammar = tool_call_grammar(offered, Teaches(form))
    check_grammar(grammar)
    seen = set()
    try:
        for _ in range(DRAWS):
            answer = model.answer(compiler.compile(grammar).result(), calm=120, limit=2000)
            assert answer is not None, "the call does not end"
            name, arguments = call_in(form, answer)
            Draft202012Validator({"type": "object", **SCHEMAS[name]}).validate(arguments)
            assert name != "now" or arguments == {}
            seen.add(name)
    finally:
        compiler.close()
    assert seen == {tool.name for tool in offered}
