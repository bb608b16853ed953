"""What a budget takes and refuses, over threads, crashes, and a state that was set back."""

from __future__ import annotations

import bisect
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from access_house import seat

from ashore.cli.privacy import show_answer
from ashore.control.ledger.accountant import training_epsilon
from ashore.control.ledger.calls import (
    AnswerOut,
    ConsentIn,
    GrantIn,
    HistoryIn,
    LedgerDesk,
    QueryIn,
    ask_dataset,
    consent_to_budget,
    grant_budget,
    list_spends,
)
from ashore.control.ledger.model import MICRO
from ashore.control.ledger.section import DatasetSection
from ashore.control.ledger.service import Ledger
from ashore.control.ledger.statistics import Cell, Noise, Question, answer, read_rows
from ashore.core.clock import ManualClock
from ashore.core.errors import (
    AuditUnavailable,
    BrokenData,
    Conflict,
    InvalidRequest,
    NotFound,
    Overloaded,
    PrivacyBudgetSpent,
    StateLost,
)
from ashore.core.ids import TenantId
from ashore.core.principal import Principal
from ashore.data.authority.consents import SqlConsents
from ashore.data.authority.sql import note_maker
from ashore.kit.call import Actor
from ashore.kit.recorder import ForgetsAll, MemoryRecorder
from ashore.kit.state import Database, execute, open_database

OFFICER = Actor(principal=Principal(id="olga", tenant=TenantId("default")))


def officer(name: str) -> Actor:
    return Actor(principal=Principal(id=name, tenant=TenantId("default")))


def accounts(site: Site, makers: dict[str, str]) -> None:
    """Make security officers, and note who made the log-in of each."""
    seat(site.database, *makers)
    with site.database.write() as connection:
        for account, maker in makers.items():
            if maker:
                note_maker(connection, account, maker)


class All:
    """Rights that allow everything."""

    allowed, rule = True, "all"

    def decide(self, principal: Principal, action: str, resource: str) -> All:
        return self

    def holds(self, principal: Principal, action: str) -> bool:
        return True

    def require(self, principal: Principal, action: str, resource: str) -> None:
        return None


