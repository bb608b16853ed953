"""Training losses of a student: the teacher's likeliest tokens and the rest, the text itself, hidden states.

Losses are sums over positions in nats. Gradients are computed explicitly along with them, in chunks: the logits of a
whole row would take several times the memory of a small model.

Shapes in names: N positions, n those of one chunk, K tokens reported by the teacher, V vocabulary, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from ashore.core.errors import InvalidRequest

ROWS_AT_ONCE: Final = 128
"""Positions whose logits exist at one time: 25 MB for a vocabulary of 49,152."""
_SMALLEST: Final = 1e-9
"""A student's rest counts as this much at least, so that its logarithm stays a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossMix:
    """Weights of the losses. They need not sum to 1."""

    divergence: float = 1.0
    """Forward Kullback-Leibler divergence from the teacher to the student."""
    text: float = 0.0
    """Cross-entropy of the tokens that the text goes on with."""
    temperature: float = 1.0
    """Above 1 the unlikely tokens count for more. Then the rest is left out: nobody knows what it would be."""

    def __post_init__(self) -> None:
        if self.divergence < 0 or self.text < 0 or self.divergence + self.text <= 0:
            raise InvalidRequest(
                f"the weights of the loss are divergence {self.divergence:g} and text {self.text:g}",
                hint="use weights of 0 or more, at least one above 0",
            )
        if not 0.1 <= self.temperature <= 20:
            raise InvalidRequest(
                f"the temperature is {self.temperature:g}; expected 0.1 to 20",
                hint="use 1 to leave the teacher's distribution unchanged",
            )


@dataclass(frozen=True, slots=True)
class Lesson:
    """Tensors for N positions: the teacher's distribution, the actual token, and the weight of the position."""

    ids_NK: Any
    logprobs_NK: Any
    """Places that a row does not use are `NOTHING`, their ids 0."""
    rest_N: Any
    next_N: Any
    weight_N: Any

    def part(self, rows: slice) -> Lesson:
        return Lesson(
            self.ids_NK[rows], self.logprobs_NK[rows], self.rest_N[rows], self.next_N[rows], self.weight_N[rows]
        )


def lesson_loss(hidden_NH: Any, head_VH: Any, lesson: Lesson, mix: LossMix) -> Any:
    """Return the weighted sum of the loss over N positions, from the hidden states before the output layer.

    At temperature 1 all tokens that the teacher did not report count as one. At another, only the reported tokens are
    compared, and the loss is multiplied by the temperature's square, so that gradients keep their size (Hinton,
    Vinyals, Dean, "Distilling the Knowledge in a Neural Network", section 2).

    Args:
        hidden_NH: States from which position n predicts its next token.
        head_VH: Weight of the output layer.
        lesson: The targets.
        mix: Weights of the losses.
    """
    return _lesson_loss().apply(hidden_NH, head_VH, lesson, mix)


def hidden_mismatch(student: Any, teacher: Any, weight_N: Any) -> Any:
    """Return the weighted sum over N of the distance between states [N, H], relative to the teacher's mean square."""
    apart_N = (student.float() - teacher.float()).pow(2).mean(-1)
    return (apart_N * weight_N).sum() / teacher.float().pow(2).mean()


@cache
def _lesson_loss() -> Any:
    """Return the autograd function, created once torch is imported."""
    import torch

    class LessonLoss(torch.autograd.Function):  # type: ignore[misc]
        """`lesson_loss`, with its gradients for the hidden states and the head."""

        @staticmethod
        def forward(ctx: Any, hidden_NH: Any, head_VH: Any, lesson: Lesson, mix: LossMix) -> Any:
            by_hidden_NH = torch.empty_like(hidden_NH) if ctx.needs_input_grad[0] else None
            by_head_VH = torch.zeros_like(head_VH) if ctx.needs_input_grad[1] else None
            total = torch.zeros((), dtype=torch.float32)
            with torch.autocast("cpu", enabled=False):
                head = head_VH.to(hidden_NH.dtype)
                for start in range(0, len(hidden_NH), ROWS_AT_ONCE):
                    rows = slice(start, start + ROWS_AT_ONCE)
                    loss_n, slope_nV = _loss_and_slope((hidden_NH[rows] @ head.T).float(), lesson.part(rows), mix)
                    weight_n = lesson.weight_N[rows]
                    total += (loss_n * weight_n).sum()
                    slope_nV = slope_nV.mul_(weight_n[:, None]).to(hidden_NH.dtype)
                    if by_hidden_NH is not None:
                        torch.mm(slope_nV, head, out=by_hidden_NH[rows])
                    if by_head_VH is not None:
                        by_head_VH += slope_nV.T @ hidden_NH[rows]
            ctx.gradients = by_hidden_NH, by_head_VH
            return total

        @staticmethod
        def backward(ctx: Any, scale: Any) -> Any:
            by_hidden, by_head = ctx.gradients
            del ctx.gradients
            return (
                None if by_hidden is None else by_hidden.mul_(scale),
                None if by_head is None else by_head.mul_(scale),
                None,
                None,
            )

    return LessonLoss


def _loss_and_slope(logits_nV: Any, lesson: Lesson, mix: LossMix) -> tuple[Any, Any]:
    """Return the loss of each position, and its derivative by the logits, which it may overwrite."""
    import torch

    used_nK = lesson.logprobs_NK > -29
    wanted_nK = lesson.logprobs_NK.exp() * used_nK
    told_logits_nK = logits_nV.gather(1, lesson.ids_NK)
    next_n1 = lesson.next_N[:, None]
    logq_nV = torch.log_softmax(logits_nV, dim=-1)
    loss_n = -mix.text * logq_nV.gather(1, next_n1)[:, 0]
    told_nK = logq_nV.gather(1, lesson.ids_NK)
    q_nV = logq_nV.exp_()
    if mix.temperature == 1.0:
        wanted_rest_n = lesson.rest_N.exp()
        rest_n = (1 - (told_nK.exp() * used_nK).sum(-1)).clamp_min(_SMALLEST)
        apart_n = (wanted_nK * (lesson.logprobs_NK - told_nK)).sum(-1) + wanted_rest_n * (lesson.rest_N - rest_n.log())
        told_slope_nK = mix.divergence * (told_nK.exp() - wanted_nK) + mix.text * told_nK.exp()
        slope_nV = q_nV.mul_((mix.divergence * (1 - wanted_rest_n / rest_n) + mix.text)[:, None])
    else:
        absent_nK = torch.where(used_nK, 0.0, -torch.inf)
        logp_nK = torch.log_softmax(lesson.logprobs_NK / mix.temperature + absent_nK, dim=-1)
        logt_nK = torch.log_softmax(told_logits_nK / mix.temperature + absent_nK, dim=-1)
        apart_n = mix.temperature**2 * (logp_nK.exp() * torch.where(used_nK, logp_nK - logt_nK, 0)).sum(-1)
        told_slope_nK = mix.divergence * mix.temperature * (logt_nK.exp() - logp_nK.exp()) + mix.text * told_nK.exp()
        slope_nV = q_nV.mul_(mix.text)
    loss_n = loss_n + mix.divergence * apart_n
    change_nK = (told_slope_nK - slope_nV.gather(1, lesson.ids_NK)) * used_nK
    slope_nV.scatter_add_(1, lesson.ids_NK, change_nK)
    slope_nV.scatter_add_(1, next_n1, torch.full_like(next_n1, -mix.text, dtype=slope_nV.dtype))
    return loss_n, slope_nV
