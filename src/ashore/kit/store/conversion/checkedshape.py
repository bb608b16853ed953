"""Validates a model's shape from its files, so that callers can safely divide by its numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from ashore.core.errors import UnsupportedModel
from ashore.core.shapes import ModelShape

_MAY_BE_ZERO: Final = frozenset(
    {"num_parameters"} | {f.name for f in dataclasses.fields(ModelShape) if f.default is not dataclasses.MISSING}
)
_LIMITS: Final[Mapping[str, int]] = {"num_layers": 10_000, "num_parameters": 1 << 50, "num_active_parameters": 1 << 50}
_MOST_NAME_CHARS: Final = 64
_LIMIT: Final = 1 << 31
"""Larger than any model has layers, tokens or columns."""


def checked_shape(values: Mapping[str, Any], *, what: str) -> ModelShape:
    """Return the shape with these numbers.

    Args:
        values: Fields of `ModelShape` by name.
        what: Whose they are, for messages.

    Raises:
        UnsupportedModel: one is missing, unknown, not a whole number, or not of any model.
    """
    fields = {f.name: f for f in dataclasses.fields(ModelShape)}
    needed = {name for name, f in fields.items() if f.default is dataclasses.MISSING}
    if not isinstance(values, Mapping) or not needed <= set(values) <= set(fields):
        raise UnsupportedModel(f"{what} lacks dimensions that every model has", hint=_HINT)
    if not isinstance(values["architecture"], str) or len(values["architecture"]) > _MOST_NAME_CHARS:
        raise UnsupportedModel(
            f"{what} has the architecture {ascii(values['architecture'])[:40]}; expected a name of at most "
            f"{_MOST_NAME_CHARS} characters",
            hint=_HINT,
        )
    for name, value in values.items():
        if name == "architecture":
            continue
        least, most = int(name not in _MAY_BE_ZERO), _LIMITS.get(name, _LIMIT)
        if type(value) is not int or not least <= value <= most:
            raise UnsupportedModel(
                f"{what} has {name}={ascii(value)[:40]}; expected a number from {least} to {most}", hint=_HINT
            )
    return ModelShape(**values)


_HINT: Final = "the file is damaged, or the model type is not supported"
