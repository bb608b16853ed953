"""An audit log with signed checkpoints, and receivers in memory, for tests of feeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audit_notes import write_chain

from ashore.control.feeds.feeder import Feeder
from ashore.control.feeds.reading import Line, LogReader
from ashore.control.feeds.receivers import Receiver, json_event, syslog_message
from ashore.control.feeds.section import FeedTable
from ashore.core.clock import ManualClock
from ashore.core.errors import SourceUnreachable
from ashore.data.audit import Checkpoints, PublicKey, read_public_keys
from ashore.kit.recorder import MemoryRecorder


@dataclass
class Audited:
    """A folder with an audit log."""

    root: Path
    checkpoints: Checkpoints

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        return read_public_keys(self.root.parent / "audit-keys" / "public-keys.pem")

    @property
    def home(self) -> str:
        return self.checkpoints.home

    def sign(self) -> None:
        self.checkpoints.make(time.time_ns() // 1000, force=True)

    def lines(self, **options: object) -> tuple[Line, ...]:
        return LogReader(self.root, self.home, **options).read({}, most=10**6, most_bytes=1 << 40).lines  # type: ignore[arg-type]


def audited(
    folder: Path, count: int = 40, *, segment_bytes: int = 4_000, chains: Sequence[str] = ("api-0",)
) -> Audited:
    """Write chains of several segments, with a checkpoint before and behind."""
    root = folder / "audit"
    found = Audited(root, Checkpoints(root, folder / "audit-keys"))
    found.sign()
    for chain in chains:
        write_chain(root, count, chain, segment_bytes=segment_bytes)
    found.sign()
    return found


def a_feed(**options: object) -> FeedTable:
    fields: dict[str, object] = {"name": "siem", "to": "syslog+tls://127.0.0.1:6514"}
    return FeedTable(**(fields | options))  # type: ignore[arg-type]


def as_syslog(lines: Sequence[Line], feed: FeedTable | None = None) -> bytes:
    """Return what a syslog server writes."""
    feed = feed or a_feed()
    return b"".join(b"Dec  2 07:00:00 node1 " + syslog_message(line, feed, "node1")[20:] + b"\n" for line in lines)


def as_events(lines: Sequence[Line], feed: FeedTable | None = None) -> bytes:
    """Return what an export of events writes."""
    return b"".join(json_event(line, feed or a_feed()) + b"\n" for line in lines)


@dataclass
class MemoryReceiver:
    """Has what was confirmed; refuses while `away`, and forgets its last batch when it `dies`."""

    got: list[Line] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    away: bool = False

    def deliver(self, lines: Sequence[Line]) -> None:
        if self.away:
            raise SourceUnreachable("the receiver is away")
        self.got += lines
        self.batches.append(len(lines))

    def dies(self) -> None:
        """Lose what it confirmed last."""
        del self.got[-self.batches.pop() :]
        self.away = True

    @property
    def places(self) -> set[tuple[str, int]]:
        return {(line.chain, line.seq) for line in self.got}


def a_feeder(
    log: Audited,
    receiver: Receiver,
    clock: ManualClock | None = None,
    recorder: MemoryRecorder | None = None,
    **options: object,
) -> Feeder:
    """Return a feeder that does not run by itself."""
    return Feeder(
        a_feed(**options), receiver, root=log.root, home=log.home, recorder=recorder or MemoryRecorder(),
        clock=clock or ManualClock(),
    )  # fmt: skip
