"""The synonym lists hold no two words that must never stand for each other."""

from importlib.resources import files
from itertools import combinations

import pytest

from ashore.cache.semantic.agree import agree
from ashore.cache.semantic.lexicon import chinese_groups, english_groups, english_words
from ashore.cache.semantic.reading import read

DATA = files("ashore.cache.semantic") / "data"


def _never() -> list[tuple[str, str, str]]:
    found, section = [], ""
    for line in (DATA / "never_synonyms.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            joint = " " if section.startswith("english") else ""
            found += [(section, *pair) for pair in combinations([w.replace("_", joint) for w in line.split()], 2)]
    return found


def _groups_of(section: str):
    return (english_groups() if section.startswith("english") else chinese_groups()).meanings


def test_the_stop_list_has_pairs_of_every_section():
    assert {section for section, _, _ in _never()} == {
        "english nouns",
        "english verbs",
        "chinese nouns",
        "chinese verbs",
    }


@pytest.mark.parametrize(("section", "one", "other"), _never())
def test_no_group_joins_two_words_of_the_stop_list(section, one, other):
    known = _groups_of(section)
    assert not known.get(one, frozenset()) & known.get(other, frozenset())


@pytest.mark.parametrize(("section", "one", "other"), _never())
def test_near_words_are_refused_in_a_question(section, one, other):
    asked = "Where is the {} explained?" if section.startswith("english") else "哪里有{}的说明？"
    assert agree(read(asked.format(one)), read(asked.format(other))).veto


def test_no_group_joins_two_antonyms():
    known = english_groups().meanings
    joined = [
        (word, opposite)
        for word, info in english_words().items()
        for opposite in info.antonyms
        if known.get(word, frozenset()) & known.get(opposite, frozenset())
    ]
    assert joined == []


@pytest.mark.parametrize("name", ["english_domains.txt", "chinese_domains.txt"])
def test_a_group_has_two_members_at_least_and_no_member_twice(name):
    lines = [line for line in (DATA / name).read_text("utf-8").splitlines() if line and line[0] not in "#["]
    assert [line for line in lines if len(set(line.split())) < 2 or len(set(line.split())) != len(line.split())] == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("How do I reset my password?", "password reset steps"),
        ("How do I sort a list in Python?", "python list sort"),
        ("What are the opening hours of the branch on Saturday?", "branch saturday opening hours"),
        ("How do I check the balance of my account?", "check account balance"),
        ("Who approves overtime?", "overtime approval who"),
        ("How long does a transfer to Germany take?", "How many days does a transfer to Germany take?"),
        ("Where is the nearest defibrillator?", "nearest AED location"),
        ("跨行转账要多久到账？", "跨行转账到账时长"),
        ("如何挂失银行卡？", "请教一下，银行卡怎么挂失"),
        ("跨行转账手续费是多少？", "跨行转账收多少手续费"),
    ],
)
def test_keywords_and_compounds_agree_both_ways(first, second):
    assert agree(read(first), read(second)).veto == ""
    assert agree(read(second), read(first)).veto == ""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("How do I convert Word to PDF?", "convert pdf word"),
        ("Does the employer owe the employee?", "employee owe employer"),
        ("How do I reset the password manager?", "reset manager password"),
        ("What is the tax on imports from China to Japan?", "tax imports Japan China"),
        ("How many days does shipping take?", "How many weeks does shipping take?"),
        ("What are the checking account fees?", "What are the account fees?"),
        ("When does urgent care open?", "When does care open?"),
        ("哪些人需要申请？", "谁可以申请？"),
        ("To where does the bus go?", "From where does the bus go?"),
        ("Before when do I have to pay?", "After when do I have to pay?"),
        ("Before which meal do I take the pill?", "After which meal do I take the pill?"),
        ("How do I scroll up?", "How do I scroll down?"),
        ("How do I replace a tab with a space?", "How do I replace a space with a tab?"),
        ("When does the customer get billed?", "When does the customer bill?"),
        ("How do I clean the windows?", "How do I clean Windows?"),
        ("会议时间", "会议多久"),
        ("公司需要提供什么文件", "公司需要什么文件"),
        ("苹果有多少？", "苹果多少钱？"),
        ("客服电话是多少？", "电话是多少？"),
        ("咨询费是多少？", "费用是多少？"),
    ],
)
def test_keywords_in_another_direction_are_refused(first, second):
    assert agree(read(first), read(second)).veto
    assert agree(read(second), read(first)).veto
