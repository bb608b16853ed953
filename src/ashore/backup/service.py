"""The use cases of a home that has, or begins, a backup: init, run, status, scrub, replace, a new recovery key."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from ashore.backup.code import Code, could_be_lost, parse_code
from ashore.backup.coding import coder_of
from ashore.backup.contents import HomeContents
from ashore.backup.home import BackupHome
from ashore.backup.keys import VaultKey, new_recovery_key, new_vault_key, recovery_text, wrap
from ashore.backup.mending import Pace, repair_missing, scrub
from ashore.backup.model import FORMAT, Finding, NodeMark, RunReport, ScrubReport, StatusReport, Vault
from ashore.backup.nodes import NodeOpener, open_node
from ashore.backup.objects import open_objects
from ashore.backup.ports import Node
from ashore.backup.running import Run, Told, prune
from ashore.backup.vault import Reading, good_shards, look, place_of, read_mark, report_of, write_mark
from ashore.backup.writing import STALL_S
from ashore.core import Act, Clock, Recorder
from ashore.errors import AshoreError, BackupDamaged, Conflict, InvalidRequest, NotFound, TooFewNodes

KEPT_BACKUPS = 7


def nobody(stage: str, done_bytes: int, total_bytes: int) -> None:
    """For callers that do not ask how far it is."""


class BackupService:
    """The backup of one home. Everything but `status` holds its lock: a second caller is refused at once."""

    def __init__(
        self,
        home: BackupHome,
        clock: Clock,
        recorder: Recorder,
        *,
        actor: str = "system",
        opener: NodeOpener = open_node,
        stall_s: float = STALL_S,
    ) -> None:
        """Make the object; touches nothing.

        Args:
            home: Files of the home that belong to its backup.
            clock: Dates backups, for people; nothing is decided by it.
            recorder: Told what was done.
            actor: Who does it, as the record names them.
            opener: Gives the node at a place.
            stall_s: A node that takes nothing for so long is left out of a backup.
        """
        self._home = home
        self._clock = clock
        self._recorder = recorder
        self._actor = actor
        self._opener = opener
        self._stall_s = stall_s

    @property
    def code(self) -> Code:
        """Of the backup of this home. Raises `NotFound` where none was begun."""
        return parse_code(self._home.read().code)

    def init(self, places: Sequence[str], code: Code) -> tuple[Vault, tuple[str, ...]]:
        """Begin the backup of this home on nodes; return it, and what the operator must know.

        May be called twice until the first backup was made: a call that died goes on. Writes the recovery key into the
        home first, so that there is no mark that nothing opens.

        Raises:
            InvalidRequest: the number of nodes is not that of the code, or one is named twice.
            Conflict: the home has a backup, or a node belongs to another.
            NodeUnavailable: a node cannot be made.
            MissingExtra: the code needs ISA-L.
        """
        places = [place if place == "/" else place.rstrip("/") for place in places]
        if len(places) != code.n or len(set(places)) != len(places):
            raise InvalidRequest(
                f"{len(set(places))} different nodes were named, and the code {code} needs {code.n}",
                hint=f"name {code.n} places on different disks or machines: --nodes DIR,DIR,s3://BUCKET/PATH",
            )
        coder_of(code)
        nodes = [self._opener(place) for place in places]
        with self._home.locked("init"), self._recorded("backup:init") as detail:
            detail |= {"code": str(code), "nodes": " ".join(places)}
            vault, key = self._begin(places, code)
            for node in nodes:
                self._refuse_other(node, vault)
            for node in nodes:
                node.prepare()
            recovery = new_recovery_key()
            self._home.write_recovery(recovery_text(recovery, vault_id=vault.vault_id))
            self._home.write_key(key)
            self._home.write(vault)
            for index, node in enumerate(nodes):
                write_mark(node, _mark(vault, index, node, wrap(key, recovery)))
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
        """Back the home up; then make what nodes lack that were away, and delete what is too old.

        Args:
            contents: What there is to back up.
            only: Names or references of models; default: all.
            keep: Backups that are kept.
            take_over: Go on with a backup that another home wrote, which is refused from then on.
            told: Hears how far it is.

        Raises:
            TooFewNodes, Conflict, CorruptBlob, HomeBusy: nothing was committed; the backups before are whole.
        """
        with self._home.locked("run"), self._recorded("backup:run") as detail:
            vault, reading = self._look()
            run = Run(reading, vault, self._home, self._clock, told=told, stall_s=self._stall_s)
            report = run.run(contents, only=only, take_over=take_over)
            _, after = self._look()
            findings, notes = repair_missing(after)
            _, after = self._look()
            notes = (*notes, *prune(after, keep=keep))
            detail |= {"generation": report.generation, "new_bytes": report.new_bytes, "nodes": len(report.nodes)}
            return dataclasses.replace(
                report,
                repaired=sum(finding.repaired for finding in findings),
                notes=tuple(dict.fromkeys((*report.notes, *notes, *_away(after)))),
                worst=_worst(after, report.generation),
            )

    def status(self, contents: HomeContents | None = None) -> StatusReport:
        """Return how the backup stands, by names and sizes of what lies on the nodes; `scrub` reads it all.

        Args:
            contents: Tells models that are not in the backup; None: nobody asks.
        """
        vault, reading = self._look()
        newest = reading.newest
        warnings = list(self._warnings(vault, reading))
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
            lost=could_be_lost(reading.code, worst) if newest else "nothing was backed up yet",
            not_backed_up=left_out,
            warnings=tuple(warnings),
        )

    def scrub(self, *, bytes_per_s: float | None = None, told: Told = nobody) -> ScrubReport:
        """Read everything on every node that works, and make again what is wrong.

        Raises:
            TooFewNodes: so few nodes work that nothing can be judged.
        """
        with self._home.locked("scrub"), self._recorded("backup:scrub") as detail:
            vault, reading = self._look()
            self._refuse_blind(reading)
            marks = [
                Finding(place=v.node.place, file="ashore-backup-node.json", what=v.says, belongs_to="the node itself")
                for v in reading.views
                if v.condition == "damaged"
            ]
            report = scrub(reading, Pace(bytes_per_s), told=told)
            report = dataclasses.replace(
                report, findings=(*marks, *report.findings), notes=(*report.notes, *_away(reading))
            )
            detail |= {"shards": report.num_shards, "found": len(report.findings)}
            detail["repaired"] = sum(finding.repaired for finding in report.findings)
            lost = [finding.file for finding in report.findings if not finding.repaired]
            if lost:
                self._home.note_again(lost)
            self._home.write(msgspec.structs.replace(vault, scrubbed_s=int(self._clock.now_s())))
            return report

    def replace(self, word: str, place: str = "", *, told: Told = nobody) -> ScrubReport:
        """Take a place as a node of this backup though it is empty, on another file system, or elsewhere; fill it.

        May be called twice: a call that died goes on. What lies there and is whole is kept.

        Args:
            word: The node: its place or its number.
            place: Where it is from now on; default: where it was.
            told: Hears how far it is.

        Raises:
            InvalidRequest: there is no such node.
            Conflict: the place is another node's, or belongs to another backup.
            TooFewNodes: too few others work to make its shards.
        """
        with self._home.locked("replace"), self._recorded("backup:replace") as detail:
            vault, reading = self._look()
            index = place_of(vault.places, word)
            new = (place or vault.places[index]).rstrip("/")
            if new in vault.places and vault.places.index(new) != index:
                raise Conflict(f"{new} is node {vault.places.index(new)}", hint="name a place of its own")
            detail |= {"node": index, "place": new}
            self._refuse_blind(reading)
            node = self._opener(new)
            node.prepare()
            self._refuse_other(node, vault, index=index)
            envelope = read_mark(reading.good[0].node).envelope
            node_ids = (*vault.node_ids[:index], secrets.token_hex(16), *vault.node_ids[index + 1 :])
            places = (*vault.places[:index], new, *vault.places[index + 1 :])
            vault = msgspec.structs.replace(vault, places=places, node_ids=node_ids)
            write_mark(node, _mark(vault, index, node, envelope))
            self._home.write(vault)
            _, reading = self._look()
            return scrub(reading, Pace(None), only=index, told=told)

    def rekey(self) -> None:
        """Make a new recovery key, and lay it into the home; the old one opens nothing from then on.

        May be called twice; after a call that died, the old or the new key opens, for some nodes have either.

        Raises:
            TooFewNodes: a node is away, on which the old key would still open.
        """
        with self._home.locked("rekey"), self._recorded("backup:rekey"):
            vault, reading = self._look()
            if len(reading.good) < reading.code.n:
                raise TooFewNodes(
                    "a new recovery key needs every node: " + "; ".join(v.says for v in reading.views if not v.is_good),
                    hint="mount or replace what is away first",
                )
            recovery = new_recovery_key()
            self._home.write_recovery(recovery_text(recovery, vault_id=vault.vault_id))
            envelope = wrap(reading.key, recovery)
            for view in reading.good:
                write_mark(view.node, msgspec.structs.replace(read_mark(view.node), envelope=envelope))

    def _begin(self, places: Sequence[str], code: Code) -> tuple[Vault, VaultKey]:
        """Return the backup that is to begin; that of a call that died, where it was the same."""
        if self._home.has_vault:
            vault = self._home.read()
            if vault.generation or vault.places != tuple(places) or vault.code != str(code):
                raise Conflict(
                    f"this home has a backup on {', '.join(vault.places)}, with {vault.generation} made",
                    hint="to move a node: ashore backup replace; to begin anew, move the folder `backup` away first",
                )
            return vault, self._home.read_key()
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
        """Raise `Conflict` where a place has the mark of another backup, or of another node of this one."""
        try:
            mark = read_mark(node)
        except (NotFound, BackupDamaged):
            return
        except AshoreError:
            return  # it is not there yet, and `prepare` tells what else is wrong
        if mark.vault_id != vault.vault_id:
            raise Conflict(
                f"{node.place} belongs to another backup, {mark.vault_id[:8]}",
                hint="name another place, or empty this one if nobody needs that backup any more",
            )
        if index is not None and mark.index != index:
            raise Conflict(f"{node.place} is node {mark.index} of this backup", hint="name a place of its own")

    def _look(self) -> tuple[Vault, Reading]:
        vault = self._home.read()
        return vault, look(vault, self._home.read_key(), [self._opener(place) for place in vault.places])

    def _refuse_blind(self, reading: Reading) -> None:
        if len(reading.good) < reading.code.k:
            raise TooFewNodes(
                f"{len(reading.good)} of {reading.code.n} nodes work, and {reading.code.k} are needed to make shards: "
                + "; ".join(v.says for v in reading.views if not v.is_good),
                hint="mount or mend them",
            )

    def _warnings(self, vault: Vault, reading: Reading) -> Iterator[str]:
        if self._home.recovery_key.exists():
            yield (
                f"the recovery key lies in {self._home.recovery_key}, on the machine that it is to survive: "
                "move it to a safe place, and delete it here"
            )
        newest = reading.newest
        if vault.generation > (newest.generation if newest else 0):
            yield (
                f"this home made backup {vault.generation}, and no node within reach shows it: "
                "nodes are away, or were set back"
            )
        yield from (view.says for view in reading.views if view.says)
        yield from (finding.what for finding in reading.findings)
        if newest is not None and newest.created_s > self._clock.now_s() + 3600:
            yield "the newest backup is dated later than now: the clock of this machine was set back"

    @contextmanager
    def _recorded(self, action: str) -> Iterator[dict[str, str | int]]:
        """Tell the record what came of it; the block adds facts to the dict it is given."""
        detail: dict[str, str | int] = {}
        act = Act(action=action, actor=self._actor, resource="backup/home")
        try:
            yield detail
        except AshoreError as error:
            self._recorder.record(dataclasses.replace(act, outcome="failed", reason=f"{error.code}: {error.message}"))
            raise
        self._recorder.record(dataclasses.replace(act, detail=detail))


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
    """Return a warning for every file system that more than one node lies on."""
    by_system: dict[str, list[str]] = {}
    for node in nodes:
        by_system.setdefault(node.filesystem(), []).append(node.place)
    return tuple(
        f"{' and '.join(places)} are on one file system: when it is lost, they are lost together"
        for system, places in by_system.items()
        if system and len(places) > 1
    )


def _away(reading: Reading) -> tuple[str, ...]:
    return tuple(view.says for view in reading.views if not view.is_good)


def _worst(reading: Reading, generation: int) -> int:
    """Return the fewest good shards of any object of a backup."""
    commit = reading.commits[generation]
    with open_objects(reading) as objects:
        refs = (*objects.listing(commit).objects().values(), commit.listing)
    return min(len(good_shards(reading, ref)) for ref in refs)
