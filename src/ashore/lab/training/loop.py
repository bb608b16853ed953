"""The loop that every kind of training goes through: fine-tuning, healing, distilling.

It owns steps, schedule, clipping, progress and checkpoints; the caller provides the `Loss` and the `BatchSource`. Equal
arguments and seed give equal parameters, bit for bit, on one machine with one number of threads, whether or not the run
was interrupted in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from math import cos, pi
from typing import Any, Final, Literal, Protocol

from ashore.core.clock import Clock, SystemClock
from ashore.core.errors import TrainingDiverged
from ashore.lab.training.attention import packed_attention
from ashore.lab.training.batches import Batch, BatchSource
from ashore.lab.training.checkpointing.form import Checkpoint, Position
from ashore.lab.training.checkpointing.writer import CheckpointWriter
from ashore.lab.training.fusing import fused_adapters
from ashore.lab.training.runstate import RunState

Precision = Literal["float32", "bfloat16"]
StoppedBy = Literal["end", "time", "request"]


class Loss(Protocol):
    """The training objective."""

    def __call__(self, model: Any, batch: Batch) -> Any:
        """Return the loss of a row as a scalar tensor with its graph: the *sum* over the row's targets.

        The loop divides by the targets of the whole step, so that how examples are packed changes nothing. Whatever is
        random comes from torch's own generator, whose state is part of a checkpoint.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOptions:
    """Options of a run. Everything but `max_seconds` and `checkpoint_s` affects the result."""

    learning_rate: float
    """The highest of the schedule."""
    warmup_share: float = 0.05
    final_share: float = 0.1
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    max_gradient_norm: float = 1.0
    """Gradients of a step are scaled down to this length; 0: never."""
    seed: int = 0
    precision: Precision = "float32"
    """Of the products; parameters that are trained, and sums, stay in float32."""
    gradient_checkpointing: bool = False
    """Keep only the inputs of each layer and compute the rest again: about a third slower, far less memory."""
    max_seconds: float = 0.0
    """Stop, with a checkpoint, after this time; 0: never."""
    checkpoint_s: float = 0.0
    """Time between two checkpoints; 0: half a minute, or more where one costs more than a twentieth of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """Report of a step."""

    step: int
    """Steps that are done, from 1."""
    num_steps: int
    tokens: int
    """Tokens seen since the beginning of the run."""
    loss: float
    """Of this step, per target, in nats for cross-entropy."""
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    tok_per_s: float
    """Of this process, from its first step."""
    eta_s: float
    data_wait_s: float
    """Time of this step in which its data was waited for."""
    stall_s: float
    """Time of this step, and of the end of the one before, in which a checkpoint held it up."""
    seconds: float
    """Of this step, all in all."""

    @property
    def words(self) -> str:
        """The step as text: `step 3 of 40, loss 1.234, 2100 tokens/s`."""
        return f"step {self.step:,} of {self.num_steps:,}, loss {self.loss:.3f}, {self.tok_per_s:.0f} tokens/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """Result of a run, or of the part until it stopped."""

    steps: int
    tokens: int
    seconds: float
    """Of all processes that had a part in it, loading apart."""
    losses: tuple[float, ...] = field(repr=False)
    """Of each step from the first, per target."""
    stopped_by: StoppedBy
    resumed_at: int
    """Step from which this process went on; 0: it began."""
    data_wait_s: float = 0.0
    """Time in which this process waited for data."""
    stall_s: float = 0.0
    """Time in which checkpoints held this process up, the last apart."""
    checkpoints: int = 0
    """Written by this process."""


Watcher = Callable[[StepReport], None]


def train(
    model: Any,
    source: BatchSource,
    loss: Loss,
    options: LoopOptions,
    *,
    state: RunState | None = None,
    watch: Watcher = lambda report: None,
    stop: Callable[[], bool] = lambda: False,
    clock: Clock | None = None,
) -> LoopResult:
    """Train the parameters of `model` that require a gradient, in place, and return the result.

    If `state` has a checkpoint, the run resumes from it. A completed run has a final checkpoint, so that later steps
    (merging, saving) can be retried; the caller deletes it.

    Args:
        model: A `PreTrainedModel`; for adapters the one that peft put them into.
        source: The data.
        loss: What is minimised.
        options: Options of the run.
        state: Folder of checkpoints; None: none.
        watch: Called after each step.
        stop: Called after each step; True stops the run with a checkpoint.
        clock: For tests.

    Raises:
        TrainingDiverged: the loss or the gradient is not a number. The last checkpoint is from before.
        Conflict: `state` belongs to a run with other facts. DiskFull: a checkpoint could not be written.
    """
    import torch

    run = _Run(model, source, loss, options, clock or SystemClock())
    torch.manual_seed(options.seed)
    found = state.load() if state else None
    if found is not None:
        run.restore(found)
    resumed_at, begun_at = run.step, run.step if found else -1
    started_s = last_save_s = run.clock.monotonic_s()
    stopped_by: StoppedBy = "end"
    writer = state.writer() if state else None
    model.train()
    with (
        packed_attention(model),
        fused_adapters(model),
        _activations(model, options.gradient_checkpointing),
        _closing(writer),
    ):
        while run.step < source.num_steps:
            watch(run.advance(writer))
            now_s = run.clock.monotonic_s()
            if stop():
                stopped_by = "request"
                break
            if options.max_seconds and now_s - started_s >= options.max_seconds and run.step < source.num_steps:
                stopped_by = "time"
                break
            due_s = options.checkpoint_s or next_checkpoint_s(writer.times.cost_s if writer else 0.0)
            if writer and now_s - last_save_s >= due_s and writer.begin(run.position(), run.tensors):
                begun_at, last_save_s = run.step, run.clock.monotonic_s()
        if writer:
            writer.finish()
            if begun_at != run.step:
                writer.begin(run.position(), run.tensors)
                writer.finish()
    model.eval()
    return LoopResult(
        steps=run.step,
        tokens=run.tokens,
        seconds=run.seconds,
        losses=tuple(run.losses),
        stopped_by=stopped_by,
        resumed_at=resumed_at,
        data_wait_s=run.data_wait_s,
        stall_s=writer.times.stall_s if writer else 0.0,
        checkpoints=writer.times.saved if writer else 0,
    )


@contextmanager
def _closing(writer: CheckpointWriter | None) -> Iterator[None]:
    """Close a writer at the end of the block in any case; a started checkpoint is completed."""
    try:
        yield
    finally:
        if writer is not None:
            writer.close()


def mean_loss(model: Any, batches: Iterable[Batch], loss: Loss, precision: Precision = "float32") -> float:
    """Return the loss per target over `batches`, without training or using the random generator."""
    import torch

    total, targets = 0.0, 0
    was_training = model.training
    model.eval()
    with torch.no_grad(), packed_attention(model), _products(precision):
        for batch in batches:
            total += float(loss(model, batch))
            targets += batch.num_targets
    model.train(was_training)
    return total / max(1, targets)


class _Run:
    """State that changes from step to step."""

    def __init__(self, model: Any, source: BatchSource, loss: Loss, options: LoopOptions, clock: Clock) -> None:
        import torch

        self.model, self.source, self.loss, self.options, self.clock = model, source, loss, options, clock
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        decayed = [p for p in self.parameters.values() if p.ndim >= 2]
        others = [p for p in self.parameters.values() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=options.learning_rate,
            betas=options.betas,
            fused=True,
        )
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.losses: list[float] = []
        self._here_s, self._here_tokens, self._here_steps = 0.0, 0, 0
        self.data_wait_s = self._stalled_s = 0.0
        self._tensors: dict[str, Any] = {}

    def advance(self, writer: CheckpointWriter | None) -> StepReport:
        """Do one step; `writer` may still be writing the previous state."""
        import torch

        begun_s = self.clock.monotonic_s()
        batches = self.source.batches(self.step)
        waited_s = self.clock.monotonic_s() - begun_s
        num_targets = sum(batch.num_targets for batch in batches)
        total = 0.0
        for batch in batches:
            with _products(self.options.precision):
                loss = self.loss(self.model, batch)
            (loss / num_targets).backward()
            total += float(loss.detach())
        rate = self.options.learning_rate * rate_share(
            self.step,
            num_steps=self.source.num_steps,
            warmup_share=self.options.warmup_share,
            final_share=self.options.final_share,
        )
        limit = self.options.max_gradient_norm or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), limit, foreach=False))
        self._require_numbers(total / num_targets, norm, rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if writer is not None:
            writer.before_update()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        stalled_s, self._stalled_s = self._stalled_s, writer.times.stall_s if writer else 0.0
        self.data_wait_s += waited_s
        report = self._account(batches, total / num_targets, norm, rate, self.clock.monotonic_s() - begun_s)
        return replace(report, data_wait_s=waited_s, stall_s=self._stalled_s - stalled_s)

    def _account(self, batches: Iterable[Batch], loss: float, norm: float, rate: float, took_s: float) -> StepReport:
        tokens = sum(batch.num_tokens for batch in batches)
        self.step, self.tokens, self.seconds = self.step + 1, self.tokens + tokens, self.seconds + took_s
        self._here_s, self._here_tokens, self._here_steps = (
            self._here_s + took_s, self._here_tokens + tokens, self._here_steps + 1,
        )  # fmt: skip
        self.losses.append(loss)
        return StepReport(
            step=self.step,
            num_steps=self.source.num_steps,
            tokens=self.tokens,
            loss=loss,
            learning_rate=rate,
            gradient_norm=norm,
            tok_per_s=self._here_tokens / max(self._here_s, 1e-9),
            eta_s=self._here_s / self._here_steps * (self.source.num_steps - self.step),
            data_wait_s=0.0,
            stall_s=0.0,
            seconds=took_s,
        )

    def _require_numbers(self, loss: float, norm: float, rate: float) -> None:
        if not (abs(loss) < float("inf") and norm < float("inf")):
            raise TrainingDiverged(
                f"step {self.step + 1} of {self.source.num_steps}: loss {loss:g}, gradient norm {norm:g}",
                hint=f"lower the learning rate (it was {rate:.2g}), or look for broken examples in the data",
            )

    def position(self) -> Position:
        return Position(step=self.step, tokens=self.tokens, seconds=self.seconds, losses=tuple(self.losses))

    def tensors(self) -> dict[str, Any]:
        """Return everything that the next step depends on: the live tensors, in the same mapping while they are the
        same.
        """
        import torch

        moments = sum(map(len, self.optimizer.state.values()))
        if len(self._tensors) == 1 + len(self.parameters) + moments:
            self._tensors["generator"].copy_(torch.get_rng_state())
            return self._tensors
        self._tensors = {"generator": torch.get_rng_state()}
        for name, parameter in self.parameters.items():
            self._tensors[f"parameter/{name}"] = parameter.detach()
            for moment, value in self.optimizer.state.get(parameter, {}).items():
                self._tensors[f"{moment}/{name}"] = value
        return self._tensors

    def restore(self, found: Checkpoint) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(found.tensors[f"parameter/{name}"])
                moments = {m: found.tensors.get(f"{m}/{name}") for m in ("step", "exp_avg", "exp_avg_sq")}
                if all(value is not None for value in moments.values()):
                    self.optimizer.state[parameter] = moments
        torch.set_rng_state(found.tensors["generator"])
        self.step, self.tokens, self.seconds = found.position.step, found.position.tokens, found.position.seconds
        self.losses = list(found.position.losses)


def _products(precision: Precision) -> Any:
    import torch

    return torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()


@contextmanager
def _activations(model: Any, only_inputs: bool) -> Iterator[None]:
    """If requested, store only the inputs of each layer for the backward pass inside the block."""
    if not only_inputs:
        yield
        return
    newer = hasattr(model, "activation_checkpointing_enable")  # from transformers 5.24 on
    word = "activation_checkpointing" if newer else "gradient_checkpointing"
    getattr(model, f"{word}_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(model, f"{word}_disable")()


CHECKPOINT_S: Final = 30.0
SAVING_SHARE: Final = 0.05
"""Most of the time that checkpoints may take, by a processor's work or by waiting for a slow disk; a crash costs at
most the steps since the last."""


def rate_share(step: int, *, num_steps: int, warmup_share: float = 0.05, final_share: float = 0.1) -> float:
    """Return the learning rate of step `step` (from 0) as a share of the peak: linear warm-up, cosine decay.

    Args:
        step: 0 up to `num_steps` - 1.
        num_steps: Of the whole run, whatever part of it this process does.
        warmup_share: Part of the steps in which the rate rises; at least one step, where there are two.
        final_share: What the rate comes down to at the last step.
    """
    warmup = max(1, round(warmup_share * num_steps)) if num_steps > 1 else 0
    if step < warmup:
        return (step + 1) / (warmup + 1)
    behind = (step - warmup) / max(1, num_steps - 1 - warmup)
    return final_share + (1 - final_share) * (1 + cos(pi * min(1.0, behind))) / 2


def next_checkpoint_s(last_cost_s: float) -> float:
    """Return the seconds to train between two checkpoints, if the last one cost `last_cost_s`."""
    return max(CHECKPOINT_S, last_cost_s / SAVING_SHARE)
