"""Privacy budgets under load from processes that are killed all the time: is more drawn than was granted?

    python -m benchmarks.ledger_exact [--reservations 100000] [--processes 8] [--kills 100] [--state URL] [--out FILE]

Every process has the ledger as a command of this machine has it: the state, and an audit log on disk. It reserves
questions and training runs in datasets that it picks at random, and writes a line to its diary while it holds one: that
is where noise would be drawn. Processes are killed with SIGKILL at random moments and started again; half-way, half of
the budgets are replaced by larger ones. Without `--state` it is SQLite.

Judged is by the diaries alone, with the rules written out here once more: what was drawn under a dataset is at most
what was granted, and every spend that was drawn under is in the state and in the audit log.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.row import Row, report

if TYPE_CHECKING:
    from ashore.control.ledger import Ledger
    from ashore.kit.state import Database

EPSILON: Final = 4.0
RAISED: Final = 5.0
DELTA: Final = 1e-4
FULL_AT: Final = 0.7
"""Share of the reservations after which the budgets are spent; the others must be refused."""
FEMTO: Final = 1e15
MICRO: Final = 1e6


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a run showed."""

    reservations: int
    drawn: int
    refused: int
    kills: int
    held: int
    """Reservations that a killed process left and nobody drew under: spent in full."""
    overspent: int
    """Datasets under which more was drawn than granted."""
    unknown: int
    """Spends that were drawn under, and are not in the state as they were."""
    unrecorded: int
    """Spends that were drawn under, and are not in the audit log."""
    wasted: int
    """Datasets that refused although the most expensive spend would have fitted."""
    seconds: float
    p50_ms: float
    p99_ms: float
    """Of a reservation that was given, until its noise may be drawn."""

    @property
    def per_second(self) -> float:
        """Reservations that were given, by all processes together."""
        return (self.drawn + self.held) / self.seconds


@contextmanager
def opened(home: Path, url: str) -> Iterator[tuple[Ledger, Database]]:
    """Give the ledger of one process."""
    from ashore.control.audit import AuditService
    from ashore.control.ledger import Ledger
    from ashore.core.clock import SystemClock
    from ashore.data.audit import AuditLink, open_command_log
    from ashore.kit.state import open_state

    log = open_command_log(AuditLink(path=str(home / "audit"), keys=str(home / "keys")))
    with (
        closing(log),
        closing(open_state(url, default=home / "state.db", snapshots=home / "old", clock=SystemClock())) as database,
    ):
        remembers = AuditService(home / "audit", home / "keys", log)
        yield Ledger(database, clock=SystemClock(), recorder=log, remembers=remembers), database


def spend(home: Path, url: str, name: str, quota: int, datasets: int, most: int) -> None:
    """Reserve until the diary of this name has `quota` lines."""
    from ashore.core.errors import Overloaded, PrivacyBudgetSpent
    from ashore.core.ids import TenantId
    from ashore.core.principal import Principal
    from ashore.kit.call import Actor

    actor = Actor(principal=Principal(id=name, tenant=TenantId("default")))
    dice = random.Random()
    path = home / f"diary-{name}"
    diary = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    done = path.read_bytes().count(b"\n")
    with opened(home, url) as (ledger, _):
        while done < quota:
            dataset = f"d{dice.randrange(datasets)}"
            kind = dice.choice(("question", "training"))
            cost = (dice.randint(1, most), 0 if kind == "question" else dice.randint(1, 100))
            began = time.perf_counter()
            try:
                with ledger.reserved(actor, "default", dataset, kind, lambda _, cost=cost: cost, what="x") as held:
                    took_ms = (time.perf_counter() - began) * 1e3
                    line = [dataset, kind, held.spend.id, held.spend.budget, *cost, round(took_ms, 3)]
                    os.write(diary, (json.dumps(line) + "\n").encode())
            except PrivacyBudgetSpent:
                os.write(diary, (json.dumps([dataset, kind]) + "\n").encode())
            except Overloaded:  # told to try again, and nothing is reserved
                continue
            done += 1


