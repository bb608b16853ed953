"""Embeds texts and scores pairs on the request path: authorise, fit, mask, tokenise, reserve, admit, run, shorten,
settle, record.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, ContextTooLong, InvalidRequest, UnsupportedByEngine
from ashore.core.ids import RequestId
from ashore.data.authority import Principal
from ashore.data.engines import EngineInfo
from ashore.data.path.admission import Cost, background_of
from ashore.data.path.deadlines import deadline_of
from ashore.data.path.generation import FreshAnswers
from ashore.data.path.guards import Guards
from ashore.data.path.model import NOWHERE, Arrival, Urgency, Usage
from ashore.data.path.model_registry import Roster
from ashore.data.path.models import LoadedModel
from ashore.data.path.orders import check_prompt_ids
from ashore.data.path.ports import ServedText
from ashore.data.path.prompt import ID_CHARS, INLINE_CHARS, MESSAGE_CHARS, NUMBERS_PER_CHAR, PromptReader, too_long
from ashore.data.path.reception import MOST_RELEASES, Reception
from ashore.data.path.replicas import deaths_of, died
from ashore.kit.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """Vectors in the order of the inputs, each of length one."""

    model: str
    release: str
    precision: str
    vectors: list[list[float]]
    prompt_tokens: int
    tells_inputs: bool = False
    """Whether the model treats texts differently by what they are."""

    @property
    def num_chars(self) -> int:
        """Output size for the budget of reading time, in characters of a prompt."""
        return sum(map(len, self.vectors)) // NUMBERS_PER_CHAR


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The logits of pairs, in their order."""

    model: str
    release: str
    precision: str
    logits: list[float]
    prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Encrypted:
    """Encrypted scores."""

    release: str
    ciphertext: bytes


NUMBER_BYTES: Final = 32
"""Of memory that a number of a vector takes, in the engine's host and here."""
TOKEN_BYTES: Final = 8
"""Of memory that a token takes in a list; the number itself is there once for each text."""
MOST_UTF8: Final = 4
"""Bytes of a character, each of which may be a token."""
Room = Callable[[int, float], Awaitable[None]]
"""Waits at most so many seconds until there is room for so many bytes of tokens and vectors. Raises `Overloaded`."""


