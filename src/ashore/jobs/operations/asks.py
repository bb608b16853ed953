"""What operations take. The fields are those of their commands, without what only the operator's machine may say:
programs, outputs and configurations come from ashore.toml."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from ashore.core import EngineKind

MOST_PATHS: Final = 16
_TEXT: Final = 1000
ARGUMENT: Final[dict[str, Any]] = {"positional": True}
PATH: Final = "path"
"""Key of `msgspec.Meta(extra=...)` for a field that names files of the server, which `[jobs] folders` must hold."""

ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=200, extra=ARGUMENT)]
NewName = Annotated[str, msgspec.Meta(max_length=200)] | None
APath = Annotated[Annotated[str, msgspec.Meta(max_length=_TEXT)] | None, msgspec.Meta(extra={PATH: True})]
Paths = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=_TEXT)]],
    msgspec.Meta(max_length=MOST_PATHS, extra={PATH: True}),
]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class _Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class PullIn(_Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to pull."""

    source: Annotated[str, msgspec.Meta(min_length=1, max_length=_TEXT, extra=ARGUMENT)]
    """Catalogue name, hf:ORG/NAME[@REVISION], ms:ORG/NAME; a registry, peer or package index that [egress] allows; a
    folder, file or bucket of [jobs] folders."""
    name: NewName = None
    """Name in the store; default: the name in the catalogue, or the last part of the source."""
    accept_licence: bool = False
    """Accept the model's licence, if it must be accepted before the download."""
    text_only: bool = False
    """Pull the tokenizer, the chat template and the configuration without the weights, as NAME@text."""


