"""An auditor's use cases on the audit log of one home: search, verify, export. Shared by command line and server.

Every read is recorded before it is answered, so every use case names its reader.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from ashore.control.audit.archive import Archived, ArchiveShelf, archivable, archive_segments, open_archive
from ashore.control.audit.archivist import ArchiveStanding, read_standing, waiting_segments
from ashore.control.audit.export import Format, Manifest, Order, copy_chains, export
from ashore.control.audit.notary import AnchorStanding, read_anchors
from ashore.control.audit.verifyfolder import VerifyReport, verify_folder
from ashore.core.errors import InvalidRequest, NotFound
from ashore.core.nearest import did_you_mean
from ashore.data.audit import (
    PUBLIC_KEYS,
    ChainName,
    Checkpoints,
    ContentSealer,
    PublicKey,
    Record,
    SqlSubjectKeys,
    load_signing_key,
    read_public_keys,
)
from ashore.data.audit.query import MOST_HITS, Query, check_query
from ashore.data.audit.search import Hit, find_record, search
from ashore.data.audit.segments import LocalShelf, Shelf, chains_in
from ashore.kit.call import Actor
from ashore.kit.recorder import ActOutcome, Recorder
from ashore.kit.rooms import rooms
from ashore.kit.sealing import OpenEnvelope, SecretFolder

SETTLE_S = 5.0
_NAMED: Final = ("actor", "tenant", "model", "key")
NAMES_FROM = 10_000
"""Newest records whose actors are looked through for a name like one that was mistyped."""


class AuditStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the audit log of a home stands."""

    home: str
    chains: dict[str, int]
    """Number of the last record that is signed, by chain."""
    checkpoints: int
    signed_at_us: int
    key_id: str
    num_bytes: int
    """Of all segments on this machine."""
    archive: ArchiveStanding | None = None
    """How archiving by itself stands; null: it never ran."""
    anchors: tuple[AnchorStanding, ...] = ()
    """How each anchor stands."""
    unarchived: int = 0
    """Closed segments that are not in the archive yet."""


