"""Display marks of call fields: keys of `msgspec.Meta(extra=...)`, read by the command line and the console."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

POSITIONAL: Final = "positional"
"""Key of `msgspec.Meta(extra=...)` for a field that is an argument and no option."""
FLAG: Final = "flag"
"""Key for the name of the option, where it is not that of the field: `of-key`."""
SPAN: Final = "span"
"""Key for seconds that people write as 90s, 15m, 2h or 1d."""
COMMAS: Final = "commas"
"""Key for a list that may also be given as one word, with commas between its items; or for a text of such items, whose
option may be repeated."""
BARE: Final = "bare"
"""Key for the value of a NAME alone, in a map whose items are given as NAME=VALUE."""
FILLED: Final = "filled"
"""Key for a field that the command fills in, and that has no option."""
SEVERAL: Final = "several"
"""Key for a list whose option takes all words that follow: `--role a b`."""
FILE: Final = "file"
"""Key for a text that is the name of a file."""
WORDS: Final = "words"
"""Key for a text that is all the arguments that are left, with spaces between."""
READS: Final = "reads"
"""Key for the function that reads the text of an option, where people write a value differently from JSON."""
SWITCH: Final = "switch"
"""Key for the one value that an option without a value stands for: `csv`, given as `--csv`."""
PAGE: Final = "page"
"""Key for how many items a page has: the command line asks for all pages, each as long as may be."""


def extra_of(kind: Any) -> Mapping[str, Any]:
    """Return the marks in the annotations of a type, by the keys above."""
    found: dict[str, Any] = {}
    if get_origin(kind) is Annotated:
        for one in get_args(kind)[1:]:
            found |= getattr(one, "extra", None) or {}
    return found


def bare_of(kind: Any) -> Any:
    """Return a type without annotations, and without None."""
    if get_origin(kind) is Annotated:
        return bare_of(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        rest = [one for one in get_args(kind) if one is not NoneType]
        return bare_of(rest[0]) if len(rest) == 1 else kind
    return kind


def scalar(text: str, kind: Any) -> str | int | float | bool:
    """Parse a text as a TOML value, as far as its type allows; neither number nor flag: a text."""
    kind = bare_of(kind)
    allowed = get_args(kind) or (kind,)
    if bool in allowed and text in ("true", "false"):
        return text == "true"
    for number in (int, float):
        if number in allowed:
            try:
                return number(text)
            except ValueError:
                continue
    return text
