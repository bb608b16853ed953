"""A download from a server that does not mean well: no more bytes than were promised, and an end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ashore.core.errors import CorruptBlob, RemoteRefused
from ashore.kit.store.download import download


def fetch(target: Path, answer: httpx.Response) -> None:
    with httpx.Client(transport=httpx.MockTransport(lambda request: answer)) as client:
        download(
            client, "http://peer/blob", target, stage="x", progress=lambda *_: None, num_bytes=3000, sha256="0" * 64
        )


def test_a_server_that_sends_on_and_on_fills_no_disk(tmp_path: Path) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1000
            yield bytes(1000)

    with pytest.raises(CorruptBlob, match="more than the 3000 bytes"):
        fetch(tmp_path / "blob", httpx.Response(200, content=endless()))
    assert sent == 4000 and list(tmp_path.iterdir()) == []


def test_a_server_that_has_no_range_of_nothing_is_asked_once(tmp_path: Path) -> None:
    with pytest.raises(RemoteRefused, match="416"):
        fetch(tmp_path / "blob", httpx.Response(416))
