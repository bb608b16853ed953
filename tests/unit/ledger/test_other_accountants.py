"""What is composed, against Google's dp-accounting, which `make test-ledger` installs apart."""

from __future__ import annotations

import json
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from suite_venv import suite_python

from ashore.control.ledger.accountant import best_order, capacity, gaussian_noise, gaussian_rdp, training_epsilon

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]

ASKED = """
import json, sys
import dp_accounting as dp
from dp_accounting.pld.pld_privacy_accountant import PLDAccountant
from dp_accounting.rdp.rdp_privacy_accountant import RdpAccountant

asked = json.load(sys.stdin)
found = []
for one in asked["runs"]:
    accountant = PLDAccountant()
    for noise, rate, steps in one["parts"]:
        step = dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise))
        accountant.compose(dp.SelfComposedDpEvent(step, steps))
    found.append(accountant.get_epsilon(one["delta"]))
filters = []
for one in asked["filters"]:
    accountant = RdpAccountant([one["order"]])
    accountant.compose(dp.SelfComposedDpEvent(dp.GaussianDpEvent(one["noise"]), one["count"]))
    filters.append(accountant.get_epsilon(one["delta"]))
json.dump({"runs": found, "filters": filters}, sys.stdout)
"""


def ask(runs: list[dict[str, Any]], filters: list[dict[str, Any]]) -> dict[str, list[float]]:
    python: Path = suite_python("accounting")
    told = json.dumps({"runs": runs, "filters": filters})
    done = subprocess.run([str(python), "-c", ASKED], input=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, list[float]] = json.loads(done.stdout)
    return answer


def test_the_epsilon_of_training_is_that_of_dp_accounting_within_one_percent() -> None:
    grid = [
        (noise, rate, steps, delta)
        for noise, rate, steps, delta in product((0.8, 1.5, 4.0), (0.005, 0.07, 0.3), (20, 200, 2000), (1e-5, 1e-7))
        if 0.05 < training_epsilon(noise, rate, steps, delta, bins=1 << 15) < 30
    ]
    assert len(grid) > 25
    found = ask([{"parts": [one[:3]], "delta": one[3]} for one in grid], [])["runs"]
    off = {one: training_epsilon(*one) / theirs - 1 for one, theirs in zip(grid, found, strict=True)}
    print("\n".join(f"{one}: {value:+.4%}" for one, value in off.items()))
    assert max(map(abs, off.values())) < 0.01


def test_a_full_share_of_questions_is_worth_what_was_granted_within_one_percent() -> None:
    """As many questions as the filter lets through, composed by dp-accounting in the same order."""
    filters, granted = [], []
    for epsilon, delta, each in product((0.5, 1.0, 2.0), (1e-6, 1e-8), (0.02, 0.1)):
        order, noise = best_order(epsilon, delta), gaussian_noise(each, delta / 100)
        count = int(capacity(epsilon, delta, order) / gaussian_rdp(noise, order))
        filters.append({"noise": noise, "count": count, "delta": delta, "order": order})
        granted.append((epsilon, count))
    found = ask([], filters)["filters"]
    for theirs, (epsilon, count) in zip(found, granted, strict=True):
        assert theirs <= epsilon * (1 + 1e-9), "never more than was granted"
        assert theirs >= epsilon * (1 - 2 / count) - 0.01, "and no more is wasted than one question"


def test_two_runs_together_are_worth_less_than_their_sum() -> None:
    """The ledger adds runs plainly: an upper bound, also when the second was chosen after the first was seen."""
    parts, delta = [(1.5, 0.05, 100), (2.5, 0.1, 60)], 1e-6
    [theirs] = ask([{"parts": parts, "delta": 2 * delta}], [])["runs"]
    ours = sum(training_epsilon(*one, delta) for one in parts)
    assert theirs < ours < 2 * theirs
