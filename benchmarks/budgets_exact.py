"""Budgets under load from several processes of which one is killed: tokens over budget, and refusals that were false.

    python -m benchmarks.budgets_exact [--runs 10] [--seconds 6] [--clients 64] [--processes 3] [--out REPORT.md]

Each run has a new home with a SQLite state. Every process serves `--clients` clients that reserve, make their answer
piece by piece, settle, give up, or get kept answers, all under nested budgets that run out while the run lasts. One
process is killed with SIGKILL at a random moment and started again.

What is wrong is found by an oracle that knows nothing of the ledger: `budgets_oracle`.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.budgets_oracle import Verdict, judge, read_diaries
from benchmarks.row import Row

TENANTS = ("acme", "bank")
USERS = 8


def rules(scale: int) -> list[Any]:
    """Return nested budgets, of which now this one and now that one is the tightest."""
    from ashore.data.authority.budgets import BudgetRule

    return [
        BudgetRule(kind="tokens", window="total", cap=60_000 * scale, tenant="acme"),
        BudgetRule(kind="tokens", window="minute", cap=9_000 * scale, tenant="*"),
        BudgetRule(kind="tokens", window="minute", cap=1_500 * scale, user="*", tenant="*"),
        BudgetRule(kind="requests", window="minute", cap=60 * scale, user="*", tenant="*"),
        BudgetRule(kind="concurrency", window="now", cap=max(2, scale), user="*", tenant="*"),
        BudgetRule(kind="tokens", window="hour", cap=15_000 * scale, model="chat"),
    ]


# --- one serving process


class Diary:
    """Lines that are in the file when `write` returns, so that they outlive the process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, *what: object) -> None:
        os.write(self._file, (json.dumps([time.monotonic_ns(), *what]) + "\n").encode())


async def client(number: int, name: str, budgets: Any, diary: Diary, book: Callable[..., Any], until: float) -> None:
    """Ask again and again, as one client."""
    from ashore.core.errors import BudgetExceeded, NotReady
    from ashore.core.ids import TenantId
    from ashore.data.authority import Principal

    dice = random.Random(f"{name}.{number}")
    tenant = TENANTS[number % len(TENANTS)]
    principal = Principal(id=f"user{number % USERS}", tenant=TenantId(tenant), key_id=f"ash_{number:08x}")
    serial = 0
    while time.monotonic() < until:
        serial += 1
        request = f"{name}.{number}.{serial}"
        model = dice.choice(("chat", "chat", "code"))
        prompt, most = dice.randrange(5, 60), dice.randrange(10, 400)
        hit = dice.random() < 0.2
        lines, now_ms = book(principal, model, hit)
        diary.write("ask", request, lines, 0 if hit else prompt + most, hit, now_ms)
        try:
            if hit:
                if not budgets.charge_hit_now(principal, model, 0):
                    await budgets.charge_hit(principal, model, 0)
                diary.write("end", request, 0, 1)
                await asyncio.sleep(dice.random() * 0.01)
                continue
            reserved = await budgets.reserve(principal, model, prompt + most)
        except BudgetExceeded as fault:
            diary.write("refused", request, dict(fault.facts)["x-ashore-budget"])
            await asyncio.sleep(dice.random() * 0.01)
            continue
        except NotReady:  # another machine is silent: neither served nor refused
            diary.write("undecided", request)
            await asyncio.sleep(dice.random() * 0.01)
            continue
        diary.write("open", request)
        made = 0
        goal = dice.randrange(0, most + 1)
        gives_up = dice.random() < 0.1
        if dice.random() < 0.05:
            diary.write("ending", request, 0, 0)
            reserved.release()
            diary.write("end", request, 0, 0)
            continue
        while True:
            diary.write("making", request, prompt + made)
            reserved.made(prompt, made)
            diary.write("given", request, prompt + made)
            await asyncio.sleep(dice.random() * 0.004)
            if made >= goal or (gives_up and made > goal // 2):
                break
            made = min(goal, made + dice.randrange(1, 60))
        diary.write("ending", request, prompt + made, 1)
        if gives_up:
            reserved.release()
        else:
            reserved.settle(prompt, made)
        diary.write("end", request, prompt + made, 1)


async def serve(home: Path, name: str, clients: int, until: float, state: str) -> None:
    from ashore.core.clock import SystemClock
    from ashore.data.authority.budgets import Asker, RuleBook, open_budgets
    from ashore.kit.recorder import MemoryRecorder
    from ashore.kit.state import EpochWatch, open_state

    clock = SystemClock()
    database = open_state(state, default=home / "state.db", snapshots=home / "snapshots", clock=clock)
    watch = EpochWatch(database).start()
    folder = home / ("machine-" + name.partition("-")[0] if state else "budgets")
    opened = open_budgets(folder, database, watch, clock, MemoryRecorder(), charge_hits=False)
    book = RuleBook(opened.authority.rules())

    def lines(principal: Any, model: str, hit: bool) -> tuple[list[Any], int]:
        asker = Asker(principal.key_id, principal.id, principal.tenant, model)
        now_ms = opened.ledger.now_ms()
        sheet = book.sheet(asker, now_ms)
        chosen = sheet.hit_lines if hit else sheet.lines
        return [
            [line.rule_id, int(line.part), line.cap, "/".join(line.subject), line.starts_ms, line.ends_ms]
            for line in chosen
        ], now_ms

    diary = Diary(home / f"diary-{name}")
    diary.write("up")
    await asyncio.gather(*(client(number, name, opened.budgets, diary, lines, until) for number in range(clients)))
    opened.close()
    watch.close()
    database.close()


# --- a run


def spawn(home: Path, name: str, arguments: argparse.Namespace, until: float) -> subprocess.Popen[bytes]:
    with open(home / f"log-{name}", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.budgets_exact", "--serve", name, "--home", str(home),
             "--clients", str(arguments.clients), "--until", str(until), "--state", arguments.state],
            stdout=log, stderr=log,
        )  # fmt: skip


