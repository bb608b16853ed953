"""What errors say in Chinese: found by the English sentence as the source has it."""

from __future__ import annotations

import ast
import re
import time
from pathlib import Path

import ashore
from ashore.control.console.words import words_in
from ashore.control.sessions.rules import DEFAULT, MLPS3, weakness_of
from ashore.core import errors
from ashore.core.errors import InvalidRequest, PermissionDenied
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
error that people meet in the console adds its line to src/ashore/control/console/words/errors.zh.toml."""
KINDS = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.AshoreError)}


def sentences(*places: str) -> set[str]:
    """Return what errors of some parts of the source say, with `{}` where something is filled in."""
    found = set()
    for place in places:
        path = SOURCE / place
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
                    said = [*node.args[:1], *(one.value for one in node.keywords if one.arg == "hint")]
                    found |= {text for one in said if re.search(r"[a-z]{2}", text := written(one))}
    return found


def written(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return " ".join(node.value.split())
    if isinstance(node, ast.JoinedStr):
        parts = (str(one.value) if isinstance(one, ast.Constant) else "{}" for one in node.values)
        return " ".join("".join(parts).split())
    return ""


def test_what_is_not_translated_only_becomes_less() -> None:
    said, texts = sentences(*SHOWN), words_in("zh").faults.texts
    missing = said - set(texts)
    print(f"\n{len(said)} sentences of errors, {len(said & set(texts))} in Chinese")
    assert len(missing) <= UNTRANSLATED, "add the new ones that people meet in the console to errors.zh.toml"


def test_a_translation_has_the_places_of_its_sentence_and_stands_for_one_of_the_source() -> None:
    everything = "".join(file.read_text(encoding="utf-8") for file in SOURCE.rglob("*.py"))
    said = sentences(*SHOWN)
    for english, chinese in words_in("zh").faults.texts.items():
        places = {int(one) for one in re.findall(r"\{(\d)\}", chinese)}
        assert places == set(range(english.count("{}"))), english
        longest = max(english.split("{}"), key=len)
        assert english in said or longest.strip().rstrip(":;,.") in everything, f"nothing says {english!r}"


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
