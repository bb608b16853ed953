"""Tools told to models that know none, and enforced in the form that each model's parser reads back."""

from __future__ import annotations

import json
import time

import pytest
from grammars import check_grammar, takes

from ashore.core.chat import Message, ToolSpec
from ashore.core.errors import InvalidRequest, UnsupportedByEngine
from ashore.core.ids import RequestId
from ashore.data.path import BytesText, GenerationRequest
from ashore.data.path.tools import prepare_tools, tool_call_grammar

SCHEMA = '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}'
TOOLS = (ToolSpec(name="weather", description="Tell the weather", parameters=SCHEMA), ToolSpec(name="时间"))


class Teaches(BytesText):
    """A model whose template teaches one form."""

    def __init__(self, form: str, template: str = "tools", *, knows: bool = True) -> None:
        super().__init__()
        self._form = form
        self._knows = knows
        self.template_source = template

    @property
    def knows_tools(self) -> bool:
        return self._knows

    @property
    def tool_forms(self) -> tuple[str, ...]:
        return (self._form,)


def ask(**fields: object) -> GenerationRequest:
    return GenerationRequest(
        request_id=RequestId("r"),
        model="m",
        messages=(Message(role="user", content="hi"),),
        tools=TOOLS,
        **fields,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("form", "template"), [("hermes", ""), ("llama", ""), ("deepseek", "```json"), ("deepseek", "")]
)
def test_every_form_compiles(form: str, template: str) -> None:
    check_grammar(tool_call_grammar(TOOLS, Teaches(form, template)))
    check_grammar(tool_call_grammar(TOOLS[:1], Teaches(form, template)))


@pytest.mark.parametrize(
    ("form", "template", "answer"),
    [
        ("hermes", "", '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'),
        ("llama", "", '{"name": "weather", "parameters": {"city": "Bern"}}'),
        (
            "deepseek",
            "```json",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
            '{"city": "Bern"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        ),
        (
            "deepseek",
            "",
            '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{"city": "Bern"}'
            "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ),
    ],
)
def test_the_grammar_takes_what_the_parser_of_answers_reads(form: str, template: str, answer: str) -> None:
    from ashore.data.text.markup import MarkupReader, MarkupRules

    grammar = tool_call_grammar(TOOLS, Teaches(form, template))
    assert takes(grammar, answer) == [True]

    reader = MarkupReader(MarkupRules((form,)), opens_reasoning=False)  # type: ignore[arg-type]
    reader.feed(answer)
    reader.finish()
    assert [(call.name, json.loads(call.arguments)) for call in reader.calls] == [("weather", {"city": "Bern"})]


def test_a_form_without_a_grammar_is_refused() -> None:
    with pytest.raises(UnsupportedByEngine, match="dsml"):
        prepare_tools(ask(tool_choice="required"), Teaches("dsml"))


def test_a_template_that_knows_no_tools_gets_them_in_the_system_text() -> None:
    made = prepare_tools(ask(), Teaches("hermes", knows=False))
    assert made.messages[0].role == "system"
    assert '"name": "weather"' in made.messages[0].content
    again = GenerationRequest(
        request_id=RequestId("r"),
        model="m",
        tools=TOOLS,
        messages=(Message(role="system", content="Be brief."), Message(role="user", content="hi")),
    )
    made = prepare_tools(again, Teaches("hermes", knows=False))
    assert made.messages[0].content.startswith("Be brief.\n\n")
    assert len(made.messages) == 2
    assert prepare_tools(ask(tool_choice="none"), Teaches("hermes", knows=False)).messages == ask().messages
    assert prepare_tools(ask(), Teaches("hermes")) == ask()


def test_parameters_that_are_no_schema_are_named() -> None:
    broken = GenerationRequest(
        request_id=RequestId("r"), model="m", tools=(ToolSpec(name="x", parameters="[1]"),), messages=ask().messages
    )
    with pytest.raises(InvalidRequest, match="'x'"):
        prepare_tools(broken, BytesText())


def test_parameters_longer_than_a_grammar_are_refused_before_they_are_read_as_one() -> None:
    long = ToolSpec(name="long", parameters=json.dumps({"properties": {"n" * 300_000: {"type": "string"}}}))
    asked = GenerationRequest(
        request_id=RequestId("r"), model="m", messages=ask().messages, tools=(*TOOLS, long), tool_choice="required"
    )
    with pytest.raises(InvalidRequest, match="limit is 262144"):
        prepare_tools(asked, Teaches("hermes"))
    with pytest.raises(InvalidRequest, match="limit is 262144"):
        prepare_tools(asked, Teaches("dsml"))


def test_a_tool_that_is_not_there_is_named_in_few_words_however_long_its_name_is() -> None:
    name = "ab" * 1_000_000
    began_s = time.process_time()
    with pytest.raises(InvalidRequest, match="not among the tools") as caught:
        prepare_tools(ask(tool_choice=f"tool:{name}"), Teaches("hermes"))
    assert len(caught.value.message) < 200
    assert time.process_time() - began_s < 0.1, "compared whole it takes 0.3 s"
