"""Scores how well texts answer a question, by the kind of model behind the alias.

A cross-encoder reads both texts together and was made for this. A generator is asked whether the text answers, and the
likelihood of yes against no is the score: so works Qwen3-Reranker, which is a generator by its files; other generators
judge as well as they can. An embedder's vectors are compared, which sees each text alone.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeVar

from ashore.core.chat import Message
from ashore.core.errors import AshoreError, Bug
from ashore.core.ids import RequestId
from ashore.data.authority import Principal
from ashore.data.engines import Sampling
from ashore.data.path.embedding import Embeddings, Room, anywhere
from ashore.data.path.model import NOWHERE, Arrival, Delta, GenerationRequest, Hear, ServingEvent, Started, Urgency
from ashore.data.path.prompt import NUMBERS_PER_CHAR

_T = TypeVar("_T")
Method = Literal["cross-encoder", "yes-no", "embedding-cosine"]
"""cross-encoder: the logistic of its logit, 0 to 1. yes-no: a generator's likelihood of yes against no, 0 to 1."""
Pair = tuple[int, int]
Answer = Callable[[GenerationRequest, Principal, Hear], Awaitable[None]]
"""Answers a request, emitting events as the answer grows."""

JUDGE: Final = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
TASK: Final = "Given a web search query, retrieve relevant passages that answer the query"
"""The words that Qwen3-Reranker was trained with. Source: its model card."""
PAIRS_AT_ONCE: Final = 8
ALTERNATIVES: Final = 20
"""Reported alternatives to the first token of an answer."""
MISSING: Final = -10.0
"""Log-probability of a word that is not among them."""


class AtLength(Protocol):
    """Runs work that may be long: `ServingService.at_length`."""

    async def __call__(self, num_chars: int, work: Callable[[], _T], principal: Principal, /) -> _T: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Texts to judge, and for which principal."""

    model: str
    texts: Sequence[str]
    names: Sequence[str]
    """Names of the texts in the request, for errors."""
    pairs: Sequence[Pair]
    """Question and text, each as its place in `texts`."""
    request_id: RequestId
    priority: int = 0
    urgency: Urgency = "interactive"
    deadline_s: float | None = None
    arrival: Arrival = NOWHERE
    room: Room = anywhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A score for each pair: the higher, the better the text answers."""

    model: str
    release: str
    precision: str
    method: Method
    scores: list[float]
    prompt_tokens: int
    logits: list[float] | None = None
    """Raw scores of a cross-encoder, unbounded."""


class Cosine:
    """Compares vectors. Each text is embedded once, however many pairs it is in."""

    def __init__(self, embeddings: Embeddings, at_length: AtLength) -> None:
        self._embeddings, self._at_length = embeddings, at_length

    async def judge(self, asked: Asked, principal: Principal) -> Judged:
        questions = {first for first, _ in asked.pairs}
        with _inputs_named(asked):
            made = await self._embeddings.embed(
                asked.model,
                asked.texts,
                principal,
                request_id=asked.request_id,
                input_type=["query" if at in questions else "document" for at in range(len(asked.texts))],
                priority=asked.priority,
                urgency=asked.urgency,
                deadline_s=asked.deadline_s,
                arrival=asked.arrival,
                room=asked.room,
            )
        vectors = made.vectors
        size = len(vectors[0]) if vectors else 0
        scores = await self._at_length(
            len(asked.pairs) * size // NUMBERS_PER_CHAR,
            lambda: [_cosine(vectors[one], vectors[other]) for one, other in asked.pairs],
            principal,
        )
        return Judged(
            model=made.model,
            release=made.release,
            precision=made.precision,
            method="embedding-cosine",
            scores=scores,
            prompt_tokens=made.prompt_tokens,
        )


