"""`[http]`, `[grpc]` and `[admission]`: where requests come in, and how many are admitted."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal, Self

from msgspec import Meta

from ashore.core.errors import InvalidSpec
from ashore.kit.section import AtLeast0, Port, Seconds, Section, toml

MAX_DEADLINE_S: Final = 3600.0
"""Longest deadline that a client may ask for, unless the operator's default is longer."""
MOST_STEPS: Final = 8
"""Limit of steps that may answer in place of an alias."""


Unknown = Literal["refuse", "report"]
"""refuse: the request is a 400. report: the field is left out, and the answer and the audit log name it."""


class UnknownFields(Section, frozen=True, kw_only=True):
    """What to do with a request field that ashore does not know. Fields that known clients send and that change no
    answer are always left out, and the answer names them in `x-ashore-ignored`."""

    chat: Unknown = "refuse"
    """On `/v1/chat/completions`."""
    completions: Unknown = "refuse"
    """On `/v1/completions`."""
    embeddings: Unknown = "refuse"
    """On `/v1/embeddings`."""
    messages: Unknown = "report"
    """On `/v1/messages`, whose clients bring new fields with each version."""
    responses: Unknown = "report"
    """On `/v1/responses`, likewise."""
    ollama: Unknown = "report"
    """On `/api/chat` and its siblings, where `ollama` is on."""


class Intake(Section, frozen=True, kw_only=True):
    """Bounds of connections and bodies that `[http]` sets and each API worker keeps."""

    connections_per_address: AtLeast0 = 512
    """Most connections from one address to a worker without an edge; 0: no limit. Clients behind one proxy or NAT share
    an address; unix sockets have none."""
    bodies_bytes: AtLeast0 = 0
    """Most bytes of request bodies that one worker holds at once; 0: an eighth of the memory of the machine or control
    group, divided by `workers`, and at least 64 MiB."""
    tenant_bodies_bytes: AtLeast0 = 0
    """Most of these bytes for one tenant; 0: half. Neither limit is lower than the longest body."""
    unknown_fields: UnknownFields = UnknownFields()
    ollama: bool = False
    """Serve the read-only part of Ollama's API under `/api`, for clients that know no other. Keys are needed as
    everywhere; models are not pulled or deleted over it."""


