"""Names of data sets on the command line: one file, a folder, or shards in a bucket; `{000..031}` is written out.

A name is a place and never a program: `pipe:` would run a shell, and a pickle runs arbitrary code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

from ashore.core.errors import InvalidRequest

Form = Literal["jsonl", "tar", "parquet", "text"]
PLACES: Final = "a file, a folder, or s3://BUCKET/PATH"
FORMS: Final = ".jsonl, .tar (WebDataset), .parquet or .txt; .jsonl.gz, .txt.gz and .tar.gz too"
MOST_SHARDS: Final = 1_000_000
MOST_RANGES: Final = 16
"""In one name."""
_FORMS: Final[dict[str, Form]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".tar": "tar",
    ".tgz": "tar",
    ".parquet": "parquet",
    ".txt": "text",
}
_PICKLED: Final = (".pickle", ".pkl", ".pth", ".pt", ".pyd", ".ckpt", ".joblib")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{1,}):")
_RANGE: Final = re.compile(r"\{(\d{1,4000})\.\.(\d{1,4000})\}")


def check_name(name: str) -> None:
    """Check that a name is an allowed place of data.

    Raises:
        InvalidRequest: it would run a program, it is a pickle, or no server of its kind is read.
    """
    scheme = _SCHEME.match(name)
    if scheme is not None and not name.startswith("s3://"):
        runs = "runs a program" if scheme[1].lower() == "pipe" else "is not a place that is read"
        raise InvalidRequest(f"{name!r}: {scheme[1]}: {runs}", hint=f"name {PLACES}")
    if is_pickle(name):
        raise InvalidRequest(
            f"{name!r} is a pickle: reading it would run code from the file", hint=f"convert it to {FORMS}"
        )


def is_pickle(name: str) -> bool:
    """Return whether reading a file would run code, by its suffix."""
    return name.lower().endswith(_PICKLED)


def form_of(name: str) -> Form | None:
    """Return the form of a file by its suffix; None if unknown."""
    plain = name.lower().removesuffix(".gz")
    return next((form for suffix, form in _FORMS.items() if plain.endswith(suffix)), None)


def is_packed(name: str) -> bool:
    """Return whether a file is compressed as a whole."""
    return name.lower().endswith((".gz", ".tgz"))


def written_out(name: str) -> tuple[str, ...]:
    """Return the names that `{000..031}` expands to, as in a shell; the name itself without braces.

    Raises:
        InvalidRequest: a range runs backwards, there are too many, or all of them together name more than a million
            shards.
    """
    num_shards = 1
    for found in _RANGE.finditer(name):
        if int(found[2]) < int(found[1]):
            raise InvalidRequest(
                f"{name!r}: {found[0]} is not a range of shards", hint="write the lower number first: {000..031}"
            )
        num_shards *= int(found[2]) - int(found[1]) + 1
        if num_shards > MOST_SHARDS:  # before any of them is written out
            raise InvalidRequest(
                f"{name[:200]!r} names more than {MOST_SHARDS:,} shards", hint="name fewer in one command"
            )
    if (num_ranges := len(_RANGE.findall(name))) > MOST_RANGES:
        raise InvalidRequest(f"{name[:200]!r} has {num_ranges} ranges", hint=f"write at most {MOST_RANGES}")
    return tuple(_each(name))


def _each(name: str) -> Iterator[str]:
    found = _RANGE.search(name)
    if found is None:
        yield name
        return
    width = len(found[1]) if found[1].startswith("0") else 0
    for number in range(int(found[1]), int(found[2]) + 1):
        yield from _each(f"{name[: found.start()]}{number:0{width}d}{name[found.end() :]}")
