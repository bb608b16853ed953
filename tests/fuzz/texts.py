"""Targets that read texts: chat templates, grammars, what masking looks through, rules of the policy, batch files."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
from grammars import check_grammar
from odd_inputs import one_clear_error
from tests.fuzz.files import ODD_JSON
from tests.fuzz.target import Check, Target, split_by
from tiny_models import make_tiny_model
from tiny_text import CHATML, LLAMA3, R1

from ashore.control.access.calls.policy import PolicyIn
from ashore.core.chat import Message, ToolCall, ToolSpec
from ashore.core.clock import ManualClock
from ashore.core.errors import InvalidGrammar, InvalidRequest, UnknownField, UnsupportedModel
from ashore.data.authority import BUILT_IN, Binding, Compiled, Policy, Principal, Role, parse_rule
from ashore.data.authority.policy import check_policy
from ashore.data.engines import Grammar
from ashore.data.engines.sampling.constraint import GrammarCompiler
from ashore.data.jobs.batchlines import check_lines, split_lines
from ashore.data.privacy import Detectors
from ashore.data.text.guard import Guard
from ashore.data.text.sandbox import MAX_CHARS
from ashore.data.text.template import ChatTemplate
from ashore.kit.decode import decode

# --- chat templates

_TALK: Final = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="Hello 你好"),
    Message(role="assistant", content="", tool_calls=(ToolCall(id="c", name="f", arguments='{"a": 1}'),)),
    Message(role="tool", content="3", tool_call_id="c"),
)
_TOOLS: Final = (ToolSpec(name="f", description="d", parameters='{"type": "object", "properties": {}}'),)


def _template_check(folder: Path, at_end: ExitStack) -> Check:
    nothing = Guard(())

    def check(data: bytes) -> None:
        source = data.decode("utf-8", "replace")
        try:
            template = ChatTemplate(
                source, name="it", tokens={"bos_token": "<s>"}, guard=nothing, own=nothing, clock=ManualClock()
            )
            for messages, tools in ((_TALK[1:2], ()), (_TALK, _TOOLS)):
                assert len(template.render(messages, tools=tools)) <= MAX_CHARS
        except (InvalidRequest, UnsupportedModel):
            pass

    return check


TEMPLATE: Final = Target(
    name="template",
    seeds=lambda: (
        CHATML.encode(),
        R1.encode(),
        LLAMA3.encode(),
        b"{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f('a') }}",
    ),
    open=_template_check,
    words=tuple(
        word.encode()
        for word in (
            *(
                "{{",
                "}}",
                "{%",
                "%}",
                "{#",
                "-%}",
                "range(99999)",
                "'a' * 99999999",
                "messages",
                "| tojson",
                "| join('x')",
            ),
            *("{% for i in range(99999) %}", "{% endfor %}", "{% include 'x' %}", "{% import 'x' as y %}", "| pprint"),
            *(
                "| wordwrap(1)",
                "| indent(999999)",
                "| replace('', 'x' * 999)",
                "| batch(2)",
                "| slice(99999)",
                "| xmlattr",
            ),
            *(".__class__", "['__globals__']", "| attr('__init__')", "self", "lipsum(n=999)", "cycler(1)", "joiner()"),
            *(
                "{% set x = x + x %}",
                "| urlize",
                "| striptags",
                "| sort",
                "| groupby('role')",
                "| map('upper')",
                "| sum",
            ),
            *(
                "namespace(a=1)",
                "9 ** 9 ** 9",
                "'%999999999d' % 1",
                "'{:>999999999}'.format(1)",
                "| round(999)",
                "| center(9)",
            ),
            *(
                "{% call f() %}",
                "{% filter upper %}",
                "{% block a %}",
                "{% extends 'x' %}",
                "loop(messages)",
                "recursive",
            ),
            *(
                "| from_json",
                "strftime_now('%9999Y')",
                "raise_exception('x')",
                "| filesizeformat",
                "| random",
                "| int(base=99)",
            ),
            *(
                "| truncate(-1)",
                "| dictsort",
                "| unique",
                "super()",
                "caller()",
                "| select",
                "[::-1]",
                "~",
                "| list",
                "is",
            ),
        )
    ),
    num_cases=300,
)


# --- grammars

_KINDS: Final = ("json_schema", "regex", "lark", "json_object")


def _grammar_check(folder: Path, at_end: ExitStack) -> Check:
    compiler = GrammarCompiler(make_tiny_model(folder / "tiny", "llama", layers=1), vocab_size=320)
    at_end.callback(compiler.close)

    def check(data: bytes) -> None:
        kind: Any = _KINDS[data[0] % 4] if data else "regex"
        grammar = Grammar(kind=kind, text=data[1:].decode("utf-8", "surrogateescape"))
        try:
            check_grammar(grammar)
            compiler.compile(grammar).result(60).close()
        except InvalidGrammar as fault:
            assert len(fault.message) < 700 and "\n" not in fault.message, fault.message

    return check


GRAMMAR: Final = Target(
    name="grammar",
    seeds=lambda: (
        b'\0{"type":"object","properties":{"a":{"type":"integer","minimum":1},"b":{"$ref":"#/$defs/c"}},"required":["a"],'
        b'"additionalProperties":false,"$defs":{"c":{"type":"array","items":{"enum":["x",1,null]},"maxItems":3}}}',
        b'\0{"anyOf":[{"type":"string","pattern":"^a+$","maxLength":9},{"type":"string","format":"date-time"}]}',
        b"\x01(foo|ba[rz]){2,3}\\d+",
        b'\x02start: "a" x*\nx: /[0-9]+/ | "(" x ")"\n',
    ),
    open=_grammar_check,
    words=(
        *ODD_JSON,
        *(
            b'"$ref":"#"',
            b'"pattern":"(a|aa)+$"',
            b'"maxLength":999999999',
            b'"minItems":99999',
            b'"format":"uuid"',
            b'"not":{}',
        ),
        *(
            b'"patternProperties":{"^a":{}}',
            b'"oneOf":[]',
            b'"allOf":[{"type":"string"},{"type":"null"}]',
            b'"multipleOf":0',
        ),
        *(
            b"{0,99999}",
            b"(?:",
            b"(?=a)",
            b"\\p{L}",
            b"[^\\x00-\\xff]",
            b"(?i)",
            b"%json {}",
            b"%ignore x\n",
            b"%import y\n",
        ),
        *(
            b"start: start\n",
            b"&",
            b"~",
            b"?",
            b"*",
            b"[capture]",
            b"[max_tokens=1]",
            b"\\u0000",
            b"a{1000}",
            b".*" * 40,
        ),
    ),
)


# --- what masking looks through

_TEXT_BYTES: Final = 65_536


def _masking_check(folder: Path, at_end: ExitStack) -> Check:
    find = Detectors().find

    def check(data: bytes) -> None:
        piece = data.decode("utf-8", "replace") or " "
        for text in (piece, (piece * (_TEXT_BYTES // len(piece) + 1))[:_TEXT_BYTES]):
            last = 0
            for one in find(text):
                assert last <= one.start < one.end <= len(text)
                last = one.end

    return check


MASKING: Final = Target(
    name="masking",
    seeds=lambda: (
        "张伟 13812345678 北京市朝阳区建国路1号 11010519491231002X".encode(),
        b"a@b.cn, 4111 1111 1111 1111, GB82 WEST 1234 5698 7654 32, http://u:p@10.0.0.1/",
        b"password=hunter2 sk-abcdefghijklmnop AKIAIOSFODNN7EXAMPLE -----BEGIN PRIVATE KEY-----\nMII=\n",
        b"+86 138 1234 5678 ::1 fe80::1%eth0 2001:db8::1 00:11:22:33:44:55",
    ),
    open=_masking_check,
    words=tuple(
        word.encode()
        for word in (
            *(
                "@",
                "a@",
                ".",
                "::",
                ":",
                "+86",
                "-",
                "1 ",
                "12-",
                "\u200b",
                "\uff11",
                "\u0661",
                "\\u0031",
                "先生",
                "姓名：",
                "路1号",
            ),
            *(
                "sk-",
                "AKIA",
                "eyJ",
                "Bearer ",
                "password:",
                "-----BEGIN ",
                "GB82 ",
                "0x",
                "(",
                ")",
                "\n",
                "\t",
                "/",
                "%40",
                "京A",
            ),
            *(
                "http://",
                "@@",
                "1.",
                "省",
                "市",
                "王",
                "Street",
                "No. ",
                "=",
                "'",
                '"',
                "ſ",
                "İ",
                "ǅ",
                "é",
                "\u0301",
                "𝟏",
                "①",
            ),
        )
    ),
    most_bytes=512,
    num_cases=25,
)


# --- the policy

_WHO: Final = Principal(id="alice", tenant="bank", groups=frozenset({"dev"}), roles=frozenset())


def _policy_check(folder: Path, at_end: ExitStack) -> Check:
    decoder = msgspec.json.Decoder(PolicyIn)

    def check(data: bytes) -> None:
        if data[:1] != b"{":
            try:
                rule = parse_rule(data.decode("utf-8", "replace"))
            except InvalidRequest as fault:
                assert len(fault.message) < 2500  # 200 characters, each perhaps as an escape
            else:
                assert parse_rule(str(rule)) == rule
            return
        try:
            said = decode(data, decoder)
            roles = [Role(name=r.name, title=r.title, rules=tuple(map(parse_rule, r.rules))) for r in said.roles]
            bindings = tuple(Binding(subject=b.subject, role=b.role) for b in said.bindings)
            policy = check_policy(Policy(roles=tuple(roles), bindings=bindings), BUILT_IN)
        except (InvalidRequest, UnknownField) as fault:
            assert len(fault.message) < 2500
            return
        compiled = Compiled(policy)
        for action, resource in (("infer", "model/chat"), ("policy:write", "policy"), ("", ""), ("*", "*")):
            compiled.decide(_WHO, action, resource)

    return check


POLICY: Final = Target(
    name="policy",
    seeds=lambda: (
        json.dumps(
            {
                "base_version": 1,
                "roles": [
                    {
                        "name": "reader",
                        "title": "t",
                        "rules": ["infer on model/chat", "deny infer on model/deepseek-*"],
                    },
                    {"name": "writer", "rules": ["release:* on release/*", "usage:read on tenant/bank"]},
                ],
                "bindings": [{"subject": "user/alice", "role": "reader"}, {"subject": "everyone", "role": "writer"}],
                "comment": "c",
            }
        ).encode(),
        b"infer on model/chat",
        b"deny infer on model/*",
    ),
    open=_policy_check,
    words=(
        *ODD_JSON[:12],
        b" on ",
        b"deny ",
        b"*",
        b"model/",
        b"user/",
        b"group/",
        b"everyone",
        b"administrator",
        b":",
        b"/",
    ),
    num_cases=400,
)


# --- batch files


def _batch_check(folder: Path, at_end: ExitStack) -> Check:
    def check(data: bytes) -> None:
        said = []
        for pieces in ([data], split_by(data, 300)):
            with one_clear_error():
                number, errors = check_lines(split_lines(pieces), "/v1/chat/completions")
                assert 0 <= number <= data.count(b"\n") + 1
                assert all(len(error.message) < 1500 for error in errors)
                said.append((number, [(error.line, error.code) for error in errors]))
        assert len(said) != 2 or said[0] == said[1]

    return check


BATCH: Final = Target(
    name="batch",
    seeds=lambda: (
        b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}\n'
        b'\n{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","stream":true}}\r\n',
    ),
    open=_batch_check,
    words=(*ODD_JSON, b"\n", b"\r\n", b'"custom_id":""', b'"body":[]', b'"model":7', b'"stream":"x"', b"\0"),
    num_cases=400,
)
