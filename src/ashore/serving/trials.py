"""Candidates tried on live requests: copies to a shadow, a canary's answers beside those of what is live.

Off the request path. A live answer pays for a look at its clock; copies wait in a short queue that drops what does not
fit, one runs at a time, behind whoever waits for an answer, and no longer than its own deadline.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from ashore.access import Principal
from ashore.core import Clock, RequestId
from ashore.engines import ScoreText
from ashore.errors import AshoreError, DeadlineExceeded, EnvironmentFault
from ashore.releases import (
    BY_NAME,
    EVERYTHING,
    MOST_READ_CHARS,
    WHOLE,
    AliasRoute,
    Pair,
    ReleasePolicy,
    Tally,
    Widest,
    cut,
    distance_of,
    observed,
    pair_id_of,
    wording_distance,
)
from ashore.serving.comparing import Observation, compared, plain, question_of, slices_of
from ashore.serving.fresh import FreshAnswers, Place
from ashore.serving.guards import Masker
from ashore.serving.model import ChoiceEnded, Delta, GenerationRequest, ServingEvent, Usage
from ashore.serving.models import LoadedModel

QUEUE: Final = 16
"""Copies that wait; more are dropped."""
SHADOW_S: Final = 60.0
"""Longest that a shadow works on a copy."""
MEANING_S: Final = 10.0
"""Longest wait for an embedder."""
FRESH_S: Final = 30.0
"""A live answer older than that is no neighbour of a canary's."""
ASIDE: Final = "shadow"

log = logging.getLogger("ashore.serving")

Apart = Callable[[str, str], Awaitable[float | None]]
Tallies = dict[tuple[str, str], Tally]