class AuditService:
    """The audit log of one home, for authorised readers."""

    def __init__(
        self,
        root: Path,
        keys: Path,
        recorder: Recorder,
        *,
        anchors: Sequence[str] = (),
        opener: OpenEnvelope | None = None,
    ) -> None:
        self._root = root
        self._keys = SecretFolder(keys, opener)
        self._recorder = recorder
        self._checkpoints = Checkpoints(root, keys, opener)
        self._anchors = tuple(anchors)

    def search(self, query: Query, reader: Actor, *, archive: str = "") -> list[Hit]:
        """Return the matching records, newest first. The search is recorded first.

        Raises:
            AuditUnavailable: the search cannot be recorded.
            InvalidRequest, NotFound: the query has a value that no record can have.
        """
        with self._shelf(archive) as shelf:
            check_query(query, shelf.chains())
            self._tell("audit:search", reader, detail=asked(query))
            hits = search(shelf, query)
            if not hits:
                _check_action(shelf, query)
            return hits

    def details(self, action: str, resource: str) -> list[Mapping[str, str | int]]:
        """Implement `Recollection` for rooms that read their own records; no person reads, so nothing is recorded."""
        query = Query(action=action, resource=resource, limit=MOST_HITS)
        with self._shelf("") as shelf:
            return [hit.record.detail for hit in search(shelf, query)]

    def unseen(self, query: Query, *, archive: str = "") -> list[str]:
        """Return, in words, the names of a query that are nowhere in the audit log: each may be a typo, or was never
        active.
        """
        with self._shelf(archive) as shelf:
            return [
                f"no record has the {noun} {value[:100]!r}: {_near(shelf, noun, value)}"
                for noun in _NAMED
                if (value := getattr(query, noun)) and not search(shelf, Query(**{noun: value, "limit": 1}))
            ]

    def verify(
        self,
        reader: Actor,
        *,
        anchor: str = "",
        trusted: Sequence[PublicKey] = (),
        archive: str = "",
        told: Callable[[ChainName], None] = lambda chain: None,
    ) -> VerifyReport:
        """Return whether the audit log is unaltered, and record the verdict.

        Args:
            reader: The requester.
            anchor: Where copies of the checkpoints are; `configured`: the first anchor of ashore.toml.
            trusted: Public keys from elsewhere; default: those of this home.
            archive: Where old segments are; empty: they are not read.
            told: Called with each chain before it is read.

        Raises:
            AuditUnavailable: the verification cannot be recorded.
            NotFound: no anchor is configured.
        """
        if anchor == "configured":
            if not self._anchors:
                raise NotFound("ashore.toml configures no anchor", hint='write [audit] anchors = ["/mnt/anchor"]')
            anchor = self._anchors[0]
        with self._shelf(archive) as shelf:
            report = verify_folder(
                self._root, trusted=trusted or self.public_keys(), anchor=anchor, shelf=shelf, told=told
            )
        self._tell(
            "audit:verify",
            reader,
            outcome="done" if report.ok else "failed",
            reason=report.problems[0].what if report.problems else "",
            detail={"records": report.num_records, "checkpoints": report.checkpoints.count, "anchor": anchor},
        )
        return report

    def export(self, into: Path, query: Query, form: Format, reader: Actor) -> Manifest:
        """Write the matching records, oldest first, into a new folder with a signed manifest. The export is recorded
        first.

        Raises:
            Conflict: the folder exists.
            SealingKeyMissing: the signing key is sealed and unavailable; nothing is written.
            InvalidRequest: the query has a value that no record can have.
        """
        check_query(query)
        _check_action(LocalShelf(self._root), query)
        signer = load_signing_key(self._keys)
        self._tell("audit:export", reader, detail={**asked(query), "form": form})
        last = self._checkpoints.last()
        order = Order(
            query=query,
            form=form,
            by=reader.principal.id,
            at_us=time.time_ns() // 1000,
            home=self._checkpoints.home,
            checkpoint=last.checkpoint().number if last else 0,
        )
        return export(self._root, into, order, signer)

    def copy(self, into: Path, reader: Actor) -> int:
        """Copy the audit log into a new folder, signed up to now, for an auditor who verifies it elsewhere.

        Raises:
            Conflict: the folder exists.
        """
        self._tell("audit:export", reader, detail={"form": "chains"})
        self._checkpoints.make(time.time_ns() // 1000)
        return copy_chains(self._root, into)

    def content(self, place: str, sealer: ContentSealer, reader: Actor) -> tuple[Record, bytes, bytes]:
        """Return a record with its sealed prompt and answer. The read is recorded first.

        Args:
            place: `CHAIN#NUMBER`, as `search` shows it.
            sealer: Has the keys.
            reader: The requester.

        Raises:
            NotFound: there is no such record, it has no content, or its person was erased.
        """
        chain, _, number = place.rpartition("#")
        if not chain or not number.isdigit():
            raise InvalidRequest(
                f"{place!r} is not the position of a record", hint="write CHAIN#NUMBER, such as api-0#17"
            )
        self._tell("audit:content", reader, resource=f"record/{place}")
        if chain not in chains_in(self._root):
            raise NotFound(f"there is no chain {chain!r}", hint="list the chains with `ashore audit status`")
        record = find_record(LocalShelf(self._root), ChainName(chain), int(number))
        if record is None or record.content is None:
            raise NotFound(
                f"{place} has no stored content",
                hint='prompts and answers are stored only with [audit] content = "sealed"',
            )
        prompt, answer = sealer.open(record.content)
        return record, prompt, answer

    def erasable(self, subject: str, keys: SqlSubjectKeys) -> int:
        """Return how many keys `erase` would destroy; 0 for a person who was erased or whose content was never stored.

        Raises:
            NotFound: the name has no keys and is not in the log; a typo must not look like an erasure.
        """
        known = keys.subjects()
        if subject not in known:
            shelf = LocalShelf(self._root)
            if not search(shelf, Query(actor=subject, limit=1)):
                raise NotFound(
                    f"the audit log has no records of {subject[:100]!r}",
                    hint=_near(shelf, "actor", subject, known),
                )
        return known.get(subject, 0)

    def erase(self, subject: str, keys: SqlSubjectKeys, reader: Actor) -> int:
        """Destroy the keys of a person's content, and return how many; the chain stays intact.

        Raises:
            NotFound: the name has no keys and is not in the log.
            AuditUnavailable: it cannot be recorded; nothing is destroyed then.
        """
        self.erasable(subject, keys)
        self._tell("audit:erase", reader, resource=f"subject/{subject}")
        return keys.erase(subject)

    def archive(self, place: str, *, after_days: int, reader: Actor) -> list[Archived]:
        """Copy closed segments to an archive, and remove those older than `after_days` here. Recorded first.

        Raises:
            AshoreError: the archive cannot be reached, or holds something else.
        """
        self._tell("audit:archive", reader, detail={"place": place, "after_days": after_days})
        return archive_segments(
            self._root,
            self._checkpoints.home,
            open_archive(place),
            self._checkpoints,
            now_us=time.time_ns() // 1000,
            after_days=after_days,
        )

    def archivable(self, *, after_days: int) -> tuple[int, int]:
        """Return how many closed segments are here, and how many of them are old enough to remove."""
        return archivable(self._root, self._checkpoints, now_us=time.time_ns() // 1000, after_days=after_days)

    def status(self) -> AuditStatus:
        """Return the state of the audit log; reads only its last lines, and is not recorded."""
        last = self._checkpoints.last()
        checkpoint = last.checkpoint() if last else None
        files = (self._root / "chains").rglob("*.log")
        standing = read_standing(self._root)
        return AuditStatus(
            home=checkpoint.home if checkpoint else "",
            chains={head.chain: head.seq for head in checkpoint.chains} if checkpoint else {},
            checkpoints=checkpoint.number if checkpoint else 0,
            signed_at_us=checkpoint.at_us if checkpoint else 0,
            key_id=checkpoint.key_id if checkpoint else "",
            num_bytes=sum(file.stat().st_size for file in files),
            archive=standing,
            anchors=read_anchors(self._root),
            unarchived=waiting_segments(self._root, standing) if standing else 0,
        )

    def archiving(self) -> ArchiveStanding | None:
        """Return the state of scheduled archiving; None if it never ran. Reads one small file."""
        return read_standing(self._root)

    def anchoring(self) -> tuple[AnchorStanding, ...]:
        """Return the state of the anchors. Reads one small file."""
        return read_anchors(self._root)

    def public_keys(self) -> tuple[PublicKey, ...]:
        """Return the keys that signed in this home."""
        return read_public_keys(self._keys.path / PUBLIC_KEYS)

    @contextmanager
    def _shelf(self, archive: str) -> Iterator[Shelf]:
        if not archive:
            yield LocalShelf(self._root)
            return
        with closing(ArchiveShelf(self._root, self._checkpoints.home, open_archive(archive))) as shelf:
            yield shelf

    def _tell(
        self,
        action: str,
        reader: Actor,
        *,
        outcome: ActOutcome = "done",
        resource: str = "audit/record",
        reason: str = "",
        detail: dict[str, str | int] | None = None,
    ) -> None:
        reader.record(self._recorder, action, resource, outcome=outcome, reason=reason, detail=detail)
        self._recorder.settle(SETTLE_S)


def asked(query: Query) -> dict[str, str | int]:
    """Return a query as text for the audit record."""
    plain = Query()
    return {name: value for name, value in msgspec.to_builtins(query).items() if value != getattr(plain, name)}


@cache
def actions() -> frozenset[str]:
    """Return what an auditor may ask for by name. Records of another version of ashore may have others: what the log
    holds is found even if its action is not here."""
    return frozenset(act for room in rooms() for act in room.acts)


def is_known(action: str) -> bool:
    """Return whether there is such an action; `noun:*` is any of a noun."""
    return any(one == action or (action.endswith("*") and one.startswith(action[:-1])) for one in actions())


def _check_action(shelf: Shelf, query: Query) -> None:
    """Check that a query's action exists, or occurs in a record, possibly of another version of ashore."""
    action = query.action
    if action and not is_known(action) and not search(shelf, Query(action=action, limit=1)):
        raise InvalidRequest(
            f"there is no action {action[:60]!r}", hint=did_you_mean(action[:60], actions()), param="action"
        )


def _near(shelf: Shelf, noun: str, name: str, more: Iterable[str] = ()) -> str:
    """Return names similar to one that no record has."""
    seen = {getattr(hit.record, noun) for hit in search(shelf, Query(limit=NAMES_FROM))}
    return did_you_mean(name[:100], {*more, *seen} - {""})
