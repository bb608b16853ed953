"""Finds faults on the nodes and repairs them from the others: scrub, repair of a returning node, replace.

A shard is rebuilt byte for byte from sealed data: repair needs no plaintext and changes no object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace

from ashore.control.backup.model import FORMAT, Finding, Listing, NodeMark, ObjectRef, ScrubReport, Vault
from ashore.control.backup.objects import Objects, open_objects
from ashore.control.backup.ports import Sink, read_small
from ashore.control.backup.reading import ObjectReader, check_header
from ashore.control.backup.shards import HASH_BYTES, HEADER_BYTES, ShardHeader, block_checksum
from ashore.control.backup.vault import (
    MARK,
    NodeView,
    Reading,
    commit_name,
    good_shards,
    header_of,
    read_commit,
    sound_envelope,
    write_commit,
    write_mark,
)
from ashore.core.errors import AshoreError, BackupDamaged, NotFound
from ashore.kit.throttle import Throttle


def kept_objects(objects: Objects) -> tuple[dict[str, tuple[ObjectRef, str]], tuple[str, ...]]:
    """Return every object that a backup refers to, by shard name, with its owner; and notes on backups whose listing
    cannot be read.
    """
    found: dict[str, tuple[ObjectRef, str]] = {}
    notes = []
    for generation, commit in sorted(objects.reading.commits.items()):
        found[commit.listing.file_name] = (commit.listing, f"the listing of backup {generation}")
        try:
            listing = objects.listing(commit)
        except AshoreError as error:
            notes.append(f"backup {generation}: {error.message}")
            continue
        found |= _belongings(listing)
    return found, tuple(notes)


def _belongings(listing: Listing) -> dict[str, tuple[ObjectRef, str]]:
    found = {entry.object.file_name: (entry.object, entry.path) for entry in listing.files}
    for model in listing.models:
        for blob in model.all_blobs:
            found[blob.object.file_name] = (blob.object, f"{model.reference} (blob {blob.digest[7:19]})")
    return found


def check_shard(view: NodeView, ref: ObjectRef, expected: ShardHeader, pace: Throttle) -> None:
    """Read one shard completely, and verify every byte.

    Raises:
        NotFound: it is missing.
        BackupDamaged: names the block.
        NodeUnavailable: the node failed.
    """
    place = f"{view.node.place}/{ref.file_name}"
    with closing(view.node.open(ref.file_name)) as source:
        head = bytearray(min(HEADER_BYTES, source.num_bytes))
        source.read_into(0, [memoryview(head)])
        check_header(bytes(head), source.num_bytes, expected=expected, index=view.index, what=place)
        buffer = memoryview(bytearray(expected.fragment_bytes(0) + HASH_BYTES))
        for stripe in range(expected.num_stripes):
            length = expected.fragment_bytes(stripe)
            pace.take(length)
            source.read_into(expected.offset(stripe), [buffer[: length + HASH_BYTES]])
            if (
                block_checksum(bytes(head[-HASH_BYTES:]), stripe, buffer[:length])
                != buffer[length : length + HASH_BYTES]
            ):
                raise BackupDamaged(f"block {stripe} of {place} was altered (of {expected.num_stripes} blocks)")


def mend_marks(vault: Vault, reading: Reading) -> tuple[Finding, ...]:
    """Rewrite marks that were altered, or that an older recovery key opens; return the faults."""
    envelope = sound_envelope(reading.good)
    bad = [view for view in reading.views if view.condition == "damaged" or view.is_stale]
    return tuple(_mend_mark(vault, view, envelope) for view in bad)


def _mend_mark(vault: Vault, view: NodeView, envelope: str) -> Finding:
    """Rewrite a mark, if its remains show that the place is this node of this backup, on its original file system."""
    what = f"the mark of {view.node.place} belongs to an older recovery key" if view.is_stale else view.says
    found = Finding(place=view.node.place, file=MARK, what=what, belongs_to="the node itself")
    index, node = view.index, view.node
    try:
        left, system = read_small(node, MARK), node.filesystem()
        told = (vault.vault_id, vault.node_ids[index], f'"filesystem": "{system}"', f'"index": {index},')
        if not envelope or not all(one.encode() in left for one in told):
            return found
        mark = NodeMark(
            format=FORMAT,
            vault_id=vault.vault_id,
            node_id=vault.node_ids[index],
            index=index,
            code=vault.code,
            filesystem=system,
            envelope=envelope,
        )
        write_mark(node, mark)
    except AshoreError:
        return found
    return replace(found, repaired=True)


def repair_object(objects: Objects, ref: ObjectRef, lost: tuple[int, ...]) -> None:
    """Rebuild the lost shards of an object on their nodes.

    May be called twice, and may crash anywhere: a shard appears only when complete.

    Raises:
        BackupDamaged: too few good shards are left.
        NodeUnavailable, DiskFull: a node refuses its shard; earlier nodes have theirs.
    """
    expected = header_of(objects.reading.key, objects.reading.code, ref)
    reader = ObjectReader(tuple(objects.lanes.values()), objects.coder, expected, ref)
    headers = {index: replace(expected, index=index).to_bytes() for index in lost}
    sinks: dict[int, Sink] = {}
    try:
        for index in lost:
            sinks[index] = objects.lanes[index].node.put(ref.file_name)
            sinks[index].write([headers[index]])
        for stripe, _, made in reader.stripes(lost):
            for index, fragment in made.items():
                view = fragment.data
                sinks[index].write([view, block_checksum(headers[index][-HASH_BYTES:], stripe, view)])
        for sink in sinks.values():
            sink.finish()
    finally:
        for sink in sinks.values():
            sink.abort()


def repair_missing(reading: Reading) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Rebuild every shard and commit that a working node lacks, by names and sizes; return findings and notes."""
    findings: list[Finding] = []
    with open_objects(reading) as objects:
        kept, notes = kept_objects(objects)
        told = list(notes)
        for ref, owner in kept.values():
            have = good_shards(reading, ref)
            lost = [v.index for v in reading.good if v.index not in have]
            if lost:
                findings += _mend(objects, ref, owner, dict.fromkeys(lost, "is missing or incomplete"), told)
        findings += _mend_commits(reading, None, told)
    return tuple(findings), tuple(told)


