"""State of a backup, by names and sizes on the nodes, in words for operators. Read-only."""

from __future__ import annotations

from collections.abc import Iterator

from ashore.control.backup.code import could_be_lost
from ashore.control.backup.contents import HomeContents
from ashore.control.backup.home import BackupHome
from ashore.control.backup.model import Commit, KeptBackup, StatusReport, Vault
from ashore.control.backup.objects import open_objects
from ashore.control.backup.recovery import key_warnings
from ashore.control.backup.vault import Reading, good_shards, report_of
from ashore.core.errors import AshoreError


def status_of(
    home: BackupHome, vault: Vault, reading: Reading, contents: HomeContents | None, now_s: float
) -> StatusReport:
    """See `BackupService.status`."""
    newest = reading.newest
    warnings = list(_warnings(home, vault, reading, now_s))
    missing = dict.fromkeys(range(reading.code.n), 0)
    num_objects = worst = 0
    left_out: tuple[str, ...] = ()
    if newest is not None:
        try:
            with open_objects(reading) as objects:
                listing = objects.listing(newest)
        except AshoreError as error:
            warnings.append(error.message)
        else:
            refs = {**listing.objects(), newest.listing.file_name: newest.listing}
            have = [good_shards(reading, ref) for ref in refs.values()]
            num_objects, worst = len(refs), min(len(one) for one in have)
            for index in missing:
                missing[index] = sum(index not in one for one in have)
            if contents is not None:
                kept = {model.digest for model in listing.models}
                left_out = tuple(one.reference for one in contents.models() if one.digest not in kept)
    return StatusReport(
        code=vault.code,
        quorum=reading.code.quorum,
        generation=newest.generation if newest else 0,
        created_s=newest.created_s if newest else 0,
        num_objects=num_objects,
        worst=worst,
        nodes=tuple(report_of(view, missing=missing[view.index]) for view in reading.views),
        lost=could_be_lost(reading.code, worst) if newest else "there is no backup yet",
        not_backed_up=left_out,
        warnings=tuple(warnings),
    )


def kept_backups(reading: Reading) -> tuple[KeptBackup, ...]:
    """Return the backups on the nodes, newest first. One with an unreadable listing has lost something.

    Reads names, sizes and listings.
    """
    found = []
    with open_objects(reading) as objects:
        for generation in sorted(reading.commits, reverse=True):
            commit = reading.commits[generation]
            try:
                listing = objects.listing(commit)
                refs = listing.objects()
                spare = spare_nodes(reading, generation)
            except AshoreError:
                found.append(
                    KeptBackup(
                        generation=generation, created_s=commit.created_s, models=(), num_objects=0, clear_bytes=0,
                        spare=-1,
                    )
                )  # fmt: skip
                continue
            found.append(
                KeptBackup(
                    generation=generation,
                    created_s=commit.created_s,
                    models=tuple(sorted(one.reference for one in listing.models)),
                    num_objects=len(refs) + 1,
                    clear_bytes=sum(ref.num_bytes for ref in refs.values()) + commit.listing.num_bytes,
                    spare=spare,
                )
            )
    return tuple(found)


def lacking_nodes(reading: Reading) -> tuple[int, ...]:
    """Return the nodes that do not work, or lack a part of the newest backup. Raises as `spare_nodes`."""
    lacking = {view.index for view in reading.views if view.condition != "good"}
    if reading.newest is not None:
        for have in _shards(reading, reading.newest):
            lacking |= set(range(reading.code.n)) - set(have)
    return tuple(sorted(lacking))


def spare_nodes(reading: Reading, generation: int) -> int:
    """Return how many more nodes of a backup may be lost; negative: a part is lost already.

    Raises:
        BackupDamaged: its listing cannot be read.
    """
    return fewest_shards(reading, generation) - reading.code.k


def fewest_shards(reading: Reading, generation: int) -> int:
    """Return the fewest good shards of any object of a backup. Raises as `spare_nodes`."""
    return min(map(len, _shards(reading, reading.commits[generation])))


def _shards(reading: Reading, commit: Commit) -> list[tuple[int, ...]]:
    """Return, for each object of a backup, the nodes with a shard of it."""
    with open_objects(reading) as objects:
        refs = (*objects.listing(commit).objects().values(), commit.listing)
    return [good_shards(reading, ref) for ref in refs]


def _warnings(home: BackupHome, vault: Vault, reading: Reading, now_s: float) -> Iterator[str]:
    yield from key_warnings(home, vault, now_s)
    newest = reading.newest
    if vault.generation > (newest.generation if newest else 0):
        yield (
            f"this home made backup {vault.generation}, but no available node has it: "
            "nodes are missing, or were reset to an older copy"
        )
    yield from (view.says for view in reading.views if view.says)
    for view in reading.views:
        if view.is_stale:
            yield f"{view.node.place} was reset: an older recovery key opens it; repair it with `ashore backup scrub`"
    yield from (finding.what for finding in reading.findings)
    if newest is not None and newest.created_s > now_s + 3600:
        yield "the newest backup is dated in the future: the clock of this machine was set back"
