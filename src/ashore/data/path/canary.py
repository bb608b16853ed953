"""Tries releases on live requests: copies for a shadow, a canary's answers compared with the live release's, and those
compared with the previous release's.

Off the request path: a live answer costs one reading of the clock. Comparisons wait in a short queue with lower
priority than requests; overflow is dropped. Few copies run together, each within its own deadline, and they pause while
processors are short (`background`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, DeadlineExceeded, EnvironmentFault, UserError
from ashore.data.authority import Principal
from ashore.data.path.answer_listener import Trial
from ashore.data.path.background import FRESH_S, Aside
from ashore.data.path.differences import Beside, Endings, Observation, beside_each, compared, slices_of, slowness
from ashore.data.path.generation import FreshAnswers
from ashore.data.path.guards import Masker
from ashore.data.path.judges import Judges
from ashore.data.path.model import GenerationRequest
from ashore.data.path.models import LoadedModel
from ashore.data.path.pairing import Neighbours
from ashore.data.path.predecessor import KEPT_S, Arrivals, Former
from ashore.data.path.prompt import PromptReader
from ashore.data.path.replicas import died
from ashore.data.path.schemas import AnswerSchemas
from ashore.data.path.shadow import Copy, Shadow
from ashore.data.releases import (
    ALONE,
    EVERYTHING,
    WHOLE,
    AliasRoute,
    Count,
    GivenLevel,
    Pair,
    ReleasePolicy,
    Tally,
    measure_of,
    observed,
    observed_failures,
    step_slice,
)

HEAR_EVERY_S: Final = 0.1
"""Interval of observed answers without a trial, for the next release's baseline."""
COUNTS_EVERY_S: Final = 10.0
"""Interval of reports of objective counts to the state without a trial."""
GIVEN_EVERY_S: Final = 5.0
"""Interval of reports of the live release's baseline to the state, for workers that begin later."""
DROPPED: Final = "copies dropped"
"""Metric name of the share of copies that were not compared."""
FORMERS: Final = 16
"""Limit of releases with a baseline; the least recently used is dropped."""

Tallies = dict[tuple[str, str], Tally]


@dataclass(slots=True)
class _Heard:
    """Observations of the requests of one alias."""

    arrivals: Arrivals = field(default_factory=Arrivals)
    next_s: float = 0.0
    """No baseline sample before that time."""


@dataclass(slots=True)
class _Tried:
    """The live answers that one candidate is compared with."""

    endings: Endings = field(default_factory=Endings)
    neighbours: Neighbours = field(default_factory=Neighbours)


