"""The audit under load, tampered with, killed and searched: `python -m benchmarks.audit_log [CASE...]`.

Cases: rate, tamper, kills, search. The report goes to benchmarks/reports.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.audit_tampering import DEEDS, TAIL_DEEDS
from benchmarks.front.report import Report
from benchmarks.row import Row
from benchmarks.serve_report import about

from ashore.control.audit import open_anchor, verify_folder, verify_local
from ashore.data.audit import (
    PUBLIC_KEYS,
    AuditLog,
    ChainName,
    ChainWriter,
    Checkpoints,
    Query,
    RequestNote,
    read_public_keys,
)
from ashore.data.audit.canonical import decode
from ashore.data.audit.search import search
from ashore.data.audit.segments import LocalShelf, read_lines, segment_path, segments_of
from ashore.data.audit.writer import Draft
from ashore.kit.recorder import Act

REPORTS = Path(__file__).parent / "reports"
BOUND_S = 0.05
CHAIN = ChainName("api-0")

NOT_MEASURED = (
    "a disk that syncs slower than this one: the bound is one gathering of 10 ms, one write and one sync",
    "S3 and syslog anchors (tests/contract/test_audit_anchors.py shows that they work)",
    "a power failure: kill -9 leaves the page cache alive, so it shows the order of writes, not the disk's honesty",
    "search over segments that are not in the page cache",
)


def a_note(number: int, *, actor: str = "alice@bank", outcome: str = "answered") -> RequestNote:
    return RequestNote(
        request_id=f"req_{number:024x}",
        principal=actor,
        tenant=f"tenant-{number % 7}",
        alias="chat",
        release="chat-1",
        outcome=outcome,
        cache="hit-exact" if number % 3 else "miss",
        key=f"ash_{number % 500:08x}",
        origin=f"10.0.{number % 200}.{number % 250}",
        route="/v1/chat/completions",
        prompt_tokens=number % 900,
        completion_tokens=number % 200,
        latency_ms=number % 100 + 0.25,
        prompt=f"{number:064x}",
        answer=f"{number + 1:064x}",
    )


def rate(folder: Path) -> list[Row]:
    """How many records a second reach the disk, and how long each takes."""
    rows = [_paced(folder / str(asked), asked, seconds=10) for asked in (10_000, 40_000)]
    rows.append(_flat_out(folder / "flat", count=400_000))
    return rows


class _Measured(ChainWriter):
    """A chain that measures how long records wait until they are on disk."""

    records = batches = late = 0
    longest_s = 0.0

    def append(self, drafts: Sequence[Draft]) -> None:
        super().append(drafts)
        if not drafts:
            return
        now_us = time.monotonic_ns() // 1000
        self.records += len(drafts)
        self.batches += 1
        self.longest_s = max(self.longest_s, (now_us - drafts[0].mono_us) / 1e6)
        self.late += sum(now_us - draft.mono_us > BOUND_S * 1e6 for draft in drafts)


def _paced(root: Path, asked: int, *, seconds: int) -> Row:
    """Tell notes evenly; the judged figure is what reached the disk, if the slowest kept the bound."""
    chain = _Measured(root, CHAIN)
    log = AuditLog(chain).start()
    log.settle(5)
    chain.longest_s, chain.late = 0.0, 0
    notes = [a_note(number) for number in range(asked // 100)]
    began, before, told_s = time.perf_counter(), chain.records, 0.0
    for tick in range(seconds * 100):
        due = began + tick * 0.01
        while (now := time.perf_counter()) < due:
            time.sleep(min(0.002, due - now))
        start = time.perf_counter()
        for note in notes:
            log.note(note)
        told_s += time.perf_counter() - start
    log.settle(30)
    took_s = time.perf_counter() - began
    records, longest_s, late = chain.records - before, chain.longest_s, chain.late
    log.close()
    assert verify_local(root, CHAIN).problem is None
    kept = longest_s <= BOUND_S
    return Row(
        what=f"records/s, told at {asked:,}/s for {seconds} s, each on disk within 50 ms",
        value=records / took_s if kept else None,
        unit="/s",
        bar=9_900,
        aim=None if asked == 10_000 else 39_600,
        detail=f"slowest {longest_s * 1e3:.1f} ms, {late:,} of {records:,} later than 50 ms, {chain.batches} "
        f"syncs, {told_s / records * 1e6:.2f} µs on the thread that tells{'' if kept else '; THE BOUND WAS NOT KEPT'}",
        readings={"longest_s": longest_s, "late": late, "batches": chain.batches, "hot_us": told_s / records * 1e6},
    )


def _flat_out(root: Path, *, count: int) -> Row:
    """Tell as fast as one thread can: what the writer does when it is behind all the time."""
    log = AuditLog(ChainWriter(root, CHAIN)).start()
    log.settle(5)
    note = a_note(1)
    began = time.perf_counter()
    for _ in range(count):
        log.note(note)
        if len(log._queue) > 50_000:
            time.sleep(0.005)
    log.settle(60)
    took_s = time.perf_counter() - began
    log.close()
    return Row(
        what="records/s, flat out from one thread, all on disk at the end",
        value=count / took_s,
        unit="/s",
        bar=10_000,
        aim=40_000,
        detail=f"{count:,} records in {took_s:.1f} s; here records wait for longer than 50 ms",
    )


def tamper(folder: Path, *, deeds: int) -> list[Row]:
    """Ten thousand random deeds on a copy, each looked for with and without an anchor."""
    root, keys, anchor = folder / "audit", folder / "keys", folder / "anchor"
    anchor.mkdir()
    checkpoints = Checkpoints(root, keys)
    number = itertools.count()
    for turn in range(8):
        for chain in ("api-0", "api-1", "supervisor"):
            writer = ChainWriter(root, ChainName(chain), segment_bytes=6_000)
            for _ in range(12):
                writer.append([Draft(1 + next(number), 1 + turn, a_note(turn))])
            writer.append([Draft(1 + next(number), 1 + turn, Act(action="key:create", actor="sysadmin"))])
            writer.close()
        line = checkpoints.make(turn)
        assert line is not None
        open_anchor(str(anchor), checkpoints.home).put(turn + 1, line)
    trusted = read_public_keys(keys / PUBLIC_KEYS)
    assert verify_folder(root, trusted=trusted, anchor=str(anchor)).ok
    done: Counter[str] = Counter()
    missed_anchored, missed_alone, missed_tail = [], [], 0
    began = time.perf_counter()
    for seed in range(deeds):
        deed = DEEDS[seed % len(DEEDS)]
        copy = folder / "copy"
        shutil.copytree(root, copy)
        did = deed(copy, random.Random(seed))
        done[deed.__name__] += 1
        if verify_folder(copy, trusted=trusted, anchor=str(anchor)).ok:
            missed_anchored.append(did)
        if verify_folder(copy, trusted=trusted).ok:
            if deed in TAIL_DEEDS or "the checkpoints" in did:
                missed_tail += 1
            else:
                missed_alone.append(did)
        shutil.rmtree(copy)
    took_s = time.perf_counter() - began
    records = sum(chain.records for chain in verify_folder(root, trusted=trusted).chains)
    kinds = ", ".join(f"{name} {count}" for name, count in sorted(done.items()))
    return [
        Row(
            what=f"tamperings found with an anchor, of {deeds:,}",
            value=100 * (1 - len(missed_anchored) / deeds),
            unit="%",
            bar=100,
            detail=f"{kinds}; {records} records, 3 chains; {took_s:.0f} s"
            + "".join(f"; MISSED {m}" for m in missed_anchored[:5]),
            readings={"deeds": dict(done)},
        ),
        Row(
            what="tamperings found without an anchor, cut tails left out",
            value=100 * (1 - len(missed_alone) / deeds),
            unit="%",
            bar=100,
            detail=f"{missed_tail} cut tails were reported as not anchored"
            + "".join(f"; MISSED {m}" for m in missed_alone[:5]),
        ),
    ]


KILLED = """
import sys
from pathlib import Path
from ashore.data.audit import AuditLog, ChainName, ChainWriter
from benchmarks.audit_log import a_note
log = AuditLog(ChainWriter(Path(sys.argv[1]), ChainName("api-0"), segment_bytes=200_000)).start()
number = int(sys.argv[2])
while True:
    for _ in range(25):
        log.note(a_note(number))
        number += 1
    log.settle(10)
    print(number - 1, flush=True)
