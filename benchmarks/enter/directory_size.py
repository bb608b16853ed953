"""A directory of a large house, read from a real slapd: how long a whole sync and a look take, and what memory.

    python -m benchmarks.enter.directory_size [--people 100000] [--report FILE]

Teams, departments above them, and nine groups that hold one another above these, the lowest the highest one too: a
cycle. One flat group holds a fifth of the people. All are mapped, so everybody has an account here, which is the most
that a directory costs. Each measurement runs in a process of its own, against a state and an audit log on disk; slapd
runs on the same processors. Needs `slapd`, or apt-get to download it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

import msgspec
from benchmarks.row import Row, report
from fake_directory import BASE, FakeDirectory, Trust
from slapd_server import ROOT, ROOT_PASSWORD, Slapd, group, person

from ashore.control.directory import DirectorySection, Syncing
from ashore.control.directory.ber import integer, octets, tlv
from ashore.control.directory.wire import Ldap, tls_context
from ashore.core.clock import SystemClock
from ashore.data.audit import AuditLog, ChainName, ChainWriter
from ashore.data.authority import sql as access_sql
from ashore.kit.egress import LOOPBACK, parse_allow
from ashore.kit.state import open_database

TEAMS, DEPARTMENTS, WRAPS = 1_900, 90, 9
"""With the flat group 2,000; people are ten groups deep in the highest one."""
WHOLE_BAR_S, LOOK_BAR_S, MEMORY_BAR_MIB = 60.0, 5.0, 200.0
ALLOW: Final = parse_allow(LOOPBACK)
REPLACE, DELETE = 2, 1
"""Kinds of changes of RFC 4511, 4.6."""


def entries(people: int) -> list[str]:
    """Return the LDIF."""
    logins = [f"u{number:06d}" for number in range(people)]
    made = [person(one, uid=one, displayName=f"Person {one}", mail=f"{one}@corp.example") for one in logins]
    made += [group(f"team{n}", *logins[n::TEAMS]) for n in range(TEAMS)]
    made += [group(f"dep{n}", *(dn(f"team{t}") for t in range(n, TEAMS, DEPARTMENTS))) for n in range(DEPARTMENTS)]
    made.append(group("wrap0", *(dn(f"dep{n}") for n in range(DEPARTMENTS)), dn(f"wrap{WRAPS - 1}")))
    made += [group(f"wrap{n}", dn(f"wrap{n - 1}")) for n in range(1, WRAPS)]
    return [*made, group("flat", *logins[: people // 5])]


def dn(name: str) -> str:
    return f"cn={name},ou=groups,{BASE}"


def measure(folder: Path, what: str) -> None:
    """Do one thing in this process, and print what it took."""
    section = msgspec.json.decode((folder / "section.json").read_bytes(), type=DirectorySection)
    with (
        closing(open_database(folder / "state.db", snapshots=folder / "snapshots", clock=SystemClock())) as state,
        closing(AuditLog(ChainWriter(folder / "audit", ChainName("control"))).start()) as log,
    ):
        syncing = Syncing(state, log, SystemClock(), ALLOW)
        idle, began_s, used_s = memory_mib("VmRSS"), time.perf_counter(), time.process_time()
        says = asyncio.run(syncing.look(section)) if what == "look" else syncing.sync(section, actor="system").says
        took = {"wall_s": time.perf_counter() - began_s, "cpu_s": time.process_time() - used_s}
        log.settle(60)
        with state.read() as connection:
            accounts = access_sql.accounts_of_issuer(connection, section.name).values()
        deep = sum("all" in one.given_groups for one in accounts)
        flat = sum("flat" in one.given_groups for one in accounts)
        out = sum(bool(one.shut_s) for one in accounts)
    counts = {"accounts": len(accounts), "deep": deep, "flat": flat, "out": out}
    sys.stdout.buffer.write(msgspec.json.encode({**took, **counts, "says": says, "mib": memory_mib("VmHWM") - idle}))


def memory_mib(name: str) -> float:
    (kib,) = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kib) / 1024


def run(folder: Path, what: str) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.enter.directory_size", "--measure", what, str(folder)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, cwd=root)
    found: dict[str, Any] = msgspec.json.decode(done.stdout)
    print(f"{what}: {found}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return found


async def change(section: DirectorySection, *changes: tuple[str, int, str, str]) -> None:
    """Change attributes as the directory's administrator does: entry, kind, attribute, value."""
    connection = await Ldap.open(section.urls[0], ALLOW, tls_context(section.ca_file))
    await connection.bind(ROOT, ROOT_PASSWORD)
    for entry, kind, name, value in changes:
        values = tlv(0x30, octets(name), tlv(0x31, octets(value)))
        one = tlv(0x30, integer(kind, 0x0A), values)
        connection._check(*await connection._ask(tlv(0x66, octets(entry), tlv(0x30, one))))
    await connection.close()


