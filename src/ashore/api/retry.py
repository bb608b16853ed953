"""The retry-after time of an error, for every protocol."""

from __future__ import annotations

import math
from typing import Final

from ashore.errors import AshoreError

DEFAULT_S: Final = 1
"""What is told with an error that may pass and says no time of its own."""


def retry_after(error: AshoreError) -> int | None:
    """Return the whole seconds, at least one, after which to send the request again; None where that is no use."""
    if error.retry_after_s is not None:
        return max(1, math.ceil(error.retry_after_s))
    return DEFAULT_S if error.retryable else None
