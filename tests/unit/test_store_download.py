"""A download from a server that does not mean well: no more bytes than were promised, and an end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from ashore.core.errors import CorruptBlob, RemoteRefused, SourceUnreachable
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


def test_a_server_that_brings_one_byte_a_try_or_takes_ranges_back_is_given_up(tmp_path: Path) -> None:
    asked: list[str] = []

    def one_byte(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("range", ""))
        return httpx.Response(206 if asked[-1] else 200, headers={"content-length": "3000"}, content=iter([b"x"]))

    def taken_back(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("range", ""))
        return httpx.Response(416) if asked[-1] else httpx.Response(200, content=iter([bytes(9_000)]))

    def round_in_circles(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": str(request.url)})

    def get(name: str, answer: Callable[[httpx.Request], httpx.Response], num_bytes: int) -> None:
        with httpx.Client(transport=httpx.MockTransport(answer), follow_redirects=True) as client:
            download(
                client, "http://peer/blob", tmp_path / name, stage="x", progress=lambda *_: None, num_bytes=num_bytes,
                pause_s=0,
            )  # fmt: skip

    with pytest.raises(SourceUnreachable):
        get("slow", one_byte, 3_000)
    assert len(asked) == 4
    asked.clear()
    with pytest.raises(RemoteRefused, match="416"):
        get("back", taken_back, 20_000)
    assert len(asked) == 4
    with pytest.raises(SourceUnreachable, match="redirects"):
        get("circle", round_in_circles, 3_000)
