"""What the operator says of trying releases: `[release]` of ashore.toml, as the workers read it."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ashore.releases.burn import Slo
from ashore.releases.judges import JudgeSpec

DEFAULT_PAIRS: Final = 20
GateRule = Literal["if_evaluated", "required"]
"""Whether a release may be made of a model that was never evaluated against a gate."""


class ReleasePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    pairs: int = DEFAULT_PAIRS
    """Most different pairs of answers kept of each release, masked; 0: none."""
    judges: tuple[JudgeSpec, ...] = ()
    """The operator's own, whose verdicts are part of the test."""
    slo: Slo = Slo()
    """What a canary may not use up too fast."""
    gate: GateRule = "if_evaluated"
    """What is asked of the evaluation of a model; a failed one stops a release either way."""
    allow_options: tuple[str, ...] = ()
    """Engine options that releases made over the API may have beyond those that tune."""
    adapter_folders: tuple[str, ...] = ()
    """Folders that their adapters may lie in; those that a `[[model]]` names are among them."""
