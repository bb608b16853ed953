"""Commands that ask a server elsewhere, which may be another program, or hostile."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ashore.cli.main import main

ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202e"
FOUND = {"worst": None, "at_s": 1, "span_s": 1, "running": True, "rules": 1, "unknown": []}
RECORD = {"action": "key:create", "actor": "alice", "at_us": 1, "kind": "act", "mono_us": 1, "seq": 1, "chain": ESCAPES}


def refusal(code: str) -> bytes:
    return json.dumps({"error": {"message": f"not {ESCAPES}you", "hint": f"ask {ESCAPES}", "code": code}}).encode()


def link_out_of_it() -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as tar:
        one = tarfile.TarInfo("audit-export/manifest.json")
        one.type, one.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(one)
    return body.getvalue()


class Far:
    """A server that says the same to everybody."""

    def __init__(self) -> None:
        self.status, self.body, self.headers, self.hangs = 200, b"", {}, False
        self.asked: list[tuple[str, str]] = []
        self.end = threading.Event()
        far = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                far.asked.append((self.path, self.headers.get("authorization", "")))
                if far.hangs:
                    far.end.wait(60)
                self.send_response(far.status)
                for name, value in far.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(far.body)))
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


def test_a_record_or_an_export_that_is_made_up_is_refused(
    far: Far, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    far.body = json.dumps({"items": [{"action": 1}]}).encode()
    assert main(["audit", "search", "--url", far.url]) == 4 and "what is no record" in capsys.readouterr().err
    for body in (b"<html>", link_out_of_it()):
        far.body = body
        assert main(["audit", "export", str(tmp_path / "out"), "--url", far.url]) == 4
        assert "did not send an export" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == [] or not (tmp_path / "out").exists()
