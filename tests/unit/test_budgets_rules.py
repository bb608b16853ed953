"""Windows, rules, refusals, prices and tables of budgets: the pure parts."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashore.core.errors import InvalidRequest, InvalidSpec
from ashore.data.authority import AccessSection, PriceSection
from ashore.data.authority.budgets import (
    WINDOWS,
    Asker,
    BudgetRule,
    RuleBook,
    Standing,
    Usage,
    check_rule,
    rate_headers,
)
from ashore.data.authority.budgets.model import Quota, WindowName
from ashore.data.authority.budgets.rulebook import duration, window_at
from ashore.data.authority.budgets.service import refusal
from ashore.data.authority.budgets.usage import Price, as_csv, columns_of, safe_cell, sum_by
from ashore.machine.config import parse_spec

ALICE = Asker("ash_1", "alice", "acme", "chat")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("window", "offset_min", "moment", "starts", "ends"),
    [
        ("minute", 0, "2026-11-24T23:59:59.999", "2026-11-24T23:59", "2026-11-25T00:00"),
        ("hour", 0, "2026-11-24T23:00", "2026-11-24T23:00", "2026-11-25T00:00"),
        ("hour", 330, "2026-11-24T23:00", "2026-11-24T22:30", "2026-11-24T23:30"),
        ("day", 0, "2026-11-24T00:00", "2026-11-24T00:00", "2026-11-25T00:00"),
        ("day", 480, "2026-11-24T15:59", "2026-11-23T16:00", "2026-11-24T16:00"),
        ("day", 480, "2026-11-24T16:00", "2026-11-24T16:00", "2026-11-25T16:00"),
        ("month", 0, "2026-12-31T23:59", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("month", 0, "2028-02-29T12:00", "2028-02-01T00:00", "2028-03-01T00:00"),
        ("month", -60, "2026-12-01T00:30", "2026-11-01T01:00", "2026-12-01T01:00"),
    ],
)
def test_windows(window: WindowName, offset_min: int, moment: str, starts: str, ends: str) -> None:
    assert window_at(window, at(moment), offset_min) == (at(starts), at(ends))


@given(st.sampled_from(WINDOWS), st.integers(0, 4_000_000_000_000), st.integers(-840, 840))
def test_every_moment_is_in_its_window_and_windows_touch(window: WindowName, now_ms: int, offset_min: int) -> None:
    starts, ends = window_at(window, now_ms, offset_min)
    if window in ("total", "now"):
        assert (starts, ends) == (0, 0)
        return
    assert starts <= now_ms < ends
    assert window_at(window, starts, offset_min) == (starts, ends)
    assert window_at(window, ends, offset_min)[0] == ends


@pytest.mark.parametrize(
    ("rule", "subject"),
    [
        ({}, ("", "", "", "")),
        ({"tenant": "acme"}, ("", "", "acme", "")),
        ({"tenant": "other"}, None),
        ({"user": "*"}, ("", "alice", "", "")),
        ({"user": "*", "tenant": "acme", "model": "*"}, ("", "alice", "acme", "chat")),
        ({"user": "bob", "tenant": "acme"}, None),
        ({"key": "ash_1"}, ("ash_1", "", "", "")),
    ],
)
def test_whose_count_a_request_goes_to(rule: dict[str, str], subject: tuple[str, ...] | None) -> None:
    assert BudgetRule(kind="tokens", window="day", cap=1, **rule).subject(ALICE) == subject


def test_who_has_no_key_is_under_no_budget_of_each_key() -> None:
    rule = BudgetRule(kind="tokens", window="day", cap=1, key="*")
    assert rule.subject(Asker("", "alice", "acme", "chat")) is None


@pytest.mark.parametrize(
    ("rule", "param"),
    [
        ({"kind": "money"}, "kind"),
        ({"window": "year"}, "window"),
        ({"window": "now"}, "window"),
        ({"kind": "concurrency"}, "window"),
        ({"cap": -1}, "cap"),
        ({"cap": 1 << 60}, "cap"),
        ({"offset_min": 900}, "offset_min"),
        ({"tenant": "a" * 300}, "tenant"),
        ({"user": "a\nb"}, "user"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: dict[str, object], param: str) -> None:
    fields: dict[str, object] = {"kind": "tokens", "window": "day", "cap": 1} | rule
    with pytest.raises(InvalidRequest) as refused:
        check_rule(BudgetRule(**fields))  # type: ignore[arg-type]
    assert refused.value.param == param


def test_a_rule_is_named_by_what_it_counts_and_not_by_its_cap() -> None:
    one = BudgetRule(kind="tokens", window="day", cap=1, tenant="acme")
    assert one.rule_id == BudgetRule(kind="tokens", window="day", cap=2, tenant="acme").rule_id
    assert one.rule_id != BudgetRule(kind="tokens", window="day", cap=1, user="acme").rule_id


def test_a_refusal_says_what_is_left_and_when_it_resets() -> None:
    rule = BudgetRule(kind="tokens", window="day", cap=1000, tenant="acme", user="*")
    now_ms = at("2026-11-24T23:00")
    (line,) = RuleBook([rule]).sheet(ALICE, now_ms).lines
    standing = Standing(tokens=Quota(rule_id=rule.rule_id, limit=1000, left=10, reset_s=3600))
    fault = refusal(rule, line, 10, 50, standing, now_ms)
    assert fault.message == (
        f"budget {rule.rule_id} (tenant acme, each user) allows 1,000 tokens per day; 10 are left and this request "
        "needs 50; it resets at 2026-11-25T00:00:00Z"
    )
    assert (fault.retry_after_s, fault.retryable, fault.http_status) == (3600, False, 429)
    facts = dict(fault.facts)
    assert facts["x-ashore-budget"] == rule.rule_id
    assert (facts["x-ratelimit-remaining-tokens"], facts["x-ratelimit-reset-tokens"]) == ("10", "1h0m0s")
    assert refusal(rule, line, 10, 1001, standing, now_ms).retry_after_s is None


def test_what_has_no_reset_says_so() -> None:
    rule = BudgetRule(kind="requests", window="total", cap=0)
    (line,) = RuleBook([rule]).sheet(ALICE, 0).lines
    fault = refusal(rule, line, 0, 1, Standing(), 0)
    assert "never resets" in fault.message and fault.retry_after_s is None


def test_headers_of_openai_s_form() -> None:
    standing = Standing(
        requests=Quota(rule_id="b", limit=60, left=59, reset_s=1.5),
        tokens=Quota(rule_id="b", limit=9, left=0, reset_s=None),
    )
    assert rate_headers(standing) == (
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1.5s"),
        ("x-ratelimit-limit-tokens", "9"),
        ("x-ratelimit-remaining-tokens", "0"),
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0124, "12ms"),
        (1, "1s"),
        (7.66, "7.66s"),
        (360, "6m0s"),
        (360.2, "6m1s"),
        (86_400, "24h0m0s"),
        (-3, "0ms"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


USAGES = [
    Usage(
        day="2026-11-24", tenant="acme", user="alice", model="chat", requests=2, prompt_tokens=10, completion_tokens=5
    ),
    Usage(
        day="2026-11-25", tenant="acme", user="alice", model="code", requests=1, prompt_tokens=1, completion_tokens=1
    ),
    Usage(day="2026-11-25", tenant="bank", user="bob", model="chat", requests=4, completion_tokens=1_000_000),
]
CHAT = Price(per_million_prompt_tokens=Decimal("0.5"), per_million_completion_tokens=Decimal("2.10"), currency="CNY")


def test_usage_is_added_up_and_priced() -> None:
    by_tenant = sum_by(USAGES, ("tenant",), {"chat": CHAT})
    assert [(one.usage.tenant, one.usage.requests, one.cost, one.currency) for one in by_tenant] == [
        ("acme", 3, None, ""),
        ("bank", 4, Decimal("2.10"), "CNY"),
    ]
    by_model = sum_by(USAGES, ("model",), {"chat": CHAT})
    assert by_model[0].cost == Decimal("2.10") + Decimal("0.0000155")
    assert sum_by(USAGES, ("tenant", "model"), {"chat": CHAT})[0].cost == Decimal("0.0000155")


def test_columns() -> None:
    assert columns_of(" day,tenant") == ("day", "tenant")
    assert columns_of("") == ("day", "tenant", "user", "model")
    with pytest.raises(InvalidRequest, match="colour"):
        columns_of("colour")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "  =cmd|' /C calc'!A0"])
def test_no_name_becomes_a_formula(name: str) -> None:
    assert safe_cell(name) == "'" + name
    table = as_csv(sum_by([Usage(day="2026-11-24", tenant=name, user="u", model="m")], ("tenant",), {}), ("tenant",))
    assert next(iter(csv.reader(io.StringIO(table.split("\r\n", 1)[1]))))[0] == "'" + name


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_a_table_reads_back(names: list[str]) -> None:
    usages = [Usage(day="2026-11-24", tenant=name, user="u", model="m", requests=1) for name in set(names)]
    table = as_csv(sum_by(usages, ("tenant",), {}), ("tenant",))
    rows = list(csv.reader(io.StringIO(table, newline="")))[1:]
    assert sorted(row[0] for row in rows) == sorted(safe_cell(name) for name in set(names))


def test_prices_in_ashore_toml() -> None:
    spec = parse_spec(
        '[access]\ncharge_hits = true\n[access.price."chat"]\nper_million_prompt_tokens = "0.10"\n'
        'per_million_completion_tokens = 2\ncurrency = "CNY"\n'
    )
    price = PriceSection(per_million_prompt_tokens="0.10", per_million_completion_tokens="2", currency="CNY")
    assert (spec.access.charge_hits, spec.access.prices) == (True, {"chat": price})
    assert parse_spec("").access == AccessSection()


@pytest.mark.parametrize("price", ["1e-999999999", "0e-999999999", "NaN", "-1", "1e13"])
def test_a_price_that_would_be_written_out_as_a_gigabyte_is_refused(price: str) -> None:
    with pytest.raises(InvalidSpec, match="per_million_prompt_tokens"):
        parse_spec(f'[access.price."chat"]\nper_million_prompt_tokens = "{price}"\ncurrency = "CNY"\n')
