"""Every anchor keeps the lines it was given, in order, once, and refuses another line of the same number."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_notes import write_chain
from memory_anchor import MemoryAnchor
from s3_server import KEYS

from ashore.control.audit import Anchor, open_anchor
from ashore.core.errors import InvalidRequest, SourceUnreachable, TamperedAudit
from ashore.data.audit import Checkpoints
from ashore.data.audit.checkpoints import read_checkpoints


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[bytes]]:
    """Three checkpoints, and the name of their home."""
    folder = tmp_path_factory.mktemp("signed")
    checkpoints = Checkpoints(folder / "audit", folder / "keys")
    for turn in range(3):
        write_chain(folder / "audit", 2)
        checkpoints.make(turn)
    return checkpoints.home, [line.raw for line in read_checkpoints(checkpoints.path)]


@pytest.fixture(params=["memory", "folder", "s3"])
def make_anchor(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed: tuple[str, list[bytes]]
) -> Callable[[], Anchor]:
    """Return what opens the same anchor again and again."""
    home = signed[0]
    if request.param == "memory":
        anchor = MemoryAnchor()
        return lambda: anchor
    if request.param == "folder":
        return lambda: open_anchor(str(tmp_path), home)
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": request.getfixturevalue("s3_url")}.items():
        monkeypatch.setenv(name, value)
    return lambda: open_anchor(f"s3://models/{tmp_path.name}", home)


def test_lines_come_back_in_order(make_anchor: Callable[[], Anchor], signed: tuple[str, list[bytes]]) -> None:
    lines = signed[1]
    assert list(make_anchor().read()) == []
    for number, line in enumerate(lines, start=1):
        make_anchor().put(number, line)
    assert list(make_anchor().read()) == lines


def test_the_same_line_may_come_twice_and_another_may_not(
    make_anchor: Callable[[], Anchor], signed: tuple[str, list[bytes]]
) -> None:
    anchor, lines = make_anchor(), signed[1]
    anchor.put(1, lines[0])
    anchor.put(2, lines[1])
    anchor.put(1, lines[0])
    make_anchor().put(2, lines[1])
    with pytest.raises(TamperedAudit, match="2"):
        make_anchor().put(2, lines[1].replace(b'"at_us":1', b'"at_us":9'))
    assert list(make_anchor().read()) == lines[:2]


def test_a_folder_goes_on_behind_half_a_line(tmp_path: Path, signed: tuple[str, list[bytes]]) -> None:
    home, lines = signed
    open_anchor(str(tmp_path), home).put(1, lines[0])
    with (tmp_path / f"{home}.checkpoints").open("ab") as file:
        file.write(lines[1][:50])
    open_anchor(str(tmp_path), home).put(2, lines[1])
    assert list(open_anchor(str(tmp_path), home).read()) == lines[:2]


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    anchor = open_anchor(str(tmp_path / "none"), "home")
    with pytest.raises(SourceUnreachable, match="cannot be written"):
        anchor.put(1, b"x")
    with pytest.raises(SourceUnreachable, match="is not a directory"):
        list(anchor.read())


def test_a_bucket_that_is_away_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SourceUnreachable):
        open_anchor("s3://audit/x", "home").put(1, b"x")


def test_syslog_gets_one_message_of_rfc_5424_for_each_checkpoint(
    tmp_path: Path, signed: tuple[str, list[bytes]]
) -> None:
    line = signed[1][0]
    for kind in ("udp", "unix"):
        with socket.socket(socket.AF_INET if kind == "udp" else socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0) if kind == "udp" else str(tmp_path / "log"))
            where = f"127.0.0.1:{server.getsockname()[1]}" if kind == "udp" else str(tmp_path / "log")
            open_anchor(f"syslog+{kind}://{where}", "home").put(1, line)
            heard = server.recv(65_536)
        assert heard.startswith(b"<109>1 20") and heard.endswith(b" checkpoint - " + line)


def test_syslog_over_tcp_counts_its_octets(signed: tuple[str, list[bytes]]) -> None:
    line = signed[1][0]
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            stream, _ = server.accept()
            with stream:
                while data := stream.recv(65_536):
                    heard.append(data)

        thread = threading.Thread(target=serve)
        thread.start()
        open_anchor(f"syslog+tcp://127.0.0.1:{server.getsockname()[1]}", "home").put(1, line)
        thread.join(10)
    count, _, message = b"".join(heard).partition(b" ")
    assert int(count) == len(message) and message.endswith(line)
    with pytest.raises(InvalidRequest, match="not read"):
        list(open_anchor("syslog+tcp://127.0.0.1:1", "home").read())


@pytest.mark.parametrize("place", ["ftp://x/y", "s3://", "s3://bucket", "syslog+tcp://", "syslog+smtp://a:1"])
def test_a_malformed_place_is_refused(place: str) -> None:
    with pytest.raises(InvalidRequest):
        open_anchor(place, "home")