async def anywhere(num_bytes: int, within_s: float) -> None:
    """Count nothing: a `Room` without limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One request to an encoder."""

    model: str
    inputs: Sequence[str | Sequence[int]]
    encode: Callable[[Sequence[str | Sequence[int]], ServedText, EngineInfo], list[list[int]]]
    """Returns the tokens of every sequence that the engine gets, from the masked inputs."""
    check: Callable[[EngineInfo], None]
    """Returns where the engine behind the model can do it."""
    request_id: RequestId
    priority: int
    urgency: Urgency
    deadline_at: float
    room: Room
    pairs: Sequence[tuple[int, int]] | None = None
    """Inputs that are read together, as one sequence; None: each is one."""
    is_encrypted: bool = False
    """Whether the inputs are ciphertexts: each counts as one token, and nothing in them can be masked."""

    def num_bytes(self, info: EngineInfo) -> int:
        """Return the memory that tokens and vectors take at most; a text that a pair has is copied into each."""
        sizes = [len(one) * (1 if not isinstance(one, str) or one.isascii() else MOST_UTF8) for one in self.inputs]
        if self.pairs is not None:
            sizes = [sizes[first] + sizes[second] for first, second in self.pairs]
        tokens = sum(min(size, info.context_tokens) for size in sizes)
        return tokens * TOKEN_BYTES + len(sizes) * (info.embedding_size or 1) * NUMBER_BYTES

    def tokens_of(self, batch: list[list[int]]) -> int:
        return len(batch) if self.is_encrypted else sum(len(ids) for ids in batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    found: LoadedModel
    vectors: list[list[float]]
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Computes embeddings and scores for clients. Every call is made on one event loop."""

    reception: Reception
    roster: Roster
    fresh: FreshAnswers
    reader: PromptReader
    guards: Guards
    clock: Clock
    metrics: Metrics

    async def embed(
        self,
        model: str,
        inputs: Sequence[str | Sequence[int]],
        principal: Principal,
        *,
        request_id: RequestId,
        dimensions: int | None = None,
        input_type: str | Sequence[str] = "",
        priority: int = 0,
        urgency: Urgency = "interactive",
        deadline_s: float | None = None,
        arrival: Arrival = NOWHERE,
        room: Room = anywhere,
    ) -> Embedding:
        """Return one vector per input. The deadline covers the wait for `room`, for a slot and the run together.

        `input_type` is what all inputs are, or each: `query`, `document`, or the name of a prompt of the model; empty:
        not said.

        Raises:
            AshoreError: the model does not embed, an input does not fit, there is no room, or the deadline passed.
        """
        work = _Work(
            model=model,
            inputs=inputs,
            encode=partial(encode_inputs, input_type=input_type),
            check=partial(check_embeds, model, dimensions=dimensions),
            request_id=request_id,
            priority=priority,
            urgency=urgency,
            deadline_at=self._deadline_at(deadline_s),
            room=room,
        )
        made = await self._make(work, principal, arrival)
        vectors = made.vectors
        if dimensions is not None:
            cut = partial(_shortened, vectors, dimensions)
            chars = sum(map(len, vectors)) // NUMBERS_PER_CHAR
            vectors = await self.reader.read(chars, cut, principal, work.deadline_at)
        return Embedding(
            model=model,
            release=made.found.served.release,
            precision=made.found.info.precision,
            vectors=vectors,
            prompt_tokens=made.prompt_tokens,
            tells_inputs=bool(made.found.info.prompts),
        )

    async def rank(
        self,
        model: str,
        texts: Sequence[str],
        pairs: Sequence[tuple[int, int]],
        principal: Principal,
        *,
        request_id: RequestId,
        priority: int = 0,
        urgency: Urgency = "interactive",
        deadline_s: float | None = None,
        arrival: Arrival = NOWHERE,
        room: Room = anywhere,
    ) -> Ranking:
        """Return the cross-encoder's scores for pairs of texts, each given as indices into `texts`.

        Raises:
            AshoreError: the model is not a cross-encoder, a pair does not fit, there is no room, or the deadline
                passed.
        """
        made = await self._make(
            _Work(
                model=model,
                inputs=texts,
                encode=partial(encode_pairs, pairs=pairs),
                check=partial(check_ranks, model),
                request_id=request_id,
                priority=priority,
                urgency=urgency,
                deadline_at=self._deadline_at(deadline_s),
                room=room,
                pairs=pairs,
            ),
            principal,
            arrival,
        )
        return Ranking(
            model=model,
            release=made.found.served.release,
            precision=made.found.info.precision,
            logits=[vector[0] for vector in made.vectors],
            prompt_tokens=made.prompt_tokens,
        )

    async def score_encrypted(
        self,
        model: str,
        ciphertext: bytes,
        principal: Principal,
        *,
        request_id: RequestId,
        priority: int = 0,
        deadline_s: float | None = None,
        arrival: Arrival = NOWHERE,
    ) -> Encrypted:
        """Return the encrypted scores of an encrypted row.

        Raises:
            AshoreError: the model is no head, the ciphertext cannot be read, or the deadline passed.
        """
        made = await self._make(
            _Work(
                model=model,
                inputs=[list(ciphertext)],
                encode=encode_inputs,
                check=partial(check_head, model),
                request_id=request_id,
                priority=priority,
                urgency="interactive",
                deadline_at=self._deadline_at(deadline_s),
                room=anywhere,
                is_encrypted=True,
            ),
            principal,
            arrival,
        )
        size, *words = made.vectors[0]
        found = array("I", map(int, words)).tobytes()[: int(size)]
        return Encrypted(release=made.found.served.release, ciphertext=found)

    def _deadline_at(self, deadline_s: float | None) -> float:
        return deadline_of(self.roster.topology.admission, deadline_s, self.clock.monotonic_s()).begin_by

    async def _make(self, work: _Work, principal: Principal, arrival: Arrival) -> _Made:
        auditor, reception, model = self.guards.auditor, self.reception, work.model
        auditor.check()
        prompt = msgspec.json.encode(work.inputs)
        watch = reception.watch(work.request_id, model, principal, prompt, arrival=arrival, operation="embeddings")
        with reception.noted(watch):
            found, tried, deaths = self.roster.lead(model).pick(principal), 1, 0
            while True:
                reception.turn_away(found, principal)
                watch.release = found.served.release
                await self.fresh.awake(found, work.deadline_at, principal, model, work.request_id)
                work.check(found.info)
                read = partial(self._read, work, found, principal)
                if tried == 1:
                    num_bytes = work.num_bytes(found.info)
                    await work.room(num_bytes, max(0.0, work.deadline_at - self.clock.monotonic_s()))
                num_chars = num_input_chars(work.inputs)
                batch, watch.masked = await self.reader.read(num_chars, read, principal, work.deadline_at)
                try:
                    vectors = await self._embed_on(found, work, batch, principal, deaths)
                    break
                except AshoreError as fault:
                    other = reception.elsewhere(found, fault, model, principal) if died(fault) else None
                    if other is None or tried >= MOST_RELEASES:
                        raise
                    found, tried = other, tried + 1
                    deaths = max(deaths, deaths_of(fault))
            prompt_tokens = work.tokens_of(batch)
            watch.hear(Usage(prompt_tokens=prompt_tokens, cached_tokens=0, completion_tokens=0))
            if auditor.strict:
                await watch.ended()
        self.metrics.add("ashore_prompt_tokens", prompt_tokens, model)
        return _Made(found=found, vectors=vectors, prompt_tokens=prompt_tokens)

    def _read(self, work: _Work, found: LoadedModel, principal: Principal) -> tuple[list[list[int]], Mapping[str, int]]:
        """Return the tokens of every sequence, masked, and the entities found in them. May run on a thread."""
        text, info = found.text, found.info
        check_lengths(work.inputs, text, info)
        if work.is_encrypted:
            return work.encode(work.inputs, text, info), {}
        masked, counts = self.guards.masker.mask_inputs(work.model, work.inputs, principal, text.decode)
        return work.encode(masked, text, info), counts

    async def _embed_on(
        self, found: LoadedModel, work: _Work, batch: list[list[int]], principal: Principal, deaths: int
    ) -> list[list[float]]:
        """Reserve, admit, and embed on one release."""
        model, deadline_at = work.model, work.deadline_at
        prompt_tokens = work.tokens_of(batch)
        reservation = await self.guards.budgets.reserve(principal, model, prompt_tokens, request_id=work.request_id)
        cost = Cost(1, prompt_tokens, principal.tenant, principal.id)
        # a running one ends before it could be preempted: it only waits behind others
        background = background_of("interactive" if work.urgency == "interactive" else "background")
        try:
            wait_s = max(0.0, deadline_at - self.clock.monotonic_s())
            await found.gate.enter(cost, priority=work.priority, wait_s=wait_s, background=background)
            entered_at = self.clock.monotonic_s()
            try:
                vectors = await self.fresh.embed(
                    found, model, batch, deadline_at, tenant=principal.tenant, deaths=deaths
                )
            finally:
                service_s = self.clock.monotonic_s() - entered_at
                found.gate.leave(cost, service_s=service_s, background=background)
            reservation.settle(prompt_tokens, 0)
            return vectors
        finally:
            reservation.release()


def not_a_head(alias: str) -> UnsupportedByEngine:
    """Return the error for a model that scores no rows."""
    return UnsupportedByEngine(
        f"{alias!r} is not a head", hint="GET /v1/models lists the features of each model", param="head"
    )


def check_head(alias: str, info: EngineInfo) -> None:
    """Check that the model is a head. Raises `UnsupportedByEngine`."""
    if "head" not in info.features:
        raise not_a_head(alias)


def check_ranks(alias: str, info: EngineInfo) -> None:
    """Check that the model is a cross-encoder.

    Raises:
        UnsupportedByEngine: it is not.
    """
    if "rank" not in info.features:
        raise UnsupportedByEngine(
            f"{alias!r} is no cross-encoder by now",
            hint="send the request again",
            param="model",
        )


def check_embeds(alias: str, info: EngineInfo, dimensions: int | None) -> None:
    """Check that the model embeds, into that many dimensions.

    Raises:
        UnsupportedByEngine: it does not.
    """
    if "embed" not in info.features:
        raise UnsupportedByEngine(
            f"{alias!r} makes no embeddings",
            hint="name an embedder, such as one of /v1/models with embedding_size above 0",
            param="model",
        )
    size = info.embedding_size
    if dimensions in (None, size):
        return
    if not 1 <= dimensions <= size or (info.dims is not None and dimensions not in info.dims):
        can = f"1 to {size}" if info.dims is None else ", ".join(map(str, sorted({*info.dims, size})))
        raise UnsupportedByEngine(
            f"dimensions is {dimensions}; {alias!r} was made for vectors of {can} numbers",
            hint=f"ask for {can}; shorter vectors of other models find the wrong texts",
            param="dimensions",
        )


def num_input_chars(inputs: Sequence[str | Sequence[int]]) -> int:
    """Return the approximate number of characters in the inputs."""
    return sum(MESSAGE_CHARS + len(one) * (1 if isinstance(one, str) else ID_CHARS) for one in inputs)


def check_lengths(inputs: Sequence[str | Sequence[int]], text: ServedText, info: EngineInfo) -> None:
    """Check by their length that the inputs may fit.

    Raises:
        ContextTooLong: one cannot.
    """
    most = info.context_tokens
    for at, one in enumerate(inputs):
        if len(one) > INLINE_CHARS or not isinstance(one, str):
            fewest = text.fewest_tokens(one, beyond=most) if isinstance(one, str) else len(one)
            if fewest > most:
                raise too_long(fewest, info, param=f"input[{at}]")


def encode_inputs(
    inputs: Sequence[str | Sequence[int]], text: ServedText, info: EngineInfo, *, input_type: str | Sequence[str] = ""
) -> list[list[int]]:
    """Return the tokens of every input, behind the prompt that its makers want before such a text.

    Raises:
        ContextTooLong: one is longer than the model takes.
        InvalidRequest: one is empty, or has token ids where a prompt goes first; the model knows no such input type.
    """
    kinds = [input_type] * len(inputs) if isinstance(input_type, str) else input_type
    prompts = [prompt_for(kind, info) for kind in kinds]
    batch = []
    for at, (one, prompt) in enumerate(zip(inputs, prompts, strict=True)):
        if isinstance(one, str):
            ids = text.encode(prompt + one) if one else []
        elif prompt:
            raise InvalidRequest(
                f"input {at} has token ids, and the prompt {prompt!r} of the model goes before it",
                hint="send the text",
                param=f"input[{at}]",
            )
        else:
            check_prompt_ids(one, info)
            ids = list(one)
        if not ids:
            raise InvalidRequest("an input is empty", param=f"input[{at}]")
        if len(ids) > info.context_tokens:  # before the next one is read: thousands may follow
            raise ContextTooLong(
                f"input {at} has {len(ids)} tokens and {info.model} takes {info.context_tokens}",
                hint="split the text",
                param=f"input[{at}]",
            )
        batch.append(ids)
    return batch


def encode_pairs(
    inputs: Sequence[str | Sequence[int]], text: ServedText, info: EngineInfo, *, pairs: Sequence[tuple[int, int]]
) -> list[list[int]]:
    """Return the tokens of every pair of inputs.

    Raises:
        ContextTooLong: a pair is longer than the model takes; `param` names its second text.
        InvalidRequest: a text is empty.
    """
    texts = [one if isinstance(one, str) else text.decode(one) for one in inputs]
    if "" in texts:
        raise InvalidRequest("an input is empty", param=f"input[{texts.index('')}]")
    batch = []
    for ids, (_, second) in zip(text.encode_pairs(texts, pairs), pairs, strict=True):
        if len(ids) > info.context_tokens:
            raise ContextTooLong(
                f"the question and input {second} have {len(ids)} tokens together and {info.model} takes "
                f"{info.context_tokens}",
                hint="split the text",
                param=f"input[{second}]",
            )
        batch.append(ids)
    return batch


def _shortened(vectors: Sequence[list[float]], dimensions: int) -> list[list[float]]:
    return [shorten(vector, dimensions) for vector in vectors]


def shorten(vector: list[float], dimensions: int) -> list[float]:
    """Return the first `dimensions` numbers, normalised to length one (Matryoshka form)."""
    if dimensions >= len(vector):
        return vector
    head = vector[:dimensions]
    length = math.sqrt(math.fsum(x * x for x in head))
    return [x / length for x in head] if length else head


SAME: Final = (
    ("query", "search_query", "web_search_query", "s2p_query"),
    ("document", "passage", "search_document", "corpus"),
)
"""Names that clients and makers give to questions and to what is searched. Source: sentence-transformers 6.2
(`encode_query`, `encode_document`), Cohere's `input_type`."""


def prompt_for(input_type: str, info: EngineInfo) -> str:
    """Return what goes before a text of a type; empty for models that treat all texts alike.

    Raises:
        InvalidRequest: the model has prompts, and none for this type.
    """
    prompts = info.prompts
    if not prompts:
        return ""
    name = input_type or info.default_prompt
    alike = next((names for names in SAME if name in names), ())
    found = next((one for one in (name, *alike) if one in prompts), None)
    if found is None and name and not alike:
        raise InvalidRequest(
            f"input_type is {name[:60]!r}; this model knows {', '.join(sorted({*prompts, 'query', 'document'}))}",
            hint="say query for a question, and document for a text that is searched",
            param="input_type",
        )
    return "" if found is None else prompts[found]
