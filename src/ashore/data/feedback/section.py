"""`[learning]`: whether answers may be voted on, what is kept for it, and when a model learns from it."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from msgspec import Meta, field

from ashore.core.errors import InvalidSpec
from ashore.data.feedback.consent import Purpose
from ashore.data.feedback.turns import When, zone_named
from ashore.kit.section import AFile, AtLeast0, Kept, Seconds, Section

SHARE: Final = 0.2
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
    tasks: tuple[AFile, ...] = ()
    """Task files of what should get better, which no vote is part of (docs/how-to/evaluate-a-model.md). Without one,
    nothing that was learned passes the gate."""
    old_skills: tuple[str, ...] = ("stdlib-en", "reviews-zh")
    """Task files, or names of built-in tasks, of what must stay as good as it is."""
    task_items: AtLeast0 = 400
    """Most items of each task; 0: all."""
    probes: AFile = ""
    """JSONL of `prompt`, `must` and `must_not`: what answers must have in them, and must not."""
    known: AFile = ""
    """JSONL of `prompt` and `answer`: questions whose right answer is known, by which people are checked."""
    replay: AFile = ""
    """Prompts whose answers by the model itself are learned again beside what is new; empty: built-in ones."""
    replay_share: Annotated[float, Meta(ge=0, lt=1)] = SHARE
    """Share of those among all examples."""
    learning_rate: Annotated[float, Meta(gt=0, lt=1)] = 5e-4
    """Highest rate at which the adapter learns."""
    promote: Literal["ask", "automatic"] = "ask"
    """What `ashore learn run` does with a shadow: `ask` leaves it to somebody to promote; `automatic` makes it, after
    `step_s`, a canary of 5, 20 and 50 %, which is promoted unless it is found worse."""
    step_s: Seconds = 3600.0
    """How long a shadow, and each step of such a canary, takes."""
    at: Annotated[str, Meta(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9])?$", examples=['"02:00"'])] = ""
    """Time of day at which a run of each model with votes begins; empty: none does. A night that was missed is made up
    for once."""
    zone: Annotated[str, Meta(examples=['"Europe/Berlin"'])] = "UTC"
    """Time zone of `at`, by its IANA name."""
    at_examples: AtLeast0 = 0
    """Begin a run as soon as so many votes with texts came since the last one; 0: never."""
    key_file: AFile = ""
    """File with the API key of an account that owns the models: runs that begin by themselves are jobs of that account,
    and so are the releases they make. Read at each run."""

    @property
    def when(self) -> When:
        """When runs begin by themselves."""
        return When(at=self.at, zone=self.zone, at_examples=self.at_examples)

    def checked(self, where: str) -> Self:
        zone_named(self.zone, where)
        if self.when and not self.feedback:
            raise InvalidSpec(
                f"{where} begins runs by itself, and takes no votes to learn from",
                hint="set feedback = true, or remove at and at_examples",
            )
        if self.when and not self.key_file:
            raise InvalidSpec(
                f"{where} begins runs by itself, and does not say in whose name",
                hint="set key_file to a file with the API key of an account that owns the models (role model-owner)",
            )
        return self
