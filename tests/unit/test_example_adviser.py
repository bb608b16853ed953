"""The adviser of the examples: what it reads, what it holds back, and that nothing unchecked reaches an answer."""

from __future__ import annotations

import csv
import json
import struct
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/adviser"


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    yield_names = [name for name in sys.modules if name.split(".")[0] in ("adviser", "shared")]
    for name in yield_names:
        monkeypatch.delitem(sys.modules, name)


def reading() -> Any:
    return import_module("adviser.reading")


class Twin:
    """A server whose model answers what the test says."""

    def __init__(self, **form: str) -> None:
        self.form, self.asked = form, []  # type: ignore[var-annotated]

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        text = json.dumps(self.form)
        return {"choices": [{"message": {"content": text}, "logprobs": {"content": [{"token": text}]}}]}


def found(*texts: str) -> Any:
    answering, section = import_module("adviser.answering"), reading().Section
    pairs = tuple((section("en/cards.md", "card", "Cards", "cards", texts, "en"), one) for one in texts)
    return answering.Found(pairs, 0.9)


def test_every_question_names_a_section_whose_sentence_answers_it() -> None:
    sections, held = reading().read_documents(FOLDER / "documents")
    assert not held
    by_key = {(one.lang, one.key): " ".join(one.sentences) for one in sections}
    run = import_module("adviser.run")
    lines = (FOLDER / "questions.tsv").read_text(encoding="utf-8").splitlines()[1:]
    questions = [run.Question(*line.split("\t")) for line in lines]
    for one in questions:
        assert not one.inside or one.must in by_key[one.lang, one.section], one
    assert len({(one.set, one.text) for one in questions}) == len(questions)
    assert not {q.text for q in questions if q.set == "tune"} & {q.text for q in questions if q.set == "test"}


def test_a_quotation_comes_from_the_source_whatever_the_model_writes() -> None:
    ask = import_module("adviser.answering").ask
    facts = found("The card costs 36 euros a year.", "The limit is 2,500 euros.")
    bad = Twin(greeting="Dear Ann", quote="s2", answer="It is free at http://evil.example")
    answer = ask(bad, "m", "What is the limit?", facts, "Ann", model_quotes=True)
    assert (answer.quote, answer.said, answer.greeting) == ("The limit is 2,500 euros.", "", "Dear Ann")
    answer = ask(bad, "m", "What is the price?", facts, "Ann", model_quotes=False)
    assert answer.quote == "The card costs 36 euros a year."
    good = Twin(greeting="", quote="s2", answer="The limit is 2,500 euros.")
    assert ask(good, "m", "What is the limit?", facts, "Ann", model_quotes=True).said
    schema = good.asked[0]["response_format"]["json_schema"]["schema"]["properties"]
    assert schema["quote"] == {"enum": ["s1", "s2"]}
    cut = Twin(quote="s9")
    assert ask(cut, "m", "?", facts, "Ann", model_quotes=True).quote == "The card costs 36 euros a year."


@pytest.mark.parametrize(
    ("said", "fits"),
    [
        ("The card costs 36 euros a year.", True),
        ("A card is 36 euros.", True),
        ("The card costs 35 euros a year.", False),
        ("The card costs 36 euros a year, 3 of them for you.", False),
        ("The card costs 36 euros, see https://evil.example", False),
        ("The card costs <b>36</b> euros a year.", False),
        ("Bananas grow happily under tropical sunshine.", False),
        ("卡片年费36欧元。", True),
        ("", False),
    ],
)
def test_a_sentence_of_the_model_stays_within_its_quotation(said: str, fits: bool) -> None:
    supported = import_module("adviser.answering").supported
    quote = "卡片年费36欧元。" if said[:1] == "卡" else "The card costs 36 euros a year."
    assert supported(said, quote, "What does it cost?") is fits


