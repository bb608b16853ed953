"""The card of an engine: what other rooms may know about it without loading it.

`engines/KIND/card.py` declares one, as `CARD`, and `cards.py` is the table of them. To learn whether an engine supports
a model, whose memory it uses or which options it has, read the card; never compare names. A card is data: decisions are
made by pure functions elsewhere (`planning`, `engines/tuning`, `releases`).

Code is named as `module:name` and loaded by its caller (`cards.loaded`), so that a card costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from ashore.core.kinds import EngineKind, ModelFormat, ServedFormat
from ashore.core.sampling import SAMPLING_FIELDS
from ashore.data.engines.model import Feature
from ashore.kit.extras import Extra

SAMPLES: Final = cast(tuple[Feature, ...], (*SAMPLING_FIELDS, "logprobs", "top_logprobs", "resume"))
"""The features of an engine that samples as ashore does, reports log-probabilities, and goes on with answers that began
elsewhere."""


def features(*more: Feature) -> tuple[Feature, ...]:
    """Return `SAMPLES` and `more`, sorted as cards and hosts list them."""
    return tuple(sorted((*SAMPLES, *more)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """One number format that weights can be rounded to."""

    name: str
    engine: EngineKind
    bits: float
    """Bits for each weight of a matrix, scales included, at the default group size."""
    summary: str
    group_sizes: tuple[int, ...] = ()
    """What may be asked for, the default first, 0 for whole rows; empty where the format leaves no choice."""
    reads_text: bool = False
    """True where calibration text makes it better."""
    ranking: int = 0
    """Samples of the text on which its layers are compared, one by one; 0 where all are treated alike."""
    eight_share: float = 0.0
    """Share of the weights, of the layers that lose most in four bits, that keeps eight where there is text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choosing:
    """When a plan chooses this engine by default, and the messages for it.

    The texts may contain `{architecture}`, `{format}`, `{program}` and `{passed}`: why better-ranked engines were
    skipped.
    """

    rank: int = 0
    """1 is asked first; 0: only where somebody asks for it."""
    rank_converted: int = 0
    """The same for models that it does not read as they were pulled; 0: as `rank`."""
    why: str = "{passed}"
    why_native: str = ""
    """For a model in the engine's own form; empty: as `why`."""
    why_encoder: str = ""
    instead: str = ""
    """What to do so that this engine can take a model that none takes: part of a hint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `[model.engine] options`.

    A tuning option changes an engine's speed, memory use or precision. All others (a program, a library, a file, an
    address, a secret) decide what runs, and may only be set in ashore.toml.
    """

    tune: tuple[str, ...] = ()
    """A release that somebody makes over the API may have these and no other."""
    operators: tuple[str, ...] = ()
    """Those that say what runs, as far as their names are ours."""
    passed_on: Literal["none", "capitals", "all"] = "none"
    """Which other names go to the software behind the engine, unchanged. They are the operator's, too."""
    unused: tuple[str, ...] = ()
    """Limits of `[model.engine]` that mean nothing to it."""
    short: Mapping[str, str] = field(default_factory=dict)
    """Short names in the labels of `engine tune`."""
    slower: Mapping[str, tuple[str | int | float | bool, ...]] = field(default_factory=dict)
    """Those that give speed away for exactness, with the values that do."""
    threads: str = ""
    """The one that wins over `[model.engine] threads`."""
    stall: tuple[str, float] | None = None
    """The one that bounds how long prompts of others may keep an answer waiting, in ms, and its usual value."""

    @property
    def known(self) -> tuple[str, ...]:
        """Every name that the engine knows, sorted."""
        return tuple(sorted((*self.tune, *self.operators)))

    def passes_on(self, name: str) -> bool:
        """Return whether the engine passes unknown options on to the software behind it."""
        return self.passed_on == "all" or (self.passed_on == "capitals" and name == name.upper())