"""


def kills(folder: Path, *, count: int) -> list[Row]:
    """Kill a writer at a random moment, again and again; what it had acknowledged must be there."""
    chance = random.Random(7)
    acknowledged: set[int] = set()
    first, torn = 0, 0
    for _ in range(count):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder), str(first)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        line = child.stdout.readline()
        time.sleep(chance.uniform(0, 0.15))
        child.kill()
        lines = [line, *child.stdout.read().split()]
        child.wait()
        child.stdout.close()
        last = max(int(one) for one in lines if one.strip())
        acknowledged |= set(range(first, last + 1))
        first = last + 100_000
        report = verify_local(folder, CHAIN)
        assert report.problem is None, report.problem
        torn += report.torn_bytes > 0
    there = set()
    for number in segments_of(folder, CHAIN):
        with segment_path(folder, CHAIN, number).open("rb") as file:
            for one in read_lines(file):
                record = decode(one.body) if one.whole else None
                if record is not None and record.kind == "request":
                    there.add(int(record.request_id.removeprefix("req_"), 16))
    lost = acknowledged - there
    return [
        Row(
            what=f"records acknowledged and lost over {count} kill -9",
            value=len(lost),
            unit="",
            bar=0,
            lower_is_better=True,
            detail=f"{len(acknowledged):,} acknowledged, {len(there):,} on disk, {torn} torn lines cut, chain unbroken",
        )
    ]


def search_million(folder: Path, *, count: int) -> list[Row]:
    """Search a million records on one core, in the page cache, with no index."""
    writer = ChainWriter(folder, CHAIN)
    now_us, mono_us = 1_790_000_000_000_000, 1_000_000
    for start in range(0, count, 4_000):
        drafts: list[Draft] = []
        for number in range(start, start + 4_000):
            at = number * 1_000
            if number % 100 == 50:
                what: RequestNote | Act = Act(
                    action="key:create",
                    actor=f"admin-{number % 5}",
                    resource=f"key/ash_{number:08x}",
                    reason="opened for the month end closing",
                    detail={"expires_days": 90},
                )
            else:
                what = a_note(
                    number, actor=f"user-{number % 997}", outcome="failed" if number % 250 == 3 else "answered"
                )
            drafts.append(Draft(now_us + at, mono_us + at, what))
        writer.append(drafts)
    writer.close()
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*.log"))
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    shelf = LocalShelf(folder)
    questions: dict[str, Query] = {
        "one request by its id": Query(request_id=f"req_{17:024x}"),
        "one actor, 1 in 1,000": Query(actor="user-123"),
        "an actor nobody has": Query(actor="mallory"),
        "failed requests of one tenant": Query(outcome="failed", tenant="tenant-3", limit=10_000),
        "a digest": Query(digest=f"{4242:064x}"),
        "words of acts, the oldest of them": Query(text=f"closing ash_{50:08x}"),
        "words that nothing has": Query(text="yearend bonus"),
        "one minute in the middle": Query(
            since_us=now_us + count * 500, until_us=now_us + count * 500 + 60_000_000, limit=MANY
        ),
        "acts of one administrator": Query(kind="act", actor="admin-0", limit=MANY),
    }
    rows = []
    for what, query in questions.items():
        took, hits = [], 0
        for _ in range(3):
            began = time.perf_counter()
            hits = len(search(shelf, query))
            took.append(time.perf_counter() - began)
        rows.append(
            Row(
                what=f"search: {what}",
                value=statistics.median(took),
                unit="s",
                bar=2,
                lower_is_better=True,
                detail=f"{hits:,} hits of {count:,} records, {num_bytes >> 20} MiB, one core",
            )
        )
    began = time.perf_counter()
    report = verify_local(folder, CHAIN)
    took_s = time.perf_counter() - began
    assert report.problem is None
    rows.append(
        Row(
            what="verify: records/s on one core",
            value=report.records / took_s,
            unit="/s",
            bar=None,
            detail=f"{report.records:,} records in {took_s:.1f} s",
        )
    )
    return rows


MANY = 100_000


def main() -> None:
    """Run the cases and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=["rate", "tamper", "kills", "search"])
    parser.add_argument("--deeds", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--scratch", type=Path, default=None, help="folder on the disk that is to be measured")
    given = parser.parse_args()
    cases: dict[str, Callable[[Path], list[Row]]] = {
        "rate": rate,
        "tamper": lambda folder: tamper(folder, deeds=given.deeds),
        "kills": lambda folder: kills(folder, count=given.kills),
        "search": lambda folder: search_million(folder, count=given.records),
    }
    command = "python -m benchmarks.audit_log " + " ".join(sys.argv[1:])
    report = Report(REPORTS, about(command.strip(), busy_before=0, busy_after=0), name="audit", title="The audit")
    for name in given.cases:
        load = os.getloadavg()[0] / (os.cpu_count() or 1)
        with tempfile.TemporaryDirectory(prefix="audit-", dir=given.scratch) as scratch:
            rows = cases[name](Path(scratch))
        after = os.getloadavg()[0] / (os.cpu_count() or 1)
        for row in rows:
            print(" | ".join(row.cells()))
        report.take(name, rows, busy_before=load, busy_after=after)


if __name__ == "__main__":
    main()
