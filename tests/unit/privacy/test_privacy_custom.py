"""Kinds of the operator's own: expressions, dictionaries, what is refused, and that none of them can be made slow."""

from __future__ import annotations

import random
import time

import pytest

from ashore.core.errors import InvalidSpec
from ashore.data.privacy import Dictionary, Expression, PrivacyPolicy, check_policy, custom, finder_of
from ashore.machine.config import parse_spec


def found(policy: PrivacyPolicy, text: str) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in finder_of(policy).find(text)]


def test_an_expression_goes_before_the_own_detectors() -> None:
    policy = PrivacyPolicy(expressions=(Expression(kind="employee", pattern="EMP-[0-9]{6}|138[0-9]{8}"),))
    assert found(policy, "员工EMP-123456，13812345678，13912345678") == [
        ("employee", "EMP-123456"),
        ("employee", "13812345678"),
        ("phone", "13912345678"),
    ]


def test_spans_of_expressions_are_characters() -> None:
    policy = PrivacyPolicy(expressions=(Expression(kind="code", pattern="码[A-Z]+"),))
    assert found(policy, "😀é码AB码") == [("code", "码AB")]


def test_a_dictionary_finds_whole_latin_words_and_chinese_anywhere() -> None:
    policy = PrivacyPolicy(dictionaries=(Dictionary(kind="project", words=("Aurora", "北极星", "C++")),))
    assert found(policy, "AURORA和北极星计划，auroral no，C++") == [
        ("project", "AURORA"),
        ("project", "北极星"),
        ("project", "C++"),
    ]


def test_capitals_are_found_beside_one_whose_small_form_is_longer() -> None:
    policy = PrivacyPolicy(dictionaries=(Dictionary(kind="project", words=("Aurora", "\u0130zmir")),))
    assert found(policy, "\u0130stanbul: AURORA, \u0130ZMIR") == [("project", "AURORA"), ("project", "\u0130ZMIR")]


def test_of_two_words_the_longer_is_found() -> None:
    policy = PrivacyPolicy(dictionaries=(Dictionary(kind="project", words=("北极", "北极星计划")),))
    assert found(policy, "北极星计划与北极") == [("project", "北极星计划"), ("project", "北极")]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (PrivacyPolicy(expressions=(Expression(kind="x", pattern="(a+"),)), "missing"),
        (PrivacyPolicy(expressions=(Expression(kind="x", pattern="(?=a)b"),)), "cannot be used"),
        (PrivacyPolicy(expressions=(Expression(kind="x", pattern=r"(a)\1"),)), "cannot be used"),
        (PrivacyPolicy(expressions=(Expression(kind="x", pattern="a*"),)), "empty text"),
        (PrivacyPolicy(expressions=(Expression(kind="x", pattern="a" * 3000),)), "3,000 characters"),
        (PrivacyPolicy(expressions=(Expression(kind="Big Name", pattern="a"),)), "'Big Name'"),
        (PrivacyPolicy(expressions=(Expression(kind="phone", pattern="a"),)), "'phone'"),
        (PrivacyPolicy(expressions=tuple(Expression(kind="x", pattern="a") for _ in range(300))), "300 expressions"),
        (PrivacyPolicy(dictionaries=(Dictionary(kind="x", words=("a", " ")),)), "the word ' '"),
        (PrivacyPolicy(dictionaries=(Dictionary(kind="x", words=()),)), "no words"),
        (PrivacyPolicy(prompts={"fone": "mask"}), "unknown kind 'fone'"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(policy: PrivacyPolicy, words: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        check_policy(policy)
    assert words in refused.value.message
    assert refused.value.hint


def test_an_expression_that_would_explode_elsewhere_is_linear() -> None:
    finder = finder_of(PrivacyPolicy(expressions=(Expression(kind="x", pattern="(a|aa)+(a|b)*c"),)))
    started = time.process_time()
    assert finder.find("a" * 50_000) == ()
    assert time.process_time() - started < 2


def test_a_large_dictionary_is_read_once() -> None:
    words = tuple(f"word{number:05d}x" for number in range(5_000))
    finder = finder_of(PrivacyPolicy(dictionaries=(Dictionary(kind="x", words=words),)))
    assert [one.kind for one in finder.find("see word04999x and word05000x")] == ["x"]


def test_the_section_of_ashore_toml() -> None:
    spec = parse_spec(
        """
        [privacy]
        label = "metadata"
        prompts = { "*" = "allow", id_card = "block", staff = "pseudonymise" }
        answers = { secret = "mask" }
        [[privacy.route]]
        tenant = "bank"
        prompts = { phone = "mask" }
        [[privacy.expression]]
        kind = "staff"
        pattern = "EMP-[0-9]{6}"
        """
    )
    assert spec.privacy.prompts == {"*": "allow", "id_card": "block", "staff": "pseudonymise"}
    assert spec.privacy.routes[0].tenant == "bank"
    assert spec.privacy.expressions[0].pattern == "EMP-[0-9]{6}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[privacy]\nprompts = { phon = "mask" }', "phon"),
        ('[privacy]\nprompts = { phone = "hide" }', "hide"),
        ('[privacy]\nanswers = { phone = "pseudonymise" }', "pseudonymise"),
        ('[privacy]\nmode = "on"', "mode"),
        ('[[privacy.expression]]\nkind = "x"\npattern = "("', "expression 'x'"),
    ],
)
def test_a_wrong_section_names_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_spec(text)
    assert words in refused.value.message


def by_expression(words: tuple[str, ...], text: str, *, ignore_case: bool) -> list[tuple[int, int]]:
    """Return what RE2's leftmost-longest alternation of the words finds."""
    import re2

    def bounded(word: str) -> str:
        first, last = (r"\b" if one.isascii() and one.isalnum() else "" for one in (word[0], word[-1]))
        return first + re2.escape(word) + last

    options = re2.Options()
    options.longest_match = True
    options.case_sensitive = not ignore_case
    return [one.span() for one in re2.compile("|".join(map(bounded, words)), options).finditer(text)]


def test_a_dictionary_finds_what_an_alternation_of_its_words_finds() -> None:
    rng, letters = random.Random(7), "aB1_ -+北极星"
    for _ in range(2_000):
        words = tuple("".join(rng.choices(letters, k=rng.randint(1, 5))) for _ in range(rng.randint(1, 12)))
        words = tuple(word for word in words if word.strip()) or ("a",)
        text, folds = "".join(rng.choices(letters, k=40)), rng.random() < 0.5
        finder = custom.Words(Dictionary(kind="x", words=words, ignore_case=folds))
        seen = [(one.start, one.end) for one in finder.find(text)]
        assert seen == by_expression(words, text, ignore_case=folds), (words, text)


def test_a_hundred_thousand_words_cost_little_on_texts_never_seen_before() -> None:
    rng = random.Random(7)

    def made(length: int) -> str:
        return "".join(chr(0x4E00 + rng.randrange(3_000)) for _ in range(length))

    words = tuple({made(rng.randint(2, 6)) for _ in range(100_000)})
    finder = custom.Words(Dictionary(kind="x", words=words))
    texts = [made(10_000) + words[number] for number in range(20)]
    started = time.process_time()
    assert all(any(True for _ in finder.find(text)) for text in texts)
    assert time.process_time() - started < 2, "RE2 took 160 to 700 ms for each thousand characters: 60 s here"