class Trials:
    """Compares the releases of one worker. Every call is made on its event loop."""

    def __init__(
        self,
        fresh: FreshAnswers,
        release_of: Callable[[str, str], LoadedModel | None],
        clock: Clock,
        *,
        masker: Masker,
        reader: PromptReader,
        policy: ReleasePolicy,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Create the comparison.

        Args:
            fresh: Makes answers that no budget is charged for.
            release_of: Returns the model of an alias and a release that has hosts here.
            clock: For times.
            masker: Masks all personal data in the texts of pairs before they are stored.
            reader: Runs work that reads texts, in the queue of their principal.
            policy: The operator's settings for trials.
            chance: Chooses the requests to copy.
        """
        self._shadow = Shadow(fresh, release_of, clock, masker=masker, reader=reader)
        self._clock = clock
        self._chance = chance
        self._schemas = AnswerSchemas(reader, clock)
        self._tried: dict[tuple[str, str], _Tried] = {}
        """By alias and candidate."""
        self._pending: dict[tuple[str, str], Tallies] = {}
        self._pairs: dict[str, list[Pair]] = {}
        self._counts: dict[tuple[str, str, int], tuple[int, int]] = {}
        """By release, objective and bucket of time: all requests and the bad ones."""
        self._counts_due_s = 0.0
        self._heard: dict[str, _Heard] = {}
        """By alias."""
        self._formers: dict[str, Former] = {}
        """By release, the most recently used at the end."""
        self._given_due_s = 0.0
        self._aside = Aside(
            clock, compare=self._compare, drop=lambda copy: self._count_copy(copy.release, dropped=True)
        )
        self.dropped = 0
        """Copies that were not compared."""
        self.take_policy(policy)

    @property
    def policy(self) -> ReleasePolicy:
        """The operator's settings for trials."""
        return self._policy

    def take_policy(self, policy: ReleasePolicy) -> None:
        """Apply another policy."""
        self._policy = policy
        self._judges = Judges(policy.judges)
        self._shadow.forget(())

    def take_routes(self, routes: Mapping[str, AliasRoute]) -> None:
        """Forget the comparison state of candidates that these routes no longer try."""
        tried = {(alias, route.candidate) for alias, route in routes.items() if route.is_tried}
        for key in self._tried.keys() - tried:
            del self._tried[key]
        self._shadow.forget({name for _, name in tried})

    def begin(
        self, request: GenerationRequest, principal: Principal, model: LoadedModel, route: AliasRoute
    ) -> Trial | None:
        """Return an observer of an answer: always where a release is tried, sometimes elsewhere; None: not for this
        one."""
        now_s = self._clock.monotonic_s()
        heard = self._heard.get(request.model)
        if heard is None:
            heard = self._heard[request.model] = _Heard()
        level = heard.arrivals.add(now_s)
        if not (route.is_tried or route.former):
            if now_s < heard.next_s:
                return None
            heard.next_s = now_s + HEAR_EVERY_S
        shadow = None if _cannot_be_copied(request) else route.shadow
        trial = Trial(
            request=request,
            principal=principal,
            model=model,
            began_s=now_s,
            level=level,
            copied=shadow is not None and self._chance() * WHOLE < shadow.share,
            keeps_text=route.is_tried,
            fits=self._schemas.fits(request.grammar, principal) if route.is_tried else None,
        )
        if route.watched is not None and model.served.release in route.watched:
            candidate = route.watched[0]
            neighbours = self._tried_at(request.model, candidate).neighbours
            neighbours.begin(trial, candidate=model.served.release == candidate)
        return trial

    def end(self, trial: Trial, route: AliasRoute, fault: AshoreError | None) -> None:
        """Record the end of an answer, whole or not. Does not wait. An answer whose client left counts for nothing."""
        if fault is None and not trial.ended:
            return
        if isinstance(fault, UserError):
            self._end_refused(trial, route)
            return
        if fault is not None and not isinstance(fault, EnvironmentFault | DeadlineExceeded):
            return  # there was no room: no release is to blame
        seen = trial.observation(failed=fault is not None)
        if trial.lowered:
            self._count(trial.model.served.release, seen)  # counts only for the deadline: met or missed
            return
        is_fatal = fault is not None and died(fault)
        if route.watched is not None:
            self._end_watched(trial, seen, route, *route.watched)
        elif route.shadow is not None and not is_fatal:  # the request itself may have killed the host
            self._copy(trial, seen, route.shadow.release)
        if trial.model.served.release == route.live and not is_fatal:  # the supervisor handles hosts that crash
            self._end_live(trial, seen, route)

    def take(self) -> dict[tuple[str, str], Tallies]:
        """Return the observations since the last call, by release and stage."""
        pending, self._pending = self._pending, {}
        return pending

    def take_pairs(self) -> dict[str, list[Pair]]:
        """Return the most different pairs since the last call, by release."""
        pairs, self._pairs = self._pairs, {}
        return pairs

    def take_counts(self) -> dict[str, list[Count]]:
        """Return how requests met the objectives since the last call, by release. Without a trial it is mostly
        empty, and reported in batches."""
        now_s = self._clock.monotonic_s()
        if now_s < self._counts_due_s:
            return {}
        self._counts_due_s = now_s + COUNTS_EVERY_S
        counts, self._counts = self._counts, {}
        found: dict[str, list[Count]] = {}
        for (release, objective, at_s), (total, bad) in counts.items():
            found.setdefault(release, []).append(Count(objective=objective, at_s=at_s, total=total, bad=bad))
        return found

    def take_given(self) -> dict[str, tuple[GivenLevel, ...]]:
        """Return the baseline samples since the last call, by release; mostly empty, and reported in batches."""
        now_s = self._clock.monotonic_s()
        if now_s < self._given_due_s:
            return {}
        self._given_due_s = now_s + GIVEN_EVERY_S
        ahead_s = self._clock.now_s() - now_s
        found = {release: former.changed(ahead_s=ahead_s) for release, former in self._formers.items()}
        return {release: levels for release, levels in found.items() if levels}

    def unknown_formers(self, routes: Iterable[AliasRoute]) -> tuple[str, ...]:
        """Return the previous releases that live ones are to be compared with and that this worker has no baseline
        of."""
        return tuple(sorted({one.former for one in routes if one.former} - self._formers.keys()))

    def take_former(self, release: str, levels: Iterable[GivenLevel]) -> None:
        """Add the baseline of a release from before this worker began. This worker's own samples stay."""
        former = Former.of(levels, ahead_s=self._clock.now_s() - self._clock.monotonic_s())
        self._formers.setdefault(release, former)

    async def close(self) -> None:
        """Drop every copy. May be called twice."""
        await self._aside.close()

    def _tried_at(self, alias: str, candidate: str) -> _Tried:
        return self._tried.setdefault((alias, candidate), _Tried())

    def _end_watched(self, trial: Trial, seen: Observation, route: AliasRoute, candidate: str, live: str) -> None:
        """Compare a canary's failure with the live outcomes since its last answer, and its answer with its paired
        one."""
        release, share = trial.model.served.release, dict(route.weights).get(candidate, 0)
        step = step_slice(share)
        if release not in (candidate, live):
            return
        self._count(release, seen)
        endings = self._tried_at(trial.request.model, candidate).endings
        if release == live:
            endings.add(seen.at_s, seen.failed)
        elif (beside := endings.take(seen.at_s - FRESH_S, most=beside_each(share))).count:
            self._add(candidate, "canary", trial, {}, failures=(seen.failed, beside), step=step)
        trial.seen, other = seen, trial.partner
        if other is None or other.seen is None:
            return
        trial.partner = other.partner = None
        of_candidate = trial if release == candidate else other
        mine, theirs = (seen, other.seen) if release == candidate else (other.seen, seen)
        self._add(candidate, "canary", of_candidate, compared(theirs, mine, timed=True), step=step)
        if self._judges and not any(one.failed or one.calls for one in (theirs, mine)):
            self._aside.do(partial(self._judge, candidate, of_candidate, theirs.text, mine.text))

    def _end_refused(self, trial: Trial, route: AliasRoute) -> None:
        """Retry a request that a trial release refused on the release that it is compared with. If that refuses too,
        the request is invalid and no release is blamed."""
        release, seen = trial.model.served.release, trial.observation(failed=True)
        if _cannot_be_copied(trial.request):
            return
        if route.watched is not None and release == route.watched[0]:
            blame = partial(self._end_watched, trial, seen, route, *route.watched)
            self._aside.do(partial(self._try_again, route.watched[1], trial, blame))
        elif release == route.live and route.former:
            self._blame_alone(trial, seen, route.former)

    def _end_live(self, trial: Trial, seen: Observation, route: AliasRoute) -> None:
        """Store a live answer for the next release's baseline, and compare it with the previous release's."""
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
        elif not _cannot_be_copied(trial.request):
            self._blame_alone(trial, seen, route.former)

    def _lay_beside(self, trial: Trial, seen: Observation, name: str) -> None:
        """Compare a live answer with one of the previous release at similar load."""
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
            values["slower"] = slowness(seen.per_token_s, given.per_token_s)
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

    def _copy(self, trial: Trial, seen: Observation, candidate: str) -> None:
        """Copy a request to a shadow, with the outcomes of live answers since the last copy."""
        if _cannot_be_copied(trial.request):
            return
        endings = self._tried_at(trial.request.model, candidate).endings
        endings.add(seen.at_s, seen.failed)
        if not trial.copied:
            return
        if not self._aside.takes_copies:  # these outcomes count with the next copy
            self._count_copy(candidate, dropped=True)
            return
        beside = endings.take(seen.at_s - FRESH_S)
        self._aside.copy(Copy(release=candidate, trial=trial, live=seen, beside=beside))

    def _count_copy(self, candidate: str, *, dropped: bool) -> None:
        """Count a copy, so that the share of dropped copies can be reported."""
        self.dropped += dropped
        tallies = self._pending.setdefault((candidate, "shadow"), {})
        key = DROPPED, EVERYTHING
        tallies[key] = tallies.get(key, Tally()) + Tally(count=1, total=float(dropped))

    async def _judge(self, candidate: str, trial: Trial, live: str, said: str) -> None:
        """Run the judges of single answers on one canary answer and one live answer."""
        read = self._shadow.reads(trial)
        values = await self._judges.values(trial.request.model, live, said, prompt=None, read=read)
        self._add(candidate, "canary", trial, values)

    def _blame_alone(self, trial: Trial, seen: Observation, former: str) -> None:
        """Count a request at which the live release failed, if the previous release does not fail at it too."""
        self._aside.do(partial(self._try_again, former, trial, partial(self._lay_beside, trial, seen, former)))

    async def _try_again(self, other: str, trial: Trial, blame: Callable[[], None]) -> None:
        """Retry a failed request on another release, and blame the failing one if that succeeds."""
        if await self._shadow.succeeds(trial, other):
            blame()

    async def _compare(self, copy: Copy) -> None:
        found = None
        try:
            found = await self._shadow.compare(copy, self._judges, most_pairs=self._policy.pairs)
        finally:
            self._count_copy(copy.release, dropped=found is None)
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
        """Count an observation: over all requests, and in the slices of its request where it is tested."""
        tallies = self._pending.setdefault((release, stage), {})
        slices = (*slices_of(trial.request, trial.principal), *((step,) if step else ()))
        found = {name: _tally(name, value) for name, value in values.items()}
        if failures is not None and failures[1].count:
            found["errors"] = observed_failures(failures[0], failures[1].count, failures[1].failed)
        for name, one in found.items():
            for part in (EVERYTHING, *(slices if measure_of(name) is not None else ())):
                tallies[name, part] = tallies.get((name, part), Tally()) + one


def _cannot_be_copied(request: GenerationRequest) -> bool:
    """Return whether a second answer would have side effects, or cannot be compared with the first."""
    return bool(request.tools) or request.num_choices > 1


def _tally(name: str, value: float) -> Tally:
    measure = measure_of(name)
    return Tally(count=1, total=value) if measure is None else observed(measure, value)
