"""What the pages Models and Releases make of answers, without a server."""

from __future__ import annotations

from types import SimpleNamespace as Given

from ashore.control.console.models import offer, unpinned
from ashore.control.console.releases import gate_of, measures, picture


def entry(**changed: object) -> Given:
    return Given(
        name="big", source="hf:acme/Big@main", licence="MIT", weight_bytes=2**30, num_parameters=10,
        **{"fits": "here", "here": "openvino int8", "unverified": [], **changed},
    )  # fmt: skip


def test_a_card_says_what_fits_and_knows_what_is_stored_by_name_or_by_source() -> None:
    assert (offer(entry(), {}).by, offer(entry(), {}).facts) == ("openvino int8", ("1 GiB", "MIT"))
    assert offer(entry(fits="elsewhere", here="with vLLM"), {}).by == "vLLM"
    large = offer(entry(fits="too-large", here="with vLLM; too large here", unverified=["weight_bytes"]), {})
    assert (large.by, large.tone, large.facts[0]) == ("1 GiB", "warn", "~1 GiB")
    assert offer(entry(), {"hf:acme/Big": "mine"}).stored == "mine" and offer(entry(), {"big": "big"}).stored == "big"
    assert unpinned("pypi:llm==0.1") == "pypi:llm"


def release(name: str, state: str, share: float, answers: float = 0.0) -> Given:
    return Given(name=name, state=state, model="m@int8", share_percent=share, weights_percent={"chat": answers})


def test_the_picture_has_a_line_for_each_release_as_thick_as_its_share() -> None:
    live, canary, shadow = picture(
        "chat", [release("a", "live", 0, 95), release("b", "canary", 5, 5), release("c", "shadow", 10)]
    )
    assert (live.share, canary.share, shadow.share) == ("95 %", "5 %", "10 %")
    assert float(live.width) > 10 > float(canary.width) and shadow.copied and shadow.look == "sh"
    assert len({one.path for one in (live, canary, shadow)}) == 3


def test_evidence_is_a_row_for_each_measure_with_its_limit() -> None:
    details = {"errors mean": 0.01, "errors count": 400, "strange mean": 1.0}
    table = measures([Given(stage="canary", details=details)])
    assert [[cell.text for cell in row.cells] for row in table.rows] == [["errors", "canary", "1 %", "≤ 3 %", "400"]]
    assert measures([]).rows == ()


def test_a_gate_is_its_word_with_the_reason_below() -> None:
    assert (gate_of("failed: perplexity +40 %").tone, gate_of("failed: perplexity +40 %").note) == (
        "bad",
        "perplexity +40 %",
    )
    assert gate_of("none").text == "not evaluated" and gate_of(None).kind == "none"
