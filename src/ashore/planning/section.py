"""`[[model]]`, `[model.engine]` and `[model.share]`: what is served, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from msgspec import Meta, field
from msgspec.structs import replace

from ashore.core import AtLeast0, EngineKind, Section, check_adapter_name
from ashore.errors import InvalidRequest, InvalidSpec

EngineChoice = Literal["auto", EngineKind]
OptionValue = str | int | float | bool


class EngineSection(Section, frozen=True, kw_only=True):
    """How to run a model. The plan chooses what is left out."""

    kind: EngineChoice = "auto"
    """Engine; `auto`: the plan chooses."""
    url: str = ""
    """Address of an external vLLM server. `[egress] allow` must list its host, unless it is this machine."""
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
    options: dict[str, OptionValue] = field(default_factory=dict)
    """Passed to the engine unchanged."""

    def checked(self, where: str) -> Self:
        if self.url and not self.url.startswith(("http://", "https://")):
            raise InvalidSpec(
                f"{where} url = {self.url!r}; expected http:// or https://", hint="give the address of vLLM"
            )
        if "url" in self.options:
            raise InvalidSpec(f"{where} options has a url", hint="write url next to options; it is not one of them")
        return self


class ShareSection(Section, frozen=True, kw_only=True):
    """A part of this machine that a model has for itself. `ashore status` says how it is kept."""

    cpus: Annotated[float, Meta(ge=0, le=4096)] = 0.0
    """Processors for all its replicas together, whenever they want them: whole ones are its alone, parts are a weight.
    0: none is promised."""
    memory_bytes: AtLeast0 = 0
    """Most memory of all its replicas together: one that needs more ends, and no other model does. 0: no limit."""


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
    adapters: dict[str, str] = field(default_factory=dict)
    """LoRA folders by name, as peft saves them. Clients ask for `ALIAS:NAME`."""
    engine: EngineSection = EngineSection()
    share: ShareSection = ShareSection()

    def checked(self, where: str) -> Self:
        for name in self.adapters:
            try:
                check_adapter_name(name)
            except InvalidRequest as fault:
                raise InvalidSpec(f"{where} [adapters]: {fault.message}", hint=fault.hint) from fault
        return self

    def beside(self, folder: Path) -> Self:
        """Return the model with folders of adapters as paths that hold anywhere: relative ones are in `folder`."""
        adapters = {name: str(folder / Path(at).expanduser()) for name, at in self.adapters.items()}
        return replace(self, adapters=adapters)
