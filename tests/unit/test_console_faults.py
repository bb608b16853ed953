"""What errors say in Chinese: found by the English sentence as the source has it."""

from __future__ import annotations

import ast
import itertools
import re
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, nodes

import ashore
from ashore.control.console.words import words_in
from ashore.control.doctor import load_rules
from ashore.control.sessions.rules import DEFAULT, MLPS3, weakness_of
from ashore.core import errors
from ashore.core.errors import InvalidRequest, PermissionDenied
from ashore.data.authority import BUILT_IN
from ashore.data.authority.actions import ACTIONS

SOURCE = Path(ashore.__file__).parent
SHOWN = (
    "control/sessions", "control/access", "data/authority", "control/console", "core", "control/audit", "data/audit",
    "data/cache", "control/jobs", "data/jobs", "control/server", "data/server", "control/releases", "data/releases",
    "data/privacy", "control/ledger", "control/feedback", "data/feedback", "lab/learning", "data/path", "control/faces",
    "control/process.py", "control/workers.py", "kit/bucket.py", "kit/call.py", "kit/consents.py",
    "kit/decode.py", "kit/egress.py", "kit/folders.py", "kit/identity.py", "kit/outgoing.py", "kit/recorder.py",
    "kit/rights.py", "kit/section.py", "kit/textfile.py", "kit/wholefile.py", "kit/yaml.py",
    "data/http/app.py", "data/http/face.py", "data/http/relay.py",
)  # fmt: skip
"""Whose errors a page can show."""
UNTRANSLATED = 590
"""Messages and hints that a page can show, and that are English in Chinese, too. It only shrinks: whoever writes a new
error that people meet in the console adds its line to src/ashore/kit/words/errors.zh.toml."""
NAMES = {"maxmemory", "no_proxy"}
"""Names of figures that are names in every language."""
KINDS = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.AshoreError)}


def sentences(*places: str, kinds: Collection[str] = KINDS, words: Collection[str] = ("hint",)) -> set[str]:
    """Return what errors, or values of other `kinds`, of some parts of the source say, with `{}` where something is
    filled in."""
    found = set()
    for place in places:
        path = SOURCE / place
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                    said = [*node.args[:1], *(one.value for one in node.keywords if one.arg in words)]
                    found |= {text for one in said if re.search(r"[a-z]{2}", text := written(one))}
    return found


