"""Make the table of optimising: `make bench-optimise`, or

    python -m benchmarks.optimise --scale small|hours|full [--only STAGE …] [--again STAGE …] [--home DIR] [--out DIR]

What is done is kept in the home and not done again, so a run that was stopped goes on where it stood.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from benchmarks.optimise import quantise
from benchmarks.optimise.commands import Shop
from benchmarks.optimise.report import write
from benchmarks.optimise.road import BASE, stages
from benchmarks.optimise.scale import SCALES, Scale
from benchmarks.optimise.stages import Outcome, run_stages
from benchmarks.optimise.table import rows
from benchmarks.optimise.task import write_files
from benchmarks.row import Row
from benchmarks.serve_cases import quiet_share
from benchmarks.serve_report import about

PROJECT = Path(__file__).parents[2]


QUANTISE = "quantise"


def quantised(home: Path, scale: Scale, *, wanted: bool) -> tuple[Outcome, list[Row]]:
    """Return the stages and rows on quantising; unless `wanted`, only what is kept of them."""
    work = home / QUANTISE
    bench = quantise.Bench(home, work, model=BASE, tokens=scale.judged_tokens, rounds=scale.rounds)
    bench.store.pull(BASE)
    outcome = run_stages(bench.stages(), work, only=() if wanted else ("nothing",), say=say)
    return outcome, quantise.rows(outcome, model=BASE)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=sorted(SCALES), default="small")
    parser.add_argument("--only", action="append", default=[], help="a stage to do; others are taken if they are kept")
    parser.add_argument("--again", action="append", default=[], help="a stage to do even if it is kept")
    parser.add_argument("--home", type=Path, help="default: .cache/optimise-SCALE")
    parser.add_argument("--out", type=Path, default=PROJECT / "benchmarks" / "reports")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a time limit leaves no command behind
    scale = SCALES[given.scale]
    home = given.home or PROJECT / ".cache" / f"optimise-{scale.name}"
    files = write_files(home / "task", num_train=scale.num_train, num_test=scale.num_test)
    shop = Shop(home=home, files=files, log=home / "benchmark.log", scale=scale)
    road = stages(shop)
    if unknown := {*given.only, *given.again} - {stage.name for stage in road} - {QUANTISE}:
        names = ", ".join((QUANTISE, *(stage.name for stage in road)))
        parser.error(f"no such stage: {', '.join(sorted(unknown))}; there are {names}")
    busy = quiet_share()
    forms, table = quantised(home, scale, wanted=not given.only or QUANTISE in given.only)
    outcome = run_stages(road, home / "stages", again=given.again, only=given.only, say=say)
    outcome = Outcome(
        facts={**outcome.facts, QUANTISE: dict(forms.facts)},
        failed={**{f"{QUANTISE} {name}": why for name, why in forms.failed.items()}, **outcome.failed},
    )
    table += rows(outcome)
    command = "python -m benchmarks.optimise " + " ".join(sys.argv[1:])
    facts = about(command, busy_before=busy, busy_after=quiet_share()) | {
        "scale": repr(scale),
        "files": files.digests(),
    }
    for row in table:
        print("  ".join(row.cells()))
    not_measured = [] if scale.name == "full" else [f"the full scale: this run trained at the scale `{scale.name}`"]
    if max(busy, float(str(facts["other_load_after"]))) > 0.1:
        not_measured.append("a quiet machine: other work took more than a tenth of the processors")
    print(f"report: {write(given.out, scale.name, table, outcome, facts, not_measured)}")
    return 1 if outcome.failed or any(row.verdict == "MISSED" for row in table) else 0


if __name__ == "__main__":
    sys.exit(main())
