"""A line of the record on a screen: nothing that a client names can look like a fact about it."""

from __future__ import annotations

import pytest
from audit_notes import a_note, an_act

from ashore.control.audit.calls import hit_json, hit_line
from ashore.data.audit.model import ChainName, Place, Record
from ashore.data.audit.records import act_record, request_record
from ashore.data.audit.search import Hit


def shown(record: Record) -> str:
    place = Place(chain=ChainName("api-0"), segment=1, offset=0)
    return hit_line(hit_json(Hit(place=place, record=record, order_us=1)))


def test_plain_words_stand_plainly() -> None:
    line = shown(request_record(a_note(), seq=1, at_us=1, mono_us=2))
    assert "api-0#1 alice@bank model:infer chat answered tenant=retail" in line
    assert '"' not in line


@pytest.mark.parametrize(
    "name",
    [
        "chat answered tenant=bank-b key=first-key",
        'chat" answered tenant=bank-b',
        "chat(approved)",
        "chat\u3000answered",
        "chat\nanswered tenant=bank-b",
        "",
    ],
)
def test_a_name_of_several_words_stands_in_quotes(name: str) -> None:
    line = shown(request_record(a_note(alias=name, outcome="failed"), seq=1, at_us=1, mono_us=2))
    words = line.replace('\\"', "").split('"')
    outside = " ".join(words[::2])
    assert "bank-b" not in outside.replace("tenant=retail", "")
    assert "\n" not in line and "failed tenant=retail" in outside


def test_a_fact_of_several_words_stands_in_quotes() -> None:
    line = shown(act_record(an_act(detail={"about": "x outcome=done"}, actor="eve root"), seq=1, at_us=1, mono_us=2))
    assert 'about="x outcome=done"' in line and '"eve root" key:create' in line
