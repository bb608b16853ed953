"""Proves what a receiver has: its file, read again, against the hashes in it and the home's public keys.

Lines may come in any order and twice, between lines of other programs. A stub's own hash cannot be computed, but the
record behind it continues it, and a signed checkpoint covers both.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from ashore.control.audit import verify_checkpoints, vouched_of
from ashore.control.feeds.reading import SIGNED
from ashore.core.errors import NotFound
from ashore.data.audit import CHECKPOINTS, ChainName, PublicKey, encode_record, genesis, linked, read_record
from ashore.kit.decode import UNDECODABLE

MOST_PROBLEMS: Final = 100
MOST_LINE_BYTES: Final = 4 << 20
_SYSLOG: Final = re.compile(
    rb'\[ashore@32473 home="([^"\\\]]*)" chain="([^"\\\]]*)" seq="(\d{1,18})" after="(\d{1,18})" '
    rb'hash="([0-9a-f]{64})"( cut="1")?\] ?(?:\xef\xbb\xbf)?(.*)'
)
OPEN: Final = "segment:open"
_MARK: Final = b'[ashore@32473 home="'
"""Where a message begins. No record holds these bytes, for JSON escapes the quotation mark."""
_PLACE: Final = b'"ashore"'


class _Place(msgspec.Struct):
    home: str
    chain: str
    seq: int
    after: int
    hash: str
    cut: int = 0


class _Event(msgspec.Struct):
    ashore: _Place
    record: msgspec.Raw = msgspec.Raw(b"")
    checkpoint: str = ""


@dataclass(frozen=True, slots=True)
class Got:
    """One line of a receiver's file."""

    home: str
    chain: str
    seq: int
    after: int
    hash: bytes
    is_cut: bool
    body: bytes


@dataclass(slots=True, kw_only=True)
class ChainProof:
    """What a file proves of one chain."""

    home: str
    chain: str
    first: int
    """Number of its first record in the file: those before it were never sent."""
    last: int
    records: int
    doubled: int = 0
    """Lines that came again."""
    torn: int = 0
    """Lines of a receiver that died while it wrote; a whole copy of each is there, too."""
    stubs: int = 0
    """Records of which only number and hash are proved: they were too long, or the feed has another form."""
    signed: int = 0
    """Last record that a signed checkpoint covers."""


@dataclass(slots=True, kw_only=True)
class Proof:
    """What a file proves."""

    chains: list[ChainProof] = field(default_factory=list)
    checkpoints: int = 0
    problems: list[str] = field(default_factory=list)
    """What is missing, was changed, or contradicts a signature."""

    @property
    def ok(self) -> bool:
        return not self.problems


def read_line(raw: bytes) -> Got | None:
    """Return what a line of a receiver's file holds; None if it is no line of a feed."""
    if found := _SYSLOG.search(raw):
        home, chain, seq, after, hash_, cut, body = found.groups()
        named = home.decode("utf-8", "replace"), chain.decode("utf-8", "replace")
        return Got(*named, int(seq), int(after), bytes.fromhex(hash_.decode()), bool(cut), body)
    if _PLACE not in raw:
        return None
    try:
        event = msgspec.json.decode(raw[raw.index(b"{") :], type=_Event)
        place, hash_ = event.ashore, bytes.fromhex(event.ashore.hash)
    except (ValueError, *UNDECODABLE):
        return None
    body = event.checkpoint.encode() or bytes(event.record)
    is_cut = bool(place.cut) or not body
    return Got(place.home, place.chain, place.seq, place.after, hash_, is_cut, body)