def _wait_for_diaries(home: Path, count: int) -> None:
    """Return when every process has begun to serve."""
    give_up_at = time.monotonic() + 30
    while len(list(home.glob("diary-*"))) < count and time.monotonic() < give_up_at:
        time.sleep(0.02)


def run(arguments: argparse.Namespace, number: int) -> tuple[Verdict, dict[str, float]]:
    from ashore.core.clock import SystemClock
    from ashore.data.authority.budgets import SqlAuthority
    from ashore.kit.state import execute, open_state

    dice = random.Random(number)
    with tempfile.TemporaryDirectory(prefix="budgets-", dir=arguments.folder) as folder:
        home = Path(folder)
        database = open_state(
            arguments.state, default=home / "state.db", snapshots=home / "snapshots", clock=SystemClock()
        )
        authority = SqlAuthority(database)
        with database.write() as connection:  # a server keeps what the run before counted
            for table in ("budget_rule", "budget_count", "budget_source", "budget_want", "usage_day"):
                execute(connection, f"DELETE FROM {table}")
        for rule in rules(arguments.clients // 8):
            authority.put_rule(rule)
        until = time.monotonic() + arguments.seconds + 1.0
        running = {f"{index}": spawn(home, f"{index}", arguments, until) for index in range(arguments.processes)}
        deaths: dict[str, tuple[int, int]] = {}
        victim = ""
        if not arguments.no_kill:
            _wait_for_diaries(home, arguments.processes)
            time.sleep(0.1 + 0.4 * dice.random())  # while there is something to lose
            victim = str(dice.randrange(arguments.processes))
            dead_from = time.monotonic_ns()
            running[victim].send_signal(signal.SIGKILL)
            running[victim].wait()
            deaths[victim] = dead_from, time.monotonic_ns()
            again = f"{victim}-again"
            running[again] = spawn(home, again, arguments, until)
        for name, process in running.items():
            if process.wait(arguments.seconds + 60) and name != victim:
                raise RuntimeError((home / f"log-{name}").read_text())
        requests = read_diaries(home, deaths)
        verdict = judge(requests)
        today = datetime.datetime.now(datetime.UTC).date()
        rows = authority.usage(
            first_day=(today - datetime.timedelta(1)).isoformat(), last_day=(today + datetime.timedelta(1)).isoformat()
        )
        told = sum(row.prompt_tokens + row.completion_tokens for row in rows)
        given = sum(one.given if one.dead_since else one.spent for one in requests)
        made = sum(one.making if one.dead_since else one.spent for one in requests)
        database.close()
        return verdict, {"recorded_tokens": told, "given_tokens": given, "made_tokens": made}


# --- the cost of one call


def costs() -> dict[str, float]:
    """Return microseconds of the calls of the hot path, the median of 20 rounds, under three budgets."""
    from ashore.core.clock import SystemClock
    from ashore.core.ids import TenantId
    from ashore.data.authority import Principal
    from ashore.data.authority.budgets import BudgetRule, LedgerBudgets, MappedLedger
    from ashore.kit.recorder import MemoryRecorder

    with tempfile.TemporaryDirectory() as folder:
        ledger = MappedLedger(Path(folder) / "ledger", SystemClock())
        huge = 1 << 50
        budgets = LedgerBudgets(
            ledger,
            MemoryRecorder(),
            rules=[
                BudgetRule(kind="tokens", window="day", cap=huge, tenant="acme"),
                BudgetRule(kind="requests", window="minute", cap=huge, user="*"),
                BudgetRule(kind="concurrency", window="now", cap=huge, tenant="acme"),
            ],
        )
        principal = Principal(id="alice", tenant=TenantId("acme"))

        def hit() -> None:
            budgets.charge_hit_now(principal, "chat", 0)

        async def reserve() -> None:
            for _ in range(1000):
                (await budgets.reserve(principal, "chat", 100)).settle(10, 20)

        async def made() -> None:
            one = await budgets.reserve(principal, "chat", 100)
            for done in range(1000):
                one.made(10, done)
            one.release()

        found = {
            "charge_hit": median_us(lambda: [hit() for _ in range(1000)]),
            "standing": median_us(lambda: [budgets.standing(principal, "chat") for _ in range(1000)]),
            "reserve_and_settle": median_us(lambda: asyncio.run(reserve())),
            "made": median_us(lambda: asyncio.run(made())),
        }
        ledger.close()
        return found


def median_us(thousand: Callable[[], object]) -> float:
    """Return microseconds of processor time of one of a thousand calls: nobody contends for the lock here."""
    rounds = []
    for _ in range(20):
        began = time.process_time()
        thousand()
        rounds.append((time.process_time() - began) * 1e3)
    return sorted(rounds)[10]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--clients", type=int, default=64, help="of each process")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--state", default="", help="postgresql://...: every process stands for a machine of its own")
    parser.add_argument("--no-kill", action="store_true")
    parser.add_argument("--folder", default=None, help="where the homes of the runs are made")
    parser.add_argument("--costs-only", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(arguments.home, arguments.serve, arguments.clients, arguments.until, arguments.state))
        return 0
    rows: list[Row] = []
    if not arguments.costs_only:
        verdicts = []
        recorded: list[dict[str, float]] = []
        for number in range(arguments.runs):
            verdict, told = run(arguments, number)
            verdicts.append(verdict)
            recorded.append(told)
            print(
                f"run {number}: {verdict.requests:,} requests, {verdict.refusals:,} refused, {verdict.cut_off} cut, "
                f"{verdict.undecided} undecided, "
                f"over {verdict.over_given} given, {verdict.over_open} open; {len(verdict.false_refusals)} false, "
                f"{verdict.by_kind}, "
                f"{verdict.doubtful} too close to judge; {told}",
                flush=True,
            )
            for one in verdict.false_refusals[:5]:
                print("   false:", one)
        rows += table(arguments, verdicts, recorded)
    found = costs()
    rows += [
        Row(what=f"{name.replace('_', ' ')} under three budgets, processor time, p50", value=value, unit="µs", bar=None)
        for name, value in found.items()
    ]
    text = report(arguments, rows)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    return 1 if any(row.verdict == "MISSED" for row in rows) else 0