class HttpSection(Intake, frozen=True, kw_only=True):
    """Where the API listens without an edge, and how many workers answer."""

    WHOLE_KEPT: ClassVar[bool] = True

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0: every address of this machine."""
    port: Port = 8080
    """Port of HTTP."""
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    """API workers. More than one needs an edge, which distributes the requests."""


class GrpcSection(Section, frozen=True, kw_only=True):
    """Where gRPC listens without an edge."""

    WHOLE_KEPT: ClassVar[bool] = True

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8081
    """Port of gRPC; 0: disabled. Behind an edge, gRPC is always on, at the port of the edge."""


class MetricsSection(Section, frozen=True, kw_only=True):
    """What `/metrics` shows."""

    WHOLE_KEPT: ClassVar[bool] = True

    vllm_names: bool = True
    """vLLM's names beside ashore's own, for dashboards, autoscalers and routers that know those."""


class RouteByCost(Section, frozen=True, kw_only=True):
    """An alias whose requests several models answer, each where it costs least and is in time."""

    alias: Annotated[str, Meta(min_length=1, examples=['"chat"'])]
    """Alias that clients ask for. Its model brings template and tokenizer; the others must have the same tokenizer."""
    prices: Annotated[dict[str, Annotated[float, Meta(ge=0)]], Meta(examples=["{ chat = 0.40, chat-gpu = 3.00 }"])]
    """Price of one replica for an hour of work, by alias of the model; any one currency. Names `alias`, too."""
    answer_within_s: Seconds = 30.0
    """From arrival to the whole answer, for requests that set no deadline. The cheapest model that is in time answers,
    so a later deadline costs less and brings later answers."""

    def checked(self, where: str) -> Self:
        if self.alias not in self.prices:
            raise InvalidSpec(
                f"{where} prices has no {self.alias!r}", hint="give the price of the model that has the alias, too"
            )
        if len(self.prices) < 2:
            raise InvalidSpec(f"{where} prices has one model; there is no choice", hint="name the other models, too")
        return self


Trigger = Literal["away", "busy", "too-long"]
"""away: its hosts or servers are gone or failed. busy: its queue or memory is full. too-long: the prompt does not fit
its context."""


class FallbackStep(Section, frozen=True, kw_only=True):
    """An alias that answers in place of another one."""

    to: Annotated[str, Meta(min_length=1, examples=['"chat-small"'])]
    """Alias that answers instead. The caller needs the right to it, its privacy rules must be at least as strict, and
    its own budget is charged."""
    on: tuple[Trigger, ...] = ("away",)
    """When it answers. `away`: no host or server of the model before it answers. `busy`: its queue is full; the queue
    of this one must be at most half full. `too-long`: the prompt does not fit its context."""

    def checked(self, where: str) -> Self:
        if not self.on:
            raise InvalidSpec(f"{where} on is empty", hint='write on = ["away"], or remove the step')
        return self


class AliasDispatch(Section, frozen=True, kw_only=True):
    """What answers when an alias cannot."""

    name: Annotated[str, Meta(min_length=1, examples=['"chat"'])]
    """Alias that clients ask for."""
    fallback: Annotated[tuple[FallbackStep, ...], Meta(examples=['[{ to = "chat-small", on = ["away", "busy"] }]'])]
    """Aliases to try in this order, each once, before the first piece of an answer. Steps of their own do not count."""

    def checked(self, where: str) -> Self:
        names = [step.to for step in self.fallback]
        if not 1 <= len(names) <= MOST_STEPS:
            raise InvalidSpec(f"{where} fallback has {len(names)} steps; expected 1 to {MOST_STEPS}")
        for name in names:
            if name == self.name or names.count(name) > 1:
                raise InvalidSpec(f"{where} fallback names {name!r} twice", hint="name each alias once")
        return self


class DispatchSection(Section, frozen=True, kw_only=True):
    """Which model answers: by cost among models on unlike hardware, or another one when an alias cannot. Without it,
    each alias has its own model."""

    routes: Annotated[tuple[RouteByCost, ...], toml("route")] = ()
    aliases: Annotated[tuple[AliasDispatch, ...], toml("alias")] = ()

    def steps_of(self, alias: str) -> tuple[FallbackStep, ...]:
        """Return what may answer in place of an alias, in order."""
        return next((one.fallback for one in self.aliases if one.name == alias), ())

    def checked(self, where: str) -> Self:
        aliases = [one.alias for one in self.routes]
        twice = sorted({alias for alias in aliases if aliases.count(alias) > 1})
        if twice:
            raise InvalidSpec(f"{where} has two routes for {twice[0]!r}", hint="give each alias one route")
        names = [one.name for one in self.aliases]
        if again := sorted({name for name in names if names.count(name) > 1}):
            raise InvalidSpec(f"{where} has two [[alias]] for {again[0]!r}", hint="write all its steps in one fallback")
        return self


class AdmissionSection(Section, frozen=True, kw_only=True):
    """Limits above which requests are refused instead of queued. Each alias has its own."""

    max_running: AtLeast0 = 0
    """Most sequences that the engines of an alias run at once; 0: as many as its replicas report."""
    max_waiting: AtLeast0 = 256
    """Most sequences of an alias that wait; further ones are refused with 429, first of a tenant beyond its part."""
    max_tokens_in_flight: AtLeast0 = 0
    """Most prompt and expected answer tokens, running and waiting; 0: 2^20, or 8 KV caches if that is more."""
    default_deadline_s: Annotated[float, Meta(gt=0, le=86_400)] = 120.0
    """Longest wait for the first token, for requests that set no deadline."""

    @property
    def max_deadline_s(self) -> float:
        """Longest deadline that a client may ask for."""
        return max(MAX_DEADLINE_S, self.default_deadline_s)
