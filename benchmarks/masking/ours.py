"""The detectors of ashore, under the names of this set: the one place that knows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from benchmarks.masking.score import Found

NAMES: Final = {
    "id_card": "cn_id",
    "phone": "phone",
    "bank_card": "bank_card",
    "credit_code": "cn_uscc",
    "passport": "cn_passport",
    "plate": "cn_plate",
    "email": "email",
    "iban": "iban",
    "ssn": "us_ssn",
    "ip": "ip",
    "secret": "secret",
    "private_key": "private_key",
    "name": "name",
    "address": "address",
}
"""What a kind of `ashore.data.privacy` is called here. One that is not in the table keeps its name, and is reported
apart."""


def detectors() -> Callable[[str], Sequence[Found]]:
    """Return what finds identifiers in a text."""
    from ashore.data.privacy import Detectors

    find = Detectors().find

    def detect(text: str) -> Sequence[Found]:
        return [Found(NAMES.get(entity.kind, entity.kind), entity.start, entity.end) for entity in find(text)]

    return detect
