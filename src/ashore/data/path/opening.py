"""What a conversation begins with, as a hash: equal for all of its turns, and for questions on one document."""

from __future__ import annotations

import hashlib
from typing import Final

from ashore.data.path.model import GenerationRequest

USER_CHARS: Final = 2000
"""Length of the beginning of a user's first message, or of a raw prompt, that counts."""


def opening_of(request: GenerationRequest, partition: str, adapter: str) -> bytes:
    """Return the hash of a masked request's beginning: its tools and its messages up to the first of the user.

    Args:
        request: The request.
        partition: That of the prefix cache, so that equal openings of two tenants say nothing of each other.
        adapter: The adapter that computes it; empty: none.
    """
    seen = hashlib.blake2b(digest_size=16)

    def take(*parts: str) -> None:
        for part in parts:
            seen.update(part.encode("utf-8", "surrogatepass") + b"\0")

    take(partition, adapter)
    if request.prompt is not None:
        take(str(request.prompt[:USER_CHARS]))
    for tool in request.tools:
        take(tool.name, tool.description, tool.parameters)
    for message in request.messages:
        is_user = message.role == "user"
        take(message.role, message.content[:USER_CHARS] if is_user else message.content)
        if is_user:
            break
    return seen.digest()
