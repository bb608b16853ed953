"""One request's table: masked values, their stand-ins, and the way back.

Nothing is ever decrypted. A value is restored only if this request masked it, so a foreign placeholder or pseudonym in
a text restores nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from ashore.core.errors import PersonalDataBlocked
from ashore.data.privacy.folding import fold
from ashore.data.privacy.model import Entity, Finder
from ashore.data.privacy.policy import Rules
from ashore.data.privacy.pseudonyms import in_the_form_of, pseudonym
from ashore.kit.decode import UNDECODABLE, decode_any

MOST_ATTEMPTS: Final = 64
_LOOKS_TAKEN: Final = re.compile(
    r"[\[［【]\s*([A-Za-z][A-Za-z0-9_＿ -]{0,40}?)[_＿ -]?([0-9]{1,6})[A-Za-z]?\s*[\]］】]"
)
_NAMES: Final = re.compile(r'"\s*:')
"""The end of each name in a JSON text, and of what looks like one inside texts."""
_BARE: Final = frozenset(
    ("phone", "bank_card", "id_card", "credit_code", "iban", "ssn", "passport", "travel_permit", "plate", "mac")
)
"""Kinds in which spaces and dashes mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restorable:
    """A stand-in with its value."""

    stand_in: str
    original: str
    kind: str
    placeholder: bool
    """Otherwise it is a pseudonym."""
    number: str = ""
    """Number of a placeholder: `1`, or `1b` for another spelling of the same value."""


