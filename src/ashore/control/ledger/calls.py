"""Calls of privacy budgets: grant one, show what is left, query a dataset with noise."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from ashore.control.ledger.model import FEMTO, MICRO, Kind, Spend, Standing, State, micro
from ashore.control.ledger.ready import ready_datasets
from ashore.control.ledger.section import DatasetSection
from ashore.control.ledger.service import GRANT, SPEND, Ledger
from ashore.control.ledger.statistics import Cell, Noise, Question, Row, What, answer, check_columns, read_rows
from ashore.core.errors import AshoreError, Conflict, InvalidRequest, NotFound
from ashore.kit.call import Actor, Call, Rights
from ashore.kit.consents import Consented, Consents
from ashore.kit.copied import copied
from ashore.kit.recorder import Recorder
from ashore.kit.rights import check_on, may_on
from ashore.kit.state import execute

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ashore.kit.state import Database

READ: Final = "privacy-budget:read"
LEAST_EPSILON: Final = 1e-6
"""Of one part of a question; the answer to less is noise alone, and its bounds are no numbers."""
CONSENT: Final = "privacy-budget:consent"
Name = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
Positional = Annotated[Name, msgspec.Meta(extra={"positional": True})]
Epsilon = Annotated[float, msgspec.Meta(gt=0, le=10)]


@dataclass(slots=True, kw_only=True)
class LedgerDesk:
    """The ledger, the datasets that may be asked, and who may."""

    ledger: Ledger
    database: Database
    rights: Rights
    recorder: Recorder
    datasets: Sequence[DatasetSection] = field(default=())
    consents: Consents | None = None
    """None: there are no accounts, so nobody else could consent."""
    alone_up_to: float = math.inf
    """Epsilon that one officer grants alone."""


class GrantIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a dataset may lose."""

    dataset: Positional
    """Name of the dataset: one of [statistics], or any name that private training runs give."""
    epsilon: Epsilon
    """Privacy loss of everything together, in nats; 0.5 to 2 is usual. Smaller protects more."""
    delta: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 1e-6
    """Probability that the promise does not hold; below a tenth of one by the number of people."""
    questions: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    """Share of it for questions; the rest is for training. Fixed with the budget."""
    tenant: Name = "default"
    """Tenant whose dataset it is."""


class ConsentIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """To which grant."""

    dataset: Positional
    """Name of the dataset."""
    epsilon: Epsilon
    """Privacy loss that is to be granted, exactly as the other officer will."""
    delta: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 1e-6
    """Probability that the promise does not hold, likewise."""
    tenant: Name = "default"
    """Tenant whose dataset it is."""


class DatasetIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dataset."""

    dataset: Positional
    """Name of the dataset."""
    tenant: Name = "default"
    """Tenant whose dataset it is."""


class HistoryIn(DatasetIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dataset, and how much of its history."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50
    """Maximum number of spends."""


BudgetTenant = Annotated[str, msgspec.Meta(description="List only budgets of this tenant.")]


class BudgetOut(msgspec.Struct, frozen=True, kw_only=True):
    """A budget and what is left of it."""

    dataset: str
    tenant: str
    epsilon: float
    delta: float
    spent_epsilon: float
    """By plain addition; the share of questions counts whole from the first question on."""
    spent_delta: float
    questions: int
    """Questions that were answered."""
    questions_left_percent: float
    """Of the share of questions."""
    training_left_epsilon: float
    runs: int
    """Private training runs."""
    granted_by: str
    granted_at: int


class SpendOut(msgspec.Struct, frozen=True, kw_only=True):
    """One spend."""

    id: str
    kind: Kind
    state: State
    what: str
    actor: str
    share_percent: float
    """Of the share of questions, or of the epsilon of the budget."""
    began_at: int


class QueryIn(DatasetIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question about a dataset."""

    what: What = "count"
    """count: rows. sum, mean: of a column between bounds. histogram: rows by the value of a column. quantile: values of
    a column below which such shares of the rows are."""
    column: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Column of a sum, a mean, a histogram or quantiles."""
    low: float = 0.0
    """Least value of the column; smaller ones count as it."""
    high: float = 0.0
    """Greatest value of the column; larger ones count as it."""
    groups: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=200)], ...],
        msgspec.Meta(max_length=200, extra={"commas": True}),
    ] = ()
    """Values of the column that a histogram counts, or of the column --by."""
    by: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Column by whose values, --groups, a sum or a mean is told apart; costs no more than one of all rows."""
    quantiles: Annotated[tuple[float, ...], msgspec.Meta(max_length=20, extra={"commas": True})] = ()
    """Shares between 0 and 1, in thousandths, of --what quantile: 0.5 is the median. They share epsilon."""
    epsilon: Epsilon = 0.1
    """Privacy loss of this question alone. Half of it is twice the noise, and a quarter of the cost."""
    fresh: bool = False
    """Ask anew although this question was answered before: new noise, and it costs again."""
    dry_run: bool = False
    """Show what it would cost; ask nothing."""


