"""Answers: stop strings, half characters and reasoning come out the same however the text is cut into tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_text import byte_level, sentencepiece

from ashore.data.text import AnswerPiece, TextModel
from ashore.data.text.answer import AnswerParser
from ashore.data.text.markup import MarkupReader, MarkupRules


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    return byte_level(tmp_path_factory.mktemp("byte-level"))


def run(parser: AnswerParser, ids: list[int]) -> AnswerPiece:
    """Push tokens until the parser says stop, then join the pieces; `finish` is called where no stop string was met."""
    pieces = []
    for token_id in ids:
        pieces.append(parser.push(token_id))
        if pieces[-1].stopped:
            break
    else:
        pieces.append(parser.finish())
    return AnswerPiece(
        "".join(p.text for p in pieces),
        "".join(p.reasoning for p in pieces),
        tuple(c for p in pieces for c in p.tool_calls),
        any(p.stopped for p in pieces),
        next((p.stop_string for p in pieces if p.stop_string is not None), None),
    )


def pushed(pieces: list[bytes], *, stop: tuple[str, ...] = (), **markup: object) -> AnswerPiece:
    """Push pieces of bytes as if each were a token."""
    reader = MarkupReader(MarkupRules(), opens_reasoning=bool(markup["opens_reasoning"])) if markup else None
    parser = AnswerParser(table=pieces, skip=frozenset(), stop=stop, markup=reader)
    return run(parser, list(range(len(pieces))))


def oracle(text: str, stop: tuple[str, ...]) -> tuple[str, str | None]:
    """Return the text before the stop string that is complete first (the longest of those), and that string."""
    for end in range(1, len(text) + 1):
        ended = [s for s in stop if s and text[:end].endswith(s)]
        if ended:
            longest = max(ended, key=len)
            return text[: end - len(longest)], longest
    return text, None


@st.composite
def cut_bytes(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> tuple[str, list[bytes]]:
    """Draw a text and a way to cut its bytes into pieces."""
    text = draw(texts)
    raw = text.encode()
    cuts = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    return text, [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


few_letters = st.text(alphabet="ab\n日", max_size=24)


@given(cut_bytes(few_letters), st.lists(st.text(alphabet="ab\n日", max_size=4), max_size=4).map(tuple))
def test_any_cut_gives_what_the_whole_text_gives(cut: tuple[str, list[bytes]], stop: tuple[str, ...]) -> None:
    text, pieces = cut
    answer = pushed(pieces, stop=stop)
    assert (answer.text, answer.stop_string) == oracle(text, stop)
    assert answer.stopped == (answer.stop_string is not None)


@given(cut_bytes(st.text(max_size=30)))
def test_a_character_comes_out_only_when_it_is_whole(cut: tuple[str, list[bytes]]) -> None:
    text, pieces = cut
    parser = AnswerParser(table=pieces, skip=frozenset())
    seen = ""
    for at in range(len(pieces)):
        seen += parser.push(at).text
        assert text.startswith(seen)
    assert seen + parser.finish().text == text


@given(st.binary(max_size=20), st.lists(st.integers(0, 20), max_size=5))
def test_bytes_that_are_no_text_become_replacement_characters(raw: bytes, cuts: list[int]) -> None:
    ends = sorted(min(c, len(raw)) for c in cuts)
    pieces = [raw[a:b] for a, b in zip([0, *ends], [*ends, len(raw)], strict=True)]
    assert pushed(pieces).text == raw.decode("utf-8", "replace")


def test_no_more_is_held_back_than_may_become_a_stop_string() -> None:
    table = [b"one E", b"d two", b" E", b"ND tail"]
    parser = AnswerParser(table=table, skip=frozenset(), stop=("END",))
    assert [parser.push(i).text for i in range(3)] == ["one ", "Ed two", " "]
    last = parser.push(3)
    assert (last.text, last.stopped, last.stop_string) == ("", True, "END")
    assert parser.push(0) == AnswerPiece() and parser.finish() == AnswerPiece()


def test_a_stop_string_at_the_very_end_that_is_not_complete_is_text() -> None:
    assert pushed([b"all EN"], stop=("END",)).text == "all EN"


@pytest.mark.parametrize(
    ("text", "opens", "reasoning", "said"),
    [
        ("<think>\nbecause\n</think>\n\nParis", False, "because", "Paris"),
        ("because\n</think>\n\nParis", True, "because", "Paris"),
        ("<think>because</think>Paris", True, "because", "Paris"),
        ("\n<think>\n\n</think>\n\nParis", False, "", "Paris"),
        ("Paris <think> is </think> fine", False, "", "Paris <think> is </think> fine"),
        ("  indented", False, "", "  indented"),
        ("<thin", False, "", "<thin"),
        ("a\n\nb\n", True, "a\n\nb\n", ""),
        ("a </thin", True, "a </thin", ""),
        ("\n \n", False, "", "\n \n"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_reasoning_is_told_from_the_answer(text: str, opens: bool, reasoning: str, said: str, size: int) -> None:
    raw = text.encode()
    answer = pushed([raw[i : i + size] for i in range(0, len(raw), size)], opens_reasoning=opens)
    assert (answer.reasoning, answer.text) == (reasoning, said)


def test_stop_strings_are_looked_for_in_the_answer_alone() -> None:
    answer = pushed([b"I stop here</think>go on", b" stop now"], stop=("stop",), opens_reasoning=True)
    assert (answer.reasoning, answer.text, answer.stop_string) == ("I stop here", "go on ", "stop")


@given(st.text(max_size=40))
def test_an_answer_is_what_the_model_wrote(model: TextModel, text: str) -> None:
    ids = model.encode(text)
    assert run(model.answer_parser(stop=(), tools=False, chat=False), ids).text == text
    assert run(model.answer_parser(stop=("\u0000no",), tools=False, chat=False), ids).text == text


def test_control_tokens_are_no_text_but_visible_ones_are(model: TextModel) -> None:
    ids = model.encode("<|im_start|>a<tool_call>b<|im_end|>", allow_special=True)
    assert run(model.answer_parser(stop=(), tools=False, chat=True), ids).text == "a<tool_call>b"


def test_a_control_token_may_be_a_stop_string(model: TextModel) -> None:
    ids = model.encode("one<|eot_id|>two", allow_special=True)
    answer = run(model.answer_parser(stop=("<|eot_id|>", "x"), tools=False, chat=True), ids)
    assert (answer.text, answer.stop_string) == ("one", "<|eot_id|>")


def test_ids_beyond_the_vocabulary_add_nothing(model: TextModel) -> None:
    parser = model.answer_parser(stop=(), tools=False, chat=False)
    assert parser.push(model.vocab_size + 5) == AnswerPiece() == parser.push(-1)


def test_the_space_before_the_first_word_of_a_sentencepiece_answer_is_layout(tmp_path: Path) -> None:
    model = sentencepiece(tmp_path)
    ids = model.encode("the it", bare=True)
    assert run(model.answer_parser(stop=(), tools=False, chat=True), ids).text == "the it"
    assert run(model.answer_parser(stop=(), tools=False, chat=False), ids).text == " the it"