def written(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return " ".join(node.value.split())
    if isinstance(node, ast.JoinedStr):
        parts = (str(one.value) if isinstance(one, ast.Constant) else "{}" for one in node.values)
        return " ".join("".join(parts).split())
    return ""


def rule_sentences() -> set[str]:
    """Return what rules of the doctor say: of each text, one for every way in which its conditions fall out."""
    found = set()
    for rule in load_rules():
        found |= {rule.question, *(one for bound in rule.bounds.values() for one in texts_in(bound) if " " in one)}
        for row in rule.finds:
            texts = (row.what, row.cause, row.remedy, row.wrong_remedy, *(name for name, *_ in row.evidence))
            found |= {" ".join(one.split()) for text in texts for one in ways(Environment().parse(text).body)}
            for expression in row.let.values():
                consts = Environment().parse(f"{{{{{expression}}}}}").find_all(nodes.Const)
                found |= {one.value for one in consts if isinstance(one.value, str) and len(one.value) > 30}
    return {one for one in found if re.search(r"[a-z]{2} |^[a-z]{4,}$", one.replace("{}", ""))} - NAMES


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (one for one in value.values() if isinstance(one, str))


def ways(parts: Iterable[nodes.Node]) -> Iterator[str]:
    """Yield each text that a template can come to, with `{}` where something is filled in."""
    every: list[list[str]] = []
    for part in parts:
        if isinstance(part, nodes.Output):
            every += [of_expression(one) for one in part.nodes]
        elif isinstance(part, nodes.If):
            every.append(
                [*ways(part.body), *(one for more in part.elif_ for one in ways(more.body)), *ways(part.else_)]
            )
        else:
            every.append(["{}"])
    yield from ("".join(one) for one in itertools.product(*every))


def of_expression(one: nodes.Node) -> list[str]:
    if isinstance(one, nodes.TemplateData):
        return [one.data]
    if isinstance(one, nodes.Call) and isinstance(one.node, nodes.Name) and one.node.name == "counted":
        singular, plural = (*(name.as_const() for name in one.args[1:]), "")[:2]
        return [f"{{}} {singular}", f"{{}} {plural or singular + 's'}"]
    return ["{}"]


def test_every_finding_alert_and_role_is_said_in_chinese() -> None:
    """New rule, alert or role? Add its lines to src/ashore/kit/words/findings.zh.toml."""
    alerts = sentences("control/alerts", kinds={"Wrong"}, words=("what", "remedy"))
    said = rule_sentences() | {role.title for role in BUILT_IN} | alerts
    print(f"\n{len(said)} sentences of findings, alerts and roles")
    assert said - set(words_in("zh").faults.texts) == set()


def test_what_is_not_translated_only_becomes_less() -> None:
    said, texts = sentences(*SHOWN), words_in("zh").faults.texts
    missing = said - set(texts)
    print(f"\n{len(said)} sentences of errors, {len(said & set(texts))} in Chinese")
    assert len(missing) <= UNTRANSLATED, "add the new ones that people meet in the console to errors.zh.toml"


def test_a_translation_has_the_places_of_its_sentence_and_stands_for_one_of_the_source() -> None:
    files = (*SOURCE.rglob("*.py"), SOURCE / "control/doctor/rules.toml")
    everything = "".join(file.read_text(encoding="utf-8") for file in files)
    said = sentences(*SHOWN) | rule_sentences()
    for english, chinese in words_in("zh").faults.texts.items():
        places = {int(one) for one in re.findall(r"\{(\d)\}", chinese)}
        assert places == set(range(english.count("{}"))), english
        longest = max(english.split("{}"), key=len)
        assert english in said or longest.strip(" :;,.") in everything, f"nothing says {english!r}"


def test_an_error_is_said_in_the_language_of_the_reader() -> None:
    zh, en = words_in("zh"), words_in("en")
    assert zh.said("there is no user 'alice'").text == "没有用户 'alice'"
    assert zh.said("there is no user 'alice'").tag == "zh-CN"
    assert en.said("there is no user 'alice'").text == "there is no user 'alice'"
    assert zh.said("no such sentence").text == "no such sentence" and zh.said("no such sentence").tag == "en"
    denied = PermissionDenied(
        "bob may not access:write on user/alice: no rule allows it", hint="ask a security officer"
    )
    told = zh.fault(denied)
    assert told.message == "bob 无权在 user/alice 上执行 access:write：no rule allows it"
    assert told.hint == "请联系安全管理员"
    assert isinstance(told, PermissionDenied) and told.action == denied.action and "may not" in denied.message
    weak = weakness_of("short", DEFAULT)
    assert zh.said(f"the password {weak}").text == "密码不符合要求：只有 5 个字符，至少需要 12 个"
    for rules in (DEFAULT, MLPS3):
        hint = "; ".join(rules.sentences())
        assert not re.search(r"[a-z]{3}", zh.said(hint).text), hint
    assert zh.said("the form has more than {} bytes").text == "表单超过 {} 字节", "a place may hold anything"
    assert ACTIONS and zh.fault(InvalidRequest("x")).hint == ""


def test_a_hostile_sentence_costs_little() -> None:
    zh = words_in("zh")
    began = time.process_time()
    for text in (" may not  on : " * 60, "the password " * 76, "{}" * 400, "x" * 100_000, "; ".join("a" * 400)):
        assert zh.said(text).text
    assert time.process_time() - began < 1.0
    began = time.process_time()
    nested = "the password " * 34 + "a; " * 160
    assert zh.said(nested).text and zh.said("the password " * 2 + "x").text == "密码不符合要求：密码不符合要求：x"
    assert time.process_time() - began < 0.1, "each place is looked through again"