class CrossEncoder:
    """Scores with a model that reads question and text together."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings

    async def judge(self, asked: Asked, principal: Principal) -> Judged:
        with _inputs_named(asked):
            made = await self._embeddings.rank(
                asked.model,
                asked.texts,
                asked.pairs,
                principal,
                request_id=asked.request_id,
                priority=asked.priority,
                urgency=asked.urgency,
                deadline_s=asked.deadline_s,
                arrival=asked.arrival,
                room=asked.room,
            )
        return Judged(
            model=made.model,
            release=made.release,
            precision=made.precision,
            method="cross-encoder",
            scores=[_logistic(logit) for logit in made.logits],
            prompt_tokens=made.prompt_tokens,
            logits=made.logits,
        )


class YesNo:
    """Asks a generator for each pair whether the text answers, and compares the likelihood of yes and no.

    The prompt is that of Qwen3-Reranker. Each pair is a request of its own; some run at once.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def judge(self, asked: Asked, principal: Principal) -> Judged:
        slots = asyncio.Semaphore(PAIRS_AT_ONCE)

        async def one(pair: Pair) -> tuple[Started, float]:
            async with slots:
                return await self._likelihood(asked, pair, principal)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(pair)) for pair in asked.pairs]
        except ExceptionGroup as faults:
            first = faults.exceptions[0]
            raise first from first.__cause__
        found = [task.result() for task in tasks]
        started = found[0][0]
        return Judged(
            model=asked.model,
            release=started.release,
            precision=started.precision,
            method="yes-no",
            scores=[score for _, score in found],
            prompt_tokens=sum(one.prompt_tokens for one, _ in found),
        )

    async def _likelihood(self, asked: Asked, pair: Pair, principal: Principal) -> tuple[Started, float]:
        question, text = (asked.texts[at] for at in pair)
        request = GenerationRequest(
            request_id=asked.request_id,
            model=asked.model,
            messages=(
                Message(role="system", content=JUDGE),
                Message(role="user", content=f"<Instruct>: {TASK}\n<Query>: {question}\n<Document>: {text}"),
            ),
            sampling=Sampling(temperature=0.0),
            max_tokens=1,
            top_logprobs=ALTERNATIVES,
            priority=asked.priority,
            urgency=asked.urgency,
            deadline_s=asked.deadline_s,
            arrival=asked.arrival,
            fallback=False,  # scores of two models do not compare
            template_options={"enable_thinking": False, "thinking": False},
        )
        started: Started | None = None
        told: dict[str, float] = {}

        def hear(event: ServingEvent) -> None:
            nonlocal started
            if isinstance(event, Started):
                started = event
            elif isinstance(event, Delta):
                for token in event.logprobs[:1]:
                    told.update({said: logprob for said, _, logprob in (*token.top, (token.text, b"", token.logprob))})

        try:
            await self._answer(request, principal, hear)
        except AshoreError as fault:
            if fault.param in ("messages", "prompt"):
                fault.param = asked.names[pair[1]]
            raise
        if started is None:
            raise Bug("an answer ended without its first event")
        return started, yes_against_no(told)


class Relevance:
    """Scores how well texts answer questions, with the judge that suits the model."""

    def __init__(
        self,
        embeddings: Embeddings,
        at_length: AtLength,
        answer: Answer,
        features_of: Callable[[str], Sequence[str]],
    ) -> None:
        """Create it.

        Args:
            embeddings: Computes vectors and scores.
            at_length: Runs work that may be long.
            answer: Answers a request of a generator.
            features_of: Returns the features of the model behind an alias; empty if not known.
        """
        self._by_vectors: Final = Cosine(embeddings, at_length)
        self._by_reading: Final = CrossEncoder(embeddings)
        self._by_asking: Final = YesNo(answer)
        self._features_of = features_of

    async def judge(self, asked: Asked, principal: Principal) -> Judged:
        """Return a score for each pair.

        Raises:
            AshoreError: the model cannot, a text does not fit, there is no room, or the deadline passed.
        """
        features = self._features_of(asked.model)
        if "rank" in features:
            return await self._by_reading.judge(asked, principal)
        if "embed" not in features and "top_logprobs" in features:
            return await self._by_asking.judge(asked, principal)
        return await self._by_vectors.judge(asked, principal)


def yes_against_no(told: Mapping[str, float]) -> float:
    """Return the likelihood of yes against no, from the log-probabilities of the top first tokens of an answer.

    A missing token is taken to be as unlikely as the last of them, and 0.00005 at most.

    Source: the model card of Qwen3-Reranker, which counts a missing token with a logarithm of -10.
    """
    floor = min([MISSING, *told.values()])
    likelihood = {
        word: sum(math.exp(logprob) for said, logprob in told.items() if said.strip().lower() == word)
        for word in ("yes", "no")
    }
    if not any(likelihood.values()):
        return 0.0
    yes, no = (likelihood[word] or math.exp(floor) for word in ("yes", "no"))
    return yes / (yes + no)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the cosine of two vectors of length one, clipped to its range."""
    return max(-1.0, min(1.0, math.fsum(a * b for a, b in zip(one, other, strict=True))))


@contextmanager
def _inputs_named(asked: Asked) -> Iterator[None]:
    """Rewrite errors of the embedder to name inputs as the request does."""
    try:
        yield
    except AshoreError as fault:
        param = fault.param or ""
        if param.startswith("input[") and param[6:-1].isdigit():
            fault.param = asked.names[int(param[6:-1])]
        raise
