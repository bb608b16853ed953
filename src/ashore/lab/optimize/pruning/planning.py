"""How much of each part to remove, from counts only, and the possible gain. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Final, Literal, assert_never

from ashore.core.errors import InvalidRequest
from ashore.lab.optimize.surgery import Anatomy, Sizes

Kind = Literal["depth", "width", "mixed", "unstructured"]
KINDS: Final[tuple[Kind, ...]] = ("depth", "width", "mixed", "unstructured")

LEAST_LEFT: Final = 0.25
"""Of layers and of channels at least this share stays: of what is left when more goes, healing makes no model."""
DEPTH_SHARE: Final = 0.5
"""Part of what `mixed` removes that goes as whole layers; the rest goes as channels. See ADR 19."""
CHANNEL_STEP: Final = 64
"""Widths are multiples of this, where they were: what kernels and groups of 4-bit weights go by."""
INT8_BYTES, F16_BYTES = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCount:
    """Number of a part before and after."""

    part: Literal["layers", "heads", "channels", "parameters"]
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunePlan:
    """Plan of a pruning."""

    kind: Kind
    wanted: float
    """Share of the whole model's parameters that was asked for."""
    before: Sizes
    after: Sizes
    parameters_before: int
    parameters_after: int
    zeroed: int = 0
    """Parameters that stay where they are and become 0: `unstructured` alone."""
    vocabulary_parameters: int
    heads_in_group: int

    @property
    def removed(self) -> float:
        """Share of the parameters that are removed (or become 0)."""
        return (self.parameters_before - self.parameters_after + self.zeroed) / self.parameters_before

    @property
    def ceiling(self) -> float:
        """Upper bound of the decode speed-up of one stream at equal precision: every weight is read once for each
        token.
        """
        return self.parameters_before / self.parameters_after

    @property
    def int8_ceiling(self) -> float:
        """The same for a pruned model in INT8 and the other in F16."""
        return self.ceiling * F16_BYTES / INT8_BYTES

    @property
    def counts(self) -> tuple[PartCount, ...]:
        """Heads and channels of one layer, layers and parameters of the model."""
        b, a, heads = self.before, self.after, self.heads_in_group
        return (
            PartCount(part="layers", before=b.layers, after=a.layers),
            PartCount(part="heads", before=b.groups * heads, after=a.groups * heads),
            PartCount(part="channels", before=b.channels, after=a.channels),
            PartCount(part="parameters", before=self.parameters_before, after=self.parameters_after),
        )


def plan_pruning(anatomy: Anatomy, share: float, kind: Kind) -> PrunePlan:
    """Return the smallest cut of a kind that removes at least `share` of the model's parameters.

    Raises:
        InvalidRequest: this share cannot be removed that way; the hint has the largest possible one.
    """
    total = anatomy.parameters()
    plan = PrunePlan(
        kind=kind,
        wanted=share,
        before=anatomy.sizes,
        after=anatomy.sizes,
        parameters_before=total,
        parameters_after=total,
        vocabulary_parameters=anatomy.vocabulary_parameters,
        heads_in_group=anatomy.heads_in_group,
    )
    goal = floor(total * (1 - share))
    match kind:
        case "unstructured":
            return _with_zeros(plan, anatomy, total - goal)
        case "depth":
            after = _fewer_layers(anatomy, anatomy.sizes, goal)
        case "width":
            after = _narrower(anatomy, anatomy.sizes, goal)
        case "mixed":
            after = _fewer_and_narrower(anatomy, goal)
        case _:
            assert_never(kind)
    plan = replace(plan, after=after, parameters_after=anatomy.parameters(after))
    if plan.parameters_after > goal:
        raise _too_much(plan)
    return plan


def _fewer_layers(anatomy: Anatomy, sizes: Sizes, goal: int) -> Sizes:
    """Return the largest number of layers that fits `goal` parameters."""
    least = _least_layers(anatomy)
    fits = (n for n in range(sizes.layers, least, -1) if anatomy.parameters(replace(sizes, layers=n)) <= goal)
    return replace(sizes, layers=next(fits, least))


