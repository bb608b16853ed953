"""How quickly an alias is led elsewhere under load, what that costs, how soon a standby answers, what a shadow adds.

    python -m benchmarks.release_switch [--engine openvino|fake] [--quick] [--shadow-s S] [--home DIR] [--out REPORT.md]

Starts `ashore up` in a folder of its own with two releases of one alias, keeps streams running, promotes and rolls back
in turn, kills the host of what is live, and lays the latency of live answers with and without a shadow side by side.
With `openvino`, `smollm2@int8` answers beside `smollm2@int4`; they are pulled and made where the store of `--home` does
not have them. With `fake` the switch is measured and not an engine. `--quick` is for seeing that it runs: its figures
rest on too few requests.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from benchmarks.release_rig import ALIAS, READY_S, Asked, Server, arrivals, prepare_models, streams
from benchmarks.row import Row
from benchmarks.serve_cases import quiet_share
from benchmarks.serve_report import about

FIRST, SECOND = f"{ALIAS}-1", f"{ALIAS}-2"
FAKE = "fake:random?tok_per_s=100&delay_s=0.05&load_s=3"
MODELS = {
    "openvino": ("smollm2@int8", "smollm2@int4"),
    "fake": (f"{FAKE}&seed=1", f"{FAKE}&seed=2"),
}
NOT_MEASURED = (
    "several workers, several machines, Postgres, an edge in front, models that fill the memory, a GPU; a host that "
    "hangs and does not die"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    streams: int = 16
    rounds: int = 20
    settle_s: float = 1.5
    """Between two switches, so that both releases have begun requests."""
    crashes: int = 5
    tokens: int = 16
    capacity_s: float = 20.0
    shadow_s: float = 7.0
    """Of one window. Longer ones see more of how fast the machine is at the moment, which changes within a minute."""
    shadow_rounds: int = 5
    """Of four windows: without, with, with, without copies, on one schedule of arrivals."""


QUICK = Size(streams=4, rounds=2, settle_s=0.8, crashes=1, tokens=8, capacity_s=4.0, shadow_s=4.0, shadow_rounds=1)


def switching(server: Server, size: Size) -> list[Row]:
    """Promote and roll back in turn under load."""
    path = {"promote": f"/admin/v1/releases/{SECOND}/promote", "rollback": f"/admin/v1/aliases/{ALIAS}/rollback"}
    switches: list[tuple[str, str, float, float]] = []
    with streams(server, size.streams, tokens=size.tokens) as asked:
        for turn in range(2 * size.rounds):
            verb, old = ("promote", FIRST) if turn % 2 == 0 else ("rollback", SECOND)
            began_s = time.monotonic()
            server.must("POST", path[verb], {"override": "a benchmark"} if verb == "promote" else {})
            switches.append((verb, old, began_s, time.monotonic()))
            time.sleep(size.settle_s)
    rows = []
    ends = [*(began_s for _, _, began_s, _ in switches[1:]), float("inf")]
    for verb in ("rollback", "promote"):
        told = [done_s - began_s for said, _, began_s, done_s in switches if said == verb]
        lasts = [
            max(
                (one.began_s - began_s for one in asked if one.release == old and began_s < one.began_s < end_s),
                default=0,
            )
            for (said, old, began_s, _), end_s in zip(switches, ends, strict=True)
            if said == verb
        ]
        rows.append(
            Row(
                what=f"{verb}: command to the last new request on the release before, p99 of {len(lasts)}",
                value=max(lasts) * 1e3, unit="ms", bar=1000.0, aim=200.0, lower_is_better=True,
                detail=f"median {statistics.median(lasts) * 1e3:.0f} ms; the command returned after "
                f"{statistics.median(told) * 1e3:.0f} ms",
                readings={"ms": [round(one * 1e3, 1) for one in lasts]},
            )
        )  # fmt: skip
    broken = [one for one in asked if not one.whole]
    by_release = {name: sum(one.release == name for one in asked) for name in (FIRST, SECOND)}
    rows.append(
        Row(
            what=f"requests failed or cut by {size.rounds} promotions and {size.rounds} rollbacks",
            value=len(broken), unit="", bar=0.0, lower_is_better=True,
            detail=f"of {len(asked):,}: " + ", ".join(f"{count:,} on {name}" for name, count in by_release.items()),
            readings={"statuses": sorted({one.status for one in broken})},
        )
    )  # fmt: skip
    return rows


def crashing(server: Server, size: Size) -> list[Row]:
    """Kill the host of what is live while clients ask, again and again."""
    answered, lost, cut, moved, total = [], 0, 0, 0, 0
    for turn in range(size.crashes):
        server.wait(SECOND, "standby", "shadow", "canary", "live")
        server.must("POST", f"/admin/v1/releases/{SECOND}/promote", {"override": "a benchmark"})
        wait_for_host(server, SECOND)
        with streams(server, size.streams, tokens=size.tokens) as asked:
            os.kill(server.host(SECOND), signal.SIGKILL)
            killed_s = time.monotonic()
            first = server.ask(f"who answers after crash {turn}?", tokens=size.tokens)
            time.sleep(2.0)
        answered.append(first.first_s - killed_s if first.release == FIRST and first.first_s else float("inf"))
        total += len(asked)
        lost += sum(not one.whole and not one.first_s for one in (*asked, first))
        cut += sum(not one.whole and bool(one.first_s) for one in asked)
        moved += sum(one.release == FIRST and one.began_s < killed_s < one.first_s for one in asked)
        server.wait(FIRST, "live")
        wait_for_host(server, SECOND)
    return [
        Row(
            what=f"crash of the live host to the first token of the standby, largest of {size.crashes}",
            value=max(answered), unit="s", bar=2.0, aim=0.5, lower_is_better=True,
            detail=f"median {statistics.median(answered):.2f} s; asked at the crash, beside {size.streams} streams",
            readings={"s": [round(one, 3) for one in answered]},
        ),
        Row(
            what="requests without a first token that a crash lost", value=lost, unit="", bar=0.0, lower_is_better=True,
            detail=f"of {total:,}; {moved} went on at the standby, {cut} that had begun to stream were cut",
        ),
    ]  # fmt: skip


def wait_for_host(server: Server, release: str) -> None:
    """Return when the host of a release is there, has loaded, and the worker is connected to it."""
    end_s = time.monotonic() + READY_S
    while time.monotonic() < end_s:
        name = ALIAS if server.state(release) == "live" else release  # what answers goes by its alias there
        page = server.metrics()
        lines = [line for line in page.splitlines() if line.startswith(f'ashore_replicas_ready{{model="{name}"}} ')]
        if server.host(release) and lines and float(lines[0].rpartition(" ")[2]) == 1:
            return
        time.sleep(0.1)
    raise SystemExit(f"the host of {release} did not come back within {READY_S:g} s")


def shadowing(server: Server, size: Size, share_percent: float, *, judged: bool) -> Row:
    """Compare the latency of live answers with and without copies to a shadow, at half of what the live host can do."""
    server.must("POST", f"/admin/v1/releases/{SECOND}/shadow", {"share_percent": 0.1, "automatic": False})
    server.wait(SECOND, "shadow")
    with streams(server, size.streams, tokens=size.tokens) as asked:
        began_s = time.monotonic()
        time.sleep(size.capacity_s)
        ended_s = time.monotonic()
    done = sum(one.whole and began_s < one.ended_s < ended_s for one in asked)
    rate = done / (ended_s - began_s) / 2
    rounds: list[tuple[list[Asked], list[Asked]]] = []
    for number in range(size.shadow_rounds):
        asked_by: tuple[list[Asked], list[Asked]] = ([], [])
        for copies in (False, True, True, False):
            share = share_percent if copies else 0.1
            server.must("POST", f"/admin/v1/releases/{SECOND}/shadow", {"share_percent": share, "automatic": False})
            drain(server)
            asked_by[copies].extend(arrivals(server, rate, size.shadow_s, tokens=size.tokens, seed=number))
        rounds.append(asked_by)
    quiet, busy = ([one for pair in rounds for one in pair[copies]] for copies in (False, True))
    ratios = sorted(p99(beside) / p99(alone) for alone, beside in rounds)
    bad = sum(not one.whole for one in (*quiet, *busy))
    return Row(
        what=f"what a shadow of {share_percent:g} % adds to the p99 of live answers, median of {len(rounds)} rounds",
        value=None if bad else (statistics.median(ratios) - 1) * 100, unit="%", bar=15.0 if judged else None, aim=5.0,
        lower_is_better=True,
        detail=f"ratios {', '.join(f'{ratio:.2f}' for ratio in ratios)}; all answers: {p99(quiet) * 1e3:.0f} ms alone, "
        f"{p99(busy) * 1e3:.0f} ms beside it; medians {median(quiet) * 1e3:.0f} and {median(busy) * 1e3:.0f} ms; "
        f"{len(quiet)} and {len(busy)} answers of {size.tokens} tokens at {rate:.2f}/s, half of what {size.streams} "
        f"streams get; {part_dropped(server)} of the copies dropped" + (f"; {bad} were not whole" if bad else ""),
    )  # fmt: skip


def drain(server: Server) -> None:
    """Return when the shadow has done with the copies that wait: its host uses no processor time."""
    host, used_s = psutil.Process(server.host(SECOND)), None
    while (now_s := host.cpu_times()) != used_s:
        used_s = now_s
        time.sleep(0.4)


def part_dropped(server: Server) -> str:
    """Return which part of all copies was not compared."""
    found = server.must("GET", f"/admin/v1/releases/{SECOND}/evidence")["items"]
    parts = [one["details"].get("copies dropped mean") for one in found if one["stage"] == "shadow"]
    return f"{parts[0]:.0%}" if parts and parts[0] is not None else "none"


def p99(asked: list[Asked]) -> float:
    times = sorted(one.ended_s - one.began_s for one in asked)
    return times[min(len(times) - 1, int(len(times) * 0.99))]


def median(asked: list[Asked]) -> float:
    return statistics.median(one.ended_s - one.began_s for one in asked)


def measure(home: Path, models: tuple[str, str], size: Size) -> list[Row]:
    """Run all of it on one server."""
    server = Server(home, models[0])
    try:
        server.must("POST", "/admin/v1/releases", {"alias": ALIAS, "model": models[1]})
        rows = [shadowing(server, size, 10.0, judged=True), shadowing(server, size, 100.0, judged=False)]
        rows = [*switching(server, size), *crashing(server, size), *rows]
    finally:
        server.stop()
    return rows


def markdown(rows: list[Row], facts: dict[str, object]) -> str:
    """Return the report."""
    head = ["what", "measured", "bar", "aim", "verdict", "made of"]
    lines = [f"# Switching between releases, {facts['date']}", "", "| " + " | ".join(head) + " |"]
    lines += ["|" + "---|" * len(head), *("| " + " | ".join(row.cells()) + " |" for row in rows), ""]
    lines += [f"- {name}: {value}" for name, value in facts.items() if name not in ("date", "versions")]
    lines += [f"- versions: {json.dumps(facts['versions'])}", f"- not measured: {NOT_MEASURED}", ""]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=tuple(MODELS), default="openvino")
    parser.add_argument("--quick", action="store_true", help="a few requests of each, to see that it runs")
    parser.add_argument("--shadow-s", type=float, help="seconds of each window of a shadow; default: 7")
    parser.add_argument("--home", type=Path, help="a home whose store has the models, or gets them; default: a new one")
    parser.add_argument("--out", type=Path, help="also write the table here, and JSON beside it")
    given = parser.parse_args()
    size, models = QUICK if given.quick else Size(), MODELS[given.engine]
    if given.shadow_s is not None:
        size = replace(size, shadow_s=given.shadow_s)
    busy_before = quiet_share()
    with tempfile.TemporaryDirectory(prefix="switch-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        if given.engine == "openvino":
            kept = (given.home or home).absolute()
            kept.mkdir(parents=True, exist_ok=True)
            prepare_models(kept, "smollm2", ("int8", "int4"))
            if kept != home:
                (home / "store").symlink_to(kept / "store")
        rows = measure(home, models, size)
    facts = about(
        "python -m benchmarks.release_switch " + " ".join(sys.argv[1:]),
        busy_before=busy_before,
        busy_after=quiet_share(),
    )
    facts["releases"] = f"{models[0]} beside {models[1]}"
    report = markdown(rows, facts)
    print(report)
    if given.out:
        given.out.write_text(report, encoding="utf-8")
        plain = {"facts": facts, "rows": [row.plain() for row in rows]}
        given.out.with_suffix(".json").write_text(json.dumps(plain, indent=1), encoding="utf-8")
    return 0 if all(row.verdict != "MISSED" for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
