"""Registry of the models that a worker serves: load, connect, replace, retire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError
from ashore.data.engines import EngineStats, card_of
from ashore.data.path.admission import Gate, Reason, capacity_for
from ashore.data.path.board import Board
from ashore.data.path.concurrency import ConcurrencyLimit
from ashore.data.path.models import LoadedModel, ModelCard, not_found
from ashore.data.path.ports import ServedText
from ashore.data.path.recommended import recommendations
from ashore.data.path.replicas import ReplicaFactory, ReplicaSet
from ashore.data.path.router import Lead, make_leads
from ashore.data.path.topology import ServedModel, Topology
from ashore.data.releases import AliasRoute
from ashore.data.residency import Served
from ashore.kit.metrics import Metrics

if TYPE_CHECKING:
    from ashore.data.path.bycost import ByCostRoute

log = logging.getLogger("ashore.serving")

CONNECT_WAIT_S = 10.0
"""Longest wait for the replicas of a model that replaces another."""
RETIRE_GRACE_S = 0.5
RETIRE_LOOK_S = 0.05
STATS_TIMEOUT_S = 1.0
LOOK_S = 1.0

GAUGES = (
    "ashore_running_sequences", "ashore_waiting_sequences", "ashore_tokens_in_flight", "ashore_replicas_ready",
)  # fmt: skip
"""Gauges of each model."""

DEMAND_GAUGES = (
    "ashore_model_loaded", "ashore_model_loads", "ashore_model_unloads", "ashore_model_load_seconds",
    "ashore_model_failed_loads",
)  # fmt: skip
"""Gauges of each model on demand."""

TextLoader = Callable[[ServedModel], ServedText]
"""Makes the text side of a served model; called on a thread."""


class Roster:
    """Holds the models of one topology. Every call is made on one event loop."""

    def __init__(
        self,
        topology: Topology,
        *,
        make_replica: ReplicaFactory,
        load_text: TextLoader,
        board: Board | None,
        limit: ConcurrencyLimit,
        refused: Callable[[str, Reason], None],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """Create it. `refused` is called with the alias and the reason of each refusal."""
        self._clock, self._metrics = clock, metrics
        self._by_cost: dict[str, ByCostRoute] = {}
        """By alias; none without `[dispatch]`."""
        self._topology = topology
        self._limit = limit
        self._refused = refused
        self._make_replica = make_replica
        self._load_text = load_text
        self._board = board
        self._models: dict[tuple[str, str], LoadedModel] = {}
        """By alias and release."""
        self._routes: Mapping[str, AliasRoute] = {}
        self._leads: dict[str, Lead] = {}
        """By every name that clients may use."""
        self._gates: tuple[Gate, ...] = ()
        self._told: set[str] = set()
        """Models with gauges."""
        self._retiring: dict[asyncio.Task[None], LoadedModel] = {}
        self._looking: asyncio.Task[None] | None = None
        self.unreadable: Mapping[tuple[str, str], Exception] = {}
        """Models of the topology that are left out, by alias and release, with why: their text side cannot be read."""
        self.generation = 0
        """Grows whenever a name leads elsewhere, and with every topology that was taken."""

    @property
    def topology(self) -> Topology:
        return self._topology

    def lead(self, name: str) -> Lead:
        """Return the lead of a name.

        Raises:
            UnknownModel: the name is unknown; the error suggests the nearest names.
        """
        found = self._leads.get(name)
        if found is None:
            raise not_found(name, self._leads)
        return found

    def behind(self, name: str) -> tuple[str, ...]:
        """Return the models behind a name, if it is an alias of others. Callable from any thread."""
        lead = self._leads.get(name)
        return () if lead is None else lead.behind

    def known(self, name: str) -> Lead | None:
        """Return the lead of a name, None if it is unknown."""
        return self._leads.get(name)

    def release(self, alias: str, name: str) -> LoadedModel | None:
        """Return a release that has hosts here, None if it has none."""
        return self._models.get((alias, name))

    @property
    def routes(self) -> Mapping[str, AliasRoute]:
        return self._routes

    def is_full(self, tenant: str) -> bool:
        """Return whether the queues of all models are full for a tenant."""
        return all(gate.is_full(tenant) for gate in self._gates)

    @property
    def gates(self) -> tuple[Gate, ...]:
        """Return the gate of every release that a name leads to, each once."""
        return self._gates

    def cards(self) -> list[ModelCard]:
        """Return a card for every name, in the order of ashore.toml: the first is the default model."""
        return [lead.first.card() for lead in self._leads.values()]

    def take_routes(self, routes: Mapping[str, AliasRoute]) -> None:
        """Apply the routes of the state from the next request on. Running requests end where they are.

        A release that was not ready yet is left out until it is.
        """
        self._routes = routes
        self._lead()

    def _lead(self) -> None:
        for model in self._models.values():
            model.by_cost = None  # an adapter made here is served by its own hosts only
        primary = {served.alias: served.release for served in self._topology.models}
        leads = make_leads(self._models, {a: r for a, r in primary.items() if (a, r) in self._models}, self._routes)
        if {name: one.shape for name, one in leads.items()} != {name: one.shape for name, one in self._leads.items()}:
            self.generation += 1
        self._leads = leads
        self._route_by_cost()
        self._gates = tuple(dict.fromkeys(model.gate for lead in leads.values() for model, _ in lead.models))
        for model in self._models.values():
            model.replicas.rouse()  # requests that wait for its hosts may be answered elsewhere by now

    def _route_by_cost(self) -> None:
        """Let models answer for each other as `[dispatch]` configures. While an alias leads to several releases,
        which are being compared, its requests go to them alone."""
        for alias, route in self._by_cost.items():
            route.take({name: self._leads[name].first for name in route.route.prices if name in self._leads})
            lead = self._leads.get(alias)
            if lead is not None and len(lead.models) == 1:
                lead.first.by_cost = route
                self._resize(lead.first)

    def _take_routes_by_cost(self, topology: Topology) -> None:
        asked = {one.alias: one for one in topology.dispatch.routes}
        for alias, known in list(self._by_cost.items()):
            if alias not in asked:
                known.close()
                del self._by_cost[alias]
        for alias, one in asked.items():
            if alias in self._by_cost:
                self._by_cost[alias].change(one)
            else:
                from ashore.data.path.bycost import ByCostRoute  # imports SciPy, which few servers need

                self._by_cost[alias] = ByCostRoute(
                    one, clock=self._clock, metrics=self._metrics, workers=max(1, len(topology.workers))
                )

    async def apply(self, topology: Topology) -> None:
        """Serve `topology` from now on.

        A replacement is connected before it gets requests; requests that run on the old model end there. A model whose
        text side cannot be read is left out (`unreadable`) and does not affect others; the previous model of its alias
        goes on. On an error or cancellation everything stays as it was.

        Raises:
            AshoreError: no model of several, or the only one, can be read.
        """
        every = {(served.alias, served.release): served for served in (*topology.models, *topology.beside)}
        kept: dict[tuple[str, str], LoadedModel] = {}
        fresh: list[LoadedModel] = []
        unreadable: dict[tuple[str, str], Exception] = {}
        try:
            for key, served in every.items():
                old = self._models.get(key)
                if old is None or old.served.text_dir != served.text_dir:
                    try:
                        old = await self._load(served, topology)
                    except Exception as fault:  # noqa: BLE001 - the outermost place of a model: logged, and left out
                        unreadable[key] = fault
                        continue
                    fresh.append(old)
                kept[key] = old
            topology = self._with_former(topology, unreadable, kept)
            if unreadable and not kept:
                raise next(iter(unreadable.values()))
            self._tell_unreadable(unreadable)
            if self._models and not await _connected(fresh, CONNECT_WAIT_S):
                log.warning("a new model has no replica after %g s; its requests are refused till then", CONNECT_WAIT_S)
        except BaseException:
            for model in fresh:
                await model.replicas.stop()
            raise
        for key, model in kept.items():  # nothing fails below, and no other task runs in between
            model.served = every.get(key, model.served)
            model.replicas.residence = model.served.residence
        gone = [model for key, model in self._models.items() if kept.get(key) is not model]
        self._topology, self._models, self.unreadable = topology, kept, unreadable
        self._take_routes_by_cost(topology)
        self._lead()
        for model in gone:
            model.replicas.rouse()
        self.generation += 1
        self._looking = self._looking or asyncio.get_running_loop().create_task(self._keep_looking())
        for model in kept.values():
            if model.replicas.sockets != model.served.sockets:
                await model.replicas.resize(model.served.sockets)
            self._resize(model)
        for model in gone:
            task = asyncio.get_running_loop().create_task(self._retire(model), name=f"retire {model.served.release}")
            self._retiring[task] = model
            task.add_done_callback(self._retiring.pop)

    def _with_former(
        self,
        topology: Topology,
        unreadable: Mapping[tuple[str, str], Exception],
        kept: dict[tuple[str, str], LoadedModel],
    ) -> Topology:
        """Return a topology that keeps the current model of an alias if its replacement cannot be read."""
        before = {served.alias: served for served in self._topology.models}
        models = []
        for served in topology.models:
            former = before.get(served.alias, served)
            key = former.alias, former.release
            if (served.alias, served.release) in unreadable and key in self._models:
                kept[key] = self._models[key]
                served = former
            models.append(served)
        return msgspec.structs.replace(topology, models=tuple(models))

    def _tell_unreadable(self, unreadable: Mapping[tuple[str, str], Exception]) -> None:
        """Log models that are left out, once for each reason."""
        for key, fault in unreadable.items():
            if str(fault) != str(self.unreadable.get(key)):
                is_ours = isinstance(fault, AshoreError)
                log.error(
                    "%s (release %s) is left out: it cannot be read: %s",
                    *key,
                    fault,
                    exc_info=None if is_ours else fault,
                )

    async def connected(self, within_s: float) -> bool:
        """Wait until every model has a live replica, or until the time-out; return whether they have."""
        return await _connected(list(self._models.values()), within_s)

    async def _retire(self, model: LoadedModel) -> None:
        """Disconnect a model that is no longer served, once its last request has ended."""
        await asyncio.sleep(RETIRE_GRACE_S)  # a request that just looked it up has not entered its gate yet
        while model.gate.load.running or model.gate.load.waiting:  # noqa: ASYNC110 - once per reload
            await asyncio.sleep(RETIRE_LOOK_S)
        model.gate.close()
        await model.replicas.stop()
        log.info("%s is retired", model.served.release)

    async def host_stats(self) -> dict[tuple[str, str], EngineStats]:
        """Return the counters of every live host, by (alias, replica). Slow hosts are left out."""
        return {
            (self._label(model), str(at)): one
            for model in self._models.values()
            for at, one in (await _stats_of(model)).items()
        }

    async def _keep_looking(self) -> None:
        """Note every second behind which models no server of another machine answers."""
        while True:
            await asyncio.sleep(LOOK_S)
            for model in [one for one in self._models.values() if "remote" in card_of(one.served.kind).formats]:
                found = (await _stats_of(model)).values()
                if found:
                    model.unserved = all(
                        one.backends and all(server.state != "ready" for server in one.backends) for one in found
                    )

    def measure(self, metrics: Metrics) -> None:
        """Update the gauges of every model, and drop those of removed models."""
        metrics.set("ashore_loop_busy_share", self._limit.pulse.busy)
        metrics.set("ashore_loop_lag_seconds", self._limit.pulse.lag_s)
        metrics.set("ashore_running_limit", self._limit.limit)
        for route in self._by_cost.values():
            route.measure()
        told = set()
        for model in self._models.values():
            load, alias = model.gate.load, self._label(model)
            told.add(alias)
            values = (load.running, load.waiting, load.tokens, len(model.replicas.live))
            for name, value in zip(GAUGES, values, strict=True):
                metrics.set(name, value, alias)
            if (residence := model.served.residence) is not None:
                for name, figure in zip(DEMAND_GAUGES, residence_values(model, residence), strict=True):
                    metrics.set(name, figure, model.served.alias)
        for gone in self._told - told:
            for name in GAUGES:
                metrics.drop(name, gone)
        self._told = told

    def _label(self, model: LoadedModel) -> str:
        """Return the metric label of a model: its alias, or its release if another one answers for the alias."""
        lead = self._leads.get(model.served.alias)
        answers = lead is not None and lead.first.served.release == model.served.release
        return model.served.alias if answers else model.served.release

    def drain(self) -> None:
        """Refuse new requests at every gate."""
        for model in self._models.values():
            model.gate.drain()

    async def close(self) -> None:
        """Disconnect from every host, including those with unfinished answers. May be called twice."""
        retiring = dict(self._retiring)
        for task in retiring:
            task.cancel()
        if self._looking is not None:
            self._looking.cancel()
        for route in self._by_cost.values():
            route.close()
        for model in (*self._models.values(), *retiring.values()):
            await model.replicas.stop()
        await asyncio.gather(*retiring, return_exceptions=True)

    async def _load(self, served: ServedModel, topology: Topology) -> LoadedModel:
        text = await asyncio.to_thread(self._load_text, served)
        limits = topology.admission
        gate = Gate(
            capacity_for(
                max_running=limits.max_running,
                max_waiting=limits.max_waiting,
                max_tokens=limits.max_tokens_in_flight,
                replica_sequences=1,
                kv_tokens=0,
            ),
            self._board.neighbours(served.slot) if self._board is not None else None,
            limit=self._limit,
            refused=partial(self._refused, served.alias),
        )
        key = served.alias, served.release
        replicas = ReplicaSet(served.alias, served.sockets, self._make_replica, lambda: self._changed(key))
        replicas.residence = served.residence
        replicas.start()
        return LoadedModel(
            served=served,
            text=text,
            replicas=replicas,
            gate=gate,
            recommended=recommendations(text.sampling_defaults),
        )

    def _changed(self, key: tuple[str, str]) -> None:
        model = self._models.get(key)
        if model is not None:
            self._resize(model)
            self._lead()  # an alias may wait for it

    def _resize(self, model: LoadedModel) -> None:
        ability = model.replicas.ability if model.by_cost is None else model.by_cost.ability
        if ability.sequences == 0:
            return  # no host is live: admitted requests wait for one until their deadline
        limits = self._topology.admission
        model.gate.resize(
            capacity_for(
                max_running=limits.max_running,
                max_waiting=limits.max_waiting,
                max_tokens=limits.max_tokens_in_flight,
                replica_sequences=ability.sequences,
                kv_tokens=ability.kv_tokens,
            )
        )


def residence_values(model: LoadedModel, residence: Served) -> tuple[float, ...]:
    """Return the values of `DEMAND_GAUGES`."""
    return (
        float(model.replicas.ready),
        residence.loads,
        residence.unloads,
        residence.load_s,
        residence.faults,
    )


async def _connected(models: list[LoadedModel], within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            while not all(model.replicas.ready or not model.served.sockets for model in models):  # noqa: ASYNC110 - once per start or reload
                await asyncio.sleep(0.01)
    except TimeoutError:
        return False
    return True


async def _stats_of(model: LoadedModel) -> dict[int, EngineStats]:
    """Return the counters of every live host of a model, by its place. Slow hosts are left out."""
    calls = [asyncio.wait_for(replica.stats(), STATS_TIMEOUT_S) for replica in model.replicas.live]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    return {at: one for at, one in enumerate(answers) if isinstance(one, EngineStats)}
