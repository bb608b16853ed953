"""Somebody with every right on the disk and no key tampers with an audit: one random deed at a time.

The forger knows the format: the deeds marked as rewritten make every hash, number and root fit again. Used by the tests
and by the benchmark.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from ashore.data.audit import ChainName, Checkpoints
from ashore.data.audit.canonical import decode, encode
from ashore.data.audit.chain import MerkleTree, genesis, linked
from ashore.data.audit.checkpoints import CHECKPOINTS, read_checkpoints, signed_line
from ashore.data.audit.segments import chains_in, is_closing, segment_path, segments_of
from ashore.data.audit.signing import new_signing_key

Deed = Callable[[Path, random.Random], str]
"""Changes the folder; returns what it did."""


def pick_segment(root: Path, chance: random.Random) -> tuple[ChainName, int, Path]:
    """Return one of the segments."""
    chain = chance.choice(chains_in(root))
    number = chance.choice(segments_of(root, chain))
    return chain, number, segment_path(root, chain, number)


def change(path: Path, data: bytes) -> None:
    """Write a file whatever its mode."""
    path.chmod(0o600)
    path.write_bytes(data)


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def edit_byte(root: Path, chance: random.Random) -> str:
    """Change one byte of a segment."""
    _, _, path = pick_segment(root, chance)
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    data[at] = chance.choice([value for value in range(256) if value != data[at]])
    change(path, bytes(data))
    return f"edit byte {at} of {path.name}"


def delete_line(root: Path, chance: random.Random) -> str:
    _, _, path = pick_segment(root, chance)
    lines = lines_of(path)
    at = chance.randrange(len(lines))
    change(path, b"".join(lines[:at] + lines[at + 1 :]))
    return f"delete line {at + 1} of {len(lines)} of {path.name}"


def insert_line(root: Path, chance: random.Random) -> str:
    _, _, path = pick_segment(root, chance)
    lines = lines_of(path)
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    change(path, b"".join(lines))
    return f"insert a line into {path.name}"


def swap_lines(root: Path, chance: random.Random) -> str:
    _, _, path = pick_segment(root, chance)
    lines = lines_of(path)
    one, other = chance.sample(range(len(lines)), 2) if len(lines) > 1 else (0, 0)
    if one == other:
        return edit_byte(root, chance)
    lines[one], lines[other] = lines[other], lines[one]
    change(path, b"".join(lines))
    return f"swap lines {one + 1} and {other + 1} of {path.name}"


def cut_segment(root: Path, chance: random.Random) -> str:
    """Cut a segment at any byte."""
    _, _, path = pick_segment(root, chance)
    data = path.read_bytes()
    at = chance.randrange(len(data))
    change(path, data[:at])
    return f"cut {path.name} at byte {at}"


def delete_segment(root: Path, chance: random.Random) -> str:
    _, _, path = pick_segment(root, chance)
    path.unlink()
    return f"delete {path.parent.name}/{path.name}"


def delete_chain(root: Path, chance: random.Random) -> str:
    chain = chance.choice(chains_in(root))
    shutil.rmtree(root / "chains" / chain)
    return f"delete the chain {chain}"


def swap_segments(root: Path, chance: random.Random) -> str:
    _, _, one = pick_segment(root, chance)
    for _ in range(20):
        _, _, other = pick_segment(root, chance)
        if other != one:
            break
    else:
        return edit_byte(root, chance)
    first, second = one.read_bytes(), other.read_bytes()
    change(one, second)
    change(other, first)
    return f"swap {one.parent.name}/{one.name} and {other.parent.name}/{other.name}"


def swap_chains(root: Path, chance: random.Random) -> str:
    chains = chains_in(root)
    one, other = (root / "chains" / chain for chain in chance.sample(chains, 2))
    one.rename(root / "aside")
    other.rename(one)
    (root / "aside").rename(other)
    return f"swap the chains {one.name} and {other.name}"


def _rewrite(root: Path, chain: ChainName, keep: Callable[[int, bytes], bytes | None]) -> None:
    """Write a chain anew with every hash, number and root fitting; `keep` gives each body, changed, or drops it."""
    before, seq, root_before = genesis(chain), 0, ""
    for number in segments_of(root, chain):
        path, tree, out = segment_path(root, chain, number), MerkleTree(), []
        for at, line in enumerate(lines_of(path)):
            body = keep(number * 1_000_000 + at, line[65:-1])
            if body is None:
                continue
            seq += 1
            record = msgspec.structs.replace(decode(body), seq=seq)
            if record.action == "segment:open":
                detail = {**record.detail, "previous": before.hex()}
                if root_before:
                    detail["previous_root"] = root_before
                record = msgspec.structs.replace(record, detail=detail)
            elif is_closing(record):
                root_before = tree.root().hex()
                detail = {"records": tree.num_leaves, "root": root_before}
                record = msgspec.structs.replace(record, detail=detail)
            body = encode(record)
            before = linked(before, body)
            if not is_closing(record):
                tree.add(before)
            out.append(b"%s %s\n" % (before.hex().encode(), body))
        change(path, b"".join(out))


def _pick_record(root: Path, chance: random.Random) -> tuple[ChainName, int]:
    """Return a record that is neither the first nor the last of its segment, by its place."""
    while True:
        chain, number, path = pick_segment(root, chance)
        count = len(lines_of(path))
        if count > 2:
            return chain, number * 1_000_000 + chance.randrange(1, count - 1)


def rewritten_edit(root: Path, chance: random.Random) -> str:
    """Put another actor into a record, and make everything behind it fit."""
    chain, chosen = _pick_record(root, chance)

    def keep(place: int, body: bytes) -> bytes:
        return encode(msgspec.structs.replace(decode(body), actor="nobody@all")) if place == chosen else body

    _rewrite(root, chain, keep)
    return f"rewrite {chain} with another actor in record {chosen}"


def rewritten_deletion(root: Path, chance: random.Random) -> str:
    """Take a record out, and make everything behind it fit."""
    chain, chosen = _pick_record(root, chance)
    _rewrite(root, chain, lambda place, body: None if place == chosen else body)
    return f"rewrite {chain} without record {chosen}"


def edit_checkpoint(root: Path, chance: random.Random) -> str:
    path = root / CHECKPOINTS
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    data[at] = chance.choice([value for value in range(256) if value != data[at]])
    change(path, bytes(data))
    return f"edit byte {at} of the checkpoints"


def delete_checkpoint(root: Path, chance: random.Random) -> str:
    path = root / CHECKPOINTS
    lines = lines_of(path)
    at = chance.randrange(len(lines) - 1)
    change(path, b"".join(lines[:at] + lines[at + 1 :]))
    return f"delete checkpoint {at + 1} of {len(lines)}"


def swap_checkpoints(root: Path, chance: random.Random) -> str:
    path = root / CHECKPOINTS
    lines = lines_of(path)
    one, other = chance.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    change(path, b"".join(lines))
    return f"swap checkpoints {one + 1} and {other + 1}"


def forge_checkpoints(root: Path, chance: random.Random) -> str:
    """Change a chain, and sign all checkpoints anew with a key of one's own."""
    what = rewritten_edit(root, chance)
    key = new_signing_key()
    keys = root.parent / "forger"
    shutil.rmtree(keys, ignore_errors=True)
    (root / CHECKPOINTS).unlink()
    Checkpoints(root, keys).make(1, force=True)
    shutil.rmtree(keys)
    line = next(iter(read_checkpoints(root / CHECKPOINTS)))
    change(
        root / CHECKPOINTS,
        signed_line(msgspec.structs.replace(line.checkpoint(), key_id=key.public.key_id), key) + b"\n",
    )
    return f"{what}, and sign with another key"


