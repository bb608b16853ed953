"""What an engine of another maker is told in every form: call nobody, and write below /tmp only."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

QUIET: Final[Mapping[str, str]] = MappingProxyType(
    {
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "HOME": "/tmp",
        "VLLM_NO_USAGE_STATS": "1",
    }
)
