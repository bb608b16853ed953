"""`[sealing]`: where the keys of sealed models are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from msgspec import Meta
from msgspec.structs import replace

from ashore.kit.sealing.keysource import format_key_source, parse_key_source
from ashore.kit.section import Section


class SealingSection(Section, frozen=True, kw_only=True):
    """The key source of sealed models, and whether the secrets of the home are sealed too."""

    key: Annotated[str, Meta(extra={"holds": "key source"})] = ""
    """`keyring:FILE`, `passphrase:FILE` or `transit:URL`; empty: nothing is sealed."""
    state: bool = True
    """Also seal the secrets of the state and of the audit log, if `key` is set."""

    def checked(self, where: str) -> Self:
        if self.key:
            parse_key_source(self.key, where=f"{where} key")
        return self

    def beside(self, folder: Path) -> Self:
        """Return the section with a key file as a path that holds anywhere: a relative one is in `folder`."""
        return replace(self, key=format_key_source(parse_key_source(self.key, folder=folder))) if self.key else self
