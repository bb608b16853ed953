"""How long-running store work reports progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called often and cheaply; must not raise."""

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        """Report the bytes of `stage` (`download model.gguf`); `total_bytes` is 0 if unknown."""
        ...


def silent(stage: str, done_bytes: int, total_bytes: int) -> None:
    """A `Progress` that does nothing."""