class AnswerOut(msgspec.Struct, frozen=True, kw_only=True):
    """An answer with noise."""

    items: list[Cell]
    cost_percent: float
    """Of the share of questions; 0: it was answered before."""
    left_percent: float
    """Of the share of questions, afterwards."""
    repeated: bool = False
    """Whether it is the answer that was given before."""


def grant_budget(desk: LedgerDesk, actor: Actor, asked: GrantIn) -> BudgetOut:
    """Grant a privacy budget for a dataset, in the place of the one in force. What was spent under that one counts in
    the new one; nothing takes it back. A large one needs the consent of a second security officer."""
    standing = desk.ledger.grant(
        actor, asked.tenant, asked.dataset, epsilon=asked.epsilon, delta=asked.delta, questions=asked.questions,
        agreed=lambda connection: _consent_of(desk, actor, asked, connection),
    )  # fmt: skip
    return _budget(standing)


def consent_to_budget(desk: LedgerDesk, actor: Actor, asked: ConsentIn) -> Consented:
    """Consent to a large privacy budget that another security officer is about to grant, within 24 hours. Used up by
    that grant."""
    resource = _resource(asked.tenant, asked.dataset)
    desk.rights.require(actor.principal, CONSENT, resource)
    if desk.consents is None:
        raise InvalidRequest("this server has no accounts, so there is no second officer", hint="grant it")
    subject = _subject(asked.tenant, asked.dataset, asked.epsilon, asked.delta)
    detail = {"epsilon_micro": micro(asked.epsilon)}
    holds_for_s = desk.consents.give(
        subject,
        actor.principal.id,
        lambda connection: actor.record(desk.recorder, CONSENT, resource, detail=detail, on=connection),
    )
    return Consented(consented_to=subject, holds_for_s=holds_for_s)


def _consent_of(desk: LedgerDesk, actor: Actor, asked: GrantIn, connection: Connection) -> str:
    """Return who consented to a grant; empty where nobody must."""
    if asked.epsilon <= desk.alone_up_to or desk.consents is None:
        return ""
    subject = _subject(asked.tenant, asked.dataset, asked.epsilon, asked.delta)
    resource = _resource(asked.tenant, asked.dataset)
    others = desk.consents.use(connection, subject, actor.principal.id, action=CONSENT, resource=resource)
    if not others:
        raise Conflict(
            f"epsilon {asked.epsilon:g} is above {desk.alone_up_to:g}, and no second security officer consented to it "
            "in the last 24 hours",
            hint=f"ask one whose keys you did not create: `ashore privacy budget consent {asked.dataset} --epsilon "
            f"{_exact(asked.epsilon)} --delta {_exact(asked.delta)}`",
        )
    return ", ".join(others)


def _subject(tenant: str, dataset: str, epsilon: float, delta: float) -> str:
    return f"{_resource(tenant, dataset)}/epsilon/{_exact(epsilon)}/delta/{_exact(delta)}"