class VerifyIn(_Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to verify."""

    ref: Annotated[Annotated[str, msgspec.Meta(max_length=200)] | None, msgspec.Meta(extra=ARGUMENT)] = None
    """Model; default: all."""


class SealIn(_Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to seal."""

    name: ModelName
    """Model, without a variant. The server must not use it."""


class RemoveIn(_Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to remove."""

    ref: ModelName
    """Model, or one variant of it: name@variant. The server must not use it."""
    variants: bool = False
    """Remove its variants too."""


class QuantizeIn(_Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model, and how far it is rounded."""

    model: ModelName
    """Name in the store, as pulled or derived."""
    to: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    """int8, int4 or fp16 for OpenVINO; q8_0, q6_k, q5_k_m, q4_k_m, q4_0 for llama.cpp."""
    engine: EngineKind | None = None
    """Refuse a precision that this engine does not run."""
    calibration: APath = None
    """Plain UTF-8 text of the kind that the model will see, in [jobs] folders."""
    group_size: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    """Weights that share one scale, for int8 (default: a whole row) and int4: 32, 64, 96 or 128."""
    name: NewName = None
    """Name of the variant; default: the name of the precision."""
    seed: Seed = 0
    """Seed that chooses the samples of a long calibration text."""


class PruneIn(_Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model, and what is left of it."""

    model: ModelName
    """Name in the store, as pulled or derived."""
    remove: Annotated[str, msgspec.Meta(min_length=1, max_length=20)]
    """Share of all parameters to remove, such as 30%; at least that many are removed."""
    kind: Literal["mixed", "depth", "width", "unstructured"] = "mixed"
    """What to remove: whole layers (depth), parts of layers (width), both (mixed), or single weights (unstructured)."""
    calibration: APath = None
    """Text for measuring which parts matter least; default: the text of --heal. It must lie in [jobs] folders."""
    heal: APath = None
    """Text for training the rest to answer like the parent. It must lie in [jobs] folders."""
    heal_tokens: Whole = 300_000
    """Most tokens to train on."""
    method: Literal["distill", "lora"] = "distill"
    """distill: train all that is left but the vocabulary; lora: train adapters, which need less memory."""
    learning_rate: Rate = 0.0
    """Peak learning rate of the training; 0: 0.0005, with adapters 0.002."""
    name: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Name of the new model; default: MODEL-pruned30 for 30%."""
    seed: Seed = 0
    """Seed that chooses the samples of the text, and their order."""


class DistillIn(_Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model teaches, and what."""

    teacher: ModelName
    """Name[@variant] in the store."""
    student: NewName = None
    """A smaller model in the store; default: a student cut out of the teacher."""
    layers: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    """Layers of a cut-out student, evenly spaced."""
    hidden: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    """Its hidden size, a multiple of the size of one group of heads."""
    intermediate: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    """Its feed-forward width, a multiple of 32."""
    data: Paths = []
    """Chat or completion JSONL with the task of the student. The files must lie in [jobs] folders."""
    text: Paths = []
    """Plain UTF-8 text of the language that it should keep. The files must lie in [jobs] folders."""
    name: NewName = None
    """Name of the new model; default: TEACHER-distilled."""
    method: Literal["full", "lora"] = "full"
    """full: train all weights of the student; lora: train adapters, which need less memory."""
    epochs: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0
    """Passes over the data."""
    max_tokens: Whole = 0
    """Stop after this many tokens; 0: no limit."""
    learning_rate: Rate = 5e-4
    """Peak learning rate."""
    seed: Seed = 0
    """Seed of everything random."""


class EvaluateIn(_Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model is examined, and how."""

    model: ModelName
    """Name[@variant] in the store."""
    against: NewName = None
    """Another model to compare with, or `parent`."""
    text: Paths = []
    """File of UTF-8 text for perplexity and divergence. It must lie in [jobs] folders."""
    task: Annotated[
        list[Annotated[str, msgspec.Meta(min_length=1, max_length=_TEXT)]], msgspec.Meta(max_length=16)
    ] = []
    """Name of a built-in task, or a task file in [jobs] folders. Default, without --text: two built-in tasks."""
    engine: EngineKind | None = None
    """Engine to use; default: the one that reads the model's format."""
    gate: APath = None
    """TOML file with limits, in [jobs] folders; the verdict is stored with the model too."""
    limit: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    """Use at most this many items of each task; 0: all."""
    speed: bool = True
    """Measure speed and memory too."""


class SftIn(_Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model learns, and from what."""

    model: ModelName
    """Name in the store, as pulled or derived."""
    data: Annotated[str, msgspec.Meta(min_length=1, max_length=_TEXT, extra={PATH: True})]
    """A file, a folder of shards, or s3://BUCKET/PATH, in [jobs] folders."""
    validation: Annotated[str, msgspec.Meta(max_length=_TEXT, extra={PATH: True})] = ""
    """Examples for validation only, in [jobs] folders."""
    method: Literal["lora", "full"] = "lora"
    """lora: train small matrices beside frozen weights; full: train all weights."""
    epochs: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.0
    """Passes over the data; 0: one, or, with a limit of tokens, as many as that allows."""
    max_tokens: Whole = 0
    """Stop before the run exceeds this many tokens; 0: no limit."""
    learning_rate: Rate = 0.0
    """Peak learning rate; 0: 5e-4 for lora, 5e-5 for full."""
    batch_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**24)] = 2048
    """Tokens per step."""
    max_length: Annotated[int, msgspec.Meta(ge=1, le=2**24)] = 1024
    """Longest example, in tokens."""
    rank: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 16
    """Rank of the adapter."""
    seed: Seed = 0
    """Seed of the order and the initial values."""
    name: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Name of the result; default: MODEL-sft."""
    merge: bool = False
    """Merge the adapter into the weights, and store the result as a model."""
    max_minutes: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    """Stop after this many minutes, and keep what was learned by then; 0: no limit."""
    skip_broken: bool = False
    """Leave out shards and examples that are broken, and name them."""


class LearnIn(_Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model learns from the votes on its answers."""

    model: ModelName
    """Alias whose answers were voted on."""
    release: bool = True
    """Make a release of what passes the gate."""


class BackupRunIn(_Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is backed up."""

    models: Annotated[
        list[Annotated[str, msgspec.Meta(max_length=200)]], msgspec.Meta(max_length=1000, extra=ARGUMENT)
    ] = []
    """Names or references; default: [backup] models, or all."""


class ScrubIn(_Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast the nodes are read."""

    rate: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    """Most megabytes (10^6 bytes) to read per second; 0: no limit."""


class RehearseIn(_Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which backup."""

    generation: Annotated[int, msgspec.Meta(ge=0, le=2**40)] = 0
    """Number of the backup; 0: the newest."""
