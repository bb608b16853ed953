"""The ledger of one home or of several machines on one Postgres: grant, reserve, spend. One transaction each.

A reservation counts before the first noisy bit is drawn, and counts permanently unless its process reports that nothing
was released. So a crash costs the whole reservation, and never more than the budget.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ashore.control.ledger import rules
from ashore.control.ledger.accountant import choice_rdp, gaussian_noise, gaussian_rdp
from ashore.control.ledger.model import FEMTO, Kind, Spend, Standing, femto, micro
from ashore.control.ledger.sql import (
    answered,
    budgets,
    count_spends,
    end_spend,
    known_spends,
    open_budget,
    put_budget,
    put_lost_budget,
    put_spend,
    spends,
)
from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, NotFound, PrivacyBudgetSpent, StateLost
from ashore.kit.call import Actor
from ashore.kit.recorder import Recollection, Recorder

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ashore.kit.state import Database

log = logging.getLogger("ashore.privacy")

GRANT: Final = "privacy-budget:grant"
SPEND: Final = "privacy-budget:spend"
RECORD_S: Final = 5.0
"""How long the audit log may take to have a spend on disk before it is refused."""


class Ledger:
    """Safe on several threads and processes: the database decides."""

    def __init__(self, database: Database, *, clock: Clock, recorder: Recorder, remembers: Recollection) -> None:
        """Create it.

        Args:
            database: The state.
            clock: For timestamps; no rule depends on it.
            recorder: The audit log, which has each spend before it is made.
            remembers: Earlier spends in the audit log: a restored state may lack some.
        """
        self._database = database
        self._clock = clock
        self._recorder = recorder
        self._remembers = remembers
        self._compared: dict[str, int] = {}
        """Spends that there were under each budget when this process last saw it agree with the audit log."""

    def grant(
        self,
        actor: Actor,
        tenant: str,
        dataset: str,
        *,
        epsilon: float,
        delta: float,
        questions: float,
        agreed: Callable[[Connection], str] = lambda connection: "",
    ) -> Standing:
        """Grant a budget for a dataset, replacing the one in force. Its spending counts in the new one, and so do
        spends in the audit log that are missing in the state: an older backup was restored.

        Args:
            actor: The granting actor.
            tenant: Owner of the dataset.
            dataset: Name of the dataset.
            epsilon: Nats, in total.
            delta: In total.
            questions: Share of both for questions.
            agreed: Returns who consented, in the transaction; raises if a required consent is missing.

        Raises:
            InvalidRequest: see `rules.granted`. StateLost: the lost spends are not fully known.
        """
        told, now_s = self._told(SPEND, tenant, dataset), int(self._clock.now_s())
        with self._database.write() as connection:
            open_budget(connection, tenant, dataset, held=True)
            lost = self._restore(connection, tenant, dataset, told, now_s)
            before = open_budget(connection, tenant, dataset, held=True)
            budget = rules.granted(
                f"dpb_{secrets.token_hex(8)}",
                tenant,
                dataset,
                epsilon=epsilon,
                delta=delta,
                questions=questions,
                before=before,
                lost=lost,
            )
            budget = replace(budget, granted_by=actor.principal.id, granted_s=now_s)
            consent = agreed(connection)
            put_budget(connection, budget)
            detail: dict[str, str | int] = {
                "budget": budget.id,
                "epsilon_micro": budget.epsilon,
                "delta_femto": budget.delta,
            }
            if consent:
                detail["consent_of"] = consent
            actor.record(self._recorder, GRANT, f"dataset/{tenant}/{dataset}", detail=detail, on=connection)
        return self.standing(tenant, dataset)

    def standing(self, tenant: str, dataset: str) -> Standing:
        """Return the budget in force of a dataset.

        Raises:
            NotFound: none was granted.
        """
        with self._database.read() as connection:
            return _found(open_budget(connection, tenant, dataset), dataset)

    def standings(self, tenant: str = "") -> list[Standing]:
        """Return the budgets in force, of one tenant if given."""
        with self._database.read() as connection:
            return budgets(connection, tenant)

    def history(self, tenant: str, dataset: str, limit: int) -> list[Spend]:
        """Return the reservations and spends of a dataset, newest first."""
        with self._database.read() as connection:
            return spends(connection, tenant, dataset, limit)

    def answered(self, standing: Standing, question: str, units: int) -> Spend | None:
        """Return an earlier answer to this question under a budget, with no more noise than `units` buy; showing it
        again costs nothing."""
        with self._database.read() as connection:
            return answered(connection, standing.budget.id, question, units)

    def question_noise(self, standing: Standing, epsilon: float, parts: int) -> tuple[float, int]:
        """Return the noise multiplier of a question, and its units. `parts`: noisy sums that share epsilon."""
        delta = standing.budget.delta / FEMTO * rules.QUESTION_DELTA_SHARE
        multiplier = gaussian_noise(epsilon / parts, delta / parts)
        order = standing.budget.order
        return multiplier, max(1, micro(parts * gaussian_rdp(multiplier, order)))

    @staticmethod
    def choice_units(standing: Standing, epsilon: float, choices: int) -> int:
        """Return the units of so many choices by the exponential mechanism that share epsilon."""
        return max(1, micro(choices * choice_rdp(epsilon / choices, standing.budget.order)))

    @staticmethod
    def training_cost(epsilon: float, delta: float) -> Callable[[Standing], tuple[int, int]]:
        """Return the cost of a training run, for `reserved`."""
        return lambda standing: (micro(epsilon), femto(delta))

    @contextmanager
    def reserved(
        self,
        actor: Actor,
        tenant: str,
        dataset: str,
        kind: Kind,
        cost: Callable[[Standing], tuple[int, int]],
        *,
        what: str,
        question: str = "",
    ) -> Iterator[Reservation]:
        """Reserve a spend and yield it. It is spent when the block ends, even by an error, unless `release` was called.

        If the state cannot be written when the block ends, the result of the block stays valid: the reservation
        remains, and counts as spent.

        Args:
            actor: The spending actor.
            tenant: Owner of the dataset.
            dataset: Name of the dataset.
            kind: Question or training.
            cost: Returns units and delta (1e-15) under the budget in force.
            what: In words, for the history.
            question: Key of the stored answer, for repeated questions.

        Raises:
            NotFound: no budget was granted. PrivacyBudgetSpent: it does not fit. StateLost: the audit log has more
                spends than the state. AuditUnavailable: the spend cannot be recorded, so nothing is spent.
        """
        try:
            spend = self._reserve(actor, tenant, dataset, kind, cost, what, question)
        except PrivacyBudgetSpent as fault:  # an officer sees who requested more than was left
            told: dict[str, str | int] = {"kind": kind, "asked": what}
            resource = f"dataset/{tenant}/{dataset}"
            actor.record(self._recorder, SPEND, resource, outcome="denied", reason=fault.message, detail=told)
            raise
        reservation = Reservation(spend)
        try:
            yield reservation
        finally:
            state = "released" if reservation.is_released else "spent"
            try:
                with self._database.write() as connection:
                    end_spend(connection, spend.id, state, now_s=int(self._clock.now_s()), answer=reservation.answer)
            except AshoreError as fault:
                log.warning("spend %s stays reserved, which counts as spent: %s", spend.id, fault)

    def _reserve(
        self,
        actor: Actor,
        tenant: str,
        dataset: str,
        kind: Kind,
        cost: Callable[[Standing], tuple[int, int]],
        what: str,
        question: str,
    ) -> Spend:
        while True:
            with self._database.write() as connection:
                standing = _found(open_budget(connection, tenant, dataset, held=True), dataset)
                num_spends = count_spends(connection, standing.budget.id)
                if num_spends >= self._compared.get(standing.budget.id, math.inf):
                    spend, detail = self._entered(connection, standing, kind, cost(standing), actor, what, question)
                    actor.record(self._recorder, SPEND, f"dataset/{tenant}/{dataset}", detail=detail, on=connection)
                    break
            self._compare(tenant, dataset, standing.budget.id)
        self._compared[spend.budget] = num_spends + 1
        self._recorder.settle(RECORD_S)  # an unaudited spend is not begun; the reservation then stays spent
        return spend

    def _entered(
        self,
        connection: Connection,
        standing: Standing,
        kind: Kind,
        cost: tuple[int, int],
        actor: Actor,
        what: str,
        question: str,
    ) -> tuple[Spend, dict[str, str | int]]:
        """Enter a reservation if it fits; return it, and its audit details."""
        units, delta = cost
        rules.check_fits(standing, kind, units, delta)
        spend = Spend(
            id=f"dps_{secrets.token_hex(8)}",
            budget=standing.budget.id,
            kind=kind,
            state="reserved",
            units=units,
            delta=delta,
            what=what,
            actor=actor.principal.id,
            began_s=int(self._clock.now_s()),
        )
        put_spend(connection, spend, question)
        so_far = {"question": standing.question_units, "training": standing.training_epsilon}[kind]
        return spend, {
            "budget": spend.budget, "spend": spend.id, "kind": kind, "units": units, "total": so_far + units,
            "delta": delta,
        }  # fmt: skip

    def _compare(self, tenant: str, dataset: str, budget: str) -> None:
        """Raise `StateLost` if the audit log has a spend on this dataset, under any budget, that the state lacks.
        Once per process for each budget, and again when spends disappear: a database was restored."""
        told = self._told(SPEND, tenant, dataset)
        with self._database.read() as connection:
            lost, there = _lost(connection, told), count_spends(connection, budget)
        if lost:
            raise StateLost(
                f"the audit log has {len(lost)} spends on {dataset} that the state does not have: the state is "
                "older than the log",
                hint="an older backup was restored; restore the newest one, or have a security officer grant a new "
                "budget, in which what was lost counts as spent",
            )
        self._compared[budget] = there

    def _told(self, action: str, tenant: str, dataset: str) -> list[Mapping[str, str | int]]:
        """Return the audit records of a dataset, except refusals. Read it before the state, which has each spend
        first."""
        found = self._remembers.details(action, f"dataset/{tenant}/{dataset}")
        return [one for one in found if "budget" in one]

    def _restore(
        self, connection: Connection, tenant: str, dataset: str, told: Sequence[Mapping[str, str | int]], now_s: int
    ) -> tuple[int, int]:
        """Enter spends that the audit log has and the state lost; return epsilon and delta of those of replaced
        budgets: the whole grant, however much was spent."""
        lost = _lost(connection, told)
        before = open_budget(connection, tenant, dataset)
        grants = {str(one["budget"]): one for one in self._told(GRANT, tenant, dataset)} if lost else {}
        epsilon = delta = 0
        for budget in dict.fromkeys(str(one["budget"]) for one in lost):
            if before is not None and budget == before.budget.id:
                continue
            grant = grants.get(budget)
            if grant is None:
                raise StateLost(
                    f"the audit log has spends of the budget {budget}, and neither it nor the state has its grant",
                    hint="restore the newest backup",
                )
            epsilon, delta = epsilon + int(grant["epsilon_micro"]), delta + int(grant["delta_femto"])
            put_lost_budget(
                connection, budget, tenant, dataset, epsilon=int(grant["epsilon_micro"]),
                delta=int(grant["delta_femto"]), now_s=now_s,
            )  # fmt: skip
        most_delta = 0 if before is None else before.budget.delta
        for one in lost:
            kind: Kind = "training" if one["kind"] == "training" else "question"
            of_run = int(one.get("delta", most_delta)) if kind == "training" else 0
            put_spend(
                connection,
                Spend(
                    id=str(one["spend"]), budget=str(one["budget"]), kind=kind, state="spent", units=int(one["units"]),
                    delta=of_run, what="lost with the state, and known from the audit log", actor="", began_s=now_s,
                    ended_s=now_s,
                ),
            )  # fmt: skip
        return epsilon, delta


def _lost(connection: Connection, told: Sequence[Mapping[str, str | int]]) -> list[Mapping[str, str | int]]:
    known = known_spends(connection, [str(one["spend"]) for one in told])
    return [one for one in told if one["spend"] not in known]


class Reservation:
    """A spend in progress."""

    def __init__(self, spend: Spend) -> None:
        self.spend = spend
        self.answer = ""
        """Answer stored for repeats of the question."""
        self.is_released = False

    def release(self) -> None:
        """Release it: no noise was drawn, and nothing was shown."""
        self.is_released = True


def _found(standing: Standing | None, dataset: str) -> Standing:
    if standing is None:
        raise NotFound(
            f"no privacy budget was granted for {dataset[:80]!r}",
            hint="a security officer grants one: ashore privacy budget grant DATASET --epsilon 1 --delta 1e-6",
        )
    return standing