def _exact(number: float) -> str:
    """Return a number so that no other one is written alike."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def list_budgets(desk: LedgerDesk, actor: Actor, tenant: BudgetTenant = "") -> list[BudgetOut]:
    """List the privacy budgets in force, and what is left of them."""
    seen = [
        one
        for one in desk.ledger.standings(tenant)
        if may_on(desk.rights, actor.principal, READ, _resource(one.budget.tenant, one.budget.dataset))
    ]
    if not seen:
        check_on(desk.rights, actor.principal, READ, "dataset/*")
    return [_budget(one) for one in seen]


def show_budget(desk: LedgerDesk, actor: Actor, asked: DatasetIn) -> BudgetOut:
    """Show the privacy budget of a dataset, and what is left of it."""
    check_on(desk.rights, actor.principal, READ, _resource(asked.tenant, asked.dataset))
    return _budget(desk.ledger.standing(asked.tenant, asked.dataset))


def list_spends(desk: LedgerDesk, actor: Actor, asked: HistoryIn) -> list[SpendOut]:
    """Show who spent what of a privacy budget, newest first."""
    check_on(desk.rights, actor.principal, READ, _resource(asked.tenant, asked.dataset))
    standing = desk.ledger.standing(asked.tenant, asked.dataset)
    found = desk.ledger.history(asked.tenant, asked.dataset, asked.limit)
    return [_spend(one, standing) for one in found]


def ask_dataset(desk: LedgerDesk, actor: Actor, asked: QueryIn) -> AnswerOut:
    """Ask a dataset for a count, sum, mean, histogram or quantiles. The answer has noise that hides each person, and is
    paid from the dataset's privacy budget. The same question again gets the same answer for nothing, until the file is
    written anew or a larger epsilon is asked for."""
    check_on(desk.rights, actor.principal, SPEND, _resource(asked.tenant, asked.dataset))
    question = copied(Question, asked).checked()  # fmt: skip
    if asked.epsilon / question.parts < LEAST_EPSILON:
        raise InvalidRequest(
            f"epsilon {asked.epsilon:g} over {question.parts} parts is below what the ledger counts",
            hint=f"at least {LEAST_EPSILON:g} for each; 0.01 to 1 is usual",
        )
    dataset = _dataset(desk, asked)
    key = _key(dataset, question)
    multiplier, units = 0.0, 0

    def cost(standing: Standing) -> tuple[int, int]:
        nonlocal multiplier, units
        if question.what == "quantile":
            units = desk.ledger.choice_units(standing, asked.epsilon, question.parts)
        else:
            multiplier, units = desk.ledger.question_noise(standing, asked.epsilon, question.parts)
        return units, 0

    standing = desk.ledger.standing(asked.tenant, asked.dataset)
    cost(standing)
    kept = None if asked.fresh else desk.ledger.answered(standing, key, units)
    if kept is not None and kept.answer:
        cells = [] if asked.dry_run else msgspec.json.decode(kept.answer, type=list[Cell])
        return AnswerOut(items=cells, cost_percent=0.0, left_percent=_left_percent(standing), repeated=True)
    if asked.dry_run:
        return AnswerOut(items=[], cost_percent=_percent(units, standing), left_percent=_left_percent(standing))
    told = f"{asked.what}{' of ' + asked.column if asked.column else ''}, epsilon {asked.epsilon:g}"
    with desk.ledger.reserved(
        actor,
        asked.tenant,
        asked.dataset,
        "question",
        cost,
        what=told[:200],
        question=key,
    ) as reservation:
        try:
            noise = Noise(
                multiplier=multiplier, rows_per_unit=dataset.rows_per_unit, epsilon=asked.epsilon / question.parts
            )
            cells = answer(question, _rows(desk, dataset, (question.column, question.by)), dataset.unit, noise)
        except AshoreError:
            reservation.release()  # it failed before any noise was drawn
            raise
        reservation.answer = msgspec.json.encode(cells).decode()
    after = desk.ledger.standing(asked.tenant, asked.dataset)
    return AnswerOut(items=cells, cost_percent=_percent(units, after), left_percent=_left_percent(after))


def _key(dataset: DatasetSection, question: Question) -> str:
    """Return what makes a question the same again. A file counts by when it was written and never by its contents:
    whether those changed would tell of a person."""
    written_ns = 0
    if dataset.file:
        with contextlib.suppress(OSError):  # told when it is read
            written_ns = Path(dataset.file).stat().st_mtime_ns
    told = (dataset.unit, dataset.rows_per_unit, dataset.file or dataset.select, written_ns, question)
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()


def _dataset(desk: LedgerDesk, asked: DatasetIn) -> DatasetSection:
    for one in desk.datasets:
        if (one.tenant, one.name) == (asked.tenant, asked.dataset):
            return one
    ready = ready_datasets()
    if asked.dataset in ready:
        return ready[asked.dataset].section(asked.tenant)
    raise NotFound(
        f"ashore.toml has no dataset {asked.dataset!r} of tenant {asked.tenant!r}",
        hint=f"describe it in [[statistics.dataset]], then: ashore reload; ready are {', '.join(sorted(ready))}",
    )


def _rows(desk: LedgerDesk, dataset: DatasetSection, columns: tuple[str, ...]) -> Iterable[Row]:
    wanted = (dataset.unit, *columns)
    if dataset.file:
        yield from read_rows(Path(dataset.file), wanted)
        return
    with desk.database.read() as connection:
        found = execute(
            connection, dataset.select, **({"tenant": dataset.tenant} if ":tenant" in dataset.select else {})
        )
        check_columns([str(name) for name in found.keys()], wanted)  # noqa: SIM118 - of the result, not of a mapping
        ready = ready_datasets().get(dataset.name)
        first = ready.first_word if ready is not None and ready.select == dataset.select else ()
        for row in found.mappings():
            yield {
                str(name): str(value or "").partition(" ")[0] if name in first else value for name, value in row.items()
            }


def _resource(tenant: str, dataset: str) -> str:
    return f"dataset/{tenant}/{dataset}"


def _percent(units: int, standing: Standing) -> float:
    return round(100 * units / max(1, standing.budget.capacity), 3)


def _left_percent(standing: Standing) -> float:
    return round(100 * max(0, standing.budget.capacity - standing.question_units) / max(1, standing.budget.capacity), 3)


def _budget(one: Standing) -> BudgetOut:
    budget = one.budget
    left = budget.epsilon - budget.carried_epsilon - budget.questions_epsilon - one.training_epsilon
    return BudgetOut(
        dataset=budget.dataset,
        tenant=budget.tenant,
        epsilon=budget.epsilon / MICRO,
        delta=budget.delta / FEMTO,
        spent_epsilon=one.spent_epsilon / MICRO,
        spent_delta=one.spent_delta / FEMTO,
        questions=one.questions,
        questions_left_percent=_left_percent(one),
        training_left_epsilon=max(0, left) / MICRO,
        runs=one.runs,
        granted_by=budget.granted_by,
        granted_at=budget.granted_s,
    )


def _spend(one: Spend, standing: Standing) -> SpendOut:
    whole = standing.budget.capacity if one.kind == "question" else standing.budget.epsilon
    return copied(SpendOut, one, share_percent=round(100 * one.units / max(1, whole), 3), began_at=one.began_s)


QUERY: Final = Call("privacy", "query", "POST", "/privacy/budgets/{dataset}/questions", SPEND, ask_dataset)
CALLS: Final = (
    Call("privacy budget", "grant", "POST", "/privacy/budgets", GRANT, grant_budget, on_server=True),
    Call(
        "privacy budget",
        "consent",
        "POST",
        "/privacy/budgets/{dataset}/consent",
        CONSENT,
        consent_to_budget,
        on_server=True,
    ),
    Call("privacy budget", "list", "GET", "/privacy/budgets", READ, list_budgets),
    Call("privacy budget", "show", "GET", "/privacy/budgets/{dataset}", READ, show_budget),
    Call("privacy budget", "history", "GET", "/privacy/budgets/{dataset}/spends", READ, list_spends),
    QUERY,
)
