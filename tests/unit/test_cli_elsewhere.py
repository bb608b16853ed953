"""Commands that ask a server elsewhere, which may be another program, or hostile."""

from __future__ import annotations

import gzip
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ashore.cli.main import main
from ashore.cli.target import ServerTarget, unreachable
from ashore.kit.processes.lock import Holder, HomeLock
from ashore.kit.settings import read_settings

ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202e"
FOUND = {"worst": None, "at_s": 1, "span_s": 1, "running": True, "rules": 1, "unknown": []}
RECORD = {"action": "key:create", "actor": "alice", "at_us": 1, "kind": "act", "mono_us": 1, "seq": 1, "chain": ESCAPES}


def refusal(code: str) -> bytes:
    return json.dumps({"error": {"message": f"not {ESCAPES}you", "hint": f"ask {ESCAPES}", "code": code}}).encode()


MANIFEST = {
    "at_us": 1, "by": "x", "checkpoint": 0, "columns": [], "file": "records.jsonl", "form": "jsonl", "home": "h",
    "key_id": "k", "num_bytes": 3, "query": {}, "records": 1, "sha256": "", "version": "1",
}  # fmt: skip


def member(name: str, data: bytes = b"x", *, size: int | None = None, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return a file as a tar has it. `size`: what its header says, if that is not so."""
    one = tarfile.TarInfo(name)
    one.type, one.size, one.linkname = kind, len(data) if size is None else 0, "/etc/passwd"
    head = bytearray(one.tobuf(tarfile.USTAR_FORMAT))
    if size is not None:
        head[124:136] = (b"\xff" if size < 0 else b"\x80") + (size % (1 << 88)).to_bytes(11, "big")
        head[148:156] = b"%06o\0 " % (sum(head) - sum(head[148:156]) + 8 * 32)
    return bytes(head) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def export(*more: bytes, **files: object) -> bytes:
    """Return an export, with other files where they are given, and with more of them; None: without that one."""
    whole: dict[str, object] = {"manifest.json": MANIFEST, "manifest.sig": b"s", "records.jsonl": b"{}\n", **files}
    told = {name: json.dumps(one).encode() if isinstance(one, dict) else one for name, one in whole.items()}
    parts = [member(f"audit-export/{name}", one) for name, one in told.items() if isinstance(one, bytes)]
    return b"".join((*parts, *more)) + bytes(2 * tarfile.BLOCKSIZE)


def instead(name: str = "audit-export/records.jsonl", kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return an export with another entry in place of its records."""
    return member(name, b"{}\n", kind=kind) + export(**{"records.jsonl": None})


GIB = 1 << 30
NO_EXPORTS = {
    "no tar": b"<html>",
    "a page": b"<html>" * 500,
    "nothing in it": bytes(1024),
    "a link": instead(kind=tarfile.SYMTYPE),
    "a hard link": instead(kind=tarfile.LNKTYPE),
    "a pipe": instead(kind=tarfile.FIFOTYPE),
    "a sparse file": instead(kind=tarfile.GNUTYPE_SPARSE),
    "a long name": export(member("././@LongLink", b"../" * 99, kind=tarfile.GNUTYPE_LONGNAME)),
    "a path out of it": instead("audit-export/../../records.jsonl"),
    "an absolute path": instead("/records.jsonl"),
    "another folder": instead("audit-export/more/records.jsonl"),
    "another file": export(member("audit-export/.bashrc")),
    "two kinds of records": export(member("audit-export/records.csv")),
    "records twice": export(member("audit-export/records.jsonl")),
    "no signature": export(**{"manifest.sig": None}),
    "no records": export(**{"records.jsonl": None}),
    "a manifest of other records": export(**{"manifest.json": {**MANIFEST, "file": "../../x"}}),
    "a manifest that is none": export(**{"manifest.json": b"[" * 5000}),
    "a long manifest": export(**{"manifest.json": b" " * ((1 << 20) + 1)}),
    "a length below zero": member("audit-export/records.jsonl", size=-512) + export(),
    "a length that is not there": member("audit-export/records.jsonl", size=9 * GIB) + export(),
    "a length beyond all": member("audit-export/records.jsonl", size=1 << 80) + export(),
    "a long extended header": member("x", size=9 * GIB, kind=tarfile.XHDTYPE) + export(),
    "an extended length beyond all": member("x", b"99 size=99999999999999999999\n", kind=tarfile.XHDTYPE) + export(),
    "cut off": export()[:2000],
}


class Far:
    """A server that says the same to everybody."""

    def __init__(self) -> None:
        self.status, self.body, self.headers, self.hangs = 200, b"", {}, False
        self.begins = b""
        """If set, it begins its answer so, and goes on with a byte now and then, without end."""
        self.asked: list[tuple[str, str]] = []
        self.end = threading.Event()
        far = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                far.asked.append((self.path, self.headers.get("authorization", "")))
                if far.hangs:
                    far.end.wait(60)
                if far.begins:
                    with suppress(OSError):
                        self.wfile.write(far.begins)
                        while not far.end.wait(0.05):
                            self.wfile.write(b" ")
                    return
                self.send_response(far.status)
                for name, value in far.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(far.body)))
                with suppress(OSError):  # the command left: it waits no longer, or the answer is too long
                    self.end_headers()
                    self.wfile.write(far.body)

            do_POST = do_GET

            def log_message(self, *words: object) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.end.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASHORE_API_KEY", "ash_secret")
    one = Far()
    yield one
    one.stop()


