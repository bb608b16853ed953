"""DP-SGD for adapters: an adapter reveals almost nothing about any one example or person.

A step samples each unit (an example, or all examples of a person) with the same probability (Poisson sampling), clips
its gradient to length `clip`, sums them, adds Gaussian noise once, and divides by the *public* expected sample size.
Adam follows. Source: Abadi et al. 2016; gradients of each unit by book-keeping (Bu et al. 2023): the clipped sum of a
layer is one product of what went in and what came back, no per-unit gradient is ever stored, and packing changes
nothing.

Samples and noise are drawn from the system's randomness. There is no seed, no loss is reported, and an interrupted run
cannot resume: its budget is spent.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import InvalidRequest, TrainingDiverged, UnsupportedModel
from ashore.lab.training.attention import packed_attention
from ashore.lab.training.batches import Batch, Row, pack_rows
from ashore.lab.training.losses import answer_loss

FEW_UNITS: Final = 2_000
"""Below these, noise wins at an epsilon of 2: a private head kept 84 % of the gain at 2,400 examples, and was worse
than none at 300."""


class Drawn(Protocol):
    """Examples that can be drawn by number."""

    @property
    def lengths(self) -> NDArray[np.int64]: ...

    def batch(self, row: Row) -> Batch: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateOptions:
    """Options of a private run. All are public."""

    steps: int
    num_units: int
    """Units that the operator says there are, at least; never counted from the data."""
    expected_batch: int
    """Units that a step takes, on average."""
    noise: float
    """Standard deviation of the noise, for a clipping norm of 1."""
    clip: float = 1.0
    learning_rate: float = 1e-3
    row_tokens: int = 1024

    @property
    def rate(self) -> float:
        """Probability with which a unit is in the sample of a step."""
        return self.expected_batch / self.num_units

    def checked(self) -> PrivateOptions:
        """Return the options after checking them.

        Raises:
            InvalidRequest: they are invalid.
        """
        if not 1 <= self.expected_batch <= self.num_units:
            raise InvalidRequest(
                f"{self.expected_batch} units a step, of {self.num_units}",
                hint="take at most as many as there are; larger steps need less noise for each unit",
            )
        if self.steps < 1 or not (self.noise > 0 and self.clip > 0 and self.learning_rate > 0):
            raise InvalidRequest(
                f"{self.steps} steps, noise {self.noise:g}, clip {self.clip:g}, rate {self.learning_rate:g}",
                hint="all of them are above 0",
            )
        return self


class Units:
    """The units of the privacy guarantee: each example, or all examples of each person."""

    def __init__(self, examples: Drawn, members: Sequence[Row] | None = None) -> None:
        """Create the object.

        Args:
            examples: All examples.
            members: Those of each unit, from `people`; None: each example is one.
        """
        self._examples, self._members = examples, members
        lengths = examples.lengths
        if members is not None:
            lengths = np.array([int(lengths[list(one)].sum()) for one in members], np.int64)
        self.lengths: NDArray[np.int64] = lengths
        """Tokens of each unit."""

    def batch(self, row: Row) -> tuple[Batch, tuple[int, ...]]:
        """Return the examples of units, concatenated, and the number of tokens of each unit."""
        members = row if self._members is None else tuple(one for unit in row for one in self._members[unit])
        return self._examples.batch(members), tuple(int(self.lengths[unit]) for unit in row)


def people(whose: Sequence[str], lengths: NDArray[np.int64], most_tokens: int) -> tuple[Row, ...]:
    """Return the examples of each person: the first ones that fit the token limit, and at least one.

    Which are left out depends only on that person's examples. Examples without a person are left out.

    Args:
        whose: Person of each example; empty: unknown.
        lengths: Tokens of each example.
        most_tokens: Of one person: all of one person must fit into one forward pass.
    """
    found: dict[str, list[int]] = {}
    tokens: dict[str, int] = {}
    for number, person in enumerate(whose):
        size = int(lengths[number])
        if person and (person not in found or tokens[person] + size <= most_tokens):
            found.setdefault(person, []).append(number)
            tokens[person] = tokens.get(person, 0) + size
    return tuple(tuple(one) for one in found.values())


class Book:
    """Clipped sums of per-unit gradients, from inputs and output gradients of each trained layer.

    Every trained parameter must be the weight of a linear layer without bias that is used once in a forward pass.
    """

    def __init__(self, model: Any) -> None:
        import torch

        self._layers: dict[str, Any] = {}
        for name, module in model.named_modules():
            weights = [own for own, p in module.named_parameters(recurse=False) if p.requires_grad]
            if not weights:
                continue
            if not isinstance(module, torch.nn.Linear) or weights != ["weight"]:
                raise UnsupportedModel(
                    f"{name} trains {', '.join(weights)}; a private run trains linear layers of an adapter alone",
                    hint="use --method lora",
                )
            self._layers[name] = module
        if not self._layers:
            raise UnsupportedModel("the model has nothing to train", hint="use --method lora")
        self._inputs: dict[str, Any] = {}
        self._slopes: dict[str, Any] = {}

    @property
    def parameters(self) -> dict[str, Any]:
        """Trained parameters, by layer."""
        return {name: module.weight for name, module in self._layers.items()}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Record layer inputs and gradients inside the block."""
        handles = []
        for name, module in self._layers.items():

            def forward(_: Any, given: Any, out: Any, name: str = name) -> None:
                if out.requires_grad:
                    self._inputs[name] = given[0].detach().reshape(-1, given[0].shape[-1])
                    out.register_hook(partial(self._keep, name))

            handles.append(module.register_forward_hook(forward))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _keep(self, name: str, slope: Any) -> None:
        self._slopes[name] = slope.detach().reshape(-1, slope.shape[-1])

    def clipped(self, batch: Batch, clip: float, units: Sequence[int] = ()) -> tuple[dict[str, Any], Any]:
        """Return the sum of the units' clipped gradients of a row by layer, and the norms before clipping.

        The loss of a unit is its mean over its targets, so that long answers and many examples weigh no more.

        Args:
            batch: The row that went forward and back, its loss the sum over targets.
            clip: Longest gradient of one unit.
            units: Tokens of each; default: each example is one.
        """
        import torch

        lengths = list(units or batch.lengths)
        ends = np.cumsum(lengths)
        targets = torch.tensor(
            [int(batch.targets_T[end - n : end].sum()) for n, end in zip(lengths, ends, strict=True)]
        )
        scale = 1.0 / targets.clamp_min(1).double()
        squares = torch.zeros(len(lengths), dtype=torch.float64)
        for name in self._layers:
            x, g = self._inputs[name].split(lengths), self._slopes[name].split(lengths)
            for at, (x_e, g_e) in enumerate(zip(x, g, strict=True)):
                squares[at] += _square(x_e, g_e)
        norms = squares.sqrt() * scale
        shrunk = (clip / norms.clamp_min(1e-12)).clamp_max(1.0) * scale
        weights = torch.repeat_interleave(shrunk, torch.tensor(lengths))[:, None]
        sums = {}
        for name in self._layers:
            slopes = self._slopes[name]
            sums[name] = (slopes * weights.to(slopes.dtype)).T @ self._inputs[name]
        self._inputs.clear()
        self._slopes.clear()
        return sums, norms


