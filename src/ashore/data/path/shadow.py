"""Shadow: a candidate answers a copy of a live request, unseen by clients, and both answers are compared."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from msgspec.structs import replace

from ashore.core.clock import Clock
from ashore.core.errors import DeadlineExceeded, EnvironmentFault, UserError
from ashore.core.ids import RequestId
from ashore.data.engines import ScoreText
from ashore.data.path.answer_listener import Trial
from ashore.data.path.differences import Beside, Observation, compared, plain, question_of
from ashore.data.path.generation import FreshAnswers, Place
from ashore.data.path.guards import Masker
from ashore.data.path.judges import Judges, Reads
from ashore.data.path.model import ServingEvent
from ashore.data.path.models import LoadedModel
from ashore.data.path.prompt import PromptReader
from ashore.data.releases import MOST_READ_CHARS, Pair, Widest, cut, pair_id_of, wording_distance

T = TypeVar("T")

SHADOW_S: Final = 60.0
"""Longest that a shadow works on a copy."""
ASIDE: Final = "shadow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A live request to be repeated by a shadow."""

    release: str
    trial: Trial
    live: Observation
    beside: Beside
    """Outcomes of live answers since the last copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The result of comparing a copy."""

    failed: bool
    values: dict[str, float]
    pair: Pair | None = None


class Shadow:
    """Answers copies with candidates, and compares."""

    def __init__(
        self,
        fresh: FreshAnswers,
        release_of: Callable[[str, str], LoadedModel | None],
        clock: Clock,
        *,
        masker: Masker,
        reader: PromptReader,
    ) -> None:
        """Create it; see `Trials`."""
        self._reader = reader
        self._fresh = fresh
        self._release_of = release_of
        self._clock = clock
        self._masker = masker
        self._widest: dict[str, Widest] = {}

    async def compare(self, copy: Copy, judges: Judges, *, most_pairs: int) -> Compared | None:
        """Return the comparison of a copy; None if the candidate has no host here.

        Raises:
            AshoreError: it cannot be compared, and no release is to blame.
        """
        trial, alias = copy.trial, copy.trial.request.model
        candidate = self._release_of(alias, copy.release)
        if candidate is None or not candidate.replicas.ready:
            return None  # the supervisor restarts a crashed host
        seen = await self._answered(trial, candidate)
        values = compared(copy.live, seen, timed=False)
        if seen.failed or copy.live.failed:
            pair = None if copy.live.failed else await self._pair(copy, seen, most_pairs)
            return Compared(failed=seen.failed, values=values, pair=pair)
        if (drift := await self._likelihood(trial, candidate)) is not None:
            values["likelihood"] = drift
        question, read = question_of(trial.request), self.reads(trial)
        values |= await judges.values(alias, copy.live.text, seen.text, prompt=question, read=read)
        return Compared(failed=False, values=values, pair=await self._pair(copy, seen, most_pairs))

    async def succeeds(self, trial: Trial, name: str) -> bool:
        """Return whether a release answers a request; False also if it has no host here.

        Raises:
            AshoreError: the request cannot be repeated, and no release is to blame.
        """
        model = self._release_of(trial.request.model, name)
        if model is None or not model.replicas.ready:
            return False
        return not (await self._answered(trial, model)).failed

    def reads(self, trial: Trial) -> Reads:
        """Return a runner for work that reads texts of a request: in the queue of its principal, for `SHADOW_S` at
        most."""

        async def read(num_chars: int, work: Callable[[], T], /) -> T:
            return await self._reader.read(num_chars, work, trial.principal, self._clock.monotonic_s() + SHADOW_S)

        return read

    async def _answered(self, trial: Trial, candidate: LoadedModel) -> Observation:
        request = replace(
            trial.request,
            request_id=RequestId(f"{trial.request.request_id}.{ASIDE}"),
            urgency="background",
            deadline_s=SHADOW_S,
        )
        second = Trial(
            request=request,
            principal=trial.principal,
            model=candidate,
            began_s=self._clock.monotonic_s(),
            fits=trial.fits,
        )
        failed = False

        def hear(event: ServingEvent) -> None:
            second.hear(event, self._clock.monotonic_s())

        try:
            async with asyncio.timeout(SHADOW_S):
                hear(await self._fresh.answer(candidate, request, trial.principal, second.began_s, Place(), hear))
        except (TimeoutError, EnvironmentFault, DeadlineExceeded, UserError):
            failed = True  # refused here, but answered by another release
        return second.observation(failed=failed)

    def forget(self, but: Collection[str]) -> None:
        """Drop the stored pairs of all candidates but these."""
        for release in self._widest.keys() - set(but):
            del self._widest[release]

    async def _pair(self, copy: Copy, seen: Observation, most: int) -> Pair | None:
        """Return both answers, masked, if they are among the most different ones and may be stored."""
        request = copy.trial.request
        texts = (question_of(request), copy.live.text, seen.text)
        if not most or request.cache.no_store or not texts[0] or max(map(len, texts)) > MOST_READ_CHARS:
            return None
        distance = 1.0 if seen.failed else wording_distance(plain(copy.live.text), plain(seen.text))
        if not self._widest.setdefault(copy.release, Widest(most)).takes(distance):
            return None
        mask = partial(self._masker.blacken, texts)
        prompt, live, candidate = await self.reads(copy.trial)(sum(map(len, texts)), mask)
        at_s = int(self._clock.now_s())
        return Pair(
            pair_id=pair_id_of(at_s, secrets.token_hex(4)),
            distance=distance,
            at_s=at_s,
            tenant=copy.trial.principal.tenant,
            route=request.arrival.route,
            turns=max(1, len(request.messages)),
            prompt=cut(prompt),
            live=cut(live),
            candidate=cut(candidate),
            candidate_failed=seen.failed,
        )

    async def _likelihood(self, trial: Trial, candidate: LoadedModel) -> float | None:
        """Return how much less likely, in nats per token, the live answer is under the candidate; None: not known.

        Its likelihood under the live release was recorded during generation: the live host computes nothing for this.
        """
        scored, request = trial.scored, trial.request
        if scored is None or request.prompt is not None or "score" not in candidate.info.features:
            return None
        prompt = candidate.text.encode_chat(request.messages, options=request.template_options)
        said = _in_tokens_of(candidate, trial.model, scored.ids)
        if not said or len(prompt) + len(said) > candidate.info.context_tokens:
            return None
        seat, replica = await candidate.replicas.pick(lambda: 0.0)
        seat.in_flight += 1
        try:
            async with asyncio.timeout(SHADOW_S):
                rows = (await replica.score([ScoreText([*prompt, *said], start=len(prompt))]))[0]
        except TimeoutError:
            return None
        finally:
            seat.in_flight -= 1
        return (scored.logprob - sum(row[0].logprob for row in rows)) / len(scored.ids)


def _in_tokens_of(candidate: LoadedModel, live: LoadedModel, ids: tuple[int, ...]) -> list[int]:
    """Return the generated tokens in the candidate's vocabulary: unchanged if both models tokenise alike."""
    same = max(ids) < candidate.info.vocab_size and all(
        candidate.text.token_bytes(one) == live.text.token_bytes(one) for one in ids
    )
    return list(ids) if same else candidate.text.encode(live.text.decode(ids), allow_special=True)
