"""A small home with a backup over twins or folders: what the tests of backups start from."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from memory_node import MemoryNode

from ashore.control.backup import BackupHome, BackupService, Code, HomeContents, Node, parse_code
from ashore.core.clock import ManualClock
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.store import ModelStore


class Rig:
    """One home, its nodes, and the service between them."""

    def __init__(
        self, root: Path, code: str = "2+1", nodes: Sequence[Node] | None = None, *, stall_s: float = 1.0
    ) -> None:
        self.root = root
        self.code: Code = parse_code(code)
        made = nodes or [MemoryNode(f"node-{index}") for index in range(self.code.n)]
        self.nodes: dict[str, Node] = {node.place: node for node in made}
        self.clock = ManualClock()
        self.recorder = MemoryRecorder()
        root.mkdir(parents=True, exist_ok=True)
        self.store = ModelStore(root / "store", root / "run" / "models", self.clock)
        self.home = BackupHome(root)
        self.service = BackupService(
            self.home, self.clock, self.recorder, opener=self.nodes.__getitem__, stall_s=stall_s
        )

    @property
    def contents(self) -> HomeContents:
        return HomeContents(self.root, self.store, tuple, state=self.root / "state.db", extra={})

    def begin(self) -> Rig:
        self.service.init(list(self.nodes), self.code)
        return self

    @property
    def recovery(self) -> bytes:
        from ashore.control.backup.keys import read_recovery

        return read_recovery(self.home.recovery_key)

    def twin(self, index: int) -> MemoryNode:
        node = list(self.nodes.values())[index]
        assert isinstance(node, MemoryNode)
        return node

    def restore(self, target: Path, *, nodes: Sequence[str] = (), generation: int = 0) -> ModelStore:
        """Restore onto an empty home, and return its store."""
        from ashore.control.backup import Restore, find_backup

        found = find_backup(nodes or list(self.nodes), self.recovery, opener=self.nodes.__getitem__)
        store = None

        def opened() -> ModelStore:
            nonlocal store
            store = ModelStore(target / "store", target / "run" / "models", self.clock)
            return store

        target.mkdir(parents=True, exist_ok=True)
        Restore(found, told=lambda stage, done, total: None, generation=generation).home(target, opened)
        assert store is not None
        return store


def fill_home(root: Path, *, seed: int = 0, num_bytes: int = 5_000_000) -> dict[str, bytes]:
    """Put files into a home as its rooms would: a state, keys, a record; return what must come back."""

    rng = random.Random(seed)
    files = {
        "first-key": b"ash_first\n",
        "audit-keys/signing-key.pem": rng.randbytes(119),
        "audit/checkpoints.log": rng.randbytes(700),
        "audit/chains/cli/00000001.log": rng.randbytes(3000),
        "edge/tls.pem": rng.randbytes(1700),
        "edge/empty": b"",
        "notes/large.bin": rng.randbytes(num_bytes),
    }
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_bytes(data)
        path.chmod(0o600)
    for name in ("logs/api.log", "run/topology.json", "cache/x"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"rebuilt")
    with sqlite3.connect(root / "state.db") as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS fact (name TEXT, value TEXT)")
        connection.execute("INSERT INTO fact VALUES ('seed', ?)", (str(seed),))
    connection.close()
    return files


def same_files(root: Path, files: dict[str, bytes]) -> None:
    """Fail unless a home has these files, bit for bit."""
    for name, data in files.items():
        assert (root / name).read_bytes() == data, name
        assert os.stat(root / name).st_mode & 0o777 == 0o600, name


def harm_before(node: MemoryNode, harm: str, rng: random.Random) -> None:
    """Let a node fail during the next backup."""
    if harm == "full":
        node.room_bytes = rng.randrange(200_000)
    elif harm == "cut":
        node.cut_after_bytes = rng.randrange(200_000)


def harm_after(node: MemoryNode, harm: str, rng: random.Random) -> None:
    """Let a node fail after it."""
    node.room_bytes = node.cut_after_bytes = None
    if harm in ("away", "cut"):
        node.away = True
    elif harm == "deleted":
        node.files.clear()
    elif harm == "corrupted":
        for name, whole in list(node.files.items()):
            data = bytearray(whole)
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            node.files[name] = bytes(data)
