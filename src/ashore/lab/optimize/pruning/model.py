"""Request to prune."""

from __future__ import annotations

from typing import Final, Literal

from ashore.core.share import read_share
from ashore.data.jobs.operations.asks import PruneIn
from ashore.kit.store import pruned_name

Method = Literal["distill", "lora"]
"""How the rest learns: all of it but the vocabulary, or adapters that are merged at the end."""
HEAL_TOKENS: Final = 300_000
"""Tokens of healing of a recipe that does not say."""
LEARNING_RATES: Final[dict[Method, float]] = {"distill": 5e-4, "lora": 2e-3}
"""Peak learning rate of healing, unless the request has one."""


class PruneWish(PruneIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A parsed request."""

    @property
    def share(self) -> float:
        """Of the whole model's parameters, those of the vocabulary included, above 0 and below 1.

        Raises:
            InvalidRequest: `remove` is not a valid share.
        """
        return read_share(self.remove)

    @property
    def rate(self) -> float:
        """Peak learning rate of healing."""
        return self.learning_rate or LEARNING_RATES[self.method]

    @property
    def target(self) -> str:
        """Name of the new model."""
        return self.name or pruned_name(self.model, self.share)
