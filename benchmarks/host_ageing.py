"""Whether a host of the `openvino` engine grows slower as it serves, and by how much hosts of one model differ anyway.

    python -m benchmarks.host_ageing --home HOME [--model smollm2@int8] [--only PART ...] [--out REPORT.md]

HOME has the model in its store. Every figure is of hosts of their own, measured in turns (A B, B A, A B, ...), so that
a slow minute of the machine hits all alike:

    age        two hosts of one model: one answers 1,000 and then 2,000 more unique prompts; before, between and after
               both are measured alone in turns, one stream and four
    places     one host that stays, and one that is started again and again: what differs from start to start is where
               it lies in memory
    together   couples of hosts, each measured alone first, then while both answer, as what is live and a canary do

Figures are milliseconds a token, of single streams between the first and the last token of an answer, of four streams
between the first and last token of all. Ratios are of the one named first to the one named second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

from benchmarks.serve_cases import quiet_share
from benchmarks.serve_report import about

from ashore.cli.bootstrap import build_store, stored_files
from ashore.core.ids import OrderId
from ashore.data.engines import (
    EngineOptions,
    Failed,
    GenerateOrder,
    HostClient,
    HostLaunch,
    Sampling,
    Token,
    host_process,
)
from ashore.kit.settings import Home

PROMPT_TOKENS: Final = 40
ANSWER_TOKENS: Final = 64
AGED_TOKENS: Final = 16
"""Answers of what makes a host old."""
AGED_STREAMS: Final = 16
STREAMS: Final = (1, 4)
PARTS: Final = ("age", "places", "together")
AGES: Final = (0, 1000, 3000)
"""Unique prompts that the old host has answered."""


@dataclass(slots=True)
class Host:
    """A host that is measured."""

    name: str
    client: HostClient
    process: int
    draws: random.Random
    orders: count[int] = field(default_factory=count)

    async def answer(self, tokens: int) -> tuple[float, float]:
        """Ask one unique prompt; return the seconds to the first and the last token of the answer."""
        vocab = self.client.info.vocab_size
        order = GenerateOrder(
            order_id=OrderId(f"{self.name}-{next(self.orders)}"),
            prompt_ids=[self.draws.randrange(1000, vocab) for _ in range(PROMPT_TOKENS)],
            max_new_tokens=tokens,
            ignore_eos=True,
            sampling=Sampling(temperature=0.0),
        )
        began_s = time.perf_counter()
        first_s = last_s = 0.0
        async for event in self.client.generate(order):
            if isinstance(event, Failed):
                raise SystemExit(f"{self.name}: {event.message}")
            if isinstance(event, Token):
                last_s = time.perf_counter()
                first_s = first_s or last_s
        return first_s - began_s, last_s - began_s

    async def ms_per_token(self, streams: int) -> float:
        """Return what a token costs so many streams that begin together, each by itself."""
        times = await asyncio.gather(*(self.answer(ANSWER_TOKENS) for _ in range(streams)))
        return (max(last for _, last in times) - max(first for first, _ in times)) * 1e3 / (ANSWER_TOKENS - 1)

    async def grow_older(self, prompts: int) -> None:
        """Answer so many unique prompts, many at a time."""
        left = count(1)

        async def load() -> None:
            while next(left) <= prompts:
                await self.answer(AGED_TOKENS)

        await asyncio.gather(*(load() for _ in range(AGED_STREAMS)))

    def memory(self) -> dict[str, int]:
        """Return what of its memory is resident and what of that lies in huge pages, in MiB, and its page faults."""
        rollup = Path(f"/proc/{self.process}/smaps_rollup").read_text().splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in rollup[1:]}
        faults = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()[7]
        return {"rss_mib": kib["Rss"] >> 10, "huge_mib": kib["AnonHugePages"] >> 10, "faults": int(faults)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What one comparison of two hosts gave, in milliseconds a token."""

    part: str
    what: str
    streams: int
    one: tuple[float, ...]
    other: tuple[float, ...]
    notes: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        """Of each turn; a slow moment of the machine is in one or two of them."""
        return [a / b for a, b in zip(self.one, self.other, strict=True)]


@asynccontextmanager
async def running(name: str, launch: HostLaunch, *, seed: int) -> AsyncIterator[Host]:
    """Start a host, warm it up, and stop it at the end of the block."""
    with host_process(launch) as process:
        client = HostClient(process.socket)
        await process.connect(client)
        host = Host(name, client, process.process.pid, random.Random(seed))
        for streams in (*STREAMS, AGED_STREAMS):
            await host.ms_per_token(streams)
        try:
            yield host
        finally:
            await client.close()


