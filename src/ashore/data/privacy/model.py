"""Entities found in a text, and the actions on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Protocol

Action = Literal["allow", "mask", "pseudonymise", "block"]
"""allow: it passes, and is counted. mask: a placeholder takes its place. pseudonymise: an invented value of the same
form does. block: the request is refused."""

KINDS: Final = (
    "private_key",
    "secret",
    "email",
    "iban",
    "id_card",
    "credit_code",
    "bank_card",
    "ssn",
    "passport",
    "travel_permit",
    "phone",
    "plate",
    "mac",
    "ip",
    "address",
    "name",
)
"""Every kind that the own detectors know. Where two overlap, the one that stands first here is believed."""

IDENTIFIERS: Final = (
    "private_key",
    "secret",
    "iban",
    "id_card",
    "bank_card",
    "ssn",
    "passport",
    "travel_permit",
)
"""Kinds that open something, or name one person for life."""


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity: its kind, and its position in the original text, in characters."""

    kind: str
    start: int
    end: int


class Finder(Protocol):
    """Finds personal data in a text. Pure: the same text gives the same entities."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every kind that may be found."""
        ...

    @property
    def name(self) -> str:
        """Its name and version: part of the stamp under which results are valid."""
        ...

    def find(self, text: str) -> tuple[Entity, ...]:
        """Return the entities found, in order, without overlaps."""
        ...
