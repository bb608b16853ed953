"""A back end with its rates and price, and a request with its lengths and deadline."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[float, Meta(gt=0)]
AtLeast0 = Annotated[int, Meta(ge=0)]


class Backend(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Devices of one kind that serve one model. Times in seconds, prices in any one currency."""

    name: Annotated[str, Meta(min_length=1)]
    """What the answer of a plan calls it."""
    device: Literal["cpu", "gpu", "npu"] = "cpu"
    """Kind of device; for the reader alone."""
    count: Annotated[int, Meta(ge=1, le=10_000)] = 1
    """Number of devices; each answers whole requests."""
    price_per_hour: Annotated[float, Meta(ge=0)]
    """Price of one device for an hour of work."""
    prefill_tokens_per_s: Positive
    """Prompt tokens that a device reads in a second."""
    decode_tokens_per_s: Positive
    """Tokens that a device writes in a second, of all requests together, when it is full."""
    stream_tokens_per_s: Positive
    """Tokens that it writes in a second for one request alone."""
    max_running: Annotated[int, Meta(ge=1)] = 16
    """Requests that a device answers at once; an NPU answers one."""
    max_prompt_tokens: AtLeast0 = 0
    """Longest prompt that it takes; 0: any."""

    def takes(self, request: Request) -> bool:
        """Return whether the request fits at all."""
        if request.barred and self.name in request.barred:
            return False
        return not self.max_prompt_tokens or request.prompt_tokens <= self.max_prompt_tokens

    def work_s(self, request: Request) -> float:
        """Return the request's work in seconds of a fully loaded device."""
        return request.prompt_tokens / self.prefill_tokens_per_s + request.output_tokens / self.decode_tokens_per_s

    def alone_s(self, request: Request) -> float:
        """Return the request's duration on an otherwise idle device."""
        slowest = min(self.stream_tokens_per_s, self.decode_tokens_per_s)
        return request.prompt_tokens / self.prefill_tokens_per_s + request.output_tokens / slowest

    def could_answer(self, request: Request) -> bool:
        """Return whether the request would meet its deadline if it began alone at its arrival."""
        return self.takes(request) and request.arrival_s + self.alone_s(request) <= request.deadline_s

    def cost(self, request: Request) -> float:
        """Return the price of the work."""
        return self.work_s(request) * self.price_per_s

    @property
    def price_per_s(self) -> float:
        return self.price_per_hour / 3600


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request: lengths in tokens, times in seconds since the trace began."""

    number: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    """Length of the answer; a server in operation knows what it expects only."""
    deadline_s: float
    """When the whole answer is due."""
    barred: tuple[str, ...] = ()
    """Back ends that cannot answer it, by name."""
