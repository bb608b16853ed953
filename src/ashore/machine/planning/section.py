"""`[[model]]`, `[model.engine]`, `[model.share]` and `[model.ladder]`: what is served, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from msgspec import Meta, field
from msgspec.structs import replace

from ashore.core.errors import InvalidRequest, InvalidSpec
from ashore.core.ids import check_adapter_name
from ashore.core.kinds import EngineKind
from ashore.core.visible import first_hidden
from ashore.kit.section import AFile, APlace, AtLeast0, Section

EngineChoice = Literal["auto", EngineKind]
OptionValue = str | int | float | bool
LEAST_SHARE_BYTES: Final = 128 << 20


class EngineSection(Section, frozen=True, kw_only=True):
    """How to run a model. The plan chooses what is left out."""

    kind: EngineChoice = "auto"
    """Engine; `auto`: the plan chooses."""
    fleet: bool = False
    """Let engine nodes answer: those that `[[fleet.node]]` names, and those that join with `ashore fleet join`. Each
    request goes to the least loaded one that answers."""
    key: Annotated[str, Meta(extra={"holds": "key place"})] = ""
    """Where the key of these nodes is: `env:NAME` or `file:PATH`. It is not written here."""
    ca_file: AFile = ""
    """PEM file with the authorities that sign the nodes' certificates; empty: that of the fleet where this home has a
    certificate (`ashore fleet certificate`), else those of the system."""
    context_tokens: AtLeast0 = 0
    """Longest prompt and answer together; 0: the plan chooses."""
    kv_tokens: AtLeast0 = 0
    """Tokens that the KV cache of one replica holds; 0: the plan chooses."""
    max_sequences: AtLeast0 = 0
    """Sequences that one replica runs at once; 0: the plan chooses."""
    threads: Annotated[int, Meta(ge=0, le=4096)] = 0
    """Threads of one replica; 0: the plan chooses."""
    prefix_cache: bool = True
    """Reuse the KV cache of prompts that begin alike."""
    tune: bool = True
    """Measure engine, precision and threads once on each machine, as `ashore engine tune` does, and switch without
    dropping a stream: in the background for 110 s, after a minute without requests and until the next one. Only where
    `kind` is auto, and `threads` and `options` are not set."""
    options: dict[str, OptionValue] = field(default_factory=dict)
    """Passed to the engine unchanged."""

    def checked(self, where: str) -> Self:
        for name in ("fleet", "key", "ca_file"):
            if name in self.options:
                raise InvalidSpec(
                    f"{where} options has {name}", hint=f"write {name} next to options; it is not one of them"
                )
        if (self.key or self.ca_file) and not self.fleet:
            raise InvalidSpec(f"{where} has key or ca_file and no nodes", hint="add fleet = true")
        if self.key and not self.key.startswith(("env:", "file:")):
            raise InvalidSpec(
                f"{where} key is not the place of a key", hint="write env:NAME or file:PATH; the key stays there"
            )
        return self


class ShareSection(Section, frozen=True, kw_only=True):
    """A part of this machine that a model has for itself. `ashore status` says how it is kept."""

    cpus: Annotated[float, Meta(ge=0, le=4096)] = 0.0
    """Processors for all its replicas together, whenever they want them: whole ones are its alone, parts are a weight.
    0: none is promised."""
    memory_bytes: AtLeast0 = 0
    """Most memory of all its replicas together: one that needs more ends, and no other model does. 0: no limit."""

    def checked(self, where: str) -> Self:
        if 0 < self.memory_bytes < LEAST_SHARE_BYTES:
            raise InvalidSpec(
                f"{where} memory_bytes = {self.memory_bytes:,}; the process of an engine alone needs more",
                hint=f"give at least {LEAST_SHARE_BYTES:,}, or 0 for no limit",
            )
        return self


class LadderSection(Section, frozen=True, kw_only=True):
    """Less exact variants of a model that compute in its place while answers would come too late, over one KV cache."""

    rungs: Annotated[tuple[str, ...], Meta(max_length=4, examples=['["int8"]'])] = ()
    """Variants below the one that `name` gives, best first. Empty: the model has one precision."""
    ttft_ms: Annotated[float, Meta(ge=1, le=60_000)] = 1000.0
    """Time to the first token that the ladder keeps to."""
    tpot_ms: Annotated[float, Meta(ge=1, le=60_000)] = 60.0
    """Time for each further token that it keeps to."""
    needs_gate: bool = True
    """Refuse rungs whose last evaluation did not pass a gate (`ashore optimize evaluate --gate FILE`)."""

    def checked(self, where: str) -> Self:
        for rung in self.rungs:
            if not rung.isalnum() or self.rungs.count(rung) > 1:
                raise InvalidSpec(
                    f"{where} rungs has {rung!r}; expected names of variants, each once",
                    hint='write rungs = ["int8"], for example',
                )
        return self


class ModelSection(Section, frozen=True, kw_only=True):
    """One model to serve."""

    name: Annotated[str, Meta(min_length=1, examples=['"smollm2", a store name or a source'])]
    """Name in the store, or a source such as `hf:deepseek-ai/DeepSeek-R1-Distill-Qwen-7B`."""
    alias: str = ""
    """Name that clients use; empty: `name`."""
    replicas: Annotated[int, Meta(ge=1, le=64)] = 1
    """Number of engine hosts that serve it."""
    load: Literal["start", "demand"] = "start"
    """When it is loaded. `start`: before the server is ready, and it stays. `demand`: when a request names it; it makes
    room for other models when nobody uses it."""
    keep_alive_s: AtLeast0 = 900
    """Seconds that a model on demand stays loaded after its last request; 0: until another model needs the memory."""
    pin: bool = False
    """Load a model on demand in the background at the start, and never unload it."""
    adapters: dict[str, APlace] = field(default_factory=dict)
    """LoRA folders by name, as peft saves them. Clients ask for `ALIAS:NAME`."""
    engine: EngineSection = EngineSection()
    share: ShareSection = ShareSection()
    ladder: LadderSection = LadderSection()

    def checked(self, where: str) -> Self:
        if hidden := first_hidden(self.name + self.alias):
            raise InvalidSpec(f"{where} has {hidden} in its name or alias", hint="write visible characters only")
        for name in self.adapters:
            try:
                check_adapter_name(name)
            except InvalidRequest as fault:
                raise InvalidSpec(f"{where} [adapters]: {fault.message}", hint=fault.hint) from fault
        return self

    def beside(self, folder: Path) -> Self:
        """Return the model with files and folders as paths that hold anywhere: relative ones are in `folder`."""
        adapters = {name: str(folder / Path(at).expanduser()) for name, at in self.adapters.items()}
        kind, _, at = self.engine.key.partition(":")
        key = f"file:{folder / Path(at).expanduser()}" if kind == "file" else self.engine.key
        ca_file = str(folder / Path(self.engine.ca_file).expanduser()) if self.engine.ca_file else ""
        return replace(self, adapters=adapters, engine=replace(self.engine, key=key, ca_file=ca_file))