def _square(x: Any, g: Any) -> float:
    """Return the squared norm of g.T @ x, the cheaper way: by tokens, or by the shape of the layer."""
    tokens = x.shape[0]
    if tokens * (x.shape[1] + g.shape[1]) < x.shape[1] * g.shape[1]:
        return float(((x @ x.T) * (g @ g.T)).sum())
    return float((g.T @ x).square().sum())


def train_private(
    model: Any,
    examples: Drawn,
    options: PrivateOptions,
    *,
    members: Sequence[Row] | None = None,
    watch: Callable[[int], None] = lambda step: None,
) -> int:
    """Train the adapter in `model` in place, and return how many steps were done.

    Args:
        model: A `PreTrainedModel` with an adapter in it.
        examples: What is learned.
        options: How.
        members: Examples of each unit of the promise, from `people`; default: each example is one.
        watch: Called with how many steps are done; nothing else of a step may be reported.

    Raises:
        TrainingDiverged: a parameter is not a number.
        UnsupportedModel: something else than linear layers is trained.
    """
    import torch

    options.checked()
    book, units = Book(model), Units(examples, members)
    parameters = book.parameters
    optimizer = torch.optim.Adam(list(parameters.values()), lr=options.learning_rate)
    draw = np.random.Generator(np.random.Philox(int.from_bytes(os.urandom(16), "little")))
    noises = torch.Generator().manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
    model.train()
    with packed_attention(model), book.open():
        for step in range(options.steps):
            sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
            for row in sample(units, options, draw):
                batch, tokens = units.batch(row)
                answer_loss(model, batch, shared=False).backward()  # a layer must see each unit's own tokens
                clipped, _ = book.clipped(batch, options.clip, tokens)
                for name, part in clipped.items():
                    sums[name] += part
            _step(optimizer, parameters, sums, options, noises)
            watch(step + 1)
    model.eval()
    if not all(math.isfinite(float(p.detach().abs().sum())) for p in parameters.values()):
        raise TrainingDiverged("a weight of the adapter is no number", hint="lower --learning-rate")
    return options.steps


def sample(units: Units, options: PrivateOptions, draw: np.random.Generator) -> list[Row]:
    """Return the units of one step, row by row: each is sampled independently with the same probability."""
    taken = np.flatnonzero(draw.random(len(units.lengths)) < options.rate)
    return pack_rows(units.lengths, taken, options.row_tokens)


def _step(
    optimizer: Any, parameters: dict[str, Any], sums: dict[str, Any], options: PrivateOptions, noises: Any
) -> None:
    import torch

    spread = options.noise * options.clip
    for name, parameter in parameters.items():
        noise = torch.randn(parameter.shape, generator=noises, dtype=torch.float32) * spread
        parameter.grad = ((sums[name] + noise) / options.expected_batch).to(parameter.dtype)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