@dataclass(slots=True, kw_only=True)
class Trial:
    """Listens to one live answer."""

    request: GenerationRequest
    principal: Principal
    model: LoadedModel
    began_s: float
    first_s: float = 0.0
    last_s: float = 0.0
    pieces: list[str] = field(default_factory=list)
    events: int = 0
    tokens: int = 0
    ended: bool = False
    cut_off: bool = False

    def hear(self, event: ServingEvent, now_s: float) -> None:
        """Take the next event of a fresh answer."""
        if isinstance(event, Delta):
            if not self.events:
                self.first_s = now_s
            self.last_s = now_s
            self.events += 1
            self.pieces.append(event.text or event.reasoning)
        elif isinstance(event, ChoiceEnded):
            self.ended, self.cut_off = True, self.cut_off or event.reason == "length"
        elif isinstance(event, Usage):
            self.tokens = event.completion_tokens

    def observation(self, *, failed: bool) -> Observation:
        span = self.last_s - self.first_s
        return Observation(
            at_s=self.last_s or self.began_s,
            failed=failed,
            per_token_s=span / (self.events - 1) if self.events > 1 else 0.0,
            text="".join(self.pieces),
            cut_off=self.cut_off,
            tokens=self.tokens,
            first_token_s=max(0.0, self.first_s - self.began_s),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    release: str
    trial: Trial
    live: Observation


async def nothing_known(one: str, other: str) -> float | None:
    """Return None: no embedder is loaded."""
    return None


class Trials:
    """Compares the candidates of one worker. Every call is made on its event loop."""

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
            policy: What the operator says of trying releases; may be set anew.
            apart: Gives the distance of two texts in what they say; None where no embedder is loaded.
            chance: Draws what is copied.
        """
        self.policy = policy
        self._masker = masker
        self._apart = apart
        self._fresh = fresh
        self._release_of = release_of
        self._clock = clock
        self._chance = chance
        self._latest: dict[str, Observation] = {}
        """Of what is live, by alias, until a canary's answer was laid beside it."""
        self._pending: dict[tuple[str, str], Tallies] = {}
        self._pairs: dict[str, list[Pair]] = {}
        self._widest: dict[str, Widest] = {}
        self._queue: asyncio.Queue[_Copy] = asyncio.Queue(QUEUE)
        self._runner: asyncio.Task[None] | None = None
        self.dropped = 0
        """Copies that found no room."""

    def begin(self, request: GenerationRequest, principal: Principal, model: LoadedModel) -> Trial:
        """Listen to an answer of an alias that has a candidate."""
        return Trial(request=request, principal=principal, model=model, began_s=self._clock.monotonic_s())

    def end(self, trial: Trial, route: AliasRoute, fault: AshoreError | None) -> None:
        """Hear that an answer has ended, whole or not. Waits for nothing. One that its client left says nothing."""
        if fault is None and not trial.ended:
            return
        if fault is not None and not isinstance(fault, EnvironmentFault | DeadlineExceeded):
            return  # the request was wrong, or there was no room: no release is to blame
        seen = trial.observation(failed=fault is not None)
        alias, release = trial.request.model, trial.model.served.release
        if route.watched is not None:
            candidate, live = route.watched
            if release == live:
                self._latest[alias] = seen
            elif release == candidate:
                beside = self._latest.pop(alias, None)
                if beside is not None and seen.at_s - beside.at_s < FRESH_S:
                    self._add(candidate, "canary", trial, compared(trial.request, beside, seen, timed=True))
        shadow = route.shadow
        if shadow is None or seen.failed or trial.request.tools or trial.request.num_choices > 1:
            return
        if self._chance() * WHOLE >= shadow.share:
            return
        try:
            self._queue.put_nowait(_Copy(release=shadow.release, trial=trial, live=seen))
        except asyncio.QueueFull:
            self.dropped += 1
            return
        if self._runner is None or self._runner.done():
            self._runner = asyncio.get_running_loop().create_task(self._run(), name="shadow")

    def take(self) -> dict[tuple[str, str], Tallies]:
        """Return what was observed since the last call, by release and stage."""
        pending, self._pending = self._pending, {}
        return pending

    def take_pairs(self) -> dict[str, list[Pair]]:
        """Return the most different pairs since the last call, by release."""
        pairs, self._pairs = self._pairs, {}
        return pairs

    async def close(self) -> None:
        """Drop every copy. May be called twice."""
        if self._runner is not None:
            self._runner.cancel()
            with suppress(asyncio.CancelledError):
                await self._runner

    async def _run(self) -> None:
        while not self._queue.empty():
            copy = self._queue.get_nowait()
            try:
                await self._shadow(copy)
            except AshoreError as fault:
                log.info("a copy for %s was not compared: %s", copy.release, fault.message)

    async def _shadow(self, copy: _Copy) -> None:
        trial, alias = copy.trial, copy.trial.request.model
        candidate = self._release_of(alias, copy.release)
        if candidate is None or not candidate.replicas.ready:
            return  # the supervisor sees to a host that fell
        request = replace(
            trial.request,
            request_id=RequestId(f"{trial.request.request_id}.{ASIDE}"),
            urgency="background",
            deadline_s=SHADOW_S,
        )
        second = Trial(request=request, principal=trial.principal, model=candidate, began_s=self._clock.monotonic_s())
        failed = False
        answer = self._fresh.answer(candidate, request, trial.principal, second.began_s, Place())
        try:
            async with asyncio.timeout(SHADOW_S):
                async for event in answer:
                    second.hear(event, self._clock.monotonic_s())
        except (TimeoutError, EnvironmentFault, DeadlineExceeded):
            failed = True
        finally:
            await answer.aclose()
        seen = second.observation(failed=failed)
        values = compared(request, copy.live, seen, timed=False)
        if not failed and (drift := await self._likelihood(trial, candidate)) is not None:
            values["likelihood"] = drift
        if not failed and (meaning := await self._meaning(copy.live.text, seen.text)) is not None:
            values["meaning"] = meaning
        self._add(copy.release, "shadow", trial, values)
        await self._keep_pair(copy, seen, values.get("meaning"))

    async def _meaning(self, live: str, other: str) -> float | None:
        """Return how far apart two answers are in what they say; None where no embedder is loaded or it is slow."""
        try:
            async with asyncio.timeout(MEANING_S):
                apart = await self._apart(live, other) if plain(live) != plain(other) else 0.0
        except TimeoutError:
            return None
        return apart

    async def _keep_pair(self, copy: _Copy, seen: Observation, meaning: float | None) -> None:
        """Keep both answers, masked, where they are among the most different ones and their content may be kept."""
        request, most = copy.trial.request, self.policy.pairs
        texts = (question_of(request), copy.live.text, seen.text)
        if not most or request.cache.no_store or not texts[0] or max(map(len, texts)) > MOST_READ_CHARS:
            return
        worded = 1.0 if seen.failed else wording_distance(plain(copy.live.text), plain(seen.text))
        distance = distance_of(worded, meaning)
        if not self._widest.setdefault(copy.release, Widest(most)).takes(distance):
            return
        prompt, live, candidate = await asyncio.to_thread(self._masker.blacken, texts)
        at_s = int(self._clock.now_s())
        pair = Pair(
            pair_id=pair_id_of(at_s, secrets.token_hex(4)),
            distance=distance,
            meaning=meaning,
            at_s=at_s,
            tenant=copy.trial.principal.tenant,
            route=request.arrival.route,
            turns=max(1, len(request.messages)),
            prompt=cut(prompt),
            live=cut(live),
            candidate=cut(candidate),
            candidate_failed=seen.failed,
        )
        self._pairs.setdefault(copy.release, []).append(pair)

    async def _likelihood(self, trial: Trial, candidate: LoadedModel) -> float | None:
        """Return by how many nats a token the live answer is less likely to the candidate; None if it cannot score."""
        models = (trial.model, candidate)
        if any("score" not in model.info.features for model in models) or trial.request.prompt is not None:
            return None
        answer, sums, counts = "".join(trial.pieces), [], []
        for model in models:
            prompt = model.text.encode_chat(trial.request.messages, options=trial.request.template_options)
            said = model.text.encode(answer)
            if not said or len(prompt) + len(said) > model.info.context_tokens:
                return None
            seat, replica = await model.replicas.pick(0.0)
            seat.in_flight += 1
            try:
                async with asyncio.timeout(SHADOW_S):
                    rows = (await replica.score([ScoreText([*prompt, *said], start=len(prompt))]))[0]
            except TimeoutError:
                return None
            finally:
                seat.in_flight -= 1
            sums.append(sum(row[0].logprob for row in rows))
            counts.append(len(said))
        return (sums[0] - sums[1]) / counts[0]

    def _add(self, release: str, stage: str, trial: Trial, values: dict[str, float]) -> None:
        tallies = self._pending.setdefault((release, stage), {})
        for name, value in values.items():
            tested = name in BY_NAME
            one = observed(BY_NAME[name], value) if tested else Tally(count=1, total=value)
            for part in (EVERYTHING, *(slices_of(trial.request, trial.principal) if tested else ())):
                tallies[name, part] = tallies.get((name, part), Tally()) + one
