"""Finds the backup on nodes: by the recovery key only, or by the own key of a live home."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ashore.control.backup.code import parse_code
from ashore.control.backup.home import BackupHome
from ashore.control.backup.keys import VaultKey, envelope_id, unwrap
from ashore.control.backup.model import FORMAT, NodeMark, Vault
from ashore.control.backup.nodes import NodeOpener, open_node, unknown_place
from ashore.control.backup.ports import Node
from ashore.control.backup.vault import COMMITS, OBJECTS, NodeView, Reading, look, read_commits, read_mark
from ashore.core.errors import AshoreError, NotFound, RecoveryKeyWrong, TooFewNodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A backup that the recovery key opens, as found on the given nodes."""

    vault: Vault
    reading: Reading
    notes: tuple[str, ...]


def find_backup(places: Sequence[str], recovery: bytes, *, opener: NodeOpener = open_node) -> Found:
    """Return the backup on these nodes that the recovery key opens. Reads marks and commits, no content.

    Raises:
        RecoveryKeyWrong: it opens none of them; raised before anything else is read.
        TooFewNodes: fewer than `k` nodes of the backup are there.
        NotFound: there is no backup yet.
    """
    marked: list[tuple[Node, NodeMark]] = []
    notes: list[str] = []
    for place in places:
        node = opener(place)
        try:
            marked.append((node, read_mark(node)))
        except NotFound:
            notes.append(f"{place} has no mark of a backup: the disk may not be mounted")
        except AshoreError as error:
            notes.append(error.message)
    if not marked:
        raise TooFewNodes(
            f"none of the nodes named has a backup: {'; '.join(notes)}", hint="mount them, or name other nodes"
        )
    key, envelope = _opened(marked, recovery)
    ours = [(node, mark) for node, mark in marked if mark.vault_id == key.vault_id]
    notes += [f"{n.place} belongs to another backup" for n, mark in marked if mark.vault_id != key.vault_id]
    code = parse_code(ours[0][1].code)
    by_index = {mark.index: (node, mark) for node, mark in ours}
    views = tuple(_view(index, *by_index[index]) for index in sorted(by_index))
    reading = read_commits(code, key, views)
    notes += [view.says for view in reading.views if view.says]
    if len(reading.good) < code.k:
        raise TooFewNodes(
            f"only {len(reading.good)} of the nodes named work, but {code.k} are needed ({code}): {'; '.join(notes)}",
            hint="name more of its nodes",
        )
    if not reading.commits:
        raise NotFound("there is no backup on these nodes yet", hint="run `ashore backup run` in the home to back up")
    gone = [index for index in range(code.n) if index not in by_index]
    vault = Vault(
        format=FORMAT,
        vault_id=key.vault_id,
        code=str(code),
        places=tuple(by_index[i][0].place if i in by_index else unknown_place(i) for i in range(code.n)),
        node_ids=tuple(by_index[i][1].node_id if i in by_index else secrets.token_hex(16) for i in range(code.n)),
        writer=secrets.token_hex(8),
        generation=max(reading.commits),
        backed_up_s=reading.commits[max(reading.commits)].created_s,
        confirmed_s=int(time.time()),
        envelope=envelope_id(envelope) if all(mark.envelope == envelope for _, mark in ours) else "",
    )
    if len(gone) > code.n - code.quorum:
        notes.append(
            f"only {len(by_index)} of {code.n} nodes answer: a backup newer than {vault.generation} may lie on others"
        )
    return Found(vault=vault, reading=reading, notes=tuple(notes))


def find_own(home: BackupHome, *, opener: NodeOpener = open_node) -> Found:
    """Return the backup of a live home, by its own key.

    Raises:
        NotFound: it has none, or there is no backup yet.
        TooFewNodes: fewer than `k` nodes work.
    """
    vault = home.read()
    reading = look(vault, home.read_key(), [opener(place) for place in vault.places])
    says = tuple(view.says for view in reading.views if view.says)
    if len(reading.good) < reading.code.k:
        raise TooFewNodes(
            f"only {len(reading.good)} nodes work, but {reading.code.k} are needed: {'; '.join(says)}",
            hint="mount or repair them",
        )
    if not reading.commits:
        raise NotFound("there is no backup yet", hint="run `ashore backup run`")
    return Found(vault=vault, reading=reading, notes=says)


def _opened(marked: Sequence[tuple[Node, NodeMark]], recovery: bytes) -> tuple[VaultKey, str]:
    """Return the key of the first backup that the recovery key opens, and its envelope."""
    refusals: list[RecoveryKeyWrong] = []
    for _, mark in marked:
        try:
            return unwrap(mark.vault_id, mark.envelope, recovery), mark.envelope
        except RecoveryKeyWrong as error:
            refusals.append(error)
    raise refusals[0]


def _view(index: int, node: Node, mark: NodeMark) -> NodeView:
    """Return a node as it is; its file system does not matter for reading."""
    try:
        sizes = {**node.sizes(COMMITS), **node.sizes(OBJECTS)}
    except AshoreError as error:
        return NodeView(index=index, node=node, condition="away", says=error.message)
    return NodeView(index=mark.index, node=node, condition="good", sizes=sizes)
