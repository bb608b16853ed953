"""Records made of other records: fields that have one name in both are not spelled out."""

from __future__ import annotations

from typing import TypeVar

_T = TypeVar("_T")


def copied(kind: type[_T], source: object, /, **own: object) -> _T:
    """Return a `kind` with the fields in `own`; every other field is the attribute of `source` with that name.

    No field is left to its default: one that `source` does not have must be in `own`.

    Args:
        kind: A struct of msgspec or a dataclass.
        source: Any object.
        own: Fields that `source` does not have, has under another name, or in another form.

    Raises:
        AttributeError: neither `source` nor `own` has a field of `kind`.
    """
    names = getattr(kind, "__struct_fields__", None) or getattr(kind, "__dataclass_fields__")  # noqa: B009
    return kind(**{name: getattr(source, name) for name in names if name not in own}, **own)
