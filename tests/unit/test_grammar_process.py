"""A grammar that crashes the library, or takes too much time or memory, ends alone and is the client's error."""

from __future__ import annotations

import errno
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ashore.core.errors import InvalidGrammar, NotReady
from ashore.data.engines import Grammar, GrammarChecker
from ashore.data.engines.grammarprocess import GrammarProcess
from ashore.data.engines.sampling.constraint import GrammarCompiler

AMBIGUOUS = 'start: a\na: a a | "x" | ' + " | ".join(" ".join(["a"] * count) for count in range(3, 200))
DEEP = json.dumps(
    {"$ref": "#/$defs/r0", "$defs": {f"r{at}": {"$ref": f"#/$defs/r{at + 1}"} for at in range(8000)} | {"r8000": {}}}
)


@pytest.fixture(scope="module")
def grammars() -> Iterator[GrammarProcess]:
    made = GrammarProcess(lambda: {"tokenizer": "byte"})
    yield made
    made.close()


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("json_schema", DEEP, "crashed"),
        ("lark", "\n" * 250_000 + "::=", "more than 1 s of processor time"),
    ],
)
def test_a_compilation_that_goes_too_far_ends_alone(grammars: GrammarProcess, kind: str, text: str, said: str) -> None:
    other, line = grammars.begin("lark", 'start: "a" "b"'), grammars.begin(kind, text)
    other.compiled()
    try:
        with pytest.raises(InvalidGrammar, match=said):
            line.compiled()
    finally:
        line.close()
    other.follow(b"a")
    bits = other.answer()
    assert bits is not None and bits[ord("b") // 8] == 1 << ord("b") % 8
    other.follow(b"b")
    assert other.answer() is None
    other.close()


def test_a_mask_that_takes_too_long_ends_its_sequence(grammars: GrammarProcess) -> None:
    line = grammars.begin("lark", AMBIGUOUS)
    line.compiled()
    with pytest.raises(InvalidGrammar, match=r"more than 0\.25 s|items"):
        for _ in range(200):
            line.follow(b"x")
            line.answer()
    line.close()


def test_a_process_that_cannot_start_is_no_fault_of_who_asks() -> None:
    made = GrammarProcess(lambda: {"tokenizer": "no tokenizer"})
    try:
        for _ in range(3):  # before the line was handed over, and with it
            line = made.begin("lark", 'start: "a"')
            with pytest.raises(NotReady, match="ended"):
                line.compiled()
            line.close()
    finally:
        made.close()


def test_without_descriptors_there_is_no_grammar_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", none_left)
    with pytest.raises(NotReady, match="Too many open files"):
        GrammarProcess().begin("lark", 'start: "a"')


def test_the_process_is_started_again_where_it_has_ended(grammars: GrammarProcess) -> None:
    for _ in range(2):
        line = grammars.begin("regex", "a+")
        line.compiled()
        assert line.belongs(b"aaa") and not line.belongs(b"b")
        line.close()
        grammars.close()


def test_what_was_good_is_not_compiled_again() -> None:
    checker = GrammarChecker()
    grammar = Grammar(kind="regex", text="a{2,3}")
    checker.check(grammar)
    checker.close()
    checker._process.begin = lambda kind, text: pytest.fail("compiled again")  # type: ignore[method-assign,assignment]
    checker.check(grammar)


def test_tenants_take_turns_in_having_grammars_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty slow ones of one tenant had another's wait for all of them."""
    compiler, all_sent, compiled = GrammarCompiler(tmp_path, vocab_size=320), threading.Event(), list[str]()

    def compile_one(grammar: Grammar, begun: Sequence[int]) -> None:
        all_sent.wait(60)
        compiled.append(grammar.text)

    monkeypatch.setattr(compiler, "_compile", compile_one)
    sent = [compiler.compile(Grammar(kind="lark", text=f"many {at}"), "many") for at in range(40)]
    sent.append(compiler.compile(Grammar(kind="lark", text="one"), "few"))
    compiler.drop(sent[39])
    all_sent.set()
    try:
        assert all(one.cancelled() or one.result(60) is None for one in sent)
        assert compiled.index("one") < 6 and len(compiled) == 40 and "many 39" not in compiled
    finally:
        compiler.close()