def row(what: str, found: dict[str, Any], bar_s: float | None, right: bool) -> Row:
    return Row(
        what=what, value=found["wall_s"] if right else None, unit="s", bar=bar_s, lower_is_better=True,
        detail=f"{found['cpu_s']:.1f} s of processor; {found['says'] or 'nothing changed'}"[:160], readings=found,
    )  # fmt: skip


def rows_of(people: int, folder: Path) -> list[Row]:
    trust = Trust(folder / "trust")
    slapd_folder = folder / "slapd"
    slapd_folder.mkdir()
    slapd, began_s = Slapd(slapd_folder, trust), time.perf_counter()
    slapd.load(*entries(people))
    print(f"slapadd: {time.perf_counter() - began_s:.1f} s", file=sys.stderr)
    section = FakeDirectory().section(
        trust, slapd.port, map={"all": dn(f"wrap{WRAPS - 1}"), "flat": dn("flat")}, disabled="employeeType=left"
    )
    (folder / "section.json").write_bytes(msgspec.json.encode(section))
    slapd.start()
    try:
        first = run(folder, "sync")
        again = run(folder, "sync")
        quiet = run(folder, "look")
        left, moved = (f"uid=u{n:06d},ou=people,{BASE}" for n in (7, people // 2))
        asyncio.run(change(section, (left, REPLACE, "employeeType", "left")))
        seen = run(folder, "look")
        asyncio.run(change(section, (dn(f"team{people // 2 % TEAMS}"), DELETE, "member", moved)))
        moves = run(folder, "look")
        after = run(folder, "sync")
    finally:
        slapd.stop()
    whole = {"accounts": people, "deep": people, "flat": people // 5, "out": 0}
    is_whole = [whole.items() <= one.items() for one in (first, again, quiet)]
    some = f"{people:,} people, 2,000 groups"
    memory = max((first, again, quiet, seen, moves, after), key=lambda one: float(one["mib"]))
    return [
        row(f"first whole sync, {some}: everybody gets an account", first, WHOLE_BAR_S, is_whole[0]),
        row("whole sync, nothing changed", again, WHOLE_BAR_S, is_whole[1]),
        row("look at all of them, nothing changed", quiet, LOOK_BAR_S, is_whole[2] and not quiet["says"]),
        row("look that finds one person disabled", seen, LOOK_BAR_S, "changed" in seen["says"]),
        row("look that finds one person out of a group", moves, LOOK_BAR_S, "changed" in moves["says"]),
        row("whole sync that disables both", after, WHOLE_BAR_S, after["out"] == 2),
        Row(
            what="most memory of the syncing process above idle", value=memory["mib"], unit="MiB", bar=MEMORY_BAR_MIB,
            lower_is_better=True,
            detail=", ".join(f"{one['mib']:.0f}" for one in (first, again, quiet, seen, moves, after)),
        ),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--measure", choices=("sync", "look"), help=argparse.SUPPRESS)
    parser.add_argument("folder", type=Path, nargs="?", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        measure(asked.folder, asked.measure)
        return
    with tempfile.TemporaryDirectory(prefix="directory.") as name:
        rows = rows_of(asked.people, Path(name))
    text = report(rows, "benchmarks.enter.directory_size", size=f"{asked.people:,} people in slapd")
    print(text)
    if asked.report:
        asked.report.write_text(f"# A directory of a large house\n\n{text}")


if __name__ == "__main__":
    main()
