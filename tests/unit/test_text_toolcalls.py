"""Tool calls in every form, whole, cut anywhere, and broken: a call is read or its text comes out, nothing is lost."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ashore.data.text import AnswerPiece
from ashore.data.text.answer import AnswerParser
from ashore.data.text.markup import MarkupReader, MarkupRules
from ashore.data.text.toolsyntax import ToolForm, forms_of, read_block

RULES = MarkupRules(("deepseek", "dsml", "hermes", "llama"))
V3 = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
    '{"city": "Paris"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```'
    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
)
V31 = (
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜>'
    "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
)
V32 = (
    '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
    '<｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
    '<｜DSML｜invoke name="now">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>'
)
V4 = V32.replace("function_calls", "tool_calls")
HERMES = (
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)
LLAMA = '{"name": "get_weather", "parameters": {"city": "Paris"}}; {"name": "now", "parameters": {}}'
PYTHON_TAG = (
    '<|python_tag|>{"type": "function", "function": {"name": "get_weather", "parameters": {"city": "Paris"}}}\n'
)
PYTHON_TAG += '{"name": "now", "parameters": {}}'
ALL = {"v3": V3, "v3.1": V31, "v3.2": V32, "v4": V4, "hermes": HERMES, "llama": LLAMA, "python_tag": PYTHON_TAG}


def read(text: str, cuts: list[int] | None = None, rules: MarkupRules = RULES, **kw: object) -> AnswerPiece:
    """Read a text that is cut into tokens at `cuts` (character positions)."""
    ends = sorted(min(c, len(text)) for c in cuts or ())
    table = [text[a:b].encode() for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    parser = AnswerParser(
        table=table,
        skip=frozenset(),
        markup=MarkupReader(rules, opens_reasoning=bool(kw.get("opens_reasoning"))),
        stop=kw.get("stop", ()),  # type: ignore[arg-type]
    )
    pieces = [parser.push(i) for i in range(len(table))] + [parser.finish()]
    return AnswerPiece(
        "".join(p.text for p in pieces),
        "".join(p.reasoning for p in pieces),
        tuple(c for p in pieces for c in p.tool_calls),
        any(p.stopped for p in pieces),
    )


def calls(answer: AnswerPiece) -> list[tuple[int, str, object]]:
    return [(c.index, c.name, json.loads(c.arguments)) for c in answer.tool_calls]


TWO = [(0, "get_weather", {"city": "Paris"}), (1, "now", {})]


@pytest.mark.parametrize("form", ALL)
def test_every_form_is_read(form: str) -> None:
    answer = read(ALL[form])
    assert calls(answer) == TWO and answer.text == ""
    ids = [c.id for c in answer.tool_calls]
    assert len(set(ids)) == 2 and all(i.startswith("call_") for i in ids)


@given(st.sampled_from(sorted(ALL)), st.lists(st.integers(0, 260), max_size=12))
def test_any_cut_gives_the_same_calls(form: str, cuts: list[int]) -> None:
    answer = read(ALL[form], cuts)
    assert calls(answer) == TWO and answer.text == ""


@pytest.mark.parametrize("form", ["v3", "v3.1", "v3.2", "v4", "hermes", "python_tag"])
def test_text_around_calls_stays_and_layout_goes(form: str) -> None:
    answer = read("Let me see.\n\n" + ALL[form])
    assert answer.text == "Let me see.\n\n" and calls(answer) == TWO


def test_text_after_a_call_stays() -> None:
    answer = read(HERMES + "\n\nDone.\n")
    assert answer.text == "\n\nDone.\n" and calls(answer) == TWO


def test_reasoning_goes_before_calls() -> None:
    answer = read("I need the weather.\n</think>\n\n" + V3, opens_reasoning=True)
    assert (answer.reasoning, answer.text, calls(answer)) == ("I need the weather.", "", TWO)
    answer = read("<think>\nhm\n</think>\n\n" + LLAMA)
    assert (answer.reasoning, answer.text, calls(answer)) == ("hm", "", TWO)


@given(st.sampled_from(sorted(ALL)), st.integers(1, 260), st.lists(st.integers(0, 260), max_size=6))
@example("v3.1", len("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"), [])
def test_an_answer_that_breaks_off_loses_nothing(form: str, length: int, cuts: list[int]) -> None:
    text = ALL[form][:length]
    answer = read(text, cuts)
    if not answer.tool_calls:
        assert answer.text == text
    else:
        assert calls(answer) == TWO[: len(answer.tool_calls)]
        assert text.endswith(answer.text)


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\nno JSON\n</tool_call> more",
        '<tool_call>{"name": "f"}</tool_call>',
        '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "no object"}</tool_call>',
        "<tool_call>" + "[" * 3_000 + "</tool_call>",
        "<｜tool▁calls▁begin｜>nothing<｜tool▁calls▁end｜>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{broken<｜tool▁call▁end｜><｜tool▁calls▁end｜> x",
        '<｜DSML｜tool_calls><｜DSML｜invoke name="f">loose</｜DSML｜invoke></｜DSML｜tool_calls>',
        "<|python_tag|>import os\nprint(os.name)",
        '{"name": "Alice", "age": 7}',
        '{"name": "Alice", "parameters": 7}',
        '{"answer": 42}',
        "{ not json",
        "{",
        " {}",
        '{"na',
        "<tool_cal",
    ],
)
@pytest.mark.parametrize("size", [1, 4, 10_000])
def test_broken_syntax_is_text(text: str, size: int) -> None:
    answer = read(text, list(range(size, len(text), size)))
    assert answer.text == text and not answer.tool_calls


def test_a_json_answer_that_is_no_call_streams() -> None:
    table = [b'{"', b"answer", b'": 4', b"2}"]
    parser = AnswerParser(table=table, skip=frozenset(), markup=MarkupReader(RULES, opens_reasoning=False))
    assert [parser.push(i).text for i in range(4)] == ["", '{"answer', '": 4', "2}"]


def test_a_closer_inside_an_argument_belongs_to_the_argument() -> None:
    text = '<tool_call>{"name": "write", "arguments": {"text": "</tool_call> \\" x"}}</tool_call>'
    assert calls(read(text, list(range(len(text))))) == [(0, "write", {"text": '</tool_call> " x'})]


def test_arguments_stay_as_the_model_wrote_them_where_they_are_json_text() -> None:
    answer = read('<｜tool▁call▁begin｜>f<｜tool▁sep｜>{"b":1.0,  "a":"é"}<｜tool▁call▁end｜>')
    assert answer.tool_calls[0].arguments == '{"b":1.0,  "a":"é"}'


def test_dsml_values_keep_their_types() -> None:
    body = "".join(
        f'<｜DSML｜parameter name="{n}" string="{s}">{v}</｜DSML｜parameter>\n'
        for n, s, v in (("a", "true", "1"), ("b", "false", "1"), ("c", "false", '{"d": [true]}'), ("e", "true", "x\ny"))
    )
    block = f'<｜DSML｜tool_calls>\n<｜DSML｜invoke name="f">\n{body}</｜DSML｜invoke>\n</｜DSML｜tool_calls>'
    assert calls(read(block)) == [(0, "f", {"a": "1", "b": 1, "c": {"d": [True]}, "e": "x\ny"})]


def test_llamas_built_in_tools_are_calls_too() -> None:
    answer = read('<|python_tag|>brave_search.call(query="who, \\"me\\"?", n=3)')
    assert calls(answer) == [(0, "brave_search", {"query": 'who, "me"?', "n": 3})]


def test_a_stop_string_ends_text_and_spares_arguments() -> None:
    text = '<tool_call>{"name": "f", "arguments": {"x": "stop"}}</tool_call> then stop here'
    answer = read(text, list(range(len(text))), stop=("stop",))
    assert calls(answer) == [(0, "f", {"x": "stop"})]
    assert answer.text == " then " and answer.stopped


def test_without_tools_markup_is_text() -> None:
    assert read(HERMES, rules=MarkupRules()).text == HERMES


@pytest.mark.parametrize(
    ("template", "tokens", "forms"),
    [
        ("", set(), ("hermes",)),
        ("… '<｜tool▁calls▁begin｜>' …", {"<tool_call>"}, ("deepseek", "hermes")),
        ("… <tool_call> …", set(), ("hermes",)),
        ("… ｜DSML｜ …", {"<｜tool▁calls▁begin｜>"}, ("dsml", "deepseek", "hermes")),
        ('… {"name": function name, "parameters": dictionary} …', {"<|python_tag|>"}, ("llama", "hermes")),
    ],
)
def test_forms_come_from_template_and_vocabulary(template: str, tokens: set[str], forms: tuple[str, ...]) -> None:
    assert forms_of(template, frozenset(tokens)) == forms


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("deepseek", " " * 500_000 + "x"),
        ("deepseek", f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{' ' * 500_000}x<｜tool▁call▁end｜>"),
        ("deepseek", f'<｜tool▁call▁begin｜>f<｜tool▁sep｜>{{"a": "{" " * 500_000}"}}<｜tool▁call▁end｜>'),
        ("deepseek", f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>f{chr(10) * 500_000}```json\n{{}}\n```"),
        ("dsml", f'{" " * 500_000}<｜DSML｜invoke name="f">{" " * 500_000}</｜DSML｜invoke>'),
        ("hermes", f"{' ' * 500_000}{{"),
        ("llama", f"f.call({' ' * 500_000}"),
    ],
)
def test_a_block_of_many_blanks_is_read_in_proportion(form: ToolForm, body: str) -> None:
    """A few thousand of them, which a request can have a model write, held the interpreter for minutes."""
    began = time.thread_time()
    read_block(form, body, closed=True)
    assert time.thread_time() - began < 5