def _narrower(anatomy: Anatomy, sizes: Sizes, goal: int) -> Sizes:
    """Remove channels; if that is not enough, also groups of heads one by one, where allowed."""
    step = channel_step(sizes.channels)
    least = ceil(LEAST_LEFT * sizes.channels / step) * step
    for groups in range(sizes.groups, _least_groups(anatomy) - 1, -1):
        room = goal - anatomy.parameters(replace(sizes, groups=groups, channels=0))
        channels = room // (sizes.layers * anatomy.per_channel) // step * step
        if channels >= least:
            return replace(sizes, groups=groups, channels=min(channels, sizes.channels))
    return replace(sizes, groups=_least_groups(anatomy), channels=least)


def _fewer_and_narrower(anatomy: Anatomy, goal: int) -> Sizes:
    """Remove about `DEPTH_SHARE` as layers and the rest as channels, with the number of layers near it that fits best;
    far more layers only if channels do not suffice.
    """
    one = anatomy.parameters() - anatomy.parameters(replace(anatomy.sizes, layers=anatomy.sizes.layers - 1))
    most, least = anatomy.sizes.layers, _least_layers(anatomy)
    middle = min(most, max(least, most - round(DEPTH_SHARE * (anatomy.parameters() - goal) / one)))
    near = range(max(least, middle - 1), min(most - 1, middle + 1) + 1)
    for numbers in (near, range(middle, least - 1, -1)):
        tries = [_narrower(anatomy, replace(anatomy.sizes, layers=n), goal) for n in numbers]
        enough = [sizes for sizes in tries if anatomy.parameters(sizes) <= goal]
        if enough:
            return max(enough, key=anatomy.parameters)
    return _narrower(anatomy, replace(anatomy.sizes, layers=least), goal)


def channel_step(channels: int) -> int:
    """Return the number that channel counts must stay a multiple of."""
    step = CHANNEL_STEP
    while step > 1 and (channels % step or channels < 4 * step):
        step //= 2
    return step


def _least_layers(anatomy: Anatomy) -> int:
    """Return the fewest layers that must stay: the first and the last always do, because they convert tokens to states
    and back.
    """
    return min(anatomy.sizes.layers, max(2, ceil(LEAST_LEFT * anatomy.sizes.layers)))


def _least_groups(anatomy: Anatomy) -> int:
    return anatomy.sizes.groups if anatomy.fixed_heads else 1


def _with_zeros(plan: PrunePlan, anatomy: Anatomy, zeros: int) -> PrunePlan:
    matrices = matrix_parameters(anatomy)
    plan = replace(plan, zeroed=zeros)
    if zeros > (1 - LEAST_LEFT) * matrices:
        raise _too_much(replace(plan, zeroed=int((1 - LEAST_LEFT) * matrices)))
    return plan


def matrix_parameters(anatomy: Anatomy) -> int:
    """Return the parameters in the matrices of the layers."""
    bias = anatomy.sizes.groups * (anatomy.heads_in_group + 2) * anatomy.head_dim if anatomy.projection_bias else 0
    one = anatomy.sizes.groups * anatomy.per_group + anatomy.sizes.channels * anatomy.per_channel - bias
    return anatomy.sizes.layers * one


def _too_much(most: PrunePlan) -> InvalidRequest:
    """Return the error for a model from which at most `most` can be removed."""
    total, vocabulary = most.parameters_before, most.vocabulary_parameters
    other = ", or another --kind" if most.kind in ("depth", "width") else ""
    return InvalidRequest(
        f"{most.wanted:.1%} of {total:,} parameters cannot be removed by {most.kind}: {vocabulary:,} of them "
        f"({vocabulary / total:.0%}) are the vocabulary's, which stays, and {LEAST_LEFT:.0%} of each other part does",
        hint=f"the most is --remove {int(most.removed * 1000) / 10:g}%{other}",
        param="remove",
    )
