"""Size of a student and resources of its training: from headers only, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import msgspec

from ashore.core.bytesize import human_bytes
from ashore.core.errors import InvalidRequest, MemoryFull
from ashore.lab.optimize.distilling.settings import DistilSettings
from ashore.lab.optimize.surgery import ROWS_AT_ONCE, Anatomy, Sizes

SINGLE_BYTES: Final = 4
FIXED_BYTES: Final = 700 << 20
"""torch and transformers themselves: 0.6 GiB resident on x86-64 after their import and one step of a tiny model."""
CHANNEL_STEP: Final = 32
"""Widths are multiples of this: the group of 4-bit weights."""
DEPTH_LEFT: Final = 0.8
LEAST_WIDTH_LEFT: Final = 1 / 8
_KEPT_COPIES: Final = 4
"""Of a trained parameter: itself, its gradient, two moments of AdamW."""
_HIDDEN_ROWS, _CHANNEL_ROWS = 12, 4
"""Numbers that a layer keeps for the way back, per token: in hidden sizes (norms, projections, sums), and in widths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentSizes:
    """Parameter counts of the student and of its parent."""

    before: Anatomy
    after: Anatomy
    cut: bool

    @property
    def student_parameters(self) -> int:
        return self.after.parameters()

    def memory_bytes(self, settings: DistilSettings) -> int:
        """Return the peak memory of making this student: cutting it, or training it."""
        student = self.student_parameters * SINGLE_BYTES
        source = self.before.parameters() * SINGLE_BYTES
        row = max(settings.window_tokens, min(settings.batch_tokens, settings.row_tokens))
        sizes = self.after.sizes
        numbers = sizes.layers * row * (_HIDDEN_ROWS * self.after.hidden_size + _CHANNEL_ROWS * sizes.channels)
        logits = 4 * ROWS_AT_ONCE * self.after.vocab_size
        head = self.after.vocab_size * self.after.hidden_size
        copies = _KEPT_COPIES if settings.method == "full" else 1
        training = copies * student + SINGLE_BYTES * (numbers + logits + head)
        return FIXED_BYTES + max(source + student if self.cut else 0, training)


def half_sizes(teacher: Anatomy) -> Sizes | None:
    """Return layers and channels of a student with at most half the parameters; None if nothing reasonable is left.

    Most layers stay and become narrower: refitting can compensate lost width, but not lost depth.
    """
    sizes, room = teacher.sizes, teacher.parameters() // 2
    for layers in range(max(1, round(DEPTH_LEFT * sizes.layers)), 0, -1):
        bare = replace(teacher, sizes=Sizes(layers=layers, groups=sizes.groups, channels=0))
        channels = (room - bare.parameters()) // (layers * teacher.per_channel) // CHANNEL_STEP * CHANNEL_STEP
        if channels >= sizes.channels * LEAST_WIDTH_LEFT:
            return Sizes(layers=layers, groups=sizes.groups, channels=min(channels, sizes.channels))
    return None


def student_sizes(before: Anatomy, settings: DistilSettings) -> StudentSizes:
    """Return the sizes of a student.

    A smaller hidden size reduces the groups of heads in proportion, so that the head size is unchanged.

    Raises:
        InvalidRequest: this teacher cannot be cut to the size; the hint has the nearest one.
    """
    shape, sizes = settings.shape, before.sizes
    layers = _checked(shape.layers, sizes.layers, "--layers", multiple=1)
    step = min(CHANNEL_STEP, sizes.channels)
    channels = _checked(shape.intermediate, sizes.channels, "--intermediate", multiple=step)
    hidden = _checked(shape.hidden, before.hidden_size, "--hidden", multiple=before.hidden_size // sizes.groups)
    groups = sizes.groups * hidden // before.hidden_size
    after = replace(before, hidden_size=hidden, sizes=Sizes(layers=layers, groups=groups, channels=channels))
    return StudentSizes(before=before, after=after, cut=shape.changes)


def require_memory(sizes: StudentSizes, settings: DistilSettings, free_bytes: int, *, name: str) -> None:
    """Refuse a run that would not fit.

    Raises:
        MemoryFull: with the batch size that would fit, if any.
    """
    needed = sizes.memory_bytes(settings)
    if needed <= free_bytes:
        return
    hint = "choose a smaller student (--layers, --student), or a machine with more memory"
    batch = settings.batch_tokens
    while batch > 32:
        batch //= 2
        window = min(settings.window_tokens, batch)
        smaller = msgspec.structs.replace(settings, batch_tokens=batch, window_tokens=window)
        if sizes.memory_bytes(smaller) <= free_bytes:
            hint = f"these values fit: --batch-tokens {batch} --window-tokens {smaller.window_tokens}"
            break
    raise MemoryFull(
        f"making {name} needs about {human_bytes(needed)} of memory; {human_bytes(free_bytes)} are free", hint=hint
    )


def _checked(wanted: int | None, has: int, flag: str, *, multiple: int) -> int:
    if wanted is None:
        return has
    if not 1 <= wanted <= has or wanted % multiple:
        nearest = min(has, max(multiple, round(wanted / multiple) * multiple))
        raise InvalidRequest(
            f"{flag} is {wanted}; expected at most {has}, as in the teacher, and a multiple of {multiple}",
            hint=f"the nearest value is {flag} {nearest}",
        )
    return wanted
