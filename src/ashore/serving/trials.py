"""Releases tried on live requests: copies to a shadow, a canary's answers beside those of what is live, and those of
what is live beside what the release before it gave.

Off the request path. A live answer pays for a look at its clock; what is to be compared waits in a short queue that
drops what does not fit, one copy runs at a time, behind whoever waits for an answer, and no longer than its own
deadline.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from ashore.access import Principal
from ashore.core import Clock
from ashore.errors import AshoreError, DeadlineExceeded, EnvironmentFault
from ashore.releases import (
    ALONE,
    EVERYTHING,
    WHOLE,
    AliasRoute,
    Count,
    Pair,
    ReleasePolicy,
    Tally,
    measure_of,
    observed,
    observed_failures,
    step_slice,
)
from ashore.serving.comparing import SLOWER, Beside, Endings, Observation, compared, slices_of
from ashore.serving.former import KEPT_S, Arrivals, Former
from ashore.serving.fresh import FreshAnswers
from ashore.serving.guards import Masker
from ashore.serving.hearing import Trial
from ashore.serving.judging import Judges
from ashore.serving.model import GenerationRequest
from ashore.serving.models import LoadedModel
from ashore.serving.replicas import died
from ashore.serving.schemas import AnswerSchemas
from ashore.serving.shadow import Apart, Copy, Shadow

QUEUE: Final = 16
"""Copies that wait; more are dropped."""
FRESH_S: Final = 30.0
"""A live answer older than that is no neighbour of a candidate's."""
HEAR_EVERY_S: Final = 0.1
"""Where nothing is tried, an answer of an alias is heard so often, for the release that comes next."""
COUNTS_EVERY_S: Final = 10.0
"""Where nothing is tried, the state hears so often how requests kept to the objective."""
FORMERS: Final = 16
"""Releases of which it is known what they gave; of more, those heard longest ago are forgotten."""

log = logging.getLogger("ashore.serving")

Tallies = dict[tuple[str, str], Tally]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """Answers of a canary and of what is live, for judges that look at one answer at a time."""

    release: str
    trial: Trial
    live: str
    candidate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Again:
    """A request at which what is live failed, for the release before it: does that one fail too?"""

    former: str
    trial: Trial
    seen: Observation


@dataclass(slots=True)
class _Heard:
    """What is known of the requests of one alias."""

    arrivals: Arrivals = field(default_factory=Arrivals)
    next_s: float = 0.0
    """Before that none is heard for the next release."""


