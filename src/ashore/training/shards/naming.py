"""Names of data, as a command line gives them: one file, a folder, or shards in a bucket; `{000..031}` is written out.

A name is a place and never a program: `pipe:` would run a shell, and a pickle runs whatever its maker put into it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

from ashore.errors import InvalidRequest

Form = Literal["jsonl", "tar", "parquet", "text"]
PLACES: Final = "a file, a folder, or s3://BUCKET/PATH"
FORMS: Final = ".jsonl, .tar (WebDataset), .parquet or .txt; .jsonl.gz, .txt.gz and .tar.gz too"
MOST_SHARDS: Final = 1_000_000
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
_RANGE: Final = re.compile(r"\{(\d+)\.\.(\d+)\}")


def check_name(name: str) -> None:
    """Check that a name is a place that data may come from.

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
    """Tell by its suffix whether reading a file would run code."""
    return name.lower().endswith(_PICKLED)


def form_of(name: str) -> Form | None:
    """Return the form of a file by its suffix; None where that says nothing."""
    plain = name.lower().removesuffix(".gz")
    return next((form for suffix, form in _FORMS.items() if plain.endswith(suffix)), None)


def is_packed(name: str) -> bool:
    """Tell whether a file is compressed as a whole."""
    return name.lower().endswith((".gz", ".tgz"))


def written_out(name: str) -> tuple[str, ...]:
    """Return the names that `{000..031}` stands for, as a shell would; the name itself where there are no braces.

    Raises:
        InvalidRequest: the range runs backwards, or is of a million shards and more.
    """
    found = _RANGE.search(name)
    if found is None:
        return (name,)
    first, last = int(found[1]), int(found[2])
    if last < first or last - first >= MOST_SHARDS:
        raise InvalidRequest(
            f"{name!r}: {found[0]} is not a range of shards", hint="write the lower number first: {000..031}"
        )
    width = len(found[1]) if found[1].startswith("0") else 0
    return tuple(_each(name[: found.start()], name[found.end() :], first, last, width))


def _each(before: str, behind: str, first: int, last: int, width: int) -> Iterator[str]:
    for number in range(first, last + 1):
        yield from written_out(f"{before}{number:0{width}d}{behind}")