def scrub(
    reading: Reading,
    pace: Throttle,
    *,
    only: int | None = None,
    after: str = "",
    until: Callable[[], bool] = lambda: False,
    told: Callable[[str, int, int], None],
) -> ScrubReport:
    """Read every shard of every working node, or of one, and repair faults.

    Args:
        reading: The nodes as scanned.
        pace: Limits the read rate.
        only: Number of the only node to read; default: all working nodes.
        after: Shards up to this name were read before.
        until: Called after each object, whether to stop; the report's `reached` has the position.
        told: Called with the progress.
    """
    shards = num_bytes = 0
    reached = ""
    findings: list[Finding] = []
    _read_commits_again(reading)
    with open_objects(reading) as objects:
        kept, notes = kept_objects(objects)
        said = list(notes)
        views = [view for view in reading.good if only in (None, view.index)]
        total = sum(header_of(reading.key, reading.code, ref).shard_bytes for ref, _ in kept.values()) * len(views)
        left = sorted(name for name in kept if name > after)
        for number, name in enumerate(left, start=1):
            ref, owner = kept[name]
            expected = header_of(reading.key, reading.code, ref)
            wrong: dict[int, str] = {}
            for view in views:
                try:
                    check_shard(view, ref, expected, pace)
                except NotFound:
                    wrong[view.index] = "is missing"
                except AshoreError as error:
                    wrong[view.index] = error.message
                shards += 1
                num_bytes += expected.shard_bytes
                told("scrub", num_bytes, total)
            if wrong:
                findings += _mend(objects, ref, owner, wrong, said)
            if number < len(left) and until():
                reached = name
                break
        findings += _mend_commits(reading, only, said)
    return ScrubReport(
        num_shards=shards, num_bytes=num_bytes, findings=tuple(findings), notes=tuple(said), reached=reached
    )


def _mend(
    objects: Objects, ref: ObjectRef, owner: str, wrong: Mapping[int, str], notes: list[str]
) -> Iterator[Finding]:
    """Repair the shards of one object; yield each fault, and whether it is repaired."""
    repaired: set[int] = set()
    try:
        repair_object(objects, ref, tuple(wrong))
        repaired = set(wrong)
    except AshoreError as error:
        notes.append(f"{owner} could not be repaired now: {error.message}")
        for index in wrong if len(wrong) > 1 else ():
            try:
                repair_object(objects, ref, (index,))
                repaired.add(index)
            except AshoreError as second:
                notes.append(f"{owner}, node {objects.lanes[index].node.place}: {second.message}")
    for index, what in wrong.items():
        yield Finding(
            place=objects.lanes[index].node.place,
            file=ref.file_name,
            what=what,
            belongs_to=owner,
            repaired=index in repaired,
        )


def _mend_commits(reading: Reading, only: int | None, notes: list[str]) -> Iterator[Finding]:
    """Send each working node the commits that it lacks."""
    for view in reading.good:
        for generation, commit in sorted(reading.commits.items()):
            if commit_name(generation) in view.sizes or only not in (None, view.index):
                continue
            repaired = False
            try:
                write_commit(reading, view, commit)
                repaired = True
            except AshoreError as error:
                notes.append(error.message)
            yield Finding(
                place=view.node.place,
                file=commit_name(generation),
                what="is missing or cannot be opened",
                belongs_to=f"backup {generation}",
                repaired=repaired,
            )


def _read_commits_again(reading: Reading) -> None:
    """Treat altered commits as missing on their nodes, so that they are rewritten."""
    for view in reading.good:
        for generation, commit in reading.commits.items():
            name = commit_name(generation)
            if name not in view.sizes:
                continue
            try:
                same = read_commit(reading.key, view.node, generation) == commit
            except AshoreError:
                same = False
            if not same:
                view.sizes = {one: size for one, size in view.sizes.items() if one != name}
