"""Templates with the constructs of families behind vLLM render, and what they write that no parser knows stays text."""

from __future__ import annotations

import pytest

from ashore.core.chat import Message, ToolCall, ToolSpec
from ashore.core.clock import ManualClock
from ashore.data.text.guard import Guard
from ashore.data.text.markup import MarkupReader, MarkupRules
from ashore.data.text.template import ChatTemplate
from ashore.data.text.toolsyntax import forms_of

TOOLS = (
    ToolSpec(
        name="find",
        description="Find it.",
        parameters='{"type":"object","properties":{"what":{"type":"string","enum":["a","b"]}},"required":["what"]}',
    ),
)
ID = "call_0123456789abcdef01234567"
TURNS = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="Find a."),
    Message(
        role="assistant", content="", tool_calls=(ToolCall(id="call12345", name="find", arguments='{"what": "a"}'),)
    ),
    Message(role="tool", content="here", tool_call_id="call12345", name="find"),
)
TEMPLATES = {
    "GLM: macros, tojson without escapes, items of arguments, split of thoughts": (
        "[gMASK]<sop>{% macro visible(c) %}{{ c if c is string else c | map(attribute='text') | join }}{% endmacro %}"
        "{% for t in tools or [] %}{{ t | tojson(ensure_ascii=False) }}{% endfor %}"
        "{% for m in messages %}<|{{ m.role }}|>"
        "{% if m.tool_calls %}{% for c in m.tool_calls %}<tool_call>{{ c.function.name }}{% for k, v in "
        "c.function.arguments.items() %}<arg_key>{{ k }}</arg_key><arg_value>{{ v | tojson if v is not string else v }}"
        "</arg_value>{% endfor %}</tool_call>{% endfor %}"
        "{% else %}{{ visible(m.content).split('</think>')[-1].lstrip('\\n') }}"
        "{% endif %}{% endfor %}",
        "<arg_key>what</arg_key><arg_value>a</arg_value></tool_call><|tool|>here",
    ),
    "gpt-oss: keyword macros, the date, namespaces, a call that wants an object": (
        "{% macro typed(spec, required=[]) %}{{ spec.enum | map('tojson') | join(' | ') if spec.enum else 'any' }}"
        "{% endmacro %}{{ 'Current date: ' + strftime_now('%Y-%m-%d') }}{% set last = namespace(name=none) %}"
        "{% for t in tools or [] %}{% for n, s in t.function.parameters.properties.items() %}{{ n }}: "
        "{{ typed(s, required=[]) }}"
        "{% endfor %}{% endfor %}{% for m in messages %}{% if 'tool_calls' in m %}{% set last.name = "
        "m.tool_calls[0].function.name %}to=functions.{{ last.name }}<|message|>"
        "{{ m.tool_calls[0].function.arguments | tojson }}<|call|>"
        "{% elif m.role == 'tool' %}functions.{{ last.name }} {{ m.content | tojson }}{% endif %}"
        "{% endfor %}",
        'to=functions.find<|message|>{"what": "a"}<|call|>functions.find "here"',
    ),
    "Mistral: identifiers of nine characters, a reversed loop, break, raise_exception": (
        "{% set ns = namespace(last=0) %}{% for m in messages | reverse %}{% if m.role == 'user' %}{% set ns.last = "
        "loop.revindex0 %}{% break %}{% endif %}{% endfor %}{% for m in messages %}{% if m.tool_calls is defined and "
        "m.tool_calls is not none and m.tool_calls | length > 0 %}{% for c in m.tool_calls %}"
        "{% if c.id | length != 9 %}{{ raise_exception('bad id') }}{% endif %}[TOOL_CALLS]{{ c.function.name }}[ARGS]"
        "{{ c.function.arguments | tojson }}{% endfor %}{% elif m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }}"
        "{% endif %}{% endfor %}{{ ns.last }}",
        '[TOOL_CALLS]find[ARGS]{"what": "a"}[TOOL_RESULTS]here1',
    ),
    "Qwen3: slices from the end, tests of types, content of the reasoning": (
        "{% set ns = namespace(multi=true) %}{% for m in messages[::-1] %}{% if ns.multi and m.role == 'user' and "
        "m.content is string and not (m.content.startswith('<tool_response>') and "
        "m.content.endswith('</tool_response>')) %}{% set ns.multi = false %}{% endif %}"
        "{% endfor %}{% for m in messages %}{% if m.tool_calls %}{% for c in "
        'm.tool_calls %}<tool_call>\n{"name": "{{ c.function.name }}", "arguments": '
        "{{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}{% endif %}{% endfor %}{{ ns.multi }}",
        '<tool_call>\n{"name": "find", "arguments": {"what": "a"}}\n</tool_call>False',
    ),
}


@pytest.mark.parametrize("family", TEMPLATES)
def test_the_constructs_of_published_templates_render_in_the_sandbox(family: str) -> None:
    source, shown = TEMPLATES[family]
    nothing = Guard(())
    template = ChatTemplate(source, name=family, tokens={}, guard=nothing, own=nothing, clock=ManualClock())
    assert shown in template.render(TURNS, TOOLS)


@pytest.mark.parametrize(
    "answer",
    [
        "<tool_call>find\n<arg_key>what</arg_key>\n<arg_value>a</arg_value>\n</tool_call>",  # GLM
        "<tool_call>\n<function=find>\n<parameter=what>\na\n</parameter>\n</function>\n</tool_call>",  # Qwen3-Coder
        '[TOOL_CALLS]find[ARGS]{"what": "a"}',  # Mistral
        '<minimax:tool_call>\n<invoke name="find">\n</invoke>\n</minimax:tool_call>',
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.find:0<|tool_call_argument_begin|>{}",  # Kimi
    ],
)
def test_calls_in_a_form_that_no_parser_knows_come_out_as_they_were_written(answer: str) -> None:
    reader = MarkupReader(MarkupRules(forms_of("", frozenset())), opens_reasoning=False)
    reader.feed(answer)
    reader.finish()
    assert (reader.text, reader.calls) == (answer, ())
