"""Loads models on demand: one call to the supervisor for all waiting requests, and a limit to every wait."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, NotReady, Overloaded
from ashore.data.path.fairness import Shares
from ashore.data.path.models import LoadedModel
from ashore.kit.metrics import Metrics

CALL_AGAIN_S: Final = 2.0
"""Interval of calls for a model with waiting requests: the first may have come while the server started."""
TELL_EVERY_S: Final = 1.0
"""Interval of reports to the supervisor of how often loaded models are requested."""

log = logging.getLogger("ashore.serving")

CallsModels = Callable[[Mapping[str, Any]], Any]
"""Calls the supervisor about a model on demand. May block for a moment."""


class Summons:
    """Loads models on demand. Every call is made on one event loop."""

    def __init__(self, tell: CallsModels | None, clock: Clock, metrics: Metrics) -> None:
        """Create it. `tell` calls the supervisor; None: there is none, and nothing is loaded on demand."""
        self._tell = tell
        self._clock = clock
        self._metrics = metrics
        self._called_s: dict[str, float] = {}
        """When each release was called last."""
        self._waiting: defaultdict[str, Shares] = defaultdict(Shares)
        self._uses: Counter[tuple[str, str]] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._telling: asyncio.Task[None] | None = None

    async def awake(self, model: LoadedModel, deadline_at: float, *, tenant: str, most_waiting: int) -> None:
        """Wait until a model has a host; returns at once if it has one or is not loaded on demand.

        Args:
            model: The model to load.
            deadline_at: Latest time, in the clock's seconds.
            tenant: Tenant of the caller.
            most_waiting: Limit of waiting requests per model; a tenant within its part of it is let in beyond.

        Raises:
            NotReady: it cannot be loaded, or was not in time.
            Overloaded: too many wait already.
        """
        replicas = model.replicas
        if replicas.residence is None:
            return
        self._use(model)
        if replicas.ready:
            return
        release = model.served.release
        waiting = self._waiting[release]
        if waiting.total >= most_waiting and not waiting.within_part(tenant, 1, most_waiting):
            raise Overloaded(
                f"{waiting.total} requests wait for {model.served.alias} to load",
                hint="send it again after the time in `retry-after`, or raise [admission] max_waiting",
                retry_after_s=max(1, round(replicas.residence.load_s)),
            )
        waiting.add(tenant, 1)
        self._metrics.set("ashore_model_waiting", waiting.total, _alias(model))
        try:
            await self._wait(model, deadline_at)
        finally:
            waiting.add(tenant, -1)
            self._metrics.set("ashore_model_waiting", waiting.total, _alias(model))

    async def _wait(self, model: LoadedModel, deadline_at: float) -> None:
        replicas = model.replicas
        faults = replicas.residence.faults if replicas.residence else 0
        while not replicas.ready:
            left_s = deadline_at - self._clock.monotonic_s()
            if left_s <= 0:
                raise too_slow(model)
            self.check(model, faults)
            self.call(model)
            await replicas.changed(min(left_s, CALL_AGAIN_S))

    def check(self, model: LoadedModel, faults: int) -> None:
        """Check that waiting for a model makes sense.

        Args:
            model: The model.
            faults: Failed loads when the wait began.

        Raises:
            NotReady: a load failed since, or so recently that none is tried now.
        """
        residence = model.replicas.residence
        if residence is None or (residence.faults <= faults and residence.state != "failed"):
            return
        why = residence.why or "see the log of its host"
        raise NotReady(
            f"{model.served.alias} cannot be loaded: {why}",
            hint="the operator sees it in `ashore model ps`; `ashore model warm` tries again at once",
            retry_after_s=max(1, residence.again_s - int(self._clock.now_s())) if residence.again_s else 5,
        )

    def call(self, model: LoadedModel) -> None:
        """Ask the supervisor to load a model, at most once per interval."""
        now_s, release = self._clock.monotonic_s(), model.served.release
        if now_s - self._called_s.get(release, -CALL_AGAIN_S) < CALL_AGAIN_S:
            return
        self._called_s[release] = now_s
        alias = _alias(model)
        self._say({"do": "call", "alias": alias, "release": release, "uses": self._uses.pop((alias, release), 0)})

    def arrived(self, release: str) -> None:
        """Note that a release has a host: when it goes, the next request loads it at once."""
        self._called_s.pop(release, None)

    def _use(self, model: LoadedModel) -> None:
        self._uses[_alias(model), model.served.release] += 1
        if self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell_uses(), name="uses of models")

    async def _tell_uses(self) -> None:
        await asyncio.sleep(TELL_EVERY_S)
        self._telling = None
        uses, self._uses = self._uses, Counter()
        for (alias, release), num in uses.items():
            self._say({"do": "used", "alias": alias, "release": release, "uses": num})

    def _say(self, question: Mapping[str, Any]) -> None:
        if self._tell is not None:
            task = asyncio.get_running_loop().create_task(self._ask(self._tell, question), name="call a model")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _ask(tell: CallsModels, question: Mapping[str, Any]) -> None:
        try:
            await asyncio.to_thread(tell, question)
        except (AshoreError, OSError) as fault:
            log.warning("the supervisor did not hear of %s: %s", question.get("alias"), fault)

    async def close(self) -> None:
        """Stop calling the supervisor. May be called twice."""
        for task in (*self._tasks, *([self._telling] if self._telling else [])):
            task.cancel()


def too_slow(model: LoadedModel) -> NotReady:
    """Return the error of a request whose deadline passed while its model loads."""
    residence = model.replicas.residence
    took = f"; the last time it took {residence.load_s:.0f} s" if residence and residence.load_s else ""
    state = residence.state if residence else "loading"
    return NotReady(
        f"{model.served.alias} was not loaded in time: it is {state}{took}",
        hint="send it again, or give it a later deadline; `ashore model pin` keeps a model in memory",
        retry_after_s=max(1, round(residence.load_s)) if residence else 5,
    )


def _alias(model: LoadedModel) -> str:
    """Return the alias of a release that answers under another name or as an adapter."""
    own = model.served.stands_for or model.served.alias
    return own.removesuffix(f":{model.served.adapter}") if model.served.adapter else own
