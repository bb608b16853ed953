"""The JSON-Schema-Test-Suite: what the grammar takes it holds, and what it cannot hold it refuses by name.

`make test-schemas` draws many more answers, with the demo model's tokens too.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Final

import pytest
from demo_files import demo_files
from grammars import check_grammar, takes
from schema_suite import STRUCTURE, Case, Judge, RandomModel, cases

from ashore.core.errors import InvalidGrammar
from ashore.data.engines import Grammar
from ashore.data.engines.fake.files import VOCAB_SIZE, fake_model_files
from ashore.data.engines.sampling import GrammarCompiler
from ashore.data.text import TextModel

SHARE = 0.8
"""Of the schemas about structure that allow anything at all."""
FEW, MANY = 3, 100
TRIES: Final = 5
"""Draws for each answer that comes to an end."""

NAMELESS: Final = ("no value satisfies it", "the number", "expected a JSON object")
"""Of messages about something else than a keyword."""


def grammar_of(case: Case) -> Grammar:
    return Grammar(kind="json_schema", text=json.dumps(case.schema))


def refusal(case: Case) -> str:
    """Return why a schema of the suite is refused, nothing if it is taken."""
    return refusals()[case.name]


@cache
def refusals() -> dict[str, str]:
    found = {}
    for case in cases():
        found[case.name] = ""
        try:
            check_grammar(grammar_of(case))
        except InvalidGrammar as refused:
            found[case.name] = refused.message
    return found


def taken() -> list[Case]:
    return [case for case in cases() if not refusal(case)]


def keywords(schema: object) -> set[str]:
    if isinstance(schema, dict):
        return set(schema).union(*map(keywords, schema.values()))
    return set().union(*map(keywords, schema)) if isinstance(schema, list) else set()


def check_answers(directory: Path, vocab_size: int, count: int) -> int:
    """Let a random model answer `count` times under each schema; return how many answers were judged."""
    compiler = GrammarCompiler(directory, vocab_size=vocab_size)
    model = RandomModel(TextModel.load(directory), vocab_size=vocab_size, seed=11)
    judged = 0
    try:
        for case in taken():
            judge = Judge(case)
            drawn = (model.answer(compiler.compile(grammar_of(case)).result()) for _ in range(TRIES * count))
            whole = list(islice((answer for answer in drawn if answer is not None), count))
            assert whole, f"{case.name}: no answer came to an end"
            for answer in whole:
                assert not judge.fault(answer), f"{case.name}: {answer!r}: {judge.fault(answer)}"
            judged += len(whole)
    finally:
        compiler.close()
    return judged


def test_most_schemas_about_structure_are_taken() -> None:
    about = [case for case in cases() if case.file in STRUCTURE and case.valid]
    held = [case for case in about if not refusal(case)]
    assert len(about) > 150
    assert len(held) >= SHARE * len(about), [case.name for case in about if refusal(case)]


def test_what_is_refused_is_named() -> None:
    refused = [case for case in cases() if refusal(case)]
    assert refused
    for case in refused:
        said = refusal(case)
        named = [word for word in keywords(case.schema) if word in said and not word.startswith("$s")]
        assert named or "no value satisfies it" in said or "the number" in said or "expected a JSON object" in said, (
            said
        )
        assert len(said) < 400 and "coerce" not in said


def test_no_value_that_a_schema_forbids_is_taken() -> None:
    checked = 0
    for case in taken():
        answers = [json.dumps(value, ensure_ascii=False) for value in case.invalid]
        for answer, through in zip(answers, takes(grammar_of(case), *answers), strict=True):
            assert not through, f"{case.name}: {answer}"
            checked += 1
    assert checked > 400


def test_a_random_model_answers_as_the_schema_says(tmp_path: Path) -> None:
    fake_model_files("fake:random", tmp_path)
    assert check_answers(tmp_path, VOCAB_SIZE, FEW) > FEW * 200


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_many_random_answers_of_bytes(tmp_path: Path) -> None:
    fake_model_files("fake:random", tmp_path)
    assert check_answers(tmp_path, VOCAB_SIZE, MANY) > MANY * 200


@pytest.mark.full
@pytest.mark.model
@pytest.mark.timeout(1800)
def test_many_random_answers_in_the_tokens_of_the_demo_model(demo_home: Path) -> None:
    directory = Path(demo_files(demo_home, "smollm2@int8").directory)
    assert check_answers(directory, TextModel.load(directory).vocab_size, 20) > 20 * 200
