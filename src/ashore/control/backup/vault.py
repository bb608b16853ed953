"""One backup over its nodes: the state of each node, and the backups (generations) on them.

ashore-backup-node.json       the mark: which node of which backup this is
commits/000000000007          one backup that counts, encrypted under a key of the home's
objects/ab/<name>-<salt>      shards
tmp/                          what is being written (directories)
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import msgspec

from ashore.control.backup.code import Code, parse_code
from ashore.control.backup.keys import VaultKey, envelope_id
from ashore.control.backup.lanes import Lane, open_lanes
from ashore.control.backup.model import FORMAT, Commit, Finding, NodeCondition, NodeMark, NodeReport, ObjectRef, Vault
from ashore.control.backup.ports import Node, read_small, write_small
from ashore.control.backup.shards import ShardHeader, checksum
from ashore.core.errors import AshoreError, BackupDamaged, Conflict, InvalidRequest, NotFound, TooFewNodes
from ashore.kit.copied import copied
from ashore.kit.decode import UNDECODABLE
from ashore.kit.sealing import CHUNK_BYTES, SALT_BYTES, Header

MARK: Final = "ashore-backup-node.json"
COMMITS: Final = "commits"
OBJECTS: Final = "objects"
LOOK_S: Final = 15.0
"""A node that has not told what it has by then counts as away."""


@dataclass(slots=True, kw_only=True)
class NodeView:
    """A node as scanned."""

    index: int
    node: Node
    condition: NodeCondition
    says: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Of its shards and commits, by name."""
    envelope: str = ""
    """Of its mark; empty: not known."""
    is_stale: bool = False
    """It is the node, and an older recovery key opens it: it was set back."""

    @property
    def is_good(self) -> bool:
        """Whether it may be read and written; also if it is behind, because every shard is verified."""
        return self.condition in ("good", "behind")

    @property
    def generation(self) -> int:
        """The newest generation with a commit on it."""
        return max((generation_of(name) for name in self.sizes if name.startswith(f"{COMMITS}/")), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the working nodes have."""

    code: Code
    key: VaultKey
    views: tuple[NodeView, ...]
    commits: Mapping[int, Commit]
    """By generation."""
    findings: tuple[Finding, ...] = ()
    """Commits that do not open."""

    @property
    def good(self) -> tuple[NodeView, ...]:
        return tuple(view for view in self.views if view.is_good)

    @property
    def newest(self) -> Commit | None:
        return self.commits[max(self.commits)] if self.commits else None

    def lanes(self) -> tuple[Lane, ...]:
        """Return lanes to the working nodes; the caller closes them."""
        return open_lanes((view.index, view.node) for view in self.good)


def commit_name(generation: int) -> str:
    """Return the file of a commit."""
    return f"{COMMITS}/{generation:012}"


def generation_of(name: str) -> int:
    """Return the generation of a commit's file; 0 if the name is not a commit's."""
    text = name.rpartition("/")[2]
    return int(text) if text.isdigit() and len(text) == 12 else 0


def new_header(key: VaultKey, code: Code, *, name: str, num_bytes: int) -> ShardHeader:
    """Return the header of an object to write, with a new salt."""
    sealed = Header(clear_bytes=num_bytes, key_id=key.vault_id, salt=secrets.token_bytes(SALT_BYTES))
    return ShardHeader(code=code, index=0, vault_id=key.vault_id, name=name, sealed=sealed)


def header_of(key: VaultKey, code: Code, ref: ObjectRef) -> ShardHeader:
    """Return the expected header of an object's shards, except their number."""
    sealed = Header(
        clear_bytes=ref.num_bytes, key_id=key.vault_id, salt=bytes.fromhex(ref.salt), chunk_bytes=CHUNK_BYTES
    )
    return ShardHeader(code=code, index=0, vault_id=key.vault_id, name=ref.name, sealed=sealed)


def write_mark(node: Node, mark: NodeMark) -> None:
    """Write the mark of a node, with a checksum of it."""
    body = msgspec.json.format(msgspec.json.encode(mark), indent=1)
    write_small(node, MARK, body + b"\n" + checksum(body).hex().encode() + b"\n")


def read_mark(node: Node) -> NodeMark:
    """Return the mark of a node.

    Raises:
        NotFound: it has none.
        BackupDamaged: it was altered.
    """
    body, _, told = read_small(node, MARK).rstrip(b"\n").rpartition(b"\n")
    what = f"the mark of the node {node.place}, {MARK},"
    if checksum(body).hex().encode() != told:
        raise BackupDamaged(
            f"{what} was altered: its checksum does not match", hint="replace it: ashore backup replace NODE"
        )
    try:
        mark = msgspec.json.decode(body, type=NodeMark)
        parse_code(mark.code)
    except (*UNDECODABLE, AshoreError) as error:
        raise BackupDamaged(
            f"{what} cannot be read: {error}", hint="read it with the ashore version that wrote it"
        ) from error
    if mark.format != FORMAT:
        raise BackupDamaged(f"{what} is of format {mark.format}; this ashore reads {FORMAT}", hint="use a newer ashore")
    return mark


def judge(vault: Vault, index: int, mark: NodeMark | None, filesystem: str) -> tuple[NodeCondition, str]:
    """Return the condition of a place, by its mark and its file system. Pure."""
    place = vault.places[index]
    hint = f"if it should become the node: ashore backup replace {place}"
    if mark is None:
        return "empty", f"{place} has no mark of a backup: the disk may not be mounted; {hint}"
    if mark.vault_id != vault.vault_id:
        return "foreign", f"{place} belongs to another backup, {mark.vault_id[:8]}"
    if mark.node_id != vault.node_ids[index] or mark.index != index:
        return "foreign", f"{place} is node {mark.index}, not node {index}: another node is mounted here; {hint}"
    if mark.filesystem and filesystem and mark.filesystem != filesystem:
        return "moved", f"{place} is on another file system than at init; {hint}"
    return "good", ""


def look(vault: Vault, key: VaultKey, nodes: Sequence[Node], *, timeout_s: float = LOOK_S) -> Reading:
    """Scan the nodes, all at once; a hanging one counts as down."""
    views = _views(vault, dict(enumerate(nodes)), sizes=True, timeout_s=timeout_s)
    return read_commits(parse_code(vault.code), key, views, known=vault.generation)


def glance(vault: Vault, nodes: Mapping[int, Node], *, timeout_s: float = LOOK_S) -> tuple[NodeView, ...]:
    """Check places, by their numbers, by their marks only: quick, whatever their size."""
    return _views(vault, nodes, sizes=False, timeout_s=timeout_s)


def _views(vault: Vault, nodes: Mapping[int, Node], *, sizes: bool, timeout_s: float) -> tuple[NodeView, ...]:
    lanes = open_lanes(nodes.items())
    asked = [lane.submit(partial(_view, vault, lane.index, lane.node, sizes=sizes)) for lane in lanes]
    wait(asked, timeout=timeout_s)
    views = []
    for lane, future in zip(lanes, asked, strict=True):
        lane.close()
        if future.done():
            views.append(future.result())
        else:
            says = f"{lane.node.place} does not answer"
            views.append(NodeView(index=lane.index, node=lane.node, condition="away", says=says))
    return tuple(views)


def read_commits(code: Code, key: VaultKey, views: tuple[NodeView, ...], *, known: int = 0) -> Reading:
    """Return the views with the commits on them; nodes without the newest one are `behind`.

    Args:
        code: Of the backup.
        key: Opens commits.
        views: Nodes as scanned.
        known: Newest generation known to the home.
    """
    commits: dict[int, Commit] = {}
    findings: list[Finding] = []
    for view in views:
        for name in sorted(view.sizes) if view.is_good else ():
            if generation_of(name) and name.startswith(f"{COMMITS}/"):
                try:
                    commit = read_commit(key, view.node, generation_of(name))
                except AshoreError as error:
                    findings.append(Finding(place=view.node.place, file=name, what=error.message))
                    view.sizes = {one: size for one, size in view.sizes.items() if one != name}
                    continue
                commits.setdefault(commit.generation, commit)
    newest = max([known, *commits])
    told = [_judge_age(view, newest, commits.get(newest)) for view in views]
    return Reading(code=code, key=key, views=tuple(told), commits=commits, findings=tuple(findings))


def read_commit(key: VaultKey, node: Node, generation: int) -> Commit:
    """Return a commit of a node.

    Raises:
        BackupDamaged: it was altered, or replaced by another.
    """
    name = commit_name(generation)
    body = key.open("commit", generation, read_small(node, name), what=f"the commit {node.place}/{name}")
    commit = msgspec.json.decode(body, type=Commit)
    if commit.format != FORMAT or commit.generation != generation:
        raise BackupDamaged(
            f"the commit {node.place}/{name} is of format {commit.format}; this ashore reads {FORMAT}",
            hint="read it with the ashore version that wrote it",
        )
    return commit


def make_commit(reading: Reading, commit: Commit) -> tuple[int, ...]:
    """Write a commit to every working node; return those that have it.

    Raises:
        Conflict: another run made this generation meanwhile; ours is removed again.
        TooFewNodes: fewer than a quorum accepted it; those keep it, and it may still become valid.
    """
    data = reading.key.close("commit", commit.generation, msgspec.json.encode(commit))
    name = commit_name(commit.generation)
    done: list[NodeView] = []
    failed: list[str] = []
    for view in reading.good:
        try:
            if view.node.make(name, data):
                done.append(view)
                continue
            other = read_commit(reading.key, view.node, commit.generation)
        except AshoreError as error:
            failed.append(error.message)
            continue
        if other.run_id == commit.run_id:
            done.append(view)
            continue
        for one in done:
            one.node.remove(name)
        raise Conflict(
            f"another backup (run {other.run_id}) became generation {commit.generation} meanwhile",
            hint="run it again; what was already written is reused",
        )
    if len(done) < reading.code.quorum:
        raise TooFewNodes(
            f"only {len(done)} nodes accepted the backup, but {reading.code.quorum} must: {'; '.join(failed)}",
            hint="repair the nodes and back up again",
        )
    return tuple(view.index for view in done)


def write_commit(reading: Reading, view: NodeView, commit: Commit) -> None:
    """Write a commit to a node that lacks it or has a damaged one."""
    data = reading.key.close("commit", commit.generation, msgspec.json.encode(commit))
    write_small(view.node, commit_name(commit.generation), data)


def good_shards(reading: Reading, ref: ObjectRef) -> tuple[int, ...]:
    """Return the nodes with a shard of an object of the right size. Reads none of them."""
    size = header_of(reading.key, reading.code, ref).shard_bytes
    return tuple(view.index for view in reading.good if view.sizes.get(ref.file_name) == size)


def place_of(nodes: Sequence[str], word: str) -> int:
    """Return the node that `word` names: by place, or by number from 0.

    Raises:
        InvalidRequest: there is no such node.
    """
    if word.rstrip("/") in nodes:
        return nodes.index(word.rstrip("/"))
    if word.isdigit() and int(word) < len(nodes):
        return int(word)
    raise InvalidRequest(f"{word!r} is not a node of this backup", hint="its nodes are " + ", ".join(nodes))


def report_of(view: NodeView, *, missing: int) -> NodeReport:
    """Return the report of a node."""
    return copied(NodeReport, view, place=view.node.place, missing=missing, num_bytes=sum(view.sizes.values()))


def _view(vault: Vault, index: int, node: Node, *, sizes: bool = True) -> NodeView:
    try:
        try:
            mark: NodeMark | None = read_mark(node)
        except NotFound:
            mark = None
        condition, says = judge(vault, index, mark, node.filesystem())
        found = {**node.sizes(COMMITS), **node.sizes(OBJECTS)} if sizes and condition == "good" else {}
    except BackupDamaged as error:
        return NodeView(index=index, node=node, condition="damaged", says=error.message)
    except AshoreError as error:
        return NodeView(index=index, node=node, condition="away", says=error.message)
    envelope = mark.envelope if mark is not None and condition == "good" else ""
    stale = bool(envelope and vault.envelope) and envelope_id(envelope) != vault.envelope
    return NodeView(
        index=index, node=node, condition=condition, says=says, sizes=found, envelope=envelope, is_stale=stale
    )


def _judge_age(view: NodeView, newest: int, commit: Commit | None) -> NodeView:
    if view.condition != "good" or view.generation >= newest:
        return view
    had = commit is not None and view.index in commit.nodes
    why = "it had that backup and was reset, or lost it" if had else "it was missing during the backup"
    says = f"{view.node.place} has backup {view.generation}, but the newest is {newest}: {why}"
    return replace(view, condition="behind", says=says)


def sound_envelope(views: Sequence[NodeView]) -> str:
    """Return the envelope of the current recovery key, from the working nodes; empty if none has it."""
    return next((view.envelope for view in views if view.is_good and view.envelope and not view.is_stale), "")
