"""Answers of gpt-oss come apart into reasoning, text and tool calls, however they are cut into pieces."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from families import make_text
from hypothesis import given
from hypothesis import strategies as st

from ashore.core.clock import ManualClock
from ashore.data.text import TextModel
from ashore.data.text.harmony import HarmonyReader
from ashore.data.text.markup import MarkupRules
from ashore.kit.store import ModelStore

THOUGHT = "<|channel|>analysis<|message|>The user greets.<|end|>"
SAID = "<|start|>assistant<|channel|>final<|message|>Hello!"
CALLED = '<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"x": 1}<|call|>'
OFFERED = MarkupRules(("hermes",))


def read(
    answer: str, rules: MarkupRules = OFFERED, *, cuts: tuple[int, ...] = ()
) -> tuple[str, str, list[tuple[str, str]]]:
    reader = HarmonyReader(rules)
    text, reasoning, calls = "", "", []
    places = [0, *sorted({min(cut, len(answer)) for cut in cuts}), len(answer)]
    for begin, end in pairwise(places):
        reader.feed(answer[begin:end])
        text, reasoning, calls = text + reader.text, reasoning + reader.reasoning, [*calls, *reader.calls]
        reader.clear()
    reader.finish()
    calls += reader.calls
    return text + reader.text, reasoning + reader.reasoning, [(call.name, call.arguments) for call in calls]


@given(st.lists(st.integers(0, 250)))
def test_channels_are_told_apart_wherever_the_answer_is_cut(cuts: list[int]) -> None:
    said = read(THOUGHT + SAID + "<|return|>", cuts=tuple(cuts))
    assert said == ("Hello!", "The user greets.", [])
    called = read(THOUGHT + CALLED, cuts=tuple(cuts))
    assert called == ("", "The user greets.", [("f", '{"x": 1}')])


@pytest.mark.parametrize(
    ("answer", "text", "calls"),
    [
        ("<|channel|>commentary<|message|>I look it up.<|end|>" + CALLED, "I look it up.", [("f", '{"x": 1}')]),
        (" to=functions.f<|channel|>commentary json<|message|>{}", "", [("f", "{}")]),
        (' to=functions.f<|channel|>commentary json<|message|>{"x": ', '{"x": ', []),
        ("no marks at all", "no marks at all", []),
        ('<tool_call>{"name": "f", "arguments": {}}</tool_call>', "", [("f", "{}")]),
        ("<|channel|>final<|message|>a <b> <|x", "a <b> <|x", []),
    ],
)
def test_other_messages(answer: str, text: str, calls: list[tuple[str, str]]) -> None:
    assert read(answer) == (text, "", calls)


def test_a_call_of_a_tool_that_nobody_offered_is_text() -> None:
    assert read(CALLED, MarkupRules()) == ('{"x": 1}', "", [])


def test_a_checkpoint_with_these_marks_is_read_so_and_goes_on_behind_a_thought(tmp_path: Path) -> None:
    folder = make_text(tmp_path / "oss", "gpt_oss", template="{% for m in messages %}<|channel|>{% endfor %}")
    spec = json.loads((folder / "tokenizer.json").read_text())
    spec["model"]["vocab"]["unused"] = 259  # the library numbers added tokens from the size of the vocabulary
    first = spec["added_tokens"][0]
    names = ("<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|return|>")
    spec["added_tokens"] += [first | {"id": 266 + i, "content": name} for i, name in enumerate(names)]
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    store = ModelStore(tmp_path / "models", tmp_path / "run", ManualClock())
    text = TextModel.load(store.open(store.pull(str(folder), text_only=True).reference).directory)
    assert 268 not in text.eos_token_ids, "<|end|> ends a message here, not the answer"
    parser = text.answer_parser(stop=(), tools=False, chat=True)
    pieces = [parser.push(token) for token in text.encode(THOUGHT + SAID + "<|return|>", allow_special=True)]
    pieces.append(parser.finish())
    assert ("".join(p.text for p in pieces), "".join(p.reasoning for p in pieces)) == ("Hello!", "The user greets.")
