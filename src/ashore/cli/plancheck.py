"""`ashore plan check`: how far the planner is from measurements."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from ashore.cli.columns import table
from ashore.cli.sure import AsJson


def check(*, points: Path, as_json: AsJson = False) -> None:
    """Plan every row of a file of measurements, and print how far the plans are from what was measured.

    Prints the median error of first token, time a token and throughput, and the share of measurements inside the 80 %
    intervals; then the same by device and by model. A row that cannot be planned counts with an error of 100 %; one
    without lengths is planned with those of its publication, or else with those that its engine is usually measured
    with. Below are the errors on measurements that the planner was not fitted to.

    Args:
        points: CSV file. Columns: model, hardware; where known quant, n, tp, isl, osl, load_kind (closed, all_at_once,
            rate, saturated), load, engine, ttft_ms, tpot_ms, tok_s, params_b, active_b.
    """
    from ashore.lab.sizing import HELD_OUT, check, read_points, shipped

    report, using = check(read_points(points)), shipped()
    if as_json:
        document = {
            **asdict(report.whole),
            "hardware": {name: asdict(score) for name, score in report.by_hardware.items()},
            "family": {name: asdict(score) for name, score in report.by_family.items()},
            "not_planned": report.reasons,
            "held_out": {name: asdict(miss) for name, miss in using.overall.items()},
            "fitted_on": using.fitted_on,
        }
        print(json.dumps(document, indent=2))
        return
    head = ("", "points", "first token", "a token", "throughput", "in the interval")
    rows = [("all", report.whole), *report.by_hardware.items(), *report.by_family.items()]
    table(head, [_row(name, score) for name, score in rows], names=1)
    for why, number in report.reasons.items():
        print(f"not planned, counted as 100 %: {number} points: {why}")
    print(f"\nMedian errors. The planner was fitted to {using.fitted_on}. On what was held out of the fit:")
    for name, miss in using.overall.items():
        print(
            f"  {HELD_OUT[name]}: first token {miss.first_percent} %, a token {miss.token_percent} %, "
            f"throughput {miss.speed_percent} %"
        )


def _row(name: str, score: object) -> tuple[str, ...]:
    from ashore.lab.sizing import Score

    assert isinstance(score, Score)
    shown = (score.ttft_median_percent, score.tpot_median_percent, score.tok_s_median_percent, score.covered_percent)
    return (name, f"{score.num_points:,}", *("-" if value is None else f"{value:.1f} %" for value in shown))
