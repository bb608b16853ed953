"""Text that people wrote and that holds next to no identifiers: what is found there is mostly found in error."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.masking import checks

SYSTEM: Final = (
    Path("/usr/share/doc"),
    Path("/usr/share/common-licenses"),
    Path("/usr/share/perl"),
    Path("/usr/lib/python3"),
)
_ENDINGS: Final = frozenset({"", ".txt", ".md", ".rst", ".gz", ".html", ".pod", ".py", ".copyright", ".json", ".xml"})
CHUNK: Final = 4000
_EMAIL: Final = re.compile(r"(?:mailto:)?[A-Za-z0-9._%+'/=~-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_IPV4: Final = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)")
_IPV6: Final = re.compile(r"[0-9a-fA-F:]{2,39}(?:%\w+)?")


def files(folders: tuple[Path, ...], limit_bytes: int) -> Iterator[str]:
    """Yield the text of files in the order of their paths, up to a limit in all."""
    left = limit_bytes
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.suffix not in _ENDINGS or not path.is_file() or path.is_symlink():
                continue
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError:
                continue
            if "\0" not in text:
                yield text
                left -= len(raw)
            if left <= 0:
                return


def chunks(text: str) -> Iterator[str]:
    """Cut at line ends, in pieces as long as a long message."""
    start = 0
    while start < len(text):
        end = len(text) if len(text) - start <= CHUNK else (text.rfind("\n", start, start + CHUNK) + 1 or start + CHUNK)
        end = end if end > start else start + CHUNK
        yield text[start:end]
        start = end


def truly_one(kind: str, text: str) -> bool:
    """Return whether what was found is what it is called, by the published form of it: e-mail addresses do stand in
    documentation.

    A number whose checksum holds is counted as an error all the same where no such numbers can be expected; only
    addresses and key blocks are let off.
    """
    match kind:
        case "email":
            return _EMAIL.fullmatch(text) is not None
        case "ip":
            return _IPV4.fullmatch(text) is not None or (
                text.count(":") >= 2 and _IPV6.fullmatch(text) is not None and len(text) > 4
            )
        case "private_key":
            return "PRIVATE KEY" in text
        case "iban":
            plain = re.sub(r"\W", "", text).upper()
            return checks.iban_holds(plain)
        case _:
            return False
