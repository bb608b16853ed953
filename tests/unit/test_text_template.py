"""Chat templates: what they may do, what they are given, and what stops them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_text import CHATML, LLAMA3, R1, byte_level

from ashore.core.chat import Message, ToolCall, ToolSpec
from ashore.core.clock import ManualClock
from ashore.core.errors import InvalidRequest, UnsupportedModel
from ashore.data.text.guard import Guard
from ashore.data.text.sandbox import MAX_STEPS
from ashore.data.text.template import ChatTemplate

WEATHER = ToolSpec(name="get_weather", description="天气 <b>", parameters='{"type": "object", "properties": {}}')
CALL = ToolCall(id="call_1", name="get_weather", arguments='{"city": "Paris é", "n": 1}')
HELLO = (Message(role="user", content="Hello"),)


def template(source: str) -> ChatTemplate:
    nothing = Guard(())
    return ChatTemplate(
        source, name="this template", tokens={"bos_token": "<s>"}, guard=nothing, own=nothing, clock=ManualClock()
    )


def render(source: str, messages: tuple[Message, ...] = HELLO, **named: object) -> str:
    return template(source).render(messages, **named)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ bos_token }}{{ messages[0].content }}{{ messages[0]['role'] }}", "<s>Hellouser"),
        ("{{ {'a': '<é&>', 'b': none} | tojson }}", '{"a": "<é&>", "b": null}'),
        ("{{ {'b': [1], 'a': 2} | tojson(indent=2) }}", '{\n  "b": [\n    1\n  ],\n  "a": 2\n}'),
        ("{{ ['é', '\U0001f642'] | tojson(ensure_ascii=true) }}", '["\\u00e9", "\\ud83d\\ude42"]'),
        ("{{ ('[1, 2]' | from_json)[1] }}", "2"),
        ("{% set ns = namespace(n=0) %}{% for i in range(5) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "10"),
        ("{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}"
         "{% endfor %}", "013"),
        ("{% generation %}said{% endgeneration %}.", "said."),
        ("{{ strftime_now('%Y-%m') }}", "2023-11"),
        ("{% for m in messages %}{{ loop.length }}{{ loop.last }}{{ loop.index0 }}{% endfor %}", "1True0"),
        ("{% for m in messages[::-1] if m.role == 'user' %}{{ m.content }}{% endfor %}", "Hello"),
        ("{{ tools is none }}{{ documents is none }}{{ nothing is defined }}", "TrueTrueFalse"),
        ("{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f('a') ~ f('b') }}", "[a][b]"),
        ("{{ 'a-b-c'.split('-') | join('+') }}{{ ' x '.strip() }}{{ 'abc'.replace('b', 'd') }}", "a+b+cxadc"),
        ("{% for i in [1] %}{{ 'abc'.replace('b', 'd') }}{{ '-'.join(['a', 'b']) }}{% endfor %}", "adca-b"),
        ("{% set x %}a{{ 'b' }}{% endset %}{{ x | upper }}", "AB"),
        ("{{ '%s is %d' % ('a', 3) }}{{ '%.2f' | format(1.5) }}", "a is 31.50"),
        ("{{ 'x' * 3 }}{{ 7 * 6 }}{{ 2 ** 10 }}", "xxx421024"),
        ("{{ '{}-{:>3}'.format(1, 'a') }}", "1-  a"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}={{ v }}{% endfor %}{{ {'b': 2} | items | list }}", "a=1[('b', 2)]"),
        ("    {% if true %}\n  x\n    {% endif %}\n", "  x\n"),
    ],
)  # fmt: skip
def test_templates_have_what_they_are_written_for(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", f"more than {MAX_STEPS}"),
        ("{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}", "more than"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested too deeply"),
        ("{{ range(10000000) | list }}", "range"),
        ("{{ 'a' * 1000000000 }}", "repetition"),
        ("{{ [0] * 1000000000 }}", "repetition"),
        ("{{ 'a'.ljust(1000000000) }}", "width"),
        ("{{ 'a' | center(1000000000) }}", "width"),
        ("{{ '%1000000000d' % 1 }}", "wide"),
        ("{{ '{:>1000000000}'.format('a') }}", "wide"),
        ("{{ '%*d' | format(1000000000, 1) }}", "wide"),
        ("{{ 9 ** 99999 }}", "power"),
        ("{{ {'a': 1} | tojson(indent=1000000000) }}", "width"),
        ("{{ [1] | slice(1000000000) | list }}", "width"),
        ("{{ ['a' * 99999] * 99999 }}", "a value of more than"),
        ("{{ ('a' * 99999).translate({97: 'a' * 99999}) }}", "translation"),
    ],
)  # fmt: skip
def test_a_template_that_asks_for_too_much_is_stopped(source: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        render(source)


@pytest.mark.parametrize(
    "growth",
    [
        "{% set ns.x = ns.x + ns.x %}",
        "{% set ns.x = ns.x ~ ns.x %}",
        "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}",
        "{% set ns.x = ns.x.replace('a', ns.x) %}",
        "{% set ns.x = ns.x | replace('a', ns.x) %}",
        "{% set ns.x = ns.x.join([ns.x, ns.x]) %}",
        "{% set ns.x = [ns.x, ns.x] | join(ns.x) %}",
        "{% set ns.x = '%s%s' % (ns.x, ns.x) %}",
        "{% set ns.x = '{0}{0}'.format(ns.x) %}",
        "{% set ns.x = {'a': ns.x, 'b': ns.x} | tojson %}",
        "{% set ns.l = ns.l + ns.l %}",
        "{% set ns.l = [ns.l, ns.l] %}",
        "{% set ns.l = (ns.l, ns.l) %}",
        "{% set ns.l = [ns.l] * 2 %}",
        "{% set ns.l = {'a': ns.l, 'b': ns.l} %}",
        "{% set ns.l = dict(a=ns.l, b=ns.l) %}",
        "{% set ns.l = [ns.l, ns.l] | batch(2) | list %}",
        "{% set ns.l = [dict(a=ns.l).items(), dict(a=ns.l).values()] %}",
    ],
)
def test_whatever_doubles_sixty_times_is_stopped(growth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashore.data.text.sandbox.MAX_SECONDS", 60.0)  # by its size, however busy this machine is
    source = "{% set ns = namespace(x='aa', l=[0]) %}{% for i in range(60) %}" + growth + "{% endfor %}"
    with pytest.raises(InvalidRequest, match=r"characters|a value of more than"):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].clear() }}",
        "{{ raise_exception.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ ''['__class__']['__base__'] }}x{{ [] | attr('__class__') | attr('__base__') }}",
        "{{ messages | first | attr('update') }}{{ messages[0].update({'a': 1}) }}",
    ],
)
def test_python_is_out_of_reach(source: str) -> None:
    try:
        text = render(source)
    except InvalidRequest:
        return
    assert text.strip("x") in ("", "None") or "class" not in text


def test_a_template_can_refuse() -> None:
    with pytest.raises(InvalidRequest, match="this template refuses these messages: user first") as caught:
        render("{{ raise_exception('user first') }}")
    assert caught.value.param == "messages" and caught.value.hint


def test_late_system_texts_go_to_the_front_where_the_template_refuses_them() -> None:
    strict = (
        "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('late') }}{% endif %}"
        "[{{ m.role }}:{{ m.content }}]{% endfor %}"
    )
    turns = (Message(role="system", content="a"), *HELLO, Message(role="system", content="b"))
    assert render(strict, turns) == "[system:a\n\nb][user:Hello]"
    assert render(strict.replace("raise_exception('late')", "''"), turns) == "[system:a][user:Hello][system:b]"
    with pytest.raises(InvalidRequest, match="never"):
        render("{{ raise_exception('never') }}", turns)


def test_a_template_that_cannot_cope_says_which_and_why() -> None:
    with pytest.raises(InvalidRequest, match="this template cannot render these messages: TypeError"):
        render("{{ messages[0].content + 3 }}")


def test_a_broken_template_is_found_at_load(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"line 2"):
        byte_level(tmp_path, "\n{% for %}")


def test_options_reach_the_template_and_cannot_replace_what_is_ours() -> None:
    assert render("{{ enable_thinking }}{{ x.y }}", options={"enable_thinking": False, "x": {"y": "z"}}) == "Falsez"
    with pytest.raises(InvalidRequest, match="'messages'") as caught:
        render("", options={"messages": []})
    assert caught.value.param == "chat_template_kwargs"


def test_tools_are_given_as_openai_writes_them() -> None:
    text = render("{{ tools | tojson }}", tools=(WEATHER,))
    assert text == (
        '[{"type": "function", "function": {"name": "get_weather", "description": "天气 <b>", '
        '"parameters": {"type": "object", "properties": {}}}}]'
    )
    with pytest.raises(InvalidRequest, match="'f'"):
        render("", tools=(ToolSpec(name="f", parameters="{"),))


ASSISTANT = Message(role="assistant", tool_calls=(CALL,))
TOOL = Message(role="tool", content="20", tool_call_id="call_1", name="get_weather")


def test_arguments_of_past_calls_come_in_the_form_that_the_template_wants() -> None:
    conversation = (*HELLO, ASSISTANT, TOOL)
    as_object = render(CHATML, conversation)
    assert '{"name": "get_weather", "arguments": {"city": "Paris é", "n": 1}}' in as_object
    as_text = render(R1, conversation)
    assert 'get_weather\n```json\n{"city": "Paris é", "n": 1}\n```' in as_text


def test_an_answer_of_calls_alone_has_no_content_where_the_template_asks_for_none() -> None:
    assert render("{% for m in messages %}{{ m.content is none }}{% endfor %}", (ASSISTANT,)) == "True"
    assert render("{{ messages[0].content == '' }}", (ASSISTANT,)) == "True"
    assert (
        render("{{ messages[0].reasoning_content is none }}{{ messages[0].content == '' }}", (ASSISTANT,))
        == "FalseTrue"
    )


def test_arguments_that_are_no_json_are_passed_on_as_text() -> None:
    broken = Message(role="assistant", tool_calls=(ToolCall(id="c", name="f", arguments="{broken"),))
    assert render("{{ messages[0].tool_calls[0].function.arguments }}", (broken,)) == "{broken"


def test_fields_that_a_message_lacks_are_undefined() -> None:
    source = (
        "{{ 'tool_calls' in messages[0] }}{{ messages[0].reasoning_content is defined }}{{ 'name' in messages[0] }}"
    )
    assert render(source) == "FalseFalseFalse"
    shown = render("{{ messages[0].tool_call_id }}{{ messages[0].name }}{{ messages[0].content }}", (TOOL,))
    assert shown == "call_1get_weather20"
    assert render("{{ messages[0].reasoning_content }}", (Message(role="assistant", reasoning="why"),)) == "why"


def test_a_conversation_of_a_thousand_turns_is_within_the_budget() -> None:
    turns = tuple(Message(role="user" if i % 2 == 0 else "assistant", content="word " * 200) for i in range(1_000))
    assert len(render(LLAMA3, turns)) > 1_000_000


@pytest.mark.parametrize(
    "source", ["{% " + "x" * 5000 + " %}", "{{ raise_exception('x' * 900 ~ '\n') }}", "{{ 1 | " + "y" * 900 + " }}"]
)
def test_what_a_template_makes_an_error_say_is_short_and_one_line(source: str) -> None:
    with pytest.raises((UnsupportedModel, InvalidRequest)) as caught:
        render(source)
    assert len(caught.value.message) < 300 and "\n" not in caught.value.message


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 40_000 + "1" + ")" * 40_000 + " }}",
        "{% if a %}" * 4_000 + "{% endif %}" * 4_000,
        "{% for a in b %}" * 30 + "{% endfor %}" * 30,
        "{{ a }}" * 20_000,
    ],
)
def test_a_template_that_cannot_be_compiled_is_the_models_fault(source: str) -> None:
    with pytest.raises(UnsupportedModel, match=r"nested too deeply|at most 100000"):
        render(source)
