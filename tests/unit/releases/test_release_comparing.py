"""What two answers differ in: refusals and cut-offs are told apart, each for both sides, and count as defects."""

from __future__ import annotations

import pytest

from ashore.data.path.differences import OTHER_SCRIPTS, Observation, compared, is_defect, language_of

GOOD = Observation(at_s=0, text="Paris.", tokens=3)
REFUSES = Observation(at_s=0, text="I'm sorry, I cannot help with that.", tokens=9)
REFUSES_IN_CHINESE = Observation(at_s=0, text="抱歉，我无法回答。", tokens=9)
CUT_OFF = Observation(at_s=0, text="Paris is the", cut_off=True, tokens=4)
EMPTY = Observation(at_s=0, text=" ", tokens=1)


@pytest.mark.parametrize(
    ("seen", "refusals", "cut_offs"),
    [(GOOD, 0, 0), (REFUSES, 1, 0), (REFUSES_IN_CHINESE, 1, 0), (CUT_OFF, 0, 1), (EMPTY, 0, 0)],
)
@pytest.mark.parametrize("timed", [True, False])
def test_refusals_and_cut_offs_are_told_apart(seen: Observation, refusals: int, cut_offs: int, timed: bool) -> None:
    seen.defect = is_defect(seen, None)
    as_candidate, as_live = compared(GOOD, seen, timed=timed), compared(seen, GOOD, timed=timed)
    assert (as_candidate["refusals of candidate"], as_candidate["cut-offs of candidate"]) == (refusals, cut_offs)
    assert (as_candidate["refusals of live"], as_candidate["cut-offs of live"]) == (0, 0)
    assert (as_live["refusals of live"], as_live["cut-offs of live"]) == (refusals, cut_offs)
    assert as_candidate["defects"] == -as_live["defects"] == float(seen is not GOOD)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Explain lists in Python.", "Latin"), ("Größe über alles: né à Orléans", "Latin"),
        ("用 Python 解释列表", "Chinese"), ("東京の天気は？", "Japanese"), ("서울 날씨 어때?", "Korean"),
        ("Объясни списки в Python", "Cyrillic"), ("اشرح القوائم", "Arabic"), ("सूची समझाओ", "Devanagari"),
        ("Εξήγησε τις λίστες", "Greek"), ("הסבר רשימות", "Hebrew"), ("อธิบาย", "Thai"),
        ("the letter π is Greek", "Latin"), ("1 + 1 = ?", OTHER_SCRIPTS), ("", OTHER_SCRIPTS),
    ],
)  # fmt: skip
def test_requests_are_sliced_by_the_language_that_a_script_tells_or_by_the_script(text: str, language: str) -> None:
    assert language_of(text) == language