class Site:
    """A ledger over one dataset of 2,000 rows of 500 people."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.recorder = MemoryRecorder()
        self.database: Database = open_database(folder / "state.db", snapshots=folder / "snapshots", clock=self.clock)
        rows = [f"u{n % 500},{('icu', 'surgery')[n % 2]},{n % 50}" for n in range(2000)]
        (folder / "calls.csv").write_text("user,dept,minutes\n" + "\n".join(rows) + "\n")
        self.ledger = self.opened(self.recorder)
        self.desk = LedgerDesk(
            ledger=self.ledger,
            database=self.database,
            rights=All(),
            recorder=self.recorder,
            datasets=(
                DatasetSection(name="calls", file=str(folder / "calls.csv"), unit="user", rows_per_unit=2),
                DatasetSection(name="budgets", select="SELECT id, dataset FROM dp_budget", unit="id"),
            ),
        )

    def opened(self, remembers: MemoryRecorder | ForgetsAll) -> Ledger:
        return Ledger(self.database, clock=self.clock, recorder=self.recorder, remembers=remembers)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    one = Site(tmp_path)
    grant_budget(one.desk, OFFICER, GrantIn(dataset="calls", epsilon=1.0))
    yield one
    one.database.close()


def test_answers_are_near_the_truth_and_their_interval_says_how_near(site: Site) -> None:
    counted = ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls", epsilon=0.3)).items[0]
    assert counted.low < counted.value < counted.high and abs(counted.value - 1000) < 400, "two rows of each of 500"
    mean = ask_dataset(
        site.desk, OFFICER, QueryIn(dataset="calls", what="mean", column="minutes", high=50, epsilon=0.4)
    ).items[0]
    assert 0 <= mean.low <= mean.value <= mean.high <= 50


def test_quantiles_lie_about_where_they_should_and_say_how_many_rows_they_may_be_off(site: Site) -> None:
    grant_budget(site.desk, OFFICER, GrantIn(dataset="calls", epsilon=6.0))
    asked = QueryIn(
        dataset="calls", what="quantile", column="minutes", high=100, quantiles=(0.1, 0.5, 0.9), epsilon=0.9
    )
    cells = ask_dataset(site.desk, OFFICER, asked).items
    assert [one.group for one in cells] == ["0.1", "0.5", "0.9"] and cells[0].low is None
    truth = sorted(n % 50 for n in range(1000))  # two rows of each of 500 people
    for one, share in zip(cells, (0.1, 0.5, 0.9), strict=True):
        off = abs(bisect.bisect_right(truth, one.value) - share * 1000)
        assert off <= 3 * one.rows_off + 20 and 30 < one.rows_off < 200, "3 times: it is exceeded hardly ever"


@pytest.mark.parametrize("epsilon", [5e-324, 1e-310, 1e-6])
def test_a_question_below_what_the_ledger_counts_is_refused_and_costs_nothing(site: Site, epsilon: float) -> None:
    grant_budget(site.desk, OFFICER, GrantIn(dataset="calls", epsilon=6.0))
    asked = QueryIn(dataset="calls", what="quantile", column="minutes", high=100, quantiles=(0.1, 0.5), epsilon=epsilon)
    with pytest.raises(InvalidRequest, match="below what the ledger counts"):
        ask_dataset(site.desk, OFFICER, asked)
    assert site.desk.ledger.standing("default", "calls").questions == 0


def test_a_sum_by_groups_costs_as_much_as_one_and_adds_up_to_it(site: Site) -> None:
    whole = QueryIn(dataset="calls", what="sum", column="minutes", high=50, epsilon=0.3)
    by = QueryIn(
        dataset="calls", what="sum", column="minutes", high=50, epsilon=0.3, by="dept", groups=("icu", "surgery", "x")
    )
    one, parts = ask_dataset(site.desk, OFFICER, whole), ask_dataset(site.desk, OFFICER, by)
    assert one.cost_percent == parts.cost_percent and [cell.group for cell in parts.items] == ["icu", "surgery", "x"]
    spread = one.items[0].high - one.items[0].low
    assert abs(sum(cell.value for cell in parts.items) - one.items[0].value) < 3 * spread
    assert abs(parts.items[2].value) < spread, "a group that nobody is in has noise alone"
    means = answer(
        Question(what="mean", column="minutes", high=50, by="dept", groups=("icu", "surgery")),
        read_rows(site.folder / "calls.csv", ("user",)),
        "user",
        Noise(multiplier=1e-9, rows_per_unit=2),
    )
    assert [cell.value for cell in means] == pytest.approx([24, 25])


def test_usage_and_votes_are_ready_to_be_asked_by_tenant(site: Site) -> None:
    with site.database.write() as connection:
        for number in range(300):
            tenant = "default" if number % 3 else "other"
            connection.exec_driver_sql(
                f"INSERT INTO access_account VALUES ('u{number}', 'user', '{tenant}', '', "
                f"'{('er', 'icu zeta')[number % 2]}', 0, 0, 0, 0, '', 0)"
            )
            for day in ("2026-01-01", "2026-01-02"):
                connection.exec_driver_sql(
                    f"INSERT INTO usage_day VALUES ('{day}', '{tenant}', 'u{number}', 'chat', 's', 5, 1, 10, 20, 0, 0)"
                )
            vote: dict[str, object] = dict.fromkeys(
                ("tags", "digest", "key_id", "question", "answer", "correction", "preferred", "said"), ""
            )
            vote |= {"feedback_id": f"f{number}", "answer_id": f"a{number}", "tenant": tenant, "model": "chat"}
            vote |= {"account": f"u{number}", "voter": f"u{number}", "rating": ("up", "up", "down")[number % 3]}
            vote |= {"release": "r1", "num_tokens": 1, "answered_ms": 0, "created_ms": 0, "changed_ms": number}
            marks = ", ".join(f":{name}" for name in vote)
            execute(connection, f"INSERT INTO feedback ({', '.join(vote)}) VALUES ({marks})", **vote)
    for name in ("usage", "votes"):
        grant_budget(site.desk, OFFICER, GrantIn(dataset=name, epsilon=9.0))

    def ask(**asked: Any) -> list[Cell]:
        return ask_dataset(site.desk, OFFICER, QueryIn(epsilon=2.0, **asked)).items

    people = ask(dataset="usage", what="histogram", column="group", groups=("er", "icu"))
    assert [one.value for one in people] == pytest.approx([100, 100], abs=25)
    requests = ask(dataset="usage", what="sum", column="requests", high=20, by="group", groups=("er", "icu"))
    assert [one.value for one in requests] == pytest.approx([1000, 1000], abs=400)
    [rate] = ask(dataset="votes", what="mean", column="up", high=1, by="model", groups=("chat",))
    assert rate.value == pytest.approx(0.5, abs=0.25)
    with pytest.raises(NotFound, match="no dataset 'nothing'") as unknown:
        ask(dataset="nothing")
    assert "ready are usage, votes" in unknown.value.hint


def test_the_same_question_gets_the_same_answer_for_nothing(site: Site) -> None:
    asked = QueryIn(dataset="calls", what="histogram", column="dept", groups=("icu", "surgery", "none"))
    first, again = ask_dataset(site.desk, OFFICER, asked), ask_dataset(site.desk, OFFICER, asked)
    assert again.items == first.items and again.repeated and again.cost_percent == 0
    assert again.left_percent == first.left_percent < 100


def test_a_larger_epsilon_and_a_newer_file_are_another_question(site: Site) -> None:
    def ask(epsilon: float, *, dry_run: bool = False) -> AnswerOut:
        return ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls", epsilon=epsilon, dry_run=dry_run))

    first = ask(0.2)
    for epsilon in (0.2, 0.1):
        again = ask(epsilon)
        assert again.repeated and again.items == first.items, "an answer with less noise is there"
        assert ask(epsilon, dry_run=True).cost_percent == 0
    assert ask(0.25, dry_run=True).cost_percent > 0
    better = ask(0.25)
    assert not better.repeated and better.cost_percent > first.cost_percent
    file = site.folder / "calls.csv"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    newer = ask(0.2)
    assert not newer.repeated and newer.cost_percent == first.cost_percent
    assert ask(0.2).items == newer.items


def test_a_dry_run_says_the_cost_and_spends_nothing(site: Site) -> None:
    would = ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls", dry_run=True))
    assert would.items == [] and would.cost_percent > 0 and would.left_percent == 100


def test_half_the_epsilon_is_a_quarter_of_the_cost(site: Site) -> None:
    whole, half = (
        ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls", epsilon=epsilon, dry_run=True)).cost_percent
        for epsilon in (0.2, 0.1)
    )
    assert 3.5 < whole / half < 4.5


def test_threads_together_never_spend_more_than_there_is(site: Site) -> None:
    answered, refused = [], []

    def ask() -> None:
        for _ in range(12):
            try:
                answered.append(ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls", fresh=True, epsilon=0.15)))
            except PrivacyBudgetSpent as fault:
                refused.append(fault)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    standing = site.ledger.standing("default", "calls")
    assert answered and refused and len(answered) == standing.questions
    assert standing.question_units <= standing.budget.capacity < standing.question_units * (1 + 2 / len(answered))
    assert "left for questions" in refused[0].message


def test_a_run_that_dies_is_spent_in_full(site: Site) -> None:
    with (
        pytest.raises(RuntimeError),
        site.ledger.reserved(OFFICER, "default", "calls", "training", Ledger.training_cost(0.3, 1e-7), what="a run"),
    ):
        raise RuntimeError("killed after its first step")
    assert site.ledger.standing("default", "calls").training_epsilon == 0.3 * MICRO
    with site.database.write() as connection:  # as `kill -9` leaves it: reserved, and nobody to end it
        connection.exec_driver_sql("UPDATE dp_spend SET state = 'reserved'")
    assert site.ledger.standing("default", "calls").training_epsilon == 0.3 * MICRO
    another = site.ledger.reserved(
        OFFICER, "default", "calls", "training", Ledger.training_cost(0.3, 1e-7), what="another"
    )
    with pytest.raises(PrivacyBudgetSpent, match=r"epsilon 0\.2, delta .* left for training"):
        another.__enter__()


def test_a_question_over_the_budget_is_in_the_audit_log_and_no_spend(site: Site) -> None:
    with pytest.raises(PrivacyBudgetSpent):
        ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls", epsilon=2.0))
    [act] = [one for one in site.recorder.acts if one.outcome == "denied"]
    assert (act.actor, act.resource) == ("olga", "dataset/default/calls") and "left for questions" in act.reason
    assert act.detail == {"kind": "question", "asked": "count, epsilon 2"}
    assert site.ledger.standing("default", "calls").questions == 0
    site.desk.ledger = site.opened(site.recorder)
    assert not ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls")).repeated, "a refusal is no spend that was lost"


def test_a_question_that_fails_before_its_noise_costs_nothing(site: Site) -> None:
    with pytest.raises(BrokenData, match="no column 'salary'"):
        ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls", what="sum", column="salary", high=1))
    assert site.ledger.standing("default", "calls").questions == 0
    [spend] = list_spends(site.desk, OFFICER, HistoryIn(dataset="calls"))
    assert spend.state == "released"


def test_a_state_older_than_the_audit_log_spends_nothing(site: Site) -> None:
    ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls"))
    with site.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM dp_spend")
    site.desk.ledger = site.opened(site.recorder)
    with pytest.raises(StateLost, match="the state is older than the log"):
        ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls"))
    site.desk.ledger = site.opened(ForgetsAll())
    assert not ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls")).repeated


def test_what_a_restored_state_forgot_counts_in_the_next_budget(site: Site) -> None:
    ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls"))
    with site.database.write() as connection:  # as a backup from before the question has it
        connection.exec_driver_sql("DELETE FROM dp_spend")
    assert grant_budget(site.desk, OFFICER, GrantIn(dataset="calls", epsilon=1.5)).spent_epsilon == 0.5
    ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls"))
    with site.database.write() as connection:  # as one from before any budget
        connection.exec_driver_sql("DELETE FROM dp_spend")
        connection.exec_driver_sql("DELETE FROM dp_budget")
    with pytest.raises(InvalidRequest, match=r"below what is spent already: 2\.5"):
        grant_budget(site.desk, OFFICER, GrantIn(dataset="calls", epsilon=1.0))
    assert grant_budget(site.desk, OFFICER, GrantIn(dataset="calls", epsilon=3.0, delta=1e-5)).spent_epsilon == 2.5
    assert ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls")).items, "once it is counted, it goes on"


def test_a_state_that_lost_a_whole_budget_spends_nothing_under_the_one_before(site: Site) -> None:
    grant_budget(site.desk, OFFICER, GrantIn(dataset="calls", epsilon=2.0))
    ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls"))
    with site.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM dp_spend")
        connection.exec_driver_sql("DELETE FROM dp_budget WHERE closed_s = 0")
        connection.exec_driver_sql("UPDATE dp_budget SET closed_s = 0")
    site.desk.ledger = site.opened(site.recorder)
    with pytest.raises(StateLost, match="1 spends on calls"):
        ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls"))


def test_no_error_tells_of_a_row(site: Site) -> None:
    (site.folder / "calls.csv").write_text("user,minutes\n" + "u1,ill\n" + ",5\n" + "u2,7\n" * 3)
    rows = [{"user": "u1", "hiv": 1}, {"user": "u2", "minutes": 7}, {"minutes": 9}]
    (site.folder / "calls.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    site.desk.datasets = (
        *site.desk.datasets,
        DatasetSection(name="lines", file=str(site.folder / "calls.jsonl"), unit="user"),
    )
    grant_budget(site.desk, OFFICER, GrantIn(dataset="lines", epsilon=1.0))
    for name, column in (("calls", "minutes"), ("lines", "minutes"), ("lines", "hiv"), ("lines", "nobody-has-it")):
        asked = QueryIn(dataset=name, what="sum", column=column, high=10)
        assert ask_dataset(site.desk, OFFICER, asked).cost_percent > 0, "each pays, and says nothing but its noise"
    still = Noise(multiplier=1e-9, rows_per_unit=2)
    question = Question(what="sum", column="minutes", high=10)
    [cell] = answer(question, read_rows(site.folder / "calls.csv", ("user",)), "user", still)
    assert cell.value == pytest.approx(14), "two rows of u2, and nothing of who is nobody or no number"


def test_what_was_given_back_is_no_reason_to_think_the_state_old(site: Site) -> None:
    with pytest.raises(BrokenData):
        ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls", what="sum", column="salary", high=1))
    site.desk.ledger = site.opened(site.recorder)
    assert ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls")).items


def test_a_larger_budget_carries_what_was_spent_and_a_smaller_one_is_refused(site: Site) -> None:
    ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls"))
    raised = grant_budget(site.desk, OFFICER, GrantIn(dataset="calls", epsilon=2.0))
    assert raised.spent_epsilon == 0.5, "the share of questions, whole"
    with pytest.raises(InvalidRequest, match="below what is spent already"):
        grant_budget(site.desk, OFFICER, GrantIn(dataset="calls", epsilon=0.4))
    assert not ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls")).repeated, "under a new budget it is asked anew"


def test_a_large_budget_needs_the_consent_of_a_second_officer_who_knows_none_of_the_keys_of_the_first(
    site: Site,
) -> None:
    accounts(site, {"olga": "", "otto": "", "olga-again": "olga"})
    site.desk.consents, site.desk.alone_up_to = SqlConsents(site.database, site.clock), 2.0
    asked = GrantIn(dataset="calls", epsilon=4.0)

    def consent(name: str, epsilon: float = 4.0) -> None:
        consent_to_budget(site.desk, officer(name), ConsentIn(dataset="calls", epsilon=epsilon))

    grant_budget(site.desk, OFFICER, GrantIn(dataset="calls", epsilon=2.0))
    with pytest.raises(Conflict, match="above 2, and no second security officer consented"):
        grant_budget(site.desk, OFFICER, asked)
    consent("olga")
    consent("olga-again")
    consent("otto", epsilon=3.0)
    with pytest.raises(Conflict, match="no second security officer") as refused:
        grant_budget(site.desk, OFFICER, asked)
    assert refused.value.hint.endswith("`ashore privacy budget consent calls --epsilon 4 --delta 1e-06`")
    assert site.ledger.standing("default", "calls").budget.epsilon == 2 * MICRO
    consent("otto")
    site.clock.advance(25 * 3600)
    with pytest.raises(Conflict):
        grant_budget(site.desk, OFFICER, asked)
    consent("nobody")
    with pytest.raises(Conflict):
        grant_budget(site.desk, OFFICER, asked)
    consent("otto", epsilon=4.000001)
    with pytest.raises(Conflict):
        grant_budget(site.desk, OFFICER, asked)
    consent("otto")
    with pytest.raises(InvalidRequest):  # refused for another reason: the consent is not used up
        grant_budget(site.desk, OFFICER, GrantIn(dataset="calls", epsilon=4.0, delta=1e-12))
    assert grant_budget(site.desk, OFFICER, asked).epsilon == 4.0
    assert [act.detail["consent_of"] for act in site.recorder.acts if "consent_of" in act.detail] == ["otto"]
    with pytest.raises(Conflict):
        grant_budget(site.desk, OFFICER, asked)


def test_what_cannot_be_recorded_is_not_asked_and_stays_reserved(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(timeout_s: float) -> None:
        raise AuditUnavailable("the disk is full")

    monkeypatch.setattr(site.recorder, "settle", full)
    with pytest.raises(AuditUnavailable):
        ask_dataset(site.desk, OFFICER, QueryIn(dataset="calls"))
    assert site.ledger.standing("default", "calls").questions == 1


@pytest.mark.parametrize("released", [False, True])
def test_what_was_done_is_not_lost_where_the_state_is_locked_at_the_end(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, released: bool
) -> None:
    """As after hours of training. The reservation stays, and counts as spent."""

    def locked() -> None:
        raise Overloaded("the state was locked by another process for 5 s")

    with site.ledger.reserved(
        OFFICER, "default", "calls", "training", Ledger.training_cost(0.3, 1e-7), what="a run"
    ) as reservation:
        if released:
            reservation.release()
        monkeypatch.setattr(site.database, "write", locked)
    assert "stays reserved, which counts as spent" in caplog.text
    assert site.ledger.standing("default", "calls").training_epsilon == 0.3 * MICRO


def test_questions_without_bounds_groups_budget_or_dataset_say_what_to_do(site: Site) -> None:
    for asked, words in (
        (QueryIn(dataset="calls", what="mean"), "which column"),
        (QueryIn(dataset="calls", what="mean", column="minutes"), "between 0 and 0"),
        (QueryIn(dataset="calls", what="histogram", column="dept"), "0 groups"),
        (QueryIn(dataset="calls", what="sum", column="minutes", high=1, by="dept"), "a sum of 0 groups"),
        (QueryIn(dataset="calls", what="histogram", column="dept", by="dept", groups=("a",)), "histogram by dept"),
        (QueryIn(dataset="calls", what="quantile", column="minutes", high=1), r"quantiles \(none\)"),
        (QueryIn(dataset="calls", what="quantile", column="minutes", high=1, quantiles=(1.5,)), r"quantiles 1\.5"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            ask_dataset(site.desk, OFFICER, asked)
    with pytest.raises(NotFound, match="no dataset 'other'"):
        ask_dataset(site.desk, OFFICER, QueryIn(dataset="other"))
    with pytest.raises(NotFound, match="no privacy budget was granted for 'budgets'"):
        ask_dataset(site.desk, OFFICER, QueryIn(dataset="budgets"))


def test_a_dataset_of_the_state_is_read_by_its_select(site: Site) -> None:
    grant_budget(site.desk, OFFICER, GrantIn(dataset="budgets", epsilon=2.0))
    assert ask_dataset(site.desk, OFFICER, QueryIn(dataset="budgets", epsilon=1.0)).items[0].value < 1000


def test_a_training_run_pays_by_its_noise(site: Site) -> None:
    epsilon = training_epsilon(4.0, 0.01, 100, 1e-7)
    with site.ledger.reserved(
        OFFICER, "default", "calls", "training", Ledger.training_cost(epsilon, 1e-7), what="100 steps"
    ):
        pass
    assert site.ledger.standing("default", "calls").training_epsilon == pytest.approx(epsilon * MICRO, abs=1)


def test_the_command_prints_short_figures_the_cost_and_whether_an_answer_is_old(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells = [Cell(group="icu", value=1017.0, low=746.8932833065838, high=1287.1067166934163)]
    show_answer(AnswerOut(items=cells, cost_percent=3.8, left_percent=96.2))
    assert capsys.readouterr().out.splitlines() == [
        "group  value  low     high",
        "icu    1,017  746.89  1,287.1",
        "costs 3.8 % of what is for questions; 96.2 % left",
    ]
    show_answer(AnswerOut(items=[], cost_percent=3.8, left_percent=96.2))
    assert capsys.readouterr().out == "costs 3.8 % of what is for questions; 96.2 % left\n"
    median = [Cell(group="0.5", value=31.0, rows_off=12.3)]
    show_answer(AnswerOut(items=median, cost_percent=1, left_percent=96.2))
    assert capsys.readouterr().out.splitlines()[:2] == ["quantile  value  rows off, at most", "0.5       31     12.3"]
    show_answer(AnswerOut(items=cells, cost_percent=0, left_percent=96.2, repeated=True))
    assert "--fresh" in capsys.readouterr().out