COMMANDS = [
    ["doctor"], ["doctor", "rules"], ["doctor", "apply"], ["doctor", "undo", "1"], ["audit", "search"],
    ["audit", "status"], ["audit", "verify"],
]  # fmt: skip


HOMES = [
    *COMMANDS, ["doctor", "--list"], ["doctor", "--watch"], ["doctor", "--apply"], ["doctor", "changes"],
    ["drill", "list"], ["drill", "show", "host-killed"], ["drill", "reports"], ["drill", "report", "host-killed"],
    ["audit", "export", "out"],
]  # fmt: skip


@pytest.mark.parametrize("words", HOMES, ids=" ".join)
def test_a_key_is_refused_where_no_server_is_asked(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    for key in ("ash_x", ""):
        assert main([*words, "--key", key]) == 2
        said = capsys.readouterr()
        assert said.out == "" and "--key is the API key for a server, and without --url" in said.err


def test_what_a_command_reads_of_this_home_alone_is_refused_of_a_server(
    far: Far, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, told in (
        (["privacy", "policy", "show", "--url", far.url], "add --toml"),
        (["privacy", "policy", "show", "--key", "ash_x"], "add --toml"),
        (["drill", "report", "x", "--html", "--url", far.url], "--html is about this home"),
    ):
        assert main(words) == 2 and told in capsys.readouterr().err
    assert far.asked == []
    assert main(["doctor", "--list"]) == 0, "a key of the environment may be meant for other commands"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_is_no_server_of_ashore_is_said_in_a_line(
    far: Far, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def said() -> str:
        assert main([*words, "--url", far.url]) in (4, 5)
        out, err = capsys.readouterr()
        assert out == "" and "Traceback" not in err and "\x1b" not in err and "\x07" not in err and "\u202e" not in err
        return err

    for body in (b"<html>welcome</html>", b"[1]", b"", b"\xff\xfe", b"[" * 5000):
        far.body = body
        assert "is no answer of ashore" in said()
    far.status, far.headers = 302, {"location": "http://127.0.0.1:1/taken"}
    assert "answered 302" in said() and "127.0.0.1:1" not in str(far.asked)
    far.status, far.headers, far.body = 403, {}, refusal("permission_denied")
    assert "error: not " in said()
    assert {key for _, key in far.asked} == {"Bearer ash_secret"}


@pytest.mark.parametrize("words", [["doctor"], ["audit", "verify"]], ids=" ".join)
def test_a_server_that_hangs_is_left(
    far: Far, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ashore.cli.calls.SLOW_S", 0.2)
    far.hangs = True
    assert main([*words, "--url", far.url]) == 4
    assert "does not answer: timed out" in capsys.readouterr().err


@pytest.mark.parametrize("begins", [b"HTTP/1.0 200 OK\r\nx: ", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_an_answer_without_end_is_left(
    far: Far, begins: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ashore.cli.calls.SLOW_S", 10.0)
    monkeypatch.setattr("ashore.cli.target.ANSWER_S", -9.5)  # 10 s for each byte, half a second for all
    far.begins = begins
    assert main(["doctor", "--url", far.url]) == 4
    assert "had not finished its answer after 0.5 s" in capsys.readouterr().err


def test_an_answer_of_any_length_and_pages_without_end_are_left(
    far: Far, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ashore.cli.target.MOST_ANSWER_BYTES", 1000)
    for far.status, far.body in ((200, b" " * 1001), (403, b" " * 1001)):
        assert main(["doctor", "--url", far.url]) == 4
        assert "answered with more than 1,000 bytes" in capsys.readouterr().err
    far.status, far.body = 200, json.dumps({"items": [], "next": "a"}).encode()
    far.asked.clear()
    assert main(["session", "list", "--url", far.url]) == 4
    assert "sends the page after 'a' again and again" in capsys.readouterr().err and len(far.asked) == 2


def test_no_answer_is_unpacked(far: Far, capsys: pytest.CaptureFixture[str]) -> None:
    far.headers, far.body = {"content-encoding": "gzip"}, gzip.compress(json.dumps({**FOUND, "items": []}).encode())
    assert main(["doctor", "--url", far.url]) == 4 and "is no answer of ashore" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["doctor"], {**FOUND, "items": [], "unknown": [{"rule": ESCAPES, "missing": f"x: {ESCAPES}"}]}),
        (["doctor", "--json"], {**FOUND, "items": [], "unknown": [{"rule": ESCAPES, "missing": ESCAPES}]}),
        (["audit", "search"], {"items": [{**RECORD, "reason": ESCAPES}], "notes": [ESCAPES]}),
        (["audit", "verify"], {"ok": True, "records": 1, "checkpoints": 1, "anchored": 0,
                               "problems": [{"file": ESCAPES, "line": 1, "seq": 1, "what": ESCAPES}]}),
    ],
)  # fmt: skip
def test_no_text_of_a_server_commands_the_terminal(
    far: Far, words: list[str], answer: object, capsys: pytest.CaptureFixture[str]
) -> None:
    far.body = json.dumps(answer).encode()
    assert main([*words, "--url", far.url]) == 0
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said and "\x07" not in said
    assert "\u202e" not in said or "--json" in words


def test_a_record_that_is_made_up_is_refused(far: Far, capsys: pytest.CaptureFixture[str]) -> None:
    far.body = json.dumps({"items": [{"action": 1}]}).encode()
    assert main(["audit", "search", "--url", far.url]) == 4 and "what is no record" in capsys.readouterr().err


@pytest.mark.parametrize("what", NO_EXPORTS)
def test_what_is_no_export_leaves_nothing(
    far: Far, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    far.body = NO_EXPORTS[what]
    assert main(["audit", "export", str(tmp_path / "in" / "out"), "--url", far.url]) == 4
    said = capsys.readouterr().err
    assert f"{far.url} did not send an export: " in said and len(said.splitlines()) == 2
    assert [one.name for one in tmp_path.rglob("*")] == ["in"]


def test_an_export_is_written_as_it_was_sent(far: Far, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, body in (
        ("plain", export()),
        ("packed", b"".join((member("audit-export", b"", kind=tarfile.DIRTYPE),
                             member("x", b"20 mtime=1700000000\n12 size=3\n", kind=tarfile.XHDTYPE),
                             member("audit-export/records.jsonl", b"{}\n", size=0),
                             export(**{"records.jsonl": None})))),
    ):  # fmt: skip
        far.body, into = body, tmp_path / name
        assert main(["audit", "export", str(into), "--url", far.url]) == 0, capsys.readouterr().err
        assert (into / "records.jsonl").read_bytes() == b"{}\n" and (into / "manifest.sig").read_bytes() == b"s"
    far.asked.clear()
    (tmp_path / "broken").symlink_to("nowhere")
    for name in ("plain", "broken"):
        assert main(["audit", "export", str(tmp_path / name), "--url", far.url]) == 2
        assert "already exists" in capsys.readouterr().err
    assert far.asked == [], "before the server makes it"


def test_a_server_may_take_its_time_to_make_an_export(
    far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ashore.cli.calls.SLOW_S", 0.05)
    far.hangs, far.body = True, export()
    threading.Timer(0.5, far.end.set).start()
    assert main(["audit", "export", str(tmp_path / "out"), "--url", far.url]) == 0
    far.end.clear()
    monkeypatch.setattr("ashore.cli.calls.FILE_WAIT_S", 0.2)
    assert main(["audit", "export", str(tmp_path / "late"), "--url", far.url]) == 4
    assert "does not answer: timed out" in capsys.readouterr().err


@pytest.mark.parametrize(("is_running", "hint"), [(True, "its API is restarted now"), (False, "`ashore up`")])
def test_a_server_of_this_home_that_does_not_answer_runs_or_has_stopped(
    is_running: bool, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path))
    lock = HomeLock.acquire(read_settings().home.lock, Holder(pid=1, address="http://h")) if is_running else None
    try:
        assert hint in unreachable(ServerTarget(url="http://127.0.0.1:1", local=True), OSError("refused")).hint
    finally:
        if lock is not None:
            lock.release()