@dataclass(frozen=True, slots=True, kw_only=True)
class KvPrecision:
    """Default precision of keys and values."""

    option: str
    """The option that says it."""
    usual: str
    exact: str
    """With the option `full_precision`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Which memory a replica uses, and for what."""

    ours: bool = True
    """Whether it is this machine's, and its processors compute: the plan divides both. Otherwise it is that of devices,
    of another machine, or next to none."""
    parameter_bytes: int = 0
    """Of each parameter once it is loaded; 0: as it is stored."""
    kept_share: float = 0.0
    """Beside the cells of its KV cache it keeps prefixes in ordinary memory, so many tokens for each cell at most."""
    kv: KvPrecision | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A third-party server that the engine's host starts and watches, unless engine nodes are used."""

    name: str
    """As a shell finds it; the option `executable` names another."""
    how_to_get: str
    """Hint where it is absent."""
    shell_line: str
    """Function: files, options and a port to the line that starts it."""
    embedding: Mapping[str, str] = field(default_factory=dict)
    """Options that have it embed."""
    adapters: str = ""
    """Function: how many adapters to the options with which it takes so many."""
    outside: str = ""
    """What to do to use the engine on a machine where the program is absent."""
    flags: str = ""
    """Function: options to flags of `NAME serve WEIGHTS`; empty: it does not run in a container of its own."""
    quiet: Mapping[str, str] = field(default_factory=dict)
    """Environment in which it calls nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The search space of `engine tune`."""

    candidates: str = ""
    """Function: what is known of a model and this machine to offers (`tuning.Offer`)."""
    built: str = ""
    """Function: whether a library was built for this machine's processor beside that of the wheel."""
    why_not: str = ""
    """Why it is never measured; empty where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """How variants with fewer bits are made for this engine."""

    rounder: str
    """Function, a `Rounder`."""
    holds_variant: bool = False
    """Whether the variant is whole in memory before it is written, and not one matrix at a time."""
    scratch_halves: int = 0
    """Copies of the weights in half precision on the disk, beside the variant and the model."""
    text_halves: int = 0
    """More of them, in memory and on the disk, where calibration text is read."""
    squares: bool = False
    """Whether reading text takes a square matrix for each input of a product (GPTQ)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCard:
    """One engine."""

    kind: EngineKind
    adapter: str
    """Class with the methods of `Engine`."""
    title: str
    """Its name in sentences."""
    what: str
    """One line for `engine list`."""
    formats: tuple[ServedFormat, ...]
    native: ModelFormat | None = None
    """The form that it reads as it lies in the store, whatever the architecture; of engines that share one, the first
    of the table reads it where nobody asks for another."""
    architectures: str
    """For people."""
    decoders: frozenset[str] | None = None
    """Architectures that generate, of files that are not `native`; None: whatever the library behind it takes."""
    encoders: frozenset[str] = frozenset()
    """Architectures that embed."""
    variant: str = ""
    """Variant that a decoder is served as where it is not `native`; empty: as it was pulled."""
    exact: str = ""
    """Variant with the weights as they were pulled, where it cannot read these themselves."""
    prepared: tuple[str, ...] = ()
    """Variants that this machine makes when they are asked for."""
    features: tuple[Feature, ...]
    """What it can do with a model that generates; a loaded host says what it can do with its model."""
    prefix: str = ""
    """What names begin with that stand for models of its own making, which lie in no store."""
    files: str = ""
    """Function: such a name and a folder to the files there."""
    check_name: str = ""
    needed_bytes: str = ""
    """`module:name(name) -> int`: the memory that a model which is only a name is counted with; empty: none."""
    """Function: refuses such a name where it is wrong."""
    packages: tuple[str, ...] = ()
    """Distributions it needs, the one whose version is shown first."""
    modules: tuple[str, ...] = ()
    """Modules without which it cannot run."""
    extra: Extra | None = None
    """The extra of ashore that brings them."""
    libraries: tuple[str, ...] = ()
    """Distributions whose version may change how fast it is."""
    spins: bool = False
    """Whether its threads wait for each other by spinning: they lose much where others share their processors."""
    waits_for_turns: bool = True
    """Whether an API worker beside it takes a processor only when one is free (`data/worker.py`)."""
    choosing: Choosing = field(default_factory=Choosing)
    options: Options = field(default_factory=Options)
    memory: Memory = field(default_factory=Memory)
    program: Program | None = None
    tuning: Tuning = field(default_factory=Tuning)
    precisions: tuple[Precision, ...] = ()
    no_precisions: tuple[str, str] = ("", "")
    """Why nothing is rounded for it, and a hint; empty where there is nothing to explain."""
    rounding: Rounding | None = None