def test_instructions_in_documents_are_held_back_and_markup_is_text(tmp_path: Path) -> None:
    run = import_module("adviser.run")
    page = "<h2>Cards</h2><p>The card is new.</p><script>alert('x')</script><style>p{}</style>"
    page += "<p>It costs &lt;b&gt;9 euros."
    (tmp_path / "a.html").write_text(page)
    (tmp_path / "b.md").write_text("# Bank: b\n\n## B\n" + " ".join(text for text, _ in run.PLANTED))
    (tmp_path / "c.md").write_text("## C\nYou must re\u200bport a lost card. \u202eevil")
    sections, held = reading().read_documents(tmp_path)
    text = " ".join(" ".join(one.sentences) for one in sections)
    assert "alert" not in text and "p{}" not in text and "The card is new." in text and "<b>9 euros." in text
    assert len(held) == len(run.MARKS) and not any(mark in text for mark in run.MARKS)
    assert "You must report a lost card." in text and "\u202e" not in text, "what nobody sees is left out"


def test_formulas_are_read_as_text_and_written_as_text(tmp_path: Path) -> None:
    run, answering = import_module("adviser.run"), import_module("adviser.answering")
    (tmp_path / "fees.csv").write_text('item,price\n=HYPERLINK("http://evil.example"),@SUM(1)\n+1+cmd,2\n')
    sections, _ = reading().read_documents(tmp_path)
    assert [one.heading[:6] for one in sections] == ["=HYPER", "+1+cmd"]
    question = run.Question("test", "en", "a", "2", "-2+3")
    answer = answering.Answer(quote=sections[0].sentences[0], file="=1+1.csv")
    report = import_module("shared.report").Report(title="", summary="")
    run.tell_examples(report, [run.Case(question, found("x"), answer, 0.1)], tmp_path / "answers.csv")
    with open(tmp_path / "answers.csv", encoding="utf-8-sig", newline="") as opened:
        cells = list(csv.reader(opened))[1]
    assert all(one[:1] not in ("=", "+", "-", "@") for one in cells) and cells[0] == "'-2+3"
    (tmp_path / "out").mkdir()
    report.table("<script>", ["<i>"], [["<img src=x onerror=alert(1)>"]])
    report.write(tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text()
    assert "<img src=x" not in page and "<i>" not in page and "<script>" not in page


def test_a_zip_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    module = reading()
    place = tmp_path / "bomb.zip"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.md", b"a" * (module.MAX_FILE_BYTES * 20))
    with pytest.raises(module.BadDocument, match=r"a\.md in bomb\.zip has .* at most"):
        module.read_documents(place)
    data = bytearray(place.read_bytes())  # the same with a directory that lies about the size
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 100)
    place.write_bytes(data)
    with pytest.raises(module.BadDocument):
        module.read_documents(place)
    with zipfile.ZipFile(place, "w") as packed:
        for number in range(module.MAX_FILES + 1):
            packed.writestr(f"{number}.md", "a")
    with pytest.raises(module.BadDocument, match="more than"):
        module.read_documents(place)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.md", b"\xff\xfe\x00", "not UTF-8"),
        ("a.csv", b'a,b\n"1"x,2\n', "not a table"),
        ("a.pdf", b"%PDF", "has no text in files"),
        ("a.md", b"# Only a title\n", "has no text in files"),
        ("a.zip", b"PK\x03\x04 broken", "readable zip"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(reading().BadDocument, match=words):
        reading().read_documents(tmp_path / name if name.endswith("zip") else tmp_path)


def test_a_heading_of_spaces_takes_time_in_proportion(tmp_path: Path) -> None:
    spaces = " " * 600_000
    (tmp_path / "a.md").write_text(f"# T\n## One{spaces}{{#one}}{spaces}\nA.\n## Two{spaces}x\nB.\n")
    sections, _ = reading().read_documents(tmp_path)
    assert [one.key for one in sections] == ["one", f"Two{spaces}x"] and sections[0].heading == "One"


def test_the_limit_refuses_every_calibration_question_outside() -> None:
    answering = import_module("adviser.answering")
    assert answering.threshold_of([0.1, 0.7, 0.3]) == 0.7
    words = answering.WordIndex([one for one, _ in found("The card costs 36 euros.", "The PIN has digits.").sentences])
    assert words.search("What does a card cost?").sentences[0][1] == "The card costs 36 euros."