class Trials:
    """Compares the releases of one worker. Every call is made on its event loop."""

    def __init__(
        self,
        fresh: FreshAnswers,
        release_of: Callable[[str, str], LoadedModel | None],
        clock: Clock,
        *,
        masker: Masker,
        policy: ReleasePolicy,
        apart: Apart,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Make it.

        Args:
            fresh: Makes answers that nobody is charged for.
            release_of: Gives the model of an alias and a release that has hosts here.
            clock: For times.
            masker: Takes every personal datum out of the texts of pairs before they are kept.
            policy: What the operator says of trying releases.
            apart: Gives the distance of two texts in what they say; None where no embedder is loaded.
            chance: Draws what is copied.
        """
        self._shadow = Shadow(fresh, release_of, clock, masker=masker, apart=apart)
        self._clock = clock
        self._chance = chance
        self._schemas = AnswerSchemas()
        self._latest: dict[str, Observation] = {}
        """Of what is live, by alias, until a canary's answer was laid beside it."""
        self._endings: dict[str, Endings] = {}
        self._pending: dict[tuple[str, str], Tallies] = {}
        self._pairs: dict[str, list[Pair]] = {}
        self._counts: dict[tuple[str, str, int], tuple[int, int]] = {}
        """By release, objective and bucket of time: all requests and the bad ones."""
        self._counts_due_s = 0.0
        self._heard: dict[str, _Heard] = {}
        """By alias."""
        self._formers: dict[str, Former] = {}
        """By release, the one that was heard last at the end."""
        self._queue: asyncio.Queue[Copy | _Judged | _Again] = asyncio.Queue(QUEUE)
        self._runner: asyncio.Task[None] | None = None
        self.dropped = 0
        """Copies that found no room."""
        self.take_policy(policy)

    @property
    def policy(self) -> ReleasePolicy:
        """What the operator says of trying releases."""
        return self._policy

    def take_policy(self, policy: ReleasePolicy) -> None:
        """Go by another policy from now on."""
        self._policy = policy
        self._judges = Judges(policy.judges)

    def begin(
        self, request: GenerationRequest, principal: Principal, model: LoadedModel, route: AliasRoute
    ) -> Trial | None:
        """Listen to an answer: to each where something is tried, to some elsewhere; None: not to this one."""
        now_s = self._clock.monotonic_s()
        heard = self._heard.get(request.model)
        if heard is None:
            heard = self._heard[request.model] = _Heard()
        level = heard.arrivals.add(now_s)
        if not (route.is_tried or route.former):
            if now_s < heard.next_s:
                return None
            heard.next_s = now_s + HEAR_EVERY_S
        return Trial(
            request=request,
            principal=principal,
            model=model,
            began_s=now_s,
            level=level,
            keeps_text=route.is_tried,
            fits=self._schemas.fits(request.grammar) if route.is_tried else None,
        )

    def end(self, trial: Trial, route: AliasRoute, fault: AshoreError | None) -> None:
        """Hear that an answer has ended, whole or not. Waits for nothing. One that its client left says nothing."""
        if fault is None and not trial.ended:
            return
        if fault is not None and not isinstance(fault, EnvironmentFault | DeadlineExceeded):
            return  # the request was wrong, or there was no room: no release is to blame
        seen = trial.observation(failed=fault is not None)
        is_fatal = fault is not None and died(fault)
        if route.watched is not None:
            self._end_watched(trial, seen, route, *route.watched)
        elif route.shadow is not None and not is_fatal:  # it may have been the request that killed a host
            self._copy(trial, seen, route.shadow.release, route.shadow.share)
        if trial.model.served.release == route.live and not is_fatal:  # the supervisor sees to hosts that fall
            self._end_live(trial, seen, route)

    def take(self) -> dict[tuple[str, str], Tallies]:
        """Return what was observed since the last call, by release and stage."""
        pending, self._pending = self._pending, {}
        return pending

    def take_pairs(self) -> dict[str, list[Pair]]:
        """Return the most different pairs since the last call, by release."""
        pairs, self._pairs = self._pairs, {}
        return pairs

    def take_counts(self) -> dict[str, list[Count]]:
        """Return how requests kept to the objective since the last call, by release; where nothing is tried, nothing
        most of the time, and then more."""
        now_s = self._clock.monotonic_s()
        if now_s < self._counts_due_s:
            return {}
        self._counts_due_s = now_s + COUNTS_EVERY_S
        counts, self._counts = self._counts, {}
        found: dict[str, list[Count]] = {}
        for (release, objective, at_s), (total, bad) in counts.items():
            found.setdefault(release, []).append(Count(objective=objective, at_s=at_s, total=total, bad=bad))
        return found

    async def close(self) -> None:
        """Drop every copy. May be called twice."""
        if self._runner is not None:
            self._runner.cancel()
            with suppress(asyncio.CancelledError):
                await self._runner

    def _end_watched(self, trial: Trial, seen: Observation, route: AliasRoute, candidate: str, live: str) -> None:
        """Lay an answer of a canary beside those of what is live since its last one."""
        alias, release = trial.request.model, trial.model.served.release
        endings = self._endings.setdefault(f"{alias}\0{candidate}", Endings())
        if release == live:
            self._latest[alias] = seen
            endings.add(seen.at_s, seen.failed)
        if release in (candidate, live):
            self._count(release, seen)
        if release != candidate:
            return
        beside, latest = endings.take(seen.at_s - FRESH_S), self._latest.pop(alias, None)
        if not beside.count or latest is None:
            return
        step = step_slice(dict(route.weights).get(candidate, 0))
        values = compared(latest, seen, timed=True)
        self._add(candidate, "canary", trial, values, failures=(seen.failed, beside), step=step)
        if self._judges and not (seen.failed or latest.failed or seen.calls or latest.calls):
            self._enqueue(_Judged(release=candidate, trial=trial, live=latest.text, candidate=seen.text))

    def _end_live(self, trial: Trial, seen: Observation, route: AliasRoute) -> None:
        """Keep what the live release gave for the next one, and lay it beside what the one before it gave."""
        release, is_late = route.live, self._is_late(seen)
        if route.watched is None:
            self._count(release, seen, in_no_hurry=not route.former)
        former = self._formers.pop(release, None) or Former()
        former.add(trial.level, seen, late=is_late)
        self._formers[release] = former
        while len(self._formers) > FORMERS:
            del self._formers[next(iter(self._formers))]
        if not route.former:
            return
        if not seen.failed:
            self._lay_beside(trial, seen, route.former)
        elif not (trial.request.tools or trial.request.num_choices > 1):
            self._enqueue(_Again(former=route.former, trial=trial, seen=seen))

    def _lay_beside(self, trial: Trial, seen: Observation, name: str) -> None:
        """Lay an answer of what is live beside one that the release before it gave when as much was asked."""
        release, former, slo = trial.model.served.release, self._formers.get(name), self._policy.slo
        if former is None:
            return
        for objective, part in slo.allowed.items():
            if objective == "errors" and former.kept_to(trial.level, failed=part):
                self._count_one(release, objective + ALONE, bad=seen.failed)
            if objective == "ttft" and not seen.failed and former.kept_to(trial.level, late=part):
                self._count_one(release, objective + ALONE, bad=self._is_late(seen))
        given = former.take(trial.level, trial.began_s - KEPT_S)
        if given is None:
            return
        values: dict[str, float] = {}
        if seen.per_token_s and given.per_token_s and not (seen.failed or given.failed):
            values["slower"] = float(seen.per_token_s > SLOWER * given.per_token_s)
        self._add(release, "live", trial, values, failures=(seen.failed, Beside(count=1, failed=int(given.failed))))

    def _is_late(self, seen: Observation) -> bool:
        slo = self._policy.slo
        return not seen.failed and 0 < slo.ttft_ms < seen.first_token_s * 1e3

    def _count(self, release: str, seen: Observation, *, in_no_hurry: bool = False) -> None:
        """Count a request by the objectives."""
        for objective in self._policy.slo.allowed:
            if objective == "ttft" and seen.failed:
                continue
            bad = seen.failed if objective == "errors" else self._is_late(seen)
            self._count_one(release, objective, bad=bad, in_no_hurry=in_no_hurry)

    def _count_one(self, release: str, objective: str, *, bad: bool, in_no_hurry: bool = False) -> None:
        slo = self._policy.slo
        at_s = int(self._clock.now_s()) // slo.bucket_s * slo.bucket_s
        total, so_far = self._counts.get((release, objective, at_s), (0, 0))
        self._counts[release, objective, at_s] = total + 1, so_far + bad
        if not in_no_hurry:
            self._counts_due_s = 0.0

    def _copy(self, trial: Trial, seen: Observation, candidate: str, share: int) -> None:
        """Give a copy of a request to a shadow, with how the live answers ended since the copy before."""
        if trial.request.tools or trial.request.num_choices > 1:
            return
        endings = self._endings.setdefault(f"{trial.request.model}\0{candidate}", Endings())
        endings.add(seen.at_s, seen.failed)
        if self._chance() * WHOLE >= share:
            return
        if self._queue.full():  # how these answers ended counts beside the next copy
            self.dropped += 1
            return
        beside = endings.take(seen.at_s - FRESH_S)
        self._enqueue(Copy(release=candidate, trial=trial, live=seen, beside=beside))

    def _enqueue(self, work: Copy | _Judged | _Again) -> None:
        try:
            self._queue.put_nowait(work)
        except asyncio.QueueFull:
            self.dropped += 1
            return
        if self._runner is None or self._runner.done():
            self._runner = asyncio.get_running_loop().create_task(self._run(), name="shadow")

    async def _run(self) -> None:
        while not self._queue.empty():
            work = self._queue.get_nowait()
            try:
                match work:
                    case Copy():
                        await self._compare(work)
                    case _Again():
                        if await self._shadow.succeeds(work.trial, work.former):
                            self._lay_beside(work.trial, work.seen, work.former)
                    case _Judged():
                        alias = work.trial.request.model
                        values = await self._judges.values(alias, work.live, work.candidate, prompt=None)
                        self._add(work.release, "canary", work.trial, values)
            except AshoreError as fault:
                log.info("an answer of %s was not compared: %s", work.trial.request.model, fault.message)

    async def _compare(self, copy: Copy) -> None:
        found = await self._shadow.compare(copy, self._judges, most_pairs=self._policy.pairs)
        if found is None:
            return
        self._add(copy.release, "shadow", copy.trial, found.values, failures=(found.failed, copy.beside))
        if found.pair is not None:
            self._pairs.setdefault(copy.release, []).append(found.pair)

    def _add(
        self,
        release: str,
        stage: str,
        trial: Trial,
        values: Mapping[str, float],
        *,
        failures: tuple[bool, Beside] | None = None,
        step: str = "",
    ) -> None:
        """Count what was observed: on all requests, and what is tested in the slices of its request."""
        tallies = self._pending.setdefault((release, stage), {})
        slices = (*slices_of(trial.request, trial.principal), *((step,) if step else ()))
        found = {name: _tally(name, value) for name, value in values.items()}
        if failures is not None and failures[1].count:
            found["errors"] = observed_failures(failures[0], failures[1].count, failures[1].failed)
        for name, one in found.items():
            for part in (EVERYTHING, *(slices if measure_of(name) is not None else ())):
                tallies[name, part] = tallies.get((name, part), Tally()) + one


def _tally(name: str, value: float) -> Tally:
    measure = measure_of(name)
    return Tally(count=1, total=value) if measure is None else observed(measure, value)
