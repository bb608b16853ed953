"""What an engine of another maker is told in every container: call nobody, and write below /tmp only."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ashore.engines.vllm.command import QUIET as OF_VLLM

QUIET: Final[Mapping[str, str]] = MappingProxyType({**OF_VLLM, "DO_NOT_TRACK": "1", "HOME": "/tmp"})