async def in_turns(one: Host, other: Host, streams: int, turns: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure both, alone and in turns; who comes first changes."""
    found: dict[str, list[float]] = {one.name: [], other.name: []}
    for turn in range(turns):
        for host in (one, other) if turn % 2 else (other, one):
            found[host.name].append(await host.ms_per_token(streams))
    return tuple(found[one.name]), tuple(found[other.name])


async def compared(part: str, what: str, one: Host, other: Host, turns: int) -> list[Pair]:
    """Measure two hosts in turns, alone, at every number of streams."""
    pairs = []
    for streams in STREAMS:
        times, others = await in_turns(one, other, streams, turns)
        notes = {host.name: host.memory() for host in (one, other)}
        pairs.append(Pair(part=part, what=what, streams=streams, one=times, other=others, notes=notes))
        tell(pairs[-1])
    return pairs


async def age(launch: HostLaunch, turns: int) -> list[Pair]:
    """Compare a host that grows older with one that does not."""
    pairs: list[Pair] = []
    async with running("old", launch, seed=1) as old, running("fresh", launch, seed=2) as fresh:
        answered = 0
        for prompts in AGES:
            await old.grow_older(prompts - answered)
            answered = prompts
            pairs += await compared("age", f"old host after {prompts:,} prompts, to a fresh one", old, fresh, turns)
    return pairs


async def places(launch: HostLaunch, turns: int, starts: int) -> list[Pair]:
    """Compare a host that is started anew each time with one that stays."""
    pairs: list[Pair] = []
    async with running("stays", launch, seed=1) as stays:
        for start in range(starts):
            async with running(f"start {start + 1}", launch, seed=2 + start) as new:
                pairs += await compared("places", f"start {start + 1}, to a host that stays", new, stays, turns)
    return pairs


async def together(launch: HostLaunch, answers: int, couples: int) -> list[Pair]:
    """Compare two hosts alone, and while both answer, at least `answers` each, to one stream and to two."""
    pairs: list[Pair] = []
    for couple in range(couples):
        async with running("first", launch, seed=2 * couple) as first, running("second", launch, seed=99) as second:
            alone = await in_turns(first, second, 1, answers // 2)
            what = f"couple {couple + 1}, alone: started first, to second"
            pairs.append(Pair(part="together", what=what, streams=1, one=alone[0], other=alone[1]))
            tell(pairs[-1])
            for streams in (1, 2):
                found: dict[str, list[float]] = {"first": [], "second": []}

                async def load(host: Host, times: list[float], others: list[float], streams: int = streams) -> None:
                    while min(len(times), len(others)) < answers:
                        first_s, last_s = await host.answer(ANSWER_TOKENS)
                        times.append((last_s - first_s) * 1e3 / (ANSWER_TOKENS - 1))

                loads = [load(first, found["first"], found["second"]) for _ in range(streams)]
                loads += [load(second, found["second"], found["first"]) for _ in range(streams)]
                await asyncio.gather(*loads)
                kept = min(map(len, found.values()))
                pairs.append(
                    Pair(
                        part="together", what=f"couple {couple + 1}, together", streams=streams,
                        one=tuple(found["first"][:kept]), other=tuple(found["second"][:kept]),
                    )
                )  # fmt: skip
                tell(pairs[-1])
    return pairs


def tell(pair: Pair) -> None:
    print(row(pair), json.dumps(pair.notes), file=sys.stderr, flush=True)


def row(pair: Pair) -> str:
    """Return one comparison as a line of a table."""
    ratios = sorted(pair.ratios)
    quarters = f"{ratios[len(ratios) // 4]:.3f} to {ratios[-1 - len(ratios) // 4]:.3f}"
    one, other = (statistics.median(times) for times in (pair.one, pair.other))
    return (
        f"| {pair.part} | {pair.what} | {pair.streams} | {one:.2f} | {other:.2f} | "
        f"{statistics.median(ratios):.3f} | {quarters} | {len(ratios)} |"
    )


def markdown(pairs: Sequence[Pair], facts: dict[str, object]) -> str:
    """Return the report."""
    lines = [f"# Hosts beside each other, {facts['date']}", ""]
    lines += ["| part | what | streams | ms a token | the other's | ratio, median | its middle half | turns |"]
    lines += ["|---|---|---|---|---|---|---|---|", *(row(pair) for pair in pairs), ""]
    lines += [f"- {name}: {value}" for name, value in facts.items() if name != "versions"]
    return "\n".join([*lines, f"- versions: {json.dumps(facts['versions'])}", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="a home whose store has the model")
    parser.add_argument("--model", default="smollm2@int8")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--option", nargs="*", default=[], metavar="NAME=JSON", help="engine options of every host")
    parser.add_argument("--turns", type=int, default=12, help="of each comparison; default: 12")
    parser.add_argument("--starts", type=int, default=8, help="of the host that is started anew; default: 8")
    parser.add_argument("--couples", type=int, default=5, help="of hosts that answer together; default: 5")
    parser.add_argument("--out", type=Path, help="also write the table here, and JSON beside it")
    given = parser.parse_args()
    busy_before = quiet_share()
    with tempfile.TemporaryDirectory(prefix="ageing-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        (home / "store").symlink_to((given.home / "store").absolute())
        files = stored_files(build_store(Home(root=home)), given.model)
        extra = {name: json.loads(value) for name, _, value in (one.partition("=") for one in given.option)}
        options = EngineOptions(kind="openvino", extra=extra)
        launch = HostLaunch(files=files, options=options, drain_s=0.0)
        pairs: list[Pair] = []
        with suppress(KeyboardInterrupt):
            if "age" in given.only:
                pairs += asyncio.run(age(launch, given.turns))
            if "places" in given.only:
                pairs += asyncio.run(places(launch, given.turns, given.starts))
            if "together" in given.only:
                pairs += asyncio.run(together(launch, 2 * given.turns, given.couples))
    command = "python -m benchmarks.host_ageing " + " ".join(sys.argv[1:])
    facts = about(command, busy_before=busy_before, busy_after=quiet_share())
    report = markdown(pairs, facts)
    print(report)
    if given.out:
        given.out.write_text(report, encoding="utf-8")
        plain = {"facts": facts, "pairs": [asdict(one) for one in pairs]}
        given.out.with_suffix(".json").write_text(json.dumps(plain, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
