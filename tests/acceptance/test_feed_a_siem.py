"""The page that feeds a SIEM, with a server and a real rsyslog: every command of it, with what it must print."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from page_run import blocks_of, reader_env, run_block
from served import start_served
from syslog_server import Rsyslog
from waiting import eventually

from ashore.control.audit import read_feeds

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "feed-a-siem.md"


@pytest.fixture
def siem(tmp_path: Path) -> Iterator[Rsyslog]:
    siem = Rsyslog(tmp_path)
    yield siem.start()
    siem.kill()


def test_the_page_does_what_it_says(tmp_path: Path, siem: Rsyslog, free_port: Callable[[], int]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for old, new in (
        ("siem.corp.example:6514@10.0.0.0/8", f"127.0.0.1:{siem.port}"), ("/etc/ashore/corp-ca.pem", str(siem.ca)),
        ("syslog+tls://siem.corp.example:6514", siem.to),
    ):  # fmt: skip
        assert old in page
        page = page.replace(old, new)
    blocks, files = blocks_of(page)
    folder, home = tmp_path / "work", tmp_path / "home"
    folder.mkdir()
    env = {
        **reader_env(folder, home), "SIEM_FILE": str(siem.out), "PUBLIC_KEY": str(home / "audit" / "public-key.pem"),
    }  # fmt: skip
    server = start_served(
        home, ("fake:echo",), store=None, port=free_port(), grpc_port=free_port(), config=files["ashore.toml"]
    )
    try:
        eventually(lambda: any(one.good_us and not one.failures for one in read_feeds(home / "audit")))
        eventually(lambda: siem.out.is_file() and b'chain="supervisor" seq="4"' in siem.out.read_bytes())
        eventually(lambda: b'"action":"feed:begin"' in siem.out.read_bytes())
        for block in blocks:
            run_block(block, folder=folder, env=env)
    finally:
        server.stop()
