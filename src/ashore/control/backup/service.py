"""The use cases of a home's backup: init, run, status, scrub, replace, a new recovery key."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import KW_ONLY, dataclass
from functools import partial

import msgspec

from ashore.control.backup.code import Code, parse_code
from ashore.control.backup.coding import coder_of
from ashore.control.backup.contents import HomeContents
from ashore.control.backup.home import BackupHome
from ashore.control.backup.keys import VaultKey, envelope_id, new_recovery_key, new_vault_key, recovery_text, wrap
from ashore.control.backup.mending import mend_marks, repair_missing, scrub
from ashore.control.backup.model import (
    FORMAT,
    Finding,
    KeptBackup,
    NodeMark,
    RepairReport,
    RunReport,
    ScrubReport,
    StatusReport,
    Vault,
)
from ashore.control.backup.nodes import NodeOpener, open_node
from ashore.control.backup.ports import Node
from ashore.control.backup.recovery import confirm, key_warnings
from ashore.control.backup.running import Run, Told, prune
from ashore.control.backup.standing import fewest_shards, kept_backups, lacking_nodes, spare_nodes, status_of
from ashore.control.backup.vault import Reading, look, place_of, read_mark, sound_envelope, write_mark
from ashore.control.backup.writing import STALL_S
from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, BackupDamaged, Conflict, InvalidRequest, NotFound, TooFewNodes
from ashore.kit.recorder import Act, Recorder, begin
from ashore.kit.throttle import Throttle

KEPT_BACKUPS = 7
SLICE_S = 300.0
"""Of a scrub, after which the lock is let go for a moment."""
BREATH_S = 2.0
"""Between two slices."""


def nobody(stage: str, done_bytes: int, total_bytes: int) -> None:
    """A callback that ignores progress."""


@dataclass(slots=True)
class BackupService:
    """The backup of one home. Everything but `status` takes its lock: a second caller is refused at once."""

    home: BackupHome
    clock: Clock
    """Dates backups, for display only."""
    recorder: Recorder
    _: KW_ONLY
    actor: str = "system"
    """In the audit log."""
    opener: NodeOpener = open_node
    stall_s: float = STALL_S
    """A node without progress for so long is left out of a backup."""
    patience_s: float = 0.0
    """Longest wait for another process that uses the backup."""

    @property
    def code(self) -> Code:
        """The code of this home's backup. Raises `NotFound` if there is none."""
        return parse_code(self.home.read().code)

    @property
    def places(self) -> tuple[str, ...]:
        """The places of this home's backup nodes. Raises `NotFound` if there is none."""
        return tuple(self.home.read().places)

    def init(self, places: Sequence[str], code: Code) -> tuple[Vault, tuple[str, ...]]:
        """Create the backup of this home on nodes; return it, and warnings for the operator.

        May be called again until the first backup was made, to complete a crashed call. Writes the recovery key into
        the home first, so that every mark can be opened.

        Raises:
            InvalidRequest: the number of nodes is not that of the code, or one is named twice.
            Conflict: the home has a backup, or a node belongs to another.
            NodeUnavailable: a node cannot be created.
            MissingExtra: the code needs ISA-L.
        """
        places = [place if place == "/" else place.rstrip("/") for place in places]
        if len(places) != code.n or len(set(places)) != len(places):
            raise InvalidRequest(
                f"{len(set(places))} different nodes were given, but the code {code} needs {code.n}",
                hint=f"give {code.n} places on different disks or machines: --nodes DIR,DIR,s3://BUCKET/PATH",
            )
        coder_of(code)
        nodes = [self.opener(place) for place in places]
        with self.home.locked("init"), self._recorded("backup:init") as detail:
            detail |= {"code": str(code), "nodes": " ".join(places)}
            vault, key = self._begin(places, code)
            for node in nodes:
                self._refuse_other(node, vault)
            for node in nodes:
                node.prepare()
            recovery = new_recovery_key()
            self.home.write_recovery(recovery_text(recovery, vault_id=vault.vault_id))
            self.home.write_key(key)
            envelope = wrap(key, recovery)
            vault = msgspec.structs.replace(vault, envelope=envelope_id(envelope), confirmed_s=0)
            self.home.write(vault)
            for index, node in enumerate(nodes):
                write_mark(node, _mark(vault, index, node, envelope))
        return vault, _shared(nodes)

    def run(
        self,
        contents: HomeContents,
        *,
        only: tuple[str, ...] = (),
        keep: int = KEPT_BACKUPS,
        take_over: bool = False,
        told: Told = nobody,
    ) -> RunReport:
        """Back up the home; then repair nodes that were down, and delete old backups.

        Args:
            contents: What to back up.
            only: Names or references of models; default: all.
            keep: Backups that are kept.
            take_over: Continue a backup of another home, which is refused from then on.
            told: Called with the progress.

        Raises:
            TooFewNodes, Conflict, CorruptBlob, HomeBusy: nothing was committed; earlier backups are intact.
        """
        with self._locked("run"), self._recorded("backup:run") as detail:
            vault, reading = self._look()
            run = Run(reading, vault, self.home, self.clock, told=told, stall_s=self.stall_s)
            report = run.run(contents, only=only, take_over=take_over)
            _, after = self._look()
            findings, notes = repair_missing(after)
            _, after = self._look()
            notes = (*notes, *prune(after, keep=keep))
            detail |= {"generation": report.generation, "new_bytes": report.new_bytes, "nodes": len(report.nodes)}
            report = dataclasses.replace(
                report,
                repaired=sum(finding.repaired for finding in findings),
                notes=tuple(dict.fromkeys((*report.notes, *notes, *_away(after), *self._key_notes()))),
                worst=fewest_shards(after, report.generation),
            )
            tally, lacking = self.home.read_tally(), set(range(self.code.n)) - set(report.nodes)
            self.home.write_tally(tally.standing(report.worst - self.code.k, {*tally.away, *lacking}))
            return report

    def status(self, contents: HomeContents | None = None, schedule: Sequence[str] = ()) -> StatusReport:
        """Return the state of the backup, by names and sizes on the nodes; `scrub` reads everything.

        Args:
            contents: Used to list models missing in the backup; None: do not list.
            schedule: What the server does by itself, in words.
        """
        vault, reading = self._look()
        report = status_of(self.home, vault, reading, contents, self.clock.now_s())
        return dataclasses.replace(report, schedule=tuple(schedule))

    def kept(self) -> tuple[KeptBackup, ...]:
        """Return the backups on the nodes, newest first, by names, sizes and listings."""
        _, reading = self._look()
        return kept_backups(reading)

    def scrub(
        self,
        *,
        bytes_per_s: float | None = None,
        after: str = "",
        until: Callable[[], bool] = lambda: False,
        told: Told = nobody,
    ) -> ScrubReport:
        """Read everything on every working node, and repair faults.

        Args:
            bytes_per_s: Limit of the read rate over all nodes; None: no limit.
            after: `reached` of the scrub to continue.
            until: Called after each object, whether to pause. A paused scrub without findings is not recorded; the one
                that completes is.
            told: Called with the progress.

        Raises:
            TooFewNodes: too few nodes work to judge anything.
        """
        with self._locked("scrub"), self._recorded("backup:scrub", begins=False) as detail:
            vault, reading = self._look()
            self._refuse_blind(reading)
            marks, reading = self._mend_marks(vault, reading)
            report = scrub(reading, Throttle(bytes_per_s or 0), after=after, until=until, told=told)
            report = dataclasses.replace(
                report, findings=(*marks, *report.findings), notes=(*report.notes, *_away(reading))
            )
            self._remember(report.findings)
            tally = self.home.read_tally().counted(report.findings)
            self.home.write_tally(msgspec.structs.replace(tally, reached=report.reached))
            if report.reached and not report.findings:
                detail["quiet"] = 1
                return report
            detail |= {"shards": report.num_shards, "found": len(report.findings)}
            detail["repaired"] = sum(finding.repaired for finding in report.findings)
            if not report.reached:
                vault = self.home.read()
                self.home.write(msgspec.structs.replace(vault, scrubbed_s=int(self.clock.now_s())))
            return report

    def scrub_all(
        self, *, bytes_per_s: float | None = None, resume: bool = False, slice_s: float = SLICE_S, told: Told = nobody,
        between: Callable[[], None] = lambda: time.sleep(BREATH_S),
    ) -> ScrubReport:  # fmt: skip
        """Read everything on every working node in slices, and repair faults. Between two of them `between` is called,
        and another process may use the backup.

        Args:
            resume: Continue after what an interrupted one read.
        """
        after, before = self.home.read_tally().reached if resume else "", None
        while True:
            is_over = partial(self._is_past, self.clock.monotonic_s() + slice_s)
            report = self.scrub(bytes_per_s=bytes_per_s, after=after, until=is_over, told=told)
            before = report if before is None else before + report
            if not report.reached:
                return before
            after, self.patience_s = report.reached, 2 * SLICE_S
            between()

    def _is_past(self, moment_s: float) -> bool:
        return self.clock.monotonic_s() >= moment_s

    def repair(self) -> RepairReport:
        """Rebuild what working nodes lack because they were down or damaged; by marks, names and sizes.

        May be called twice. Nothing is written to a place that is empty, or on another file system: see `replace`.

        Raises:
            TooFewNodes: too few nodes work to rebuild anything.
        """
        with self._locked("repair"), self._recorded("backup:repair") as detail:
            vault, reading = self._look()
            self._refuse_blind(reading)
            marks, reading = self._mend_marks(vault, reading)
            findings, notes = repair_missing(reading)
            findings = (*marks, *findings)
            self._remember(findings)
            _, after = self._look()
            newest = after.newest
            spare = spare_nodes(after, newest.generation) if newest else reading.code.m
            detail |= {"found": len(findings), "repaired": sum(finding.repaired for finding in findings)}
            lacking = lacking_nodes(after)
            repaired = [finding for finding in findings if finding.repaired]  # others are tried again, and again
            self.home.write_tally(self.home.read_tally().counted(repaired).standing(spare, lacking))
            return RepairReport(findings=findings, notes=notes, lacking=lacking, spare=spare)

    def replace(self, word: str, place: str = "", *, told: Told = nobody) -> ScrubReport:
        """Use a place as a node of this backup although it is empty, on another file system, or new; fill it.

        May be called again to complete a crashed call. Intact files there are kept.

        Args:
            word: The node: its place or its number.
            place: Its new place; default: the old one.
            told: Called with the progress.

        Raises:
            InvalidRequest: there is no such node.
            Conflict: the place is another node's, or belongs to another backup.
            TooFewNodes: too few others work to rebuild its shards.
        """
        with self.home.locked("replace"), self._recorded("backup:replace") as detail:
            vault, reading = self._look()
            index = place_of(vault.places, word)
            new = (place or vault.places[index]).rstrip("/")
            if new in vault.places and vault.places.index(new) != index:
                raise Conflict(f"{new} is node {vault.places.index(new)}", hint="give a place that no other node uses")
            detail |= {"node": index, "place": new}
            self._refuse_blind(reading)
            node = self.opener(new)
            node.prepare()
            self._refuse_other(node, vault, index=index)
            envelope = sound_envelope(reading.good) or reading.good[0].envelope
            node_ids = (*vault.node_ids[:index], secrets.token_hex(16), *vault.node_ids[index + 1 :])
            places = (*vault.places[:index], new, *vault.places[index + 1 :])
            vault = msgspec.structs.replace(vault, places=places, node_ids=node_ids)
            write_mark(node, _mark(vault, index, node, envelope))
            self.home.write(vault)
            _, reading = self._look()
            return scrub(reading, Throttle(0), only=index, told=told)

    def rekey(self) -> None:
        """Create a new recovery key in the home; the old one stops working.

        May be called twice; after a crash both keys may work, each on some nodes.

        Raises:
            TooFewNodes: a node is down, on which the old key would still work.
        """
        with self.home.locked("rekey"), self._recorded("backup:rekey"):
            vault, reading = self._look()
            if len(reading.good) < reading.code.n:
                raise TooFewNodes(
                    "a new recovery key needs every node: " + "; ".join(v.says for v in reading.views if not v.is_good),
                    hint="mount or replace the missing nodes first",
                )
            recovery = new_recovery_key()
            self.home.write_recovery(recovery_text(recovery, vault_id=vault.vault_id))
            envelope = wrap(reading.key, recovery)
            self.home.write(msgspec.structs.replace(vault, envelope=envelope_id(envelope), confirmed_s=0))
            for view in reading.good:
                write_mark(view.node, msgspec.structs.replace(read_mark(view.node), envelope=envelope))

    def confirm(self, recovery: bytes) -> tuple[str, ...]:
        """Record that the recovery key was shown, and return warnings; a home that lost its own key gets it back.

        Raises:
            RecoveryKeyWrong: it does not open this backup.
            TooFewNodes: no node is reachable.
        """
        with self.home.locked("confirm"), self._recorded("backup:confirm"):
            return confirm(self.home, recovery, opener=self.opener, now_s=self.clock.now_s())

    def _locked(self, what: str) -> AbstractContextManager[None]:
        return self.home.locked(what, patience_s=self.patience_s)

    def _begin(self, places: Sequence[str], code: Code) -> tuple[Vault, VaultKey]:
        """Return the backup to create; that of a crashed call if it is the same."""
        if self.home.has_vault:
            vault = self.home.read()
            if vault.generation or vault.places != tuple(places) or vault.code != str(code):
                raise Conflict(
                    f"this home has a backup on {', '.join(vault.places)}, with {vault.generation} made",
                    hint="to move a node: ashore backup replace; to start again, first move `backup` away",
                )
            return vault, self.home.read_key()
        key = new_vault_key()
        vault = Vault(
            format=FORMAT,
            vault_id=key.vault_id,
            code=str(code),
            places=tuple(places),
            node_ids=tuple(secrets.token_hex(16) for _ in places),
            writer=secrets.token_hex(8),
        )
        return vault, key

    def _refuse_other(self, node: Node, vault: Vault, *, index: int | None = None) -> None:
        """Raise `Conflict` if a place has the mark of another backup, or of another node of this one."""
        try:
            mark = read_mark(node)
        except (NotFound, BackupDamaged):
            return
        except AshoreError:
            return  # it does not exist yet, and `prepare` reports any other error
        if mark.vault_id != vault.vault_id:
            raise Conflict(
                f"{node.place} belongs to another backup, {mark.vault_id[:8]}",
                hint="give another place, or empty this one if that backup is no longer needed",
            )
        if index is not None and mark.index != index:
            raise Conflict(
                f"{node.place} is node {mark.index} of this backup", hint="give a place that no other node uses"
            )

    def _look(self) -> tuple[Vault, Reading]:
        vault = self.home.read()
        return vault, look(vault, self.home.read_key(), [self.opener(place) for place in vault.places])

    def _refuse_blind(self, reading: Reading) -> None:
        if len(reading.good) < reading.code.k:
            raise TooFewNodes(
                f"only {len(reading.good)} of {reading.code.n} nodes work, but rebuilding needs {reading.code.k}: "
                + "; ".join(v.says for v in reading.views if not v.is_good),
                hint="mount or repair them",
            )

    def _mend_marks(self, vault: Vault, reading: Reading) -> tuple[tuple[Finding, ...], Reading]:
        """Rewrite bad marks where the place is certainly the node; return findings, and the nodes scanned again."""
        findings = mend_marks(vault, reading)
        return findings, (self._look()[1] if any(one.repaired for one in findings) else reading)

    def _key_notes(self) -> tuple[str, ...]:
        return tuple(key_warnings(self.home, self.home.read(), self.clock.now_s()))

    def _remember(self, findings: Iterable[Finding]) -> None:
        """Note for the next backup what cannot be rebuilt from the nodes."""
        lost = [finding.file for finding in findings if not finding.repaired]
        if lost:
            self.home.note_again(lost)

    @contextmanager
    def _recorded(self, action: str, *, begins: bool = True) -> Iterator[dict[str, str | int]]:
        """Write audit records of the beginning, and of the outcome unless it is `quiet`; the block adds facts to the
        yielded dict."""
        detail: dict[str, str | int] = {}
        act = Act(action=action, actor=self.actor, resource="backup/home")
        if begins:
            begin(self.recorder, act)
        try:
            yield detail
        except AshoreError as error:
            self.recorder.record(dataclasses.replace(act, outcome="failed", reason=f"{error.code}: {error.message}"))
            raise
        if not detail.pop("quiet", 0):
            self.recorder.record(dataclasses.replace(act, detail=detail))


def _mark(vault: Vault, index: int, node: Node, envelope: str) -> NodeMark:
    return NodeMark(
        format=FORMAT,
        vault_id=vault.vault_id,
        node_id=vault.node_ids[index],
        index=index,
        code=vault.code,
        filesystem=node.filesystem(),
        envelope=envelope,
    )


def _shared(nodes: Sequence[Node]) -> tuple[str, ...]:
    """Return a warning for every file system with more than one node."""
    by_system: dict[str, list[str]] = {}
    for node in nodes:
        by_system.setdefault(node.filesystem(), []).append(node.place)
    return tuple(
        f"{' and '.join(places)} are on the same file system, so they can be lost together"
        for system, places in by_system.items()
        if system and len(places) > 1
    )


def _away(reading: Reading) -> tuple[str, ...]:
    return tuple(view.says for view in reading.views if not view.is_good)
