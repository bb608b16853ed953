"""One feed at work: a thread that sends what its receiver lacks, and moves on once that is confirmed.

The log is the buffer. A feed holds up neither the writer nor another feed, and one whose receiver is away for a week
goes on where it was.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ashore.control.audit import FeedStanding, Reached, keep_feed, read_feeds
from ashore.control.feeds.reading import LogReader, position_at
from ashore.control.feeds.receivers import Receiver
from ashore.control.feeds.section import FeedTable
from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, SourceUnreachable, StateUnavailable
from ashore.data.audit import chains_in, last_record, segment_path, segments_of
from ashore.kit.egress import Allowed
from ashore.kit.processes.priority import yield_thread
from ashore.kit.recorder import Act, Recorder

log = logging.getLogger("ashore.feeds")

MOST: Final = 20_000
"""Records that are confirmed together."""
MOST_BYTES: Final = 16 << 20
PAUSE_S: Final = 1.0
"""Between two looks where nothing waits. A single record is confirmed about so soon."""
LONGEST_PAUSE_S: Final = 60.0
"""Between two attempts at a receiver that takes nothing."""
SILENT_S: Final = 600.0
"""After so long an attempt counts as failed while it goes on: a receiver may send a byte of its answer at a time."""
END_S: Final = 5.0
"""Longest wait for an attempt under way when the process ends; what it sent goes out again."""


class Feeder:
    """A thread with `start` and `close`; `tick` does one round. The methods may be called from any thread."""

    def __init__(
        self,
        feed: FeedTable,
        receiver: Receiver,
        *,
        root: Path,
        home: str,
        recorder: Recorder,
        clock: Clock,
        allow: Sequence[Allowed] = (),
    ) -> None:
        """Create it, where it stood before. Sends nothing yet.

        Args:
            feed: As ashore.toml has it.
            receiver: Its other end.
            root: Folder of the audit log.
            home: Name of the home, as its checkpoints give it.
            recorder: Records where the feed goes, and when its receiver fails and recovers.
            clock: Time of the standing.
            allow: Hosts that may be called, as the receiver has them.
        """
        self.feed, self.allow = feed, tuple(allow)
        self._receiver, self._root, self._recorder, self._clock = receiver, root, recorder, clock
        self._reader = LogReader(root, home, only=feed.only)
        before = next((one for one in read_feeds(root) if one.name == feed.name), None)
        self._moved = before is None or before.to != feed.to
        self._standing = msgspec.structs.replace(before or FeedStanding(name=feed.name, to=feed.to), to=feed.to)
        self._high = {chain: one.seq for chain, one in self._standing.reached.items()}
        """Last record of each chain that was ever confirmed."""
        self._recent: deque[tuple[float, Mapping[str, Reached]]] = deque()
        """When a batch was confirmed, and where the feed stood before it."""
        self._lock = threading.Lock()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"feed {feed.name}", daemon=True)

    @property
    def standing(self) -> FeedStanding:
        return self._standing

    def start(self) -> Feeder:
        """Begin; the first record says where the audit log goes from now on. Returns itself."""
        if self._moved:
            self._tell("feed:begin", "done", detail={"to": self.feed.to, "only": ", ".join(self.feed.only)})
            self._keep(self._standing)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop. May be called twice."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(END_S)

    def rewind(self, since_us: int) -> None:
        """Send again what was written since a moment; 0: everything on this machine."""
        with self._lock:
            self._recent.clear()
            self._keep(msgspec.structs.replace(self._standing, reached=position_at(self._root, since_us)))
        self._wake.set()

    def behind(self) -> int:
        """Return how many records the receiver lacks."""
        reached, waiting = self._standing.reached, 0
        for chain in chains_in(self._root):
            for number in reversed(segments_of(self._root, chain)[-2:]):
                if (found := last_record(segment_path(self._root, chain, number))) is not None:
                    waiting += max(0, found[1].seq - reached.get(chain, Reached()).seq)
                    break
        return waiting

    def tick(self) -> bool:
        """Send one batch, if there is one; return whether more waits.

        Raises:
            AshoreError: the receiver did not confirm it; the feed stands where it stood, or earlier.
        """
        began = self._standing.reached
        batch = self._reader.read(began, most=MOST, most_bytes=MOST_BYTES)
        if batch.lines:
            slow = threading.Timer(SILENT_S, self._note_silence, [began])
            slow.daemon = True
            slow.start()
            try:
                self._receiver.deliver(batch.lines)
            except AshoreError as fault:
                with self._lock:
                    self._failed(fault, began)
                raise
            finally:
                slow.cancel()
        with self._lock:
            if self._standing.reached is not began:
                return True  # it was rewound meanwhile
            before = self._standing
            if not batch.lines and batch.reached == before.reached and before.good_us and not before.failures:
                return False
            resent = sum(line.seq <= self._high.get(line.chain, 0) for line in batch.lines)
            for chain, one in batch.reached.items():
                self._high[chain] = max(self._high.get(chain, 0), one.seq)
            self._recent.append((self._clock.monotonic_s(), before.reached))
            self._forget_settled()
            if before.failures:
                self._tell("feed:recover", "done")
            self._keep(
                msgspec.structs.replace(
                    before, reached=batch.reached, good_us=self._now_us(), silent_us=0, failures=0, error="",
                    sent=before.sent + len(batch.lines), resent=before.resent + resent,
                    skipped=before.skipped + batch.skipped,
                )
            )  # fmt: skip
        return batch.is_full

    def _failed(self, fault: AshoreError, began: Mapping[str, Reached]) -> None:
        """Note a failure, and step back over what was confirmed just before: the receiver may have died with it."""
        before = self._standing
        self._forget_settled()
        reached = self._recent[0][1] if self._recent and before.reached is began else before.reached
        self._recent.clear()
        if not before.failures:
            log.warning("the feed %s waits: %s", self.feed.name, fault.in_one_line)
            self._tell("feed:fail", "failed", reason=f"{fault.code}: {fault.message}")
        self._keep(
            msgspec.structs.replace(
                before, reached=reached, failures=before.failures + 1, silent_us=before.silent_us or self._now_us(),
                error=f"{fault.code}: {fault.message}",
            )
        )  # fmt: skip

    def _note_silence(self, began: Mapping[str, Reached]) -> None:
        """Note that an attempt takes long. It goes on, and may still succeed."""
        with self._lock:
            before = self._standing
            if before.failures or before.reached is not began:
                return
            error = f"{SourceUnreachable.code}: the receiver has confirmed nothing for {SILENT_S:.0f} s"
            log.warning("the feed %s waits: %s", self.feed.name, error)
            self._tell("feed:fail", "failed", reason=error)
            self._keep(msgspec.structs.replace(before, failures=1, silent_us=self._now_us(), error=error))

    def _forget_settled(self) -> None:
        since_s = self._clock.monotonic_s() - self.feed.settle_s
        while self._recent and self._recent[0][0] < since_s:
            self._recent.popleft()

    def _run(self) -> None:
        yield_thread()
        pause_s = 0.0
        while not self._stop.is_set():
            self._wake.wait(pause_s)
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                pause_s = 0.0 if self.tick() else PAUSE_S
            except AshoreError:
                pause_s = min(LONGEST_PAUSE_S, 2.0 ** min(6, self._standing.failures - 1))
            except Exception:  # outermost loop: the log keeps what was not sent
                log.exception("the feed %s failed", self.feed.name)
                pause_s = LONGEST_PAUSE_S

    def _keep(self, standing: FeedStanding) -> None:
        self._standing = standing
        try:
            keep_feed(self._root, standing)
        except OSError as fault:
            raise StateUnavailable(
                f"the standing of the feed {self.feed.name} cannot be written: {fault.strerror}",
                hint="free space on the disk of the home",
            ) from fault

    def _tell(self, action: str, outcome: str, *, reason: str = "", detail: dict[str, str | int] | None = None) -> None:
        self._recorder.record(
            Act(
                action=action, actor="system", resource=f"feed/{self.feed.name}",
                outcome="failed" if outcome == "failed" else "done", reason=reason, detail=detail or {},
            )
        )  # fmt: skip

    def _now_us(self) -> int:
        return int(self._clock.now_s() * 1e6)


def end_of(name: str) -> Act:
    """Return the record of a feed that ashore.toml no longer has."""
    return Act(action="feed:end", actor="system", resource=f"feed/{name}")
