"""Lines: canonical, injection-proof, chained; Merkle trees and their proofs."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from audit_notes import a_note, an_act
from hypothesis import given
from hypothesis import strategies as st

from ashore.data.audit import Record
from ashore.data.audit.canonical import MAX_TEXT_CHARS, decode, encode, printable, short
from ashore.data.audit.chain import genesis, linked, merkle_root
from ashore.data.audit.model import ChainName
from ashore.data.audit.records import act_record, jumped, request_record

NASTY = 'x\n{"forged":1}\r\x00\x1b[2J\u2028\u2029\u202e\u200b\x85"\\\ufeff'


def record(**changes: object) -> Record:
    return msgspec.structs.replace(act_record(an_act(), seq=7, at_us=1, mono_us=2), **changes)  # type: ignore[arg-type]


def test_fields_stand_in_the_order_of_the_alphabet() -> None:
    assert list(Record.__struct_fields__) == sorted(Record.__struct_fields__)


def test_the_bytes_are_what_they_have_always_been() -> None:
    assert encode(act_record(an_act(), seq=7, at_us=1, mono_us=2)) == (
        b'{"action":"key:create","actor":"sysadmin","at_us":1,"detail":{"expires_days":90},"kind":"act",'
        b'"mono_us":2,"outcome":"done","resource":"key/ash_00000001","seq":7}'
    )
    told = encode(request_record(a_note(masked={"card": 2, "aadhaar": 1}), seq=1, at_us=1, mono_us=2))
    assert told == (
        b'{"action":"model:infer","actor":"alice@bank","at_us":1,"cache":"miss","completion_tokens":1,'
        b'"kind":"request","latency_ms":1.5,"masked":{"aadhaar":1,"card":2},"model":"chat","mono_us":2,'
        b'"origin":"10.0.0.1","outcome":"answered","prompt_tokens":12,"release":"chat-1",'
        b'"request_id":"req_000000000000000000000001","route":"/v1/chat/completions","seq":1,"tenant":"retail"}'
    )


@pytest.mark.parametrize("field", ["actor", "reason", "resource", "tenant", "origin", "request_id"])
def test_no_text_begins_or_ends_a_line(field: str) -> None:
    line = encode(record(**{field: NASTY}))
    assert b"\n" not in line and b"\r" not in line
    assert not any(ord(c) < 32 or c in "\u2028\u2029\u202e\u200b\x85\ufeff" for c in line.decode())
    assert getattr(decode(line), field) == NASTY, "escaped, and not altered"


@given(st.text(), st.dictionaries(st.text(max_size=20), st.text() | st.integers(-(2**60), 2**60), max_size=5))
def test_what_is_encoded_comes_back(text: str, detail: dict[str, str | int]) -> None:
    told = record(reason=text, detail=detail)
    assert decode(encode(told)) == told
    assert len(encode(told).decode().splitlines()) == 1


def test_half_characters_do_not_lose_a_record() -> None:
    assert decode(encode(record(actor="a\ud800b", detail={"\udfff": "\ud800"}))).actor == "a\\ud800b"


def test_long_texts_are_cut_and_the_cut_shows() -> None:
    assert short("x" * 10_000) == "x" * (MAX_TEXT_CHARS - 1) + "…"


def test_a_screen_shows_what_would_hide() -> None:
    shown = printable(NASTY)
    assert shown.isprintable() and "\\u202e" in shown and "\\u000a" in shown and printable("中文") == "中文"


def test_an_unknown_field_is_no_record() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(b'{"action":"a","actor":"b","at_us":1,"kind":"act","mono_us":2,"seq":7,"zz":1}')


def test_a_chain_begins_with_its_own_name() -> None:
    assert genesis(ChainName("api-0")) != genesis(ChainName("api-1"))
    assert linked(b"a" * 32, b"x") == hashlib.sha256(b"a" * 32 + b"x").digest()


def rfc_6962_root(leaves: list[bytes]) -> bytes:
    """Return the root as section 2.1 of RFC 6962 defines it."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + rfc_6962_root(leaves[:split]) + rfc_6962_root(leaves[split:])).digest()


@given(st.integers(1, 70), st.data())
def test_the_root_is_that_of_the_definition_and_of_no_other_leaves(count: int, data: st.DataObject) -> None:
    leaves = [hashlib.sha256(bytes([number])).digest() for number in range(count)]
    assert merkle_root(leaves) == rfc_6962_root(leaves)
    at = data.draw(st.integers(0, count - 1))
    assert merkle_root([*leaves[:at], leaves[at][::-1], *leaves[at + 1 :]]) != merkle_root(leaves)


def test_the_root_is_that_of_rfc_6962() -> None:
    """The tree of three leaves, written out."""
    a, b, c = (hashlib.sha256(b"\x00" + leaf).digest() for leaf in (b"a", b"b", b"c"))
    ab = hashlib.sha256(b"\x01" + a + b).digest()
    assert merkle_root([b"a", b"b", b"c"]) == hashlib.sha256(b"\x01" + ab + c).digest()
    assert merkle_root([]) == hashlib.sha256(b"").digest()


@pytest.mark.parametrize(
    ("at_us", "mono_us", "by_us"),
    [
        (11_000_000, 6_000_000, 0),
        (11_900_000, 6_000_000, 0),
        (1_000_000, 6_000_000, -10_000_000),
        (99_000_000, 6_000_000, 88_000_000),
        (9_500_000, 1, 0),
        (5_000_000, 1, -5_000_000),
        (99_000_000, 1, 0),
    ],
)
def test_a_clock_that_jumps_shows(at_us: int, mono_us: int, by_us: int) -> None:
    """The record before has 10 s on the wall and 5 s since the start of the machine."""
    before = act_record(an_act(), seq=1, at_us=10_000_000, mono_us=5_000_000)
    assert jumped(before, at_us=at_us, mono_us=mono_us) == by_us
    assert jumped(None, at_us=at_us, mono_us=mono_us) == 0
