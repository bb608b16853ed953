"""Texts of the console in each language, from one catalogue.

`words/en.toml` and `words/zh.toml` hold the texts of pages, key by key. English texts of calls are in their
declarations, and what acts are called in `words/calls.en.toml`; `words/calls.zh.toml` has the same in Chinese:
`[calls]` (by noun and word), `[fields]` (by the field's name) and `[help]` (by the English sentence).
Texts of errors, findings, alerts and roles are in `kit/sentences.py`; what is missing there is shown in English.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Final

from ashore.core.errors import AshoreError
from ashore.kit.call import Call
from ashore.kit.sentences import Language, Sentences, sentences_in

LANGUAGES: Final[tuple[Language, ...]] = ("en", "zh")
TAGS: Final[Mapping[Language, str]] = {"en": "en", "zh": "zh-CN"}
UNITS: Final = ("_at_us", "_at_ms", "_at_s", "_at", "_bytes", "_percent", "_min", "_ms", "_us", "_s")
"""Ends of names that say a unit, and are no words."""

NAMED: Final = {"last_at_s": "Last run", "needed_bytes": "Memory planned", "num_bytes": "Size"}
"""Fields whose English name without its unit equals that of another field, or says nothing."""


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence and its language."""

    text: str
    tag: str
    """The value of `lang`."""


@dataclass(frozen=True, slots=True)
class Words:
    """One language."""

    language: Language
    texts: Mapping[str, str]
    calls: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    faults: Sentences = field(default_factory=lambda: Sentences({}))

    @property
    def tag(self) -> str:
        """The value of `lang`."""
        return TAGS[self.language]

    def __call__(self, key: str, /, **places: object) -> str:
        """Return a text of a page with its placeholders filled in."""
        text = self.texts[key]
        return text.format(**places) if places else text

    def noun(self, noun: str) -> str:
        """Return what calls are about: `access key` gives `Keys`."""
        return self.texts.get(f"noun.{noun}") or noun.rpartition(" ")[2].capitalize()

    def summary(self, call: Call) -> str:
        """Return what a call does, in one sentence; empty where the sentence is about the command line."""
        said = self._of("calls", f"{call.noun} {call.word}") or call.summary.partition(". ")[0].rstrip(".")
        return "" if "--" in said or "`" in said else said

    def title(self, call: Call) -> str:
        """Return the heading of the page of a call: `Create a key`; of a list: what it lists."""
        if named := self._of("acts", f"{call.noun} {call.word}"):
            return named
        if call.word == "list":
            return self.noun(call.noun)
        if self.language != "en":
            return self.act(call) + self.noun(call.noun)
        thing = self._of("things", call.noun) or self.noun(call.noun).lower()
        return f"{self.act(call)} {thing}"

    def act(self, call: Call) -> str:
        """Return what a call is called in a menu or list of acts."""
        return self._of("acts", f"{call.noun} {call.word}") or self.verb(call)

    def verb(self, call: Call) -> str:
        """Return the word of the button that sends the form of a call; its page says what it is about."""
        return self._of("verbs", call.word) or call.word.replace("-", " ").capitalize()

    def label(self, name: str) -> str:
        """Return the name of a field or column for people."""
        return self.texts.get(f"column.{name}") or self._of("fields", name) or NAMED.get(name) or spelled(name)

    def ago(self, at_s: float, now_s: float) -> str:
        """Return how long ago a time was, or how soon it comes: `4 min ago`, `in 12 days`; a date after a month."""
        for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
            if (count := int(abs(now_s - at_s) / size)) and (unit != "hours" or count < 48):
                break
        else:
            return self("ago.now")
        if count > 31 and unit == "days":
            return time.strftime("%Y-%m-%d", time.gmtime(at_s))
        many = unit if count > 1 else unit.removesuffix("s")
        return self(f"ago.{'past' if at_s < now_s else 'future'}", span=self(f"ago.{many}", count=count))

    def help(self, sentence: str) -> str:
        """Return what a declaration says of a field or call."""
        return self._of("help", " ".join(sentence.split())) or sentence

    def empty(self, noun: str) -> str:
        """Return what an empty list will have, and how to make the first; empty where nothing is known."""
        return self.texts.get(f"empty.{noun}", "")

    def kind(self, kind: str) -> str:
        """Return a kind of personal data: `id_card` gives `Identity number`; one of the operator's own as it is."""
        said = self.texts.get(f"chat.kind.{kind}", kind).strip()
        return said[:1].upper() + said[1:]

    def value(self, text: str) -> str:
        """Return a value out of a closed set, `ready`, or a sentence that is known."""
        return self._of("values", text) or (self.faults.find(text) if " " in text else "") or text

    def sentence(self, text: str) -> str:
        """Return a finding or remedy as a sentence that begins with a capital."""
        said = self.value(text)
        return said[:1].upper() + said[1:]

    def event(self, kind: str) -> str:
        """Return what happened to a thing: `release.promote` gives `promoted`."""
        word = kind.partition(".")[2] or kind
        return self.texts.get(f"event.{word}") or self.value(word)

    def said(self, sentence: str) -> Said:
        """Return the text of an error, hint, notice, finding, alert or role."""
        found = self.faults.find(sentence)
        return Said(found or sentence, self.tag if found else TAGS["en"])

    def fault(self, fault: AshoreError) -> AshoreError:
        """Return an error with its text in this language, for responses that are not pages."""
        changed = copy(fault)
        changed.message, changed.hint = self.said(fault.message).text, self.said(fault.hint).text
        return changed

    def _of(self, part: str, key: str) -> str:
        return self.calls.get(part, {}).get(key, "")


def spelled(name: str) -> str:
    """Return the name of a field as English words: `last_used_at` gives `Last used`."""
    for unit in UNITS:
        if name.endswith(unit) and len(name) > len(unit):
            name = name.removesuffix(unit)
            break
    text = name.replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def chosen(wanted: str, accepted: str) -> Language:
    """Return the language of a page.

    Args:
        wanted: The person's choice; empty: none.
        accepted: The header `Accept-Language`.
    """
    for text in (wanted, *(part.partition(";")[0].strip() for part in accepted.split(","))):
        for language in LANGUAGES:
            if text.lower().partition("-")[0] == language:
                return language
    return "en"


@cache
def words_in(language: Language) -> Words:
    """Return the words of a language."""
    texts = _flat(_read(f"{language}.toml"))
    return Words(language, texts, _read(f"calls.{language}.toml"), sentences_in(language))


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("ashore.control.console") / "words" / name).read_text(encoding="utf-8"))


def _flat(tree: Mapping[str, Any], before: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {before + key: value}
    return found
