"""One suite for all places that backups lie in: the twin in memory, a folder, a bucket of a real S3 server."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from memory_node import MemoryNode
from s3_server import KEYS

from ashore.control.backup import Node, open_node
from ashore.control.backup.ports import read_small, write_small
from ashore.core.errors import BackupDamaged, NodeUnavailable, NotFound

KINDS = ("memory", "directory", "bucket")


@pytest.fixture(params=KINDS)
def node(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    match request.param:
        case "memory":
            made: Node = MemoryNode()
        case "directory":
            made = open_node(str(tmp_path / "deep" / "node"))
        case _:
            for name, value in {**KEYS, "AWS_ENDPOINT_URL": request.getfixturevalue("s3_url")}.items():
                monkeypatch.setenv(name, value)
            made = open_node(f"s3://models/nodes/{tmp_path.name}")
    made.prepare()
    made.prepare()
    return made


@pytest.fixture(params=KINDS)
def gone(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Node, Path]:
    """A node whose place was there and is not any more; and the place, where it is a folder."""
    place = tmp_path / "node"
    match request.param:
        case "memory":
            twin = MemoryNode()
            twin.away = True
            return twin, place
        case "directory":
            made = open_node(str(place))
            made.prepare()
            shutil.rmtree(place)
            return made, place
        case _:  # nobody listens there
            for name, value in {**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}.items():
                monkeypatch.setenv(name, value)
            return open_node("s3://models/nodes/gone"), place


def read(node: Node, name: str) -> bytes:
    return read_small(node, name, limit_bytes=1 << 26)


def test_a_file_shows_when_it_is_finished_and_replaces_the_one_before(node: Node) -> None:
    sink = node.put("objects/ab/one")
    sink.write([b"12", memoryview(b"345")])
    sink.write([b"6"])
    assert node.sizes("objects") == {}
    with pytest.raises(NotFound):
        node.open("objects/ab/one")
    sink.finish()
    sink.abort()
    sink.abort()
    assert read(node, "objects/ab/one") == b"123456"
    assert node.sizes("objects") == {"objects/ab/one": 6}
    write_small(node, "objects/ab/one", b"another")
    assert read(node, "objects/ab/one") == b"another"


def test_what_is_thrown_away_leaves_nothing(node: Node) -> None:
    write_small(node, "objects/ab/one", b"before")
    sink = node.put("objects/ab/one")
    sink.write([b"after"])
    sink.abort()
    sink.abort()
    assert read(node, "objects/ab/one") == b"before"
    node.put("objects/ab/two").abort()
    assert dict(node.sizes("objects")) == {"objects/ab/one": 6}


def test_long_files_come_back_whole(node: Node) -> None:
    """Longer than two parts of an upload, in pieces that fit none."""
    pieces = [bytes((number % 251,)) * 1_234_567 for number in range(18)]
    sink = node.put("objects/cd/long")
    for piece in pieces:
        sink.write([piece])
    sink.finish()
    whole = b"".join(pieces)
    assert node.sizes("objects") == {"objects/cd/long": len(whole)}
    source = node.open("objects/cd/long")
    assert source.num_bytes == len(whole)
    head, tail = bytearray(70_000), bytearray(1)
    source.read_into(5_000_000, [memoryview(head), memoryview(tail)])
    assert head + tail == whole[5_000_000:5_070_001]
    source.read_into(len(whole) - 1, [memoryview(tail)])
    assert tail == whole[-1:]
    source.close()
    source.close()


def test_reading_beyond_the_end_is_told(node: Node) -> None:
    write_small(node, "objects/ab/short", b"123")
    source = node.open("objects/ab/short")
    with pytest.raises(BackupDamaged, match="3 bytes"):
        source.read_into(1, [memoryview(bytearray(3))])
    source.close()


def test_an_empty_file_is_a_file(node: Node) -> None:
    write_small(node, "objects/ab/empty", b"")
    assert node.sizes("objects") == {"objects/ab/empty": 0}
    assert read(node, "objects/ab/empty") == b""


def test_of_many_that_make_one_file_one_does(node: Node) -> None:
    start = threading.Barrier(8)

    def make(number: int) -> bool:
        start.wait()
        return node.make("commits/000000000001", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(8)))
    assert made.count(True) == 1
    assert read(node, "commits/000000000001") == str(made.index(True)).encode()
    assert node.make("commits/000000000001", b"later") is False


def test_sizes_tell_of_one_folder_alone(node: Node) -> None:
    assert node.sizes("objects") == {}
    for name in ("objects/ab/1", "objects/cd/2", "objects2/x", "commits/000000000001"):
        write_small(node, name, name.encode())
    assert dict(node.sizes("objects")) == {"objects/ab/1": 12, "objects/cd/2": 12}
    assert dict(node.sizes("commits")) == {"commits/000000000001": 20}


def test_what_is_removed_is_gone_and_may_be_removed_again(node: Node) -> None:
    write_small(node, "objects/ab/one", b"1")
    node.remove("objects/ab/one")
    node.remove("objects/ab/one")
    node.remove("objects/zz/never")
    assert node.sizes("objects") == {}


def test_it_may_be_used_from_several_threads(node: Node) -> None:
    def write(number: int) -> bytes:
        write_small(node, f"objects/{number % 3:02}/{number}", str(number).encode() * 1000)
        return read(node, f"objects/{number % 3:02}/{number}")

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(write, range(24))) == [str(number).encode() * 1000 for number in range(24)]
    assert len(node.sizes("objects")) == 24


def test_its_file_system_has_one_name(node: Node) -> None:
    assert node.filesystem() == node.filesystem()


@pytest.mark.parametrize(
    "ask",
    [
        lambda node: write_small(node, "objects/ab/one", b"1"),
        lambda node: node.make("commits/000000000001", b"1"),
        lambda node: node.open("objects/ab/one"),
        lambda node: node.sizes("objects"),
    ],
    ids=["put", "make", "open", "sizes"],
)
def test_a_place_that_is_not_there_is_told_and_never_made(
    gone: tuple[Node, Path], ask: Callable[[Node], object]
) -> None:
    node, place = gone
    with pytest.raises(NodeUnavailable) as caught:
        ask(node)
    assert node.place in caught.value.message and caught.value.hint
    assert not place.exists()
