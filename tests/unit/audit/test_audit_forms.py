"""A record from a form has the bytes that the same record has when it is written out."""

from __future__ import annotations

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from ashore.data.audit import NoteForm, RequestNote
from ashore.data.audit.canonical import decode, encode
from ashore.data.audit.records import request_record

TEXT = st.text(st.characters(), max_size=40) | st.sampled_from(
    ['","seq":7,"x":"', '"request_id":"', "\u202eevil", "\udcff", "\x00\n\\", '{"mono_us":1}', "名前"]
)
NUMBER = st.integers(min_value=0, max_value=2**53)
NOTES = st.builds(
    RequestNote,
    request_id=TEXT,
    principal=TEXT,
    tenant=TEXT,
    alias=TEXT,
    release=TEXT,
    outcome=st.sampled_from(["answered", "failed"]),
    cache=st.sampled_from(["hit-exact", "miss"]),
    key=TEXT,
    origin=TEXT,
    route=TEXT,
    trace=st.sampled_from(["", "ab" * 16]),
    prompt_tokens=NUMBER,
    masked=st.dictionaries(st.sampled_from(["phone", "seq", "mono_us", "request_id", "at_us"]), NUMBER, max_size=3),
    prompt=TEXT,
    answer=TEXT,
)


@given(NOTES, TEXT, NUMBER, NUMBER, NUMBER)
@example(
    RequestNote(
        request_id='","seq":7',
        principal='"seq":1',
        tenant="t",
        alias="a",
        release="r",
        outcome="answered",
        cache="miss",
        masked={"seq": 1, "request_id": 2, "mono_us": 3, "at_us": 4},
        route='/v1"seq":',
    ),
    '"request_id":"x"',
    5,
    6,
    7,
)
def test_a_form_gives_the_bytes_of_the_record(note: RequestNote, request_id: str, seq: int, at: int, mono: int) -> None:
    written = encode(
        request_record(msgspec.structs.replace(note, request_id=request_id), seq=seq, at_us=at, mono_us=mono)
    )
    if request_id:  # an empty one is left out of a record; a request always has one
        assert NoteForm(note).line(request_id, seq=seq, at_us=at, mono_us=mono) == written
        assert decode(written).seq == seq


def test_fields_that_were_left_out_stand_in_the_record_of_a_repeated_answer_too() -> None:
    note = RequestNote(
        request_id="",
        principal="alice",
        tenant="acme",
        alias="m",
        release="r",
        outcome="answered",
        cache="hit-exact",
        ignored=('of "tomorrow', "usage"),
    )
    line = NoteForm(note).line("req_1", seq=7, at_us=8, mono_us=9)
    assert line == encode(request_record(msgspec.structs.replace(note, request_id="req_1"), seq=7, at_us=8, mono_us=9))
    assert decode(line).detail == {"ignored": 'of "tomorrow, usage'}
