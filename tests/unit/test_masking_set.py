"""The generated set of documents for masking: its truth is true, and its traps are none of what they look like."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest
from benchmarks.masking import checks, forms, traps, values
from benchmarks.masking.generate import documents, templates
from benchmarks.masking.kinds import LOOSE, STRUCTURED
from benchmarks.masking.pieces import Document, Span
from benchmarks.masking.score import Found, Score, judge, wilson

SAMPLE = 2500
HOLDS = {
    "cn_id": checks.identity_holds,
    "bank_card": checks.luhn_holds,
    "cn_uscc": checks.uscc_holds,
    "iban": checks.iban_holds,
}


def plain(text: str) -> str:
    """Return what is left when every disguise is taken away, JSON's escapes included."""
    text = re.sub(r"\\+u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text)
    text = re.sub(r"\\+[nrt]", "", text)
    narrow = "".join(chr(ord(char) - 0xFEE0) if "！" <= char <= "～" else char for char in text)
    return re.sub(r"[^0-9A-Za-z]", "", narrow).upper()


@pytest.fixture(scope="module")
def sample() -> list[Document]:
    return list(documents(seed=7, count=SAMPLE))


def test_known_numbers_hold_under_the_rules_and_their_neighbours_do_not() -> None:
    # Examples of GB 11643-1999, GB 32100-2015 and ISO 13616; the card is a test number of the issuers.
    assert checks.identity_holds("11010519491231002X")
    assert checks.identity_holds("440524188001010014") is False  # Its year is before 1900: the check alone holds.
    assert checks.identity_digit("44052418800101001") == "4"
    assert checks.uscc_holds("91350100M000100Y43")
    assert not checks.uscc_holds("91350100M000100Y44")
    assert checks.iban_holds("GB82WEST12345698765432")
    assert not checks.iban_holds("GB83WEST12345698765432")
    assert checks.luhn_holds("4111111111111111")
    assert not checks.luhn_holds("4111111111111112")


def test_the_same_seed_gives_the_same_documents(sample: list[Document]) -> None:
    assert list(documents(seed=7, count=20)) == sample[:20]
    assert list(documents(seed=8, count=20)) != sample[:20]


def test_every_identifier_of_a_checked_kind_passes_its_check(sample: list[Document]) -> None:
    seen = Counter[str]()
    for document in sample:
        for span in document.identifiers:
            text = document.text[span.start : span.end]
            assert text.strip() == text != ""
            if holds := HOLDS.get(span.kind):
                assert holds(plain(text)), (span, text)
            if span.kind == "cn_mobile":
                assert re.fullmatch(r"1[3-9]\d{9}", plain(text)), text
            seen[span.kind] += 1
    assert set(seen) == {*STRUCTURED, *LOOSE}
    assert min(seen.values()) >= 20


def test_numbers_that_fail_their_check_do_fail_it() -> None:
    random = Random(11)
    for _ in range(400):
        assert not checks.identity_holds(plain(traps.bad_id(random)))
        assert not checks.luhn_holds(plain(traps.bad_card(random)))
        assert not checks.uscc_holds(traps.bad_uscc(random))
        assert not checks.iban_holds(traps.bad_iban(random))
        assert not re.fullmatch(r"1[3-9]\d{9}", traps.bad_mobile(random))
        order = traps.order_number(random)
        assert not checks.luhn_holds(order)
        assert not checks.identity_holds(order)


def test_a_disguise_takes_nothing_from_the_number() -> None:
    random = Random(5)
    for _ in range(300):
        [*_, piece] = [piece for piece in forms.written(random, "cn_id") if piece.kind]
        assert checks.identity_holds(plain(piece.text)), piece
    assert forms.full_width("1aX@") == "１ａＸ＠"
    assert forms.grouped("622848040256489001", (6, 13), "-") == "622848-040256489001"
    assert plain(forms.strewn(random, "13812345678")) == "13812345678"


def test_no_template_is_in_both_halves_and_each_half_has_every_kind() -> None:
    halves = Counter(template.part for template in templates())
    assert abs(halves["open"] - halves["unseen"]) <= 12
    texts = Counter(template.text for template in templates())
    assert max(texts.values()) == 1
    for part in ("open", "unseen"):
        kinds = {span.kind for document in documents(seed=2, count=2500, part=part) for span in document.identifiers}
        assert kinds == {*STRUCTURED, *LOOSE}


def _document(text: str, kind: str, start: int, end: int, *, free: tuple[int, int] | None = None) -> Document:
    return Document(
        text=text,
        identifiers=(Span(start, end, kind, "plain"),),
        traps=(),
        free=(Span(*free, "", ""),) if free else (),
        language="zh",
        field="chat",
        part="open",
    )


@pytest.mark.parametrize(
    ("findings", "found", "hidden", "right", "wrong"),
    [
        ([Found("cn_mobile", 4, 15)], 1, 1, 1, 0),
        ([Found("phone", 1, 15)], 1, 1, 1, 0),  # With its +86, under the name of a kind beside it.
        ([Found("cn_mobile", 4, 14)], 0, 0, 1, 0),  # One digit is left to read.
        ([Found("cn_mobile", 0, 15)], 0 + 1, 1, 0, 1),  # It takes a word along.
        ([Found("cn_id", 4, 15)], 0, 1, 0, 1),
        ([Found("cn_mobile", 4, 9), Found("cn_mobile", 9, 15)], 1, 1, 2, 0),
        ([Found("phone", 1, 3)], 0, 0, 0, 0),  # Only what may be taken or left.
        ([], 0, 0, 0, 0),
    ],
)
def test_a_finding_is_judged_by_letters_and_digits(
    findings: list[Found], found: int, hidden: int, right: int, wrong: int
) -> None:
    score = Score()
    judge(score, _document("电+86 13812345678好", "cn_mobile", 5, 16, free=(1, 5)), [
        Found(kind, start + (start >= 4), end + (end > 3)) for kind, start, end in findings
    ])  # fmt: skip
    mobile = score.tally("cn_mobile")
    assert (mobile.there, mobile.found, mobile.hidden) == (1, found, hidden)
    everything = score.total(score.kinds)
    assert (everything.right, everything.wrong) == (right, wrong)


def test_misses_of_the_unseen_half_are_counted_and_not_shown() -> None:
    score = Score()
    for document in documents(seed=3, count=50, part="unseen"):
        judge(score, document, [], keep_examples=5)
    assert score.misses.total() > 50
    assert score.examples == []


def test_the_interval_is_wilsons() -> None:
    low, high = wilson(999, 1000)
    assert (round(low, 5), round(high, 5)) == (0.99436, 0.99982)
    assert wilson(0, 0) == (0.0, 1.0)
    assert [name for name in values.MAKERS if name not in STRUCTURED] == []