def table(arguments: argparse.Namespace, verdicts: list[Verdict], recorded: list[dict[str, float]]) -> list[Row]:
    refusals = sum(verdict.refusals for verdict in verdicts)
    doubtful = sum(verdict.doubtful for verdict in verdicts)
    kinds = ", ".join(f"{name} {sum(verdict.by_kind[name] for verdict in verdicts):,}" for name in verdicts[0].by_kind)
    shares = sorted(share for verdict in verdicts for share in verdict.tightest)
    wrong = sum(not one["given_tokens"] <= one["recorded_tokens"] <= one["made_tokens"] for one in recorded)
    return [
        Row(
            what="tokens or requests given over a budget, worst of all windows and runs",
            value=max(verdict.over_given for verdict in verdicts), unit="", bar=0, lower_is_better=True,
            detail=f"{len(verdicts)} runs, {sum(v.requests for v in verdicts):,} requests, "
            f"{sum(v.cut_off for v in verdicts)} cut off by the kills",
        ),
        Row(
            what="settled and surely open over a budget at one moment",
            value=max(verdict.over_open for verdict in verdicts), unit="", bar=0, lower_is_better=True,
        ),
        Row(
            what="false refusals", value=sum(len(verdict.false_refusals) for verdict in verdicts), unit="", bar=0,
            lower_is_better=True, detail=f"{refusals:,} refusals judged ({kinds}); {doubtful:,} of "
            "them within what was under way at the same moment",
        ),
        Row(
            what="requests neither served nor refused (503)", value=sum(verdict.undecided for verdict in verdicts),
            unit="", bar=None, lower_is_better=True, detail="another machine that has a share did not answer in time",
        ),
        Row(
            what="runs whose usage in SQL is not what clients got", value=wrong, unit="", bar=0, lower_is_better=True,
            detail="between what was surely given and what was made at most",
        ),
        Row(
            what="share of an exhausted budget that clients really got, median",
            value=shares[len(shares) // 2] if shares else None, unit="", bar=None,
            detail="short of 1 by what is reserved and not used when the window or the run ends",
        ),
    ]  # fmt: skip


def report(arguments: argparse.Namespace, rows: list[Row]) -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    state = "Postgres, every process a machine of its own" if arguments.state else "SQLite, one machine"
    lines = [
        f"# Budgets, exact under load and kills: {datetime.date.today()}",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}, commit {commit}, {state}, `python -m benchmarks.budgets_exact "
        f"--runs {arguments.runs} --seconds {arguments.seconds:g} --clients {arguments.clients} "
        f"--processes {arguments.processes}` "
        f"({arguments.clients} clients in each process).",
        "",
        "| what | seen | bar | aim | verdict | |",
        "|---|---|---|---|---|---|",
        *("| " + " | ".join(row.cells()) + " |" for row in rows),
        "",
        "How the oracle judges: docstring of `benchmarks/budgets_oracle.py`.",
        "Not measured: a power cut of the machine, a full disk, more than one real machine.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
