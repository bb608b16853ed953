"""The word lists are read once, before a generated case is timed."""

import pytest

from ashore.cache.semantic.judge import shipped_judge
from ashore.cache.semantic.reading import read


@pytest.fixture(scope="session", autouse=True)
def _word_lists():
    one, other = read("How do I print the report?"), read("How do I print the invoice?")
    shipped_judge().same(one, other)
    read("怎么打印报告？")