def pieces(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield what may be a line of a feed in a line of a file, and where it begins there. A receiver that died while it
    wrote leaves half a line, and the next message stands right behind it."""
    at = raw.find(_MARK)
    if at < 0:
        yield 0, raw
    while at >= 0:
        end = raw.find(_MARK, at + 1)
        yield at, raw[at:] if end < 0 else raw[at:end]
        at = end


def prove(path: Path, trusted: Sequence[PublicKey]) -> Proof:
    """Return what a file proves. Reads it twice, and holds a number for each of its lines.

    Args:
        path: The receiver's file; rotated ones are concatenated first.
        trusted: Public keys of the homes, from another source.

    Raises:
        NotFound: it has no line of a feed.
    """
    proof, places = Proof(), _places(path)
    if not places:
        raise NotFound(f"{path} has no line of a feed of ashore", hint="the receiver must keep structured data (docs)")
    with path.open("rb") as file:
        for home in sorted({home for home, _ in places}):
            signed = places.get((home, SIGNED), {})
            with tempfile.TemporaryDirectory(prefix="ashore-proof-") as scratch:
                kept = Path(scratch) / CHECKPOINTS
                kept.write_bytes(b"".join(_at(file, at[0]).body + b"\n" for _, at in sorted(signed.items())))
                report = verify_checkpoints(kept, trusted)
                proof.checkpoints += report.count
                if not report.count:
                    _say(proof, f"{home}: no signed checkpoint, so anybody may have written this")
                if report.problem is not None:
                    proof.problems.append(f"checkpoint {report.problem.seq or report.count + 1}: {report.problem.what}")
                chains = {chain for one, chain in places if one == home and chain != SIGNED}
                chains |= {head.chain for head in report.last.chains} if report.last else set()
                for chain in sorted(chains):
                    found = places.get((home, chain), {})
                    covered = {one.seq: (one.hash, one.by) for one in vouched_of(kept, chain, up_to=report.count)}
                    _chain(proof, file, home, chain, found, covered)
    return proof


def _places(path: Path) -> dict[tuple[str, str], dict[int, list[int]]]:
    """Return where the lines of each chain stand in the file, by number."""
    places: dict[tuple[str, str], dict[int, list[int]]] = {}
    with path.open("rb") as file:
        offset = 0
        while raw := file.readline(MOST_LINE_BYTES):
            for at, piece in pieces(raw):
                if (got := read_line(piece)) is not None:
                    places.setdefault((got.home, got.chain), {}).setdefault(got.seq, []).append(offset + at)
            offset += len(raw)
    return places


def _at(file: BinaryIO, offset: int) -> Got:
    file.seek(offset)
    _, piece = next(pieces(file.readline(MOST_LINE_BYTES).rstrip(b"\r\n")))
    got = read_line(piece)
    assert got is not None
    return got


def _chain(
    proof: Proof,
    file: BinaryIO,
    home: str,
    chain: str,
    found: dict[int, list[int]],
    covered: dict[int, tuple[str, str]],
) -> None:
    numbers = sorted(found)
    if not numbers:
        return
    one = ChainProof(home=home, chain=chain, first=numbers[0], last=numbers[-1], records=len(numbers))
    proof.chains.append(one)
    before: bytes | None = genesis(ChainName(chain)) if numbers[0] == 1 else None
    last = 0
    for seq in numbers:
        copies = [_at(file, offset) for offset in found[seq]]
        if last + 1 != seq and last:
            before = None
        got = next((copy for copy in copies if not copy.is_cut and _fits(copy, before)), copies[0])
        differ = sum((copy.hash, copy.body) != (got.hash, got.body) for copy in copies if copy.is_cut == got.is_cut)
        one.torn, one.doubled = one.torn + differ, one.doubled + len(copies) - 1 - differ
        if got.after > last:
            _say(proof, f"{chain}: {_range(last + 1, got.after)} missing")
        one.stubs += got.is_cut
        if not got.is_cut and not _fits(got, before):
            _say(proof, f"{chain}: number {seq} was changed, or one before it: its hash does not follow")
        if seq in covered:
            if covered[seq][0] != got.hash.hex():
                _say(proof, f"{chain}: number {seq} has another hash than {covered[seq][1]} signed")
            one.signed = seq
        before, last = got.hash, seq
    tail = [seq for seq in covered if seq > last]
    if tail:
        _say(proof, f"{chain}: {_range(last + 1, max(tail))} missing, which {covered[max(tail)][1]} signed")


def _fits(got: Got, before: bytes | None) -> bool:
    """Return whether a record has its number, and its hash follows the one before it, where that is known."""
    for body in _forms(got.body):
        try:
            record = read_record(body)
        except UNDECODABLE:
            return False
        known = before
        if known is None and record.action == OPEN:  # the first of a segment names the hash before it
            known = _hash_of(str(record.detail.get("previous", "")))
        if record.seq == got.seq and (known is None or linked(known, body) == got.hash):
            return True
    return False


def _hash_of(text: str) -> bytes:
    """Return a hash; empty, which nothing follows, where the text is none."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _forms(body: bytes) -> Iterator[bytes]:
    """Yield the bytes of a record: as they came, and as ashore writes it, if a receiver has written it in its way."""
    yield body
    try:
        again = encode_record(read_record(body))
    except UNDECODABLE:
        return
    if again != body:
        yield again


def _range(first: int, last: int) -> str:
    return f"number {first} is" if first == last else f"numbers {first} to {last} are"


def _say(proof: Proof, what: str) -> None:
    if len(proof.problems) < MOST_PROBLEMS:
        proof.problems.append(what)
    elif len(proof.problems) == MOST_PROBLEMS:
        proof.problems.append("and more")