def grant(home: Path, url: str, datasets: list[str], epsilon: float) -> None:
    """Grant budgets, or larger ones in their place."""
    from ashore.core.ids import TenantId
    from ashore.core.principal import Principal
    from ashore.kit.call import Actor

    actor = Actor(principal=Principal(id="olga", tenant=TenantId("default")))
    with opened(home, url) as (ledger, _):
        for dataset in datasets:
            ledger.grant(actor, "default", dataset, epsilon=epsilon, delta=DELTA, questions=0.5)


def run(
    *,
    reservations: int,
    processes: int,
    kills: int,
    datasets: int,
    url: str = "",
    seed: int | None = None,
    where: str | None = None,
) -> Verdict:
    """Do it and judge. Forks, so call it from a process with one thread."""
    import ashore.control.audit
    import ashore.control.ledger  # noqa: F401 - once, before the forks

    dice = random.Random(seed)
    fork = multiprocessing.get_context("fork")
    each = -(-reservations // processes)
    # Questions have epsilon 2 of which some 1.3 million micro-nats of the Rényi divergence; so have training runs.
    most = max(2, round(2 * 1.3e6 / (FULL_AT * reservations / 2 / datasets)))
    names = [f"d{number}" for number in range(datasets)]
    with tempfile.TemporaryDirectory(prefix="ledger-", dir=where) as folder:
        home = Path(folder)

        def begin(number: int) -> Any:
            process = fork.Process(target=spend, args=(home, url, f"p{number}", each, datasets, most))
            process.start()
            return process

        def through(target: Any, *arguments: Any) -> None:
            process = fork.Process(target=target, args=arguments)
            process.start()
            process.join()
            assert process.exitcode == 0, target

        def lines() -> int:
            return sum(one.read_bytes().count(b"\n") for one in home.glob("diary-*"))

        through(grant, home, url, names, EPSILON)
        began = time.monotonic()
        running = {number: begin(number) for number in range(processes)}
        killed, raised = 0, False
        while running:
            time.sleep(dice.uniform(0, 0.02))
            for number, process in list(running.items()):
                if process.exitcode is not None:
                    assert process.exitcode == 0, f"process {number} ended with {process.exitcode}"
                    del running[number]
            if not running:
                break
            done = lines()
            if not raised and done >= reservations / 2:
                through(grant, home, url, names[::2], RAISED)
                raised = True
            if killed < kills and done >= reservations * (killed + dice.random()) / (kills + 1):
                number = dice.choice(sorted(running))
                running[number].kill()
                running[number].join()
                if running[number].exitcode == -signal.SIGKILL:
                    killed += 1
                running[number] = begin(number)
        seconds = time.monotonic() - began
        return judge(home, url, names, killed, most, seconds)


def judge(home: Path, url: str, names: list[str], kills: int, most: int, seconds: float) -> Verdict:
    """Compare what the diaries say with what was granted, with the state and with the audit log."""
    diary = [json.loads(line) for one in home.glob("diary-*") for line in one.read_text().splitlines()]
    drawn = [line for line in diary if len(line) > 2]
    with opened(home, url) as (_, database):
        from ashore.control.audit import AuditService
        from ashore.kit.recorder import MemoryRecorder
        from ashore.kit.state import execute

        with database.read() as connection:
            budgets = [dict(row) for row in execute(connection, "SELECT * FROM dp_budget").mappings()]
            kept = {
                row["id"]: (row["budget"], row["kind"], row["units"], row["delta"], row["state"])
                for row in execute(connection, "SELECT * FROM dp_spend").mappings()
            }
        service = AuditService(home / "audit", home / "keys", MemoryRecorder())
        recorded = {
            str(one["spend"])
            for name in names
            for one in service.details("privacy-budget:spend", f"dataset/default/{name}")
            if "spend" in one
        }
    by_budget: dict[tuple[str, str], list[Any]] = {}
    for line in drawn:
        by_budget.setdefault((line[3], line[1]), []).append(line)
    overspent = sum(_overspent([one for one in budgets if one["dataset"] == name], by_budget) for name in names)
    counted: Counter[tuple[str, str]] = Counter()
    for budget, kind, units, _, _ in kept.values():
        counted[budget, kind] += units
    refused = {(line[0], line[1]) for line in diary if len(line) == 2}
    wasted = 0
    for dataset, kind in refused:
        last = next(one for one in budgets if one["dataset"] == dataset and not one["closed_s"])
        cap = last["capacity"]
        if kind == "training":
            cap = last["epsilon"] - last["carried_epsilon"] - last["questions_epsilon"]
        # Before the larger budget was granted it was full, and the larger one need not be.
        wasted += last["epsilon"] < RAISED * MICRO and counted[last["id"], kind] + most <= cap
    took = sorted(line[6] for line in drawn)
    return Verdict(
        reservations=len(diary),
        drawn=len(drawn),
        refused=len(diary) - len(drawn),
        kills=kills,
        held=len(kept) - len(drawn),
        overspent=overspent,
        unknown=sum(kept.get(line[2], ("",) * 5)[:4] != (line[3], line[1], line[4], line[5]) for line in drawn),
        unrecorded=sum(line[2] not in recorded for line in drawn),
        wasted=wasted,
        seconds=seconds,
        p50_ms=took[len(took) // 2],
        p99_ms=took[len(took) * 99 // 100],
    )


def _overspent(budgets: list[dict[str, Any]], by_budget: dict[tuple[str, str], list[Any]]) -> bool:
    """Return whether more was drawn of a dataset, under all its budgets, than the largest of them allows."""
    epsilon = delta = 0
    for one in budgets:
        questions, runs = by_budget.get((one["id"], "question"), []), by_budget.get((one["id"], "training"), [])
        if sum(line[4] for line in questions) > one["capacity"]:
            return True
        epsilon += (one["questions_epsilon"] if questions else 0) + sum(line[4] for line in runs)
        delta += (one["questions_delta"] if questions else 0) + sum(line[5] for line in runs)
    return epsilon > max(one["epsilon"] for one in budgets) or delta > DELTA * FEMTO


def table(name: str, verdict: Verdict) -> list[Row]:
    """Return the rows of a report."""
    told = f"{verdict.reservations:,} reservations: {verdict.drawn:,} given, {verdict.refused:,} refused"
    return [
        Row(
            what=f"{name}: datasets overspent", value=float(verdict.overspent), unit="", bar=0, lower_is_better=True,
            detail=f"{told}; {verdict.kills} kills left {verdict.held} that nobody drew under, spent in full",
        ),
        Row(
            what=f"{name}: spends missing in the state or the audit log",
            value=float(verdict.unknown + verdict.unrecorded), unit="", bar=0, lower_is_better=True,
        ),
        Row(
            what=f"{name}: datasets that refused what fitted", value=float(verdict.wasted), unit="", bar=0,
            lower_is_better=True,
        ),
        Row(
            what=f"{name}: debits, all processes together", value=verdict.per_second, unit="/s", bar=None,
            detail=f"in {verdict.seconds:.0f} s; audit log on disk before each",
        ),
        Row(
            what=f"{name}: until a debit is on disk, p50", value=verdict.p50_ms, unit="ms", bar=None,
            detail=f"p99 {verdict.p99_ms:.1f} ms, with all processes waiting for each other",
        ),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reservations", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--datasets", type=int, default=40)
    parser.add_argument("--state", default="", help="postgresql://...; default: SQLite")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--folder", help="where the home is made; in memory it is quicker, and as safe from SIGKILL")
    parser.add_argument("--json", action="store_true", help="print the verdict alone")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    verdict = run(
        reservations=arguments.reservations, processes=arguments.processes, kills=arguments.kills,
        datasets=arguments.datasets, url=arguments.state, seed=arguments.seed, where=arguments.folder,
    )  # fmt: skip
    if arguments.json:
        print(json.dumps(asdict(verdict)))
    rows = table("Postgres" if arguments.state else "SQLite", verdict)
    text = report(rows, "benchmarks.ledger_exact")
    if not arguments.json:
        print(text)
    if arguments.out:
        arguments.out.write_text(text)
    return 1 if any(row.verdict == "MISSED" for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
