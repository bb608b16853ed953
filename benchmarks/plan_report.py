"""Write the dated report of the planner's errors from what `plan_fit.py` found: `python -m benchmarks.plan_report`."""

from __future__ import annotations

import argparse
import datetime
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.plan_matrix import judge_matrix

from ashore.lab.sizing import HELD_OUT, Miss, shipped


def lines(peers: str) -> Iterator[str]:
    using = shipped()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    yield f"# What the planner misses, {datetime.datetime.now(datetime.UTC).date().isoformat()}\n"
    yield f"Commit {commit.stdout.strip()}, Python {platform.python_version()}. Fitted to {using.fitted_on}."
    yield "Made by `python -m benchmarks.plan_fit --points points.csv` and `python -m benchmarks.plan_report`.\n"
    yield "Median errors on what was left out of the fit:\n"
    yield "| left out | points | first token | a token | throughput |\n|---|---|---|---|---|"
    for kind, words in HELD_OUT.items():
        yield row(words, using.overall[kind])
    yield f"\nRules of thumb, not fitted, on the same points: {using.thumbs}\n"
    if peers:
        yield "## AIConfigurator beside it\n"
        yield peers + "\n"
    for kind, words in (("hardware", "device"), ("family", "model")):
        yield f"## By {words}, each left out as a whole\n"
        yield "| left out | points | first token | a token | throughput |\n|---|---|---|---|---|"
        for name, miss in using.misses[kind].items():
            yield row(name, miss)
        yield ""
    yield "## The matrix that ashore began with\n"
    for judgement in judge_matrix():
        yield f"**{judgement.claim}: {judgement.verdict}.** " + "; ".join(judgement.lines) + ".\n"
    yield "Not measured: any device by ourselves; prices; power."


def row(name: str, miss: Miss) -> str:
    cells = (miss.first_percent, miss.token_percent, miss.speed_percent)
    return f"| {name} | {miss.num_points:,} | {' | '.join('-' if one is None else f'{one:g} %' for one in cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    today = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d")
    parser.add_argument("--out", type=Path, default=Path(f"benchmarks/reports/plan_{today}.md"))
    parser.add_argument("--peers", type=Path, help="what plan_peers.py printed")
    args = parser.parse_args()
    peers = args.peers.read_text(encoding="utf-8").strip() if args.peers else ""
    args.out.write_text("\n".join(lines(peers)) + "\n", encoding="utf-8")
    print(args.out)


if __name__ == "__main__":
    main()
