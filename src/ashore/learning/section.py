"""`[learning]`: whether answers may be voted on, what is kept for it, and when a model learns from it."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, field

from ashore.core import Kept, Seconds, Section
from ashore.learning.consent import Purpose

DAY_S: Final = 86_400.0


class LearningSection(Section, frozen=True, kw_only=True):
    """Votes and corrections of users, and what a model learns from them."""

    feedback: Kept[bool] = False
    """Take votes on answers at `/v1/feedback`, and keep a masked receipt of each answer for them."""
    purpose: Purpose = "train"
    """What the votes of a tenant are for, where neither `tenants` nor `ashore learn consent` says otherwise: `train`
    keeps question and answer with a vote, `measure` keeps the vote alone, `none` takes no votes."""
    tenants: Annotated[dict[str, Purpose], Meta(examples=['{ hr = "none" }'])] = field(default_factory=dict)
    """Purpose by tenant."""
    receipt_ttl_s: Seconds = 3 * DAY_S
    """How long an answer can be voted on."""
    keep_s: Seconds = 180 * DAY_S
    """How long votes are kept, with question and answer."""
