"""What the question words of a text ask for: two questions that ask for other things never share an answer."""

import pytest

from ashore.cache.semantic.agree import asked_apart
from ashore.cache.semantic.asked import asked_in
from ashore.cache.semantic.reading import read

ASKED = [
    ("en", "Whose turn is it, and when?", {"person", "day", "hour"}),
    ("en", "boiler cold, who comes", {"person"}),
    ("en", "What time is lunch?", {"hour"}),
    ("en", "Why is it late?", {"reason"}),
    ("en", "How many guests fit in?", {"measure"}),
    ("en", "How do I open the whole file?", set()),
    ("zh", "家长会几号开", {"day"}),
    ("zh", "家长会几点开", {"hour"}),
    ("zh", "备用电池在哪", {"place"}),
    ("zh", "在哪个系统登记", set()),
    ("zh", "这份合同要交多少钱", {"measure"}),
    ("other", "wer kommt when", set()),
]


@pytest.mark.parametrize(("language", "text", "asked"), ASKED)
def test_every_question_word_counts(language, text, asked):
    assert asked_in(text, language) == asked


def test_only_two_that_share_nothing_are_apart():
    who, when = read("boiler cold, who comes today"), read("boiler cold, when do they come today")
    hour, nothing = read("boiler cold, what time do they come"), read("boiler cold today")
    assert asked_apart(who, when) and asked_apart(when, who)
    assert not asked_apart(when, hour)
    assert not asked_apart(who, nothing)
