"""What the judge takes for the same though the words do not agree, and what it never does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashore.cache.semantic import EntryKey, SemanticIndex
from ashore.cache.semantic.agree import agree
from ashore.cache.semantic.judge import Judge, shipped_judge
from ashore.cache.semantic.near import FEATURES, differ
from ashore.cache.semantic.prior import JUDGED
from ashore.cache.semantic.reading import read
from ashore.core import TenantId

JUDGED_THE_SAME = [
    ("a light verb", "Where are the spare keys of the boat shed?", "Where are the spare keys of the boat shed kept?"),
    ("a carrier", "What is the deposit for a canoe?", "What is the deposit amount for a canoe?"),
    ("a kind by its noun", "How do I exit the simulator?", "What is the command to exit the simulator?"),
    ("a stem", "Which vaccinations does a foal need?", "Which vaccines does a foal need?"),
    (
        "two words or one",
        "How do I change the time zone of the scoreboard?",
        "How do I change the timezone of the scoreboard?",
    ),
    (
        "a slip",
        "Who is responsible for the maintenance of the shed?",
        "Who is responsible for the mantenance of the shed?",
    ),
    ("a near word", "How do I report a conflict at the club?", "How do I disclose a conflict at the club?"),
    ("keywords", "What must a safety notice contain?", "safety notice required contents"),
    ("by whom", "Who approves trips above 300 euros?", "By whom are trips above 300 euros approved?"),
    ("轻动词", "发生漏水时通知谁？", "漏水时通知谁？"),
    ("一个词的一部分", "会员档案如何迁移？", "会员档案如何迁？"),
    ("名词点明问的是什么", "看台的灭火器在哪里？", "看台灭火器的存放位置"),
    ("近义词", "怎么录入比赛成绩？", "怎么登记比赛成绩？"),
]
NEVER_THE_SAME = [
    ("who", "card renewal", "Who renews the card?"),
    ("when", "借书证续期", "借书证什么时候续期？"),
    ("another noun", "Which documents do I need?", "Which fees do I need?"),
    ("may and must", "Which tools may I bring?", "Which tools must I bring?"),
    ("may and do", "Who may sign the note?", "Who signs the note?"),
    ("need not and must not", "Which visitors need not sign the book?", "Which visitors must not sign the book?"),
    ("how long", "How long may a guest stay?", "How long must a guest stay?"),
    ("object", "Which team supports sales?", "Which team does sales support?"),
    ("with", "Who trains the referees?", "Who trains with the referees?"),
    ("units", "How do I convert feet to yards?", "How do I convert yards to feet?"),
    ("quantifier", "Do all visitors get a guide?", "Do visitors get all guides?"),
    ("a name", "Who directed the film called Alien?", "Who directed the film called Aliens?"),
    ("a name", "Which team does Dr Park lead?", "Which team does Dr Parker lead?"),
    ("near terms", "What is a principal in contract law?", "What is a principle in contract law?"),
    ("weekday", "博物馆周四几点开门？", "博物馆周五几点开门？"),
    ("who to whom", "出版社向作者支付多少预付款？", "作者向出版社支付多少预付款？"),
    ("who to whom", "甲队借给乙队多少球员？", "乙队把多少球员借给甲队？"),
    ("可以和必须", "露营时哪些物品可以带？", "露营时哪些物品必须带？"),
    ("不必和不得", "哪些访客不用登记？", "哪些访客不能登记？"),
    ("术语", "登记表里的法人是谁？", "登记表里的法定代表人是谁？"),
    ("主语", "教练可以更换替补队员吗？", "替补队员可以更换教练吗？"),
    ("数量", "所有会员都能用游泳池吗？", "会员能用所有游泳池吗？"),
]


@pytest.mark.parametrize(("why", "one", "other"), JUDGED_THE_SAME)
def test_the_judge_sees_past_a_difference_that_says_nothing(why, one, other):
    assert agree(read(one), read(other)).veto
    assert shipped_judge().same(read(one), read(other))
    assert shipped_judge().same(read(other), read(one))


@pytest.mark.parametrize(("why", "one", "other"), NEVER_THE_SAME)
def test_neither_agreement_nor_the_judge_lets_another_question_pass(why, one, other):
    for mine, theirs in ((read(one), read(other)), (read(other), read(one))):
        assert agree(mine, theirs).veto
        assert not shipped_judge().same(mine, theirs)


@given(
    st.sampled_from([pair for _, *pair in JUDGED_THE_SAME + NEVER_THE_SAME]),
    st.sampled_from(["not ", "3 ", "only ", "不", "最后"]),
)
def test_a_difference_counts_the_same_both_ways_and_a_word_of_contrast_ends_it(pair, word):
    one, other = map(read, pair)
    assert differ(one, other) == differ(other, one)
    assert differ(read(word + pair[0]), other) is None or differ(one, read(word + pair[0])) is None


def test_the_shipped_weights_are_those_of_the_features():
    judge = shipped_judge()
    assert judge.features == FEATURES
    assert len(judge.weights) == len(FEATURES)
    assert (
        Judge(features=FEATURES, weights=(0.0,) * len(FEATURES), bias=-1.0, least=0.0).score((1.0,) * len(FEATURES))
        == -1.0
    )


def test_what_only_the_judge_takes_for_the_same_is_given_at_the_looser_bound_alone():
    tenant, vector = TenantId("a"), np.ones(4, np.float32) / 2
    held = SemanticIndex(error_bound=0.01, bytes_per_tenant=1 << 20)
    held.add(b"p", tenant, EntryKey("k"), "Where are the spare keys of the boat shed?", vector)
    again = "Where are the spare keys of the boat shed kept?"
    assert held.worth_embedding(b"p", tenant, again)
    assert held.lookup(b"p", tenant, again, vector, error_bound=0.001) is None
    assert held.lookup(b"q", tenant, again, vector) is None
    match = held.lookup(b"p", tenant, again, vector)
    assert match is not None
    assert (match.key, match.level) == ("k", JUDGED)
    held.judge(match, was_right=False)
    assert held.lookup(b"p", tenant, again, vector) is None
