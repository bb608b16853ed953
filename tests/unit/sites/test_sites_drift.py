"""How far a site's requests have moved: from the usage of two weeks alone."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from ashore.control.sites.reports import drift_of
from ashore.data.authority.budgets import Usage

TODAY = date(2026, 12, 2)


def week(ago: int, *, prompt: int = 700, answer: int = 90, requests: int = 40, model: str = "chat") -> list[Usage]:
    """Return a week of two users; `ago` 1 is the last one. Every third request was answered from the cache."""
    return [
        Usage(
            day=(TODAY - timedelta(days=7 * ago - day)).isoformat(), tenant="acme", user=user, model=model,
            requests=requests + requests // 2, hits=requests // 2,
            prompt_tokens=requests * (prompt + 9 * day), completion_tokens=requests * (answer + day),
        )
        for day in range(7) for user in ("ann", "bob")
    ]  # fmt: skip


def test_the_same_requests_have_not_moved_and_the_days_that_are_still_counted_do_not_matter() -> None:
    odd = [*week(0, prompt=9), *week(3, prompt=9)]
    assert drift_of([*week(1), *week(2), *odd], TODAY) == 0


@pytest.mark.parametrize("moved", [{"prompt": 2800}, {"answer": 700}])
def test_longer_prompts_or_answers_of_one_alias_show(moved: dict[str, int]) -> None:
    still = [*week(1, model="sort"), *week(2, model="sort")]
    found = drift_of([*still, *week(1, **moved), *week(2)], TODAY)
    assert found is not None and found > 1


def test_a_mean_near_a_power_of_two_does_not_jump_over_it() -> None:
    found = drift_of([*week(1, prompt=1010), *week(2, prompt=985)], TODAY)
    assert found is not None and found < 0.1


def test_a_handful_of_requests_says_nothing() -> None:
    assert drift_of([*week(1, prompt=9), *week(2, requests=7)], TODAY) is None
    assert drift_of(week(1), TODAY) is None and drift_of([], TODAY) is None
