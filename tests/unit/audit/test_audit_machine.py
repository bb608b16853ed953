"""A chain driven at random: records, rotation, death at any byte, a disk that fills, and tampering at the end."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

from audit_notes import a_note, an_act
from benchmarks.audit_tampering import (
    Deed,
    cut_segment,
    delete_chain,
    delete_line,
    delete_segment,
    edit_byte,
    insert_line,
)
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ashore.control.audit import verify_folder, verify_local
from ashore.data.audit import PUBLIC_KEYS, ChainName, ChainWriter, Checkpoints, read_public_keys
from ashore.data.audit.canonical import decode
from ashore.data.audit.segments import read_lines, segment_path, segments_of
from ashore.data.audit.writer import DAY_US, Draft

CHAIN = ChainName("api-0")
SMALL_DEEDS: tuple[Deed, ...] = (edit_byte, delete_line, insert_line, cut_segment, delete_segment, delete_chain)
"""Those that one chain with one checkpoint has room for."""


class Chain(RuleBasedStateMachine):
    """What was acknowledged is there in its order, whatever happened; and what is signed cannot change."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="audit-machine-"))
        self.root = self.folder / "audit"
        self.checkpoints = Checkpoints(self.root, self.folder / "keys")
        self.writer: ChainWriter | None = None
        self.acknowledged: list[str] = []
        self.number = 0
        self.now_us = 0

    @rule(count=st.integers(1, 6), act=st.booleans())
    def append(self, count: int, act: bool) -> None:
        if self.writer is None:
            self.writer = ChainWriter(self.root, CHAIN, segment_bytes=2_500)
        told = []
        for _ in range(count):
            self.number += 1
            self.now_us += 1_000
            what = an_act(self.number, request_id=f"r{self.number}") if act else a_note(request_id=f"r{self.number}")
            told.append((f"r{self.number}", Draft(self.now_us, self.number * 1_000, what)))
        self.writer.append([draft for _, draft in told])
        self.acknowledged += [name for name, _ in told]

    @rule(days=st.sampled_from([-3, 1]))
    def move_the_clock(self, days: int) -> None:
        self.now_us = max(0, self.now_us + days * DAY_US)

    @rule()
    def stop(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    @rule(rest=st.binary(max_size=300))
    def die(self, rest: bytes) -> None:
        """The process ends while it writes a line: some of it is there, without a newline."""
        if self.writer is None:
            return
        path = self.writer.segment
        self.writer.close()
        self.writer = None
        if path.exists() and path.stat().st_mode & 0o200:
            with path.open("ab") as file:
                file.write(rest.replace(b"\n", b""))

    @precondition(lambda self: self.number > 0)
    @rule()
    def sign(self) -> None:
        self.checkpoints.make(self.number)

    @precondition(lambda self: self.number > 0)
    @rule(seed=st.integers(0, 10_000), deed=st.sampled_from(SMALL_DEEDS))
    def tamper(self, seed: int, deed: Deed) -> None:
        """On a copy, after everything was signed."""
        self.append(1, act=False)
        self.checkpoints.make(self.number)
        copy = self.folder / "copy"
        shutil.copytree(self.root, copy)
        did = deed(copy, random.Random(seed))
        assert not verify_folder(copy, trusted=read_public_keys(self.folder / "keys" / PUBLIC_KEYS)).ok, did
        shutil.rmtree(copy)

    @invariant()
    def nothing_is_lost(self) -> None:
        if not getattr(self, "number", 0):
            return
        assert verify_local(self.root, CHAIN).problem is None
        there = []
        for number in segments_of(self.root, CHAIN):
            with segment_path(self.root, CHAIN, number).open("rb") as file:
                there += [decode(line.body) for line in read_lines(file) if line.whole]
        assert [record.request_id for record in there if record.kind != "chain"] == self.acknowledged
        assert [record.seq for record in there] == list(range(1, len(there) + 1))
        if self.checkpoints.path.exists():
            trusted = read_public_keys(self.folder / "keys" / PUBLIC_KEYS)
            assert verify_folder(self.root, trusted=trusted).ok

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            if self.writer is not None:
                self.writer.close()
            shutil.rmtree(self.folder, ignore_errors=True)


Chain.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestChain = Chain.TestCase