class Table:
    """The masked values of one request. Used by one task; texts are given in the order of the conversation."""

    def __init__(self, finder: Finder, rules: Rules, key: Callable[[], bytes]) -> None:
        """Create it.

        Args:
            finder: Finds personal data.
            rules: Actions on the entities found.
            key: Returns the pseudonym secret of the conversation; called for the first pseudonym.
        """
        self._finder = finder
        self._rules = rules
        self._key = key
        self._by_original: dict[tuple[str, str], Restorable] = {}
        self._by_stand_in: dict[str, Restorable] = {}
        self._numbers: dict[tuple[str, str], tuple[int, int]] = {}
        self._last_number: dict[str, int] = {}
        self._taken: set[str] = set()
        self._counts: dict[tuple[str, str], int] = {}
        self._blocked: dict[str, int] = {}
        self._known: set[tuple[str, str]] = set()

    @property
    def found(self) -> bool:
        """Whether any personal data was found, whatever was done with it."""
        return bool(self._counts)

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """How many entities of each kind met each action."""
        return self._counts

    @property
    def entries(self) -> tuple[Restorable, ...]:
        """The restorable stand-ins."""
        return tuple(self._by_stand_in.values())

    def knows(self, kind: str, plain: str) -> bool:
        """Return whether the request itself contained a value."""
        return (kind, plain) in self._known

    def reserve(self, text: str) -> None:
        """Reserve placeholders that already occur in `text`: there they mean something else."""
        if "[" in text or "［" in text or "【" in text:
            for found in _LOOKS_TAKEN.finditer(text):
                self._taken.add(_placeholder_key(found[1], found[2]))

    def mask(self, text: str) -> str:
        """Return the text as the model may see it."""
        entities = self._finder.find(text)
        if not entities:
            return text
        parts: list[str] = []
        at = 0
        for one in entities:
            parts.append(text[at : one.start])
            parts.append(self._stand_in(one, text[one.start : one.end]))
            at = one.end
        parts.append(text[at:])
        return "".join(parts)

    def mask_json(self, text: str) -> str:
        """Return JSON as the model may see it: every string and whole number in it is checked, keys too.

        Invalid JSON, and what is nested too deeply to be walked through, is treated as text. Without entities it is
        returned unchanged, to the byte, unless a name stands in an object twice: readers take the last, so the others
        are left out.
        """
        try:
            value = decode_any(text)
            masked = self._mask_value(value)
            if masked == value and len(_NAMES.findall(text)) == _num_names(value):
                return text
        except UNDECODABLE:
            return self.mask(text)
        return msgspec.json.encode(masked).decode()

    def look(self, text: str) -> bool:
        """Count the entities of a text that cannot be changed (token ids); return whether the policy would change
        it."""
        changes = False
        for one in self._finder.find(text):
            action = self._rules.prompts.get(one.kind, "mask")
            self._count(one.kind, action)
            changes = changes or action in ("mask", "pseudonymise")
        return changes

    @property
    def is_blocked(self) -> bool:
        """Whether something was found that the policy blocks."""
        return bool(self._blocked)

    def check(self) -> None:
        """Check that nothing was found that the policy blocks.

        Raises:
            PersonalDataBlocked: something was; the message names kinds and counts.
        """
        if self._blocked:
            raise blocked(self._blocked, "the request")

    def _mask_value(self, value: object) -> object:
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, dict):
            return {self.mask(str(key)): self._mask_value(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._mask_value(one) for one in value]
        if isinstance(value, int) and not isinstance(value, bool) and value > 999_999:
            written = str(value)
            masked = self.mask(written)
            return value if masked == written else masked
        return value

    def _count(self, kind: str, action: str) -> None:
        key = (kind, action)
        self._counts[key] = self._counts.get(key, 0) + 1
        if action == "block":
            self._blocked[kind] = self._blocked.get(kind, 0) + 1

    def _stand_in(self, one: Entity, original: str) -> str:
        action = self._rules.prompts.get(one.kind, "mask")
        self._count(one.kind, action)
        known = self._by_original.get((one.kind, original))
        if known is not None:
            return known.stand_in
        plain = plain_of(one.kind, original)
        self._known.add((one.kind, plain))
        if action in ("allow", "block"):
            return original
        made = (
            self._pseudonym(one.kind, original, plain)
            if action == "pseudonymise" and one.kind != "private_key"
            else self._placeholder(one.kind, original, plain)
        )
        self._by_original[one.kind, original] = made
        self._by_stand_in[made.stand_in] = made
        return made.stand_in

    def _placeholder(self, kind: str, original: str, plain: str) -> Restorable:
        number, variant = self._numbers.get((kind, plain), (0, 0))
        if not number:
            number = self._last_number.get(kind, 0) + 1
            while _placeholder_key(kind, str(number)) in self._taken:
                number += 1
            self._last_number[kind] = number
        else:
            variant += 1
        self._numbers[kind, plain] = number, variant
        written = f"{number}{_letters(variant)}"
        stand_in = f"[{kind.upper()}_{written}]"
        return Restorable(stand_in=stand_in, original=original, kind=kind, placeholder=True, number=written)

    def _pseudonym(self, kind: str, original: str, plain: str) -> Restorable:
        key = self._key()
        for attempt in range(MOST_ATTEMPTS):
            invented = pseudonym(kind, plain, key, attempt)
            stand_in = in_the_form_of(original, plain, invented) if kind in _BARE else invented
            if stand_in != original and stand_in not in self._by_stand_in and (kind, stand_in) not in self._by_original:
                return Restorable(stand_in=stand_in, original=original, kind=kind, placeholder=False)
        return self._placeholder(kind, original, plain)


def blocked(counts: Mapping[str, int], where: str) -> PersonalDataBlocked:
    """Return the refusal for blocked personal data; it names kinds and counts, never a value."""
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    return PersonalDataBlocked(
        f"{where} contains personal data that the privacy policy blocks: {told}",
        hint="remove it, or ask an administrator to change the policy (`ashore privacy policy show`)",
    )


def plain_of(kind: str, original: str) -> str:
    """Return a value normalised for comparison: values that only look different are equal."""
    folded, _ = fold(original)
    if kind in _BARE:
        return re.sub(r"[^0-9A-Za-z\u4e00-\u9fff]", "", folded).upper()
    return folded.lower() if kind == "email" else folded


def conversation_key(secret: bytes, *parts: str) -> bytes:
    """Return the key of one conversation: of a tenant, a principal, and its beginning."""
    hasher = hashlib.blake2b(b"pseudonyms", key=secret[:64], digest_size=32)
    for part in parts:
        said = part.encode("utf-8", "surrogatepass")
        hasher.update(len(said).to_bytes(8, "little"))
        hasher.update(said)
    return hasher.digest()


def _num_names(value: object) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_num_names, value.values()))
    return sum(map(_num_names, value)) if isinstance(value, list) else 0


def _letters(variant: int) -> str:
    """Return the letters of an index: nothing for 0, b for 1, c for 2 … and z26 and so on after z."""
    if variant == 0:
        return ""
    return chr(ord("a") + variant) if variant < 26 else f"z{variant}"


def _placeholder_key(kind: str, number: str) -> str:
    return re.sub(r"[_＿ -]", "", kind).upper() + number.lstrip("0")
