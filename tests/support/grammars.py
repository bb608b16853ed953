"""Grammars as tests ask for them: checked, and held against an answer, in the processes that serving uses."""

from __future__ import annotations

import atexit
from functools import cache

from ashore.core.errors import InvalidGrammar
from ashore.data.engines import Grammar, GrammarChecker
from ashore.data.engines.grammar import prepared, refused
from ashore.data.engines.grammarprocess import GrammarLine, GrammarProcess


def check_grammar(grammar: Grammar) -> None:
    """Return if a grammar can be enforced. Raises as `GrammarChecker.check` does."""
    _checker().check(grammar)


def takes(grammar: Grammar, *answers: str) -> list[bool]:
    """Return, for each answer, whether it belongs to a grammar."""
    line = compiled(grammar)
    try:
        return [line.belongs(answer.encode()) for answer in answers]
    finally:
        line.close()


def compiled(grammar: Grammar) -> GrammarLine:
    """Return a grammar at work on bytes."""
    line = _bytes().begin(*prepared(grammar))
    try:
        line.compiled()
    except InvalidGrammar as fault:
        line.close()
        raise refused("the grammar does not compile", fault) from fault
    return line


@cache
def _checker() -> GrammarChecker:
    made = GrammarChecker()
    atexit.register(made.close)
    return made


@cache
def _bytes() -> GrammarProcess:
    made = GrammarProcess(lambda: {"tokenizer": "byte"})
    atexit.register(made.close)
    return made
