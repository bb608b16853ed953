"""The words of the console: complete in both languages, and no page has any of its own."""

from __future__ import annotations

import inspect
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

import ashore.control.console
from ashore.control.console.words import LANGUAGES, chosen, spelled, words_in
from ashore.kit.call import Call, field_docs
from ashore.kit.rooms import rooms

TEMPLATES = Path(ashore.control.console.__file__).parent / "templates"
CALLS = [call for room in rooms() for call in room.calls]
PLACE = re.compile(r"\{(\w+)\}")
NAMES = {
    *("ashore", "curl", "JSON", "CSV", "Python (OpenAI)", "Python (Anthropic)", "Ctrl K"),
    *("·", "—", ",", ":", "+", "(", ")"),
}
"""What stands in a template and is a name in every language."""


def test_every_text_is_there_in_every_language_with_the_same_places() -> None:
    first = words_in("en").texts
    for language in LANGUAGES:
        texts = words_in(language).texts
        assert set(texts) == set(first)
        for key, text in texts.items():
            assert text.strip() and set(PLACE.findall(text)) == set(PLACE.findall(first[key])), key


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.noun} {call.word}")
def test_every_call_and_its_fields_have_chinese_words(call: Call) -> None:
    """New call? Add its lines to src/ashore/control/console/words/calls.zh.toml."""
    words = words_in("zh").calls
    assert f"{call.noun} {call.word}" in words["calls"], call.summary
    assert call.word in words["verbs"]
    names = set(fields_of(call.takes)) | set(fields_of(call.gives))
    assert names - set(words["fields"]) == set()
    said = [*field_docs(call.takes).values(), *([call.details] if call.details else [])]
    assert [text for text in said if " ".join(text.split()) not in words["help"]] == []


def fields_of(kind: Any, seen: set[Any] | None = None) -> list[str]:
    """Return the names of a struct's fields, and of those of the structs in it."""
    seen = set() if seen is None else seen
    if not (inspect.isclass(kind) and issubclass(kind, msgspec.Struct)):
        return [name for part in get_args(kind) for name in fields_of(part, seen)]
    if kind in seen:
        return []
    seen.add(kind)
    fields = msgspec.structs.fields(kind)
    return [*(one.name for one in fields), *(name for one in fields for name in fields_of(one.type, seen))]


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("aria-label", "title", "alt", "placeholder")]


@pytest.mark.parametrize("file", sorted(TEMPLATES.glob("*.html")), ids=lambda file: file.name)
def test_a_template_holds_no_words_and_nothing_inline(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 200
    plain = re.sub(r"\{#.*?#\}|\{%.*?%\}", "", source, flags=re.DOTALL)
    plain = re.sub(r"\{\{.*?\}\}", "", plain, flags=re.DOTALL)
    reader = _Texts()
    reader.feed(plain)
    said = {text.strip() for whole in reader.found for text in whole.splitlines()} - NAMES - {""}
    words = {text for text in said if re.search(r"[A-Za-z]{2,}", text) and not text.startswith("aria-")}
    assert words <= {"NAME=VALUE", "· ashore", "90s, 15m, 2h, 30d"}
    assert not re.search(r"\|\s*safe|Markup|autoescape|\son\w+=|style=|javascript:|https?://", source)


def test_every_text_that_a_template_asks_for_is_there() -> None:
    texts, heads = words_in("en").texts, {"".join(key.rpartition(".")[:2]) for key in words_in("en").texts}
    for file in TEMPLATES.glob("*.html"):
        for key, more in re.findall(r"""\bt\("([^"]+)"\s*(~?)""", file.read_text(encoding="utf-8")):
            assert key in (heads if more else texts), f"{file.name}: {key}"


def test_a_language_is_that_of_the_person_else_that_of_the_browser() -> None:
    assert chosen("zh", "en-GB") == "zh"
    assert chosen("", "fr;q=0.9, zh-TW;q=0.8, en") == "zh"
    assert chosen("", "fr") == "en" and chosen("xx", "") == "en"
    assert spelled("last_used_at") == "Last used" and spelled("expires_in_s") == "Expires in" and spelled("at") == "At"