def forge_signature(root: Path, chance: random.Random) -> str:
    """Change what the last checkpoint says, and sign it with a key of one's own in the name of the home's."""
    path = root / CHECKPOINTS
    lines = lines_of(path)
    last = list(read_checkpoints(path))[-1].checkpoint()
    forged = msgspec.structs.replace(last, at_us=last.at_us + chance.randrange(1, 1000))
    change(path, b"".join(lines[:-1]) + signed_line(forged, new_signing_key()) + b"\n")
    return "forge the signature of the last checkpoint"


def cut_checkpoints(root: Path, chance: random.Random) -> str:
    """Cut the file of checkpoints behind one of them, and leave the chains."""
    path = root / CHECKPOINTS
    lines = lines_of(path)
    at = chance.randrange(1, len(lines))
    change(path, b"".join(lines[:at]))
    return f"cut the checkpoints behind number {at}"


def set_back(root: Path, chance: random.Random) -> str:
    """Cut the checkpoints and every chain to where they stood at one of them: a copy of an earlier day."""
    path = root / CHECKPOINTS
    lines = lines_of(path)
    at = chance.randrange(1, len(lines))
    change(path, b"".join(lines[:at]))
    checkpoint = list(read_checkpoints(path))[-1].checkpoint()
    for chain in chains_in(root):
        head = checkpoint.head_of(chain)
        for number in segments_of(root, chain):
            file = segment_path(root, chain, number)
            if head is None or number > head.segment:
                file.unlink()
            elif number == head.segment:
                kept = [line for line in lines_of(file) if decode(line[65:-1]).seq <= head.seq]
                change(file, b"".join(kept))
        if head is None:
            shutil.rmtree(root / "chains" / chain)
    return f"set everything back to checkpoint {at}"


TAIL_DEEDS: tuple[Deed, ...] = (cut_checkpoints, set_back)
"""What cuts off a tail so well that nothing here shows it; only an anchor does."""

DEEDS: tuple[Deed, ...] = (
    edit_byte,
    delete_line,
    insert_line,
    swap_lines,
    cut_segment,
    delete_segment,
    delete_chain,
    swap_segments,
    swap_chains,
    rewritten_edit,
    rewritten_deletion,
    edit_checkpoint,
    delete_checkpoint,
    swap_checkpoints,
    forge_checkpoints,
    forge_signature,
    *TAIL_DEEDS,
)
