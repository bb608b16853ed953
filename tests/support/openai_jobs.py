"""What tests of batches and background answers send, and how they wait for the end."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from openai import OpenAI
from waiting import eventually


def lines_of(*bodies: dict[str, object], url: str = "/v1/chat/completions") -> bytes:
    """Return the file of a batch; its lines are called q0, q1, …"""
    return b"".join(
        json.dumps({"custom_id": f"q{at}", "method": "POST", "url": url, "body": body}).encode() + b"\n"
        for at, body in enumerate(bodies)
    )


def begin_batch(client: OpenAI, lines: bytes, **options: Any) -> Any:
    """Upload the file and start its batch."""
    file = client.files.create(file=("in.jsonl", lines), purpose="batch")
    asked = {"endpoint": "/v1/chat/completions", "completion_window": "24h", **options}
    return client.batches.create(input_file_id=file.id, **asked)


def ended_batch(client: OpenAI, batch_id: str) -> Any:
    """Return the batch once it has ended."""
    ends: Collection[str] = ("completed", "failed", "expired", "cancelled")
    return eventually(lambda: (batch := client.batches.retrieve(batch_id)).status in ends and batch)


def rows_of(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """Return the lines of an output or error file; none where there is no file."""
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()] if file_id else []
