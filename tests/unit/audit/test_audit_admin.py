"""The record over HTTP, without a socket: who may read it, what is found, that every reading is recorded."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from admin_app import AdminApp
from audit_notes import a_log, write_chain

from ashore.cli.main import main
from ashore.control.audit import AuditService, open_anchor, verify_export
from ashore.control.audit.calls import CALLS
from ashore.data.audit import PUBLIC_KEYS, AuditLog, Checkpoints


class Office(AdminApp):
    """An application in which everybody holds one role, over a record of two chains."""

    def __init__(self, folder: Path, role: str) -> None:
        self.root, self.keys, self.anchor = folder / "audit", folder / "keys", folder / "anchor"
        self.anchor.mkdir()
        write_chain(self.root, 30, "api-1")
        line = Checkpoints(self.root, self.keys).make(1)
        assert line is not None
        open_anchor(str(self.anchor), Checkpoints(self.root, self.keys).home).put(1, line)
        self.log: AuditLog = a_log(self.root, "api-0")
        super().__init__(role, recorder=self.log)
        self.service = AuditService(self.root, self.keys, self.log, anchors=[str(self.anchor)])
        self.desks["audit"] = self.service

    def call(self, method: str, path: str, query: str = "") -> tuple[int, bytes]:
        return self.send(method, path, query=query)

    def told(self, action: str) -> list[dict[str, Any]]:
        status, body = self.call("GET", "/admin/v1/audit/records", f"action={action}")
        assert status == 200, body
        return json.loads(body)["items"]  # type: ignore[no-any-return]


@pytest.fixture
def office(tmp_path: Path) -> Any:
    one = Office(tmp_path, "auditor")
    yield one
    one.log.close()


def test_an_auditor_finds_and_is_found(office: Office) -> None:
    status, body = office.call("GET", "/admin/v1/audit/records", "kind=request&model=chat&limit=5")
    items = json.loads(body)["items"]
    assert status == 200 and len(items) == 5 and items[0]["actor"] == "alice@bank" and items[0]["at"].endswith("Z")
    (reading,) = [one for one in office.told("audit:search") if one["detail"].get("model")]
    assert reading["actor"] == "anyone" and reading["origin"] == "10.0.0.9"
    assert reading["detail"] == {"kind": "request", "limit": 5, "model": "chat"}


def test_what_everybody_may_search_keeps_no_thread_that_everything_else_needs() -> None:
    """A log of a week has gigabytes: who looks for their own requests again and again waits in line with themselves."""
    everybodys = {call.word: call.reads_text for call in CALLS if not call.action}
    assert everybodys == {"mine": True, "request": True}


def test_the_record_is_verified_against_the_configured_anchor_alone(office: Office) -> None:
    status, body = office.call("POST", "/admin/v1/audit/verify", "anchor=configured")
    verdict = json.loads(body)
    assert status == 200 and verdict["ok"] and verdict["anchored"] == 1 and verdict["problems"] == []
    for elsewhere in ("anchor=/etc/passwd", "anchor=s3://evil/x", "place=x"):
        assert office.call("POST", "/admin/v1/audit/verify", elsewhere)[0] == 400
    assert office.told("audit:verify")


def test_an_export_comes_signed(office: Office, tmp_path: Path) -> None:
    status, body = office.call("GET", "/admin/v1/audit/export", "form=csv&kind=request")
    assert status == 200
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    manifest, problem = verify_export(tmp_path / "out" / "audit-export", office.service.public_keys())
    assert problem is None and manifest is not None and manifest.records == 30 and manifest.by == "anyone"
    assert office.call("GET", "/admin/v1/audit/export", "form=xlsx")[0] == 400


def test_status_says_how_far_it_is_signed(office: Office) -> None:
    status, body = office.call("GET", "/admin/v1/audit/status")
    assert status == 200 and json.loads(body)["chains"] == {"api-1": 36}


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=x", "limit=99999999999999", "limit=1000001", "since=yesterday", "who=alice", "until=%00"],
)
def test_what_is_malformed_is_refused_with_its_name(office: Office, query: str) -> None:
    status, body = office.call("GET", "/admin/v1/audit/records", query)
    assert status == 400 and json.loads(body)["error"]["message"]


@pytest.mark.parametrize("role", ["system-administrator", "security-officer", "developer", "viewer"])
def test_nobody_else_reads_it(tmp_path: Path, role: str) -> None:
    office = Office(tmp_path, role)
    for method, path in (
        ("GET", "/admin/v1/audit/records"),
        ("POST", "/admin/v1/audit/verify"),
        ("GET", "/admin/v1/audit/export"),
        ("GET", "/admin/v1/audit/status"),
    ):
        assert office.call(method, path)[0] == 403
    office.log.close()


def test_an_auditor_reads_a_log_elsewhere_by_the_commands(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("ASHORE_API_KEY", "a key")
    office.answer_commands(monkeypatch)
    far = ("--url", "https://far.example")

    def said(*words: str, exits: int = 0) -> tuple[str, str]:
        assert main(["audit", *words, *far]) == exits
        told = capsys.readouterr()
        assert "acting as the owner" not in told.err
        return told.out, told.err

    out, err = said("search", "--kind", "request", "--model", "chat", "--limit", "5")
    assert len(out.splitlines()) == 5 and "api-1#" in out and "alice@bank model:infer" in out
    assert "--limit 5 was reached" in err
    out, err = said("search", "--actor", "alice@bnak")
    assert out == "" and "no record has the actor 'alice@bnak'" in err and "0 records" in err
    out, _ = said("status")
    assert "1 checkpoint" in out and "api-1: signed up to number 36" in out
    out, _ = said("verify", "--anchor", "configured")
    assert "anchored: 1 checkpoint" in out and "as they were written" in out
    into = tmp_path / "cases" / "7" / "out"
    out, _ = said("export", str(into), "--form", "csv", "--kind", "request")
    assert f"records in {into / 'records.csv'}" in out and [one.name for one in into.parent.iterdir()] == ["out"]
    assert into.stat().st_mode & 0o777 == 0o700
    assert {one.name: one.stat().st_mode & 0o777 for one in into.iterdir()} == dict.fromkeys(
        ("manifest.json", "manifest.sig", "records.csv"), 0o600
    )
    check = ["audit", "verify", "--path", str(into), "--public-key", str(office.keys / PUBLIC_KEYS)]
    assert main(check) == 0 and "unchanged since the export" in capsys.readouterr().out
    assert "already exists" in said("export", str(into), exits=2)[1]
    chain = next((office.root / "chains" / "api-1").glob("*.log"))
    chain.write_bytes(chain.read_bytes().replace(b"alice", b"alicE", 1))
    out, _ = said("verify", exits=4)
    assert "WRONG: " in out and "NOT as they were written" in out
    for words in (
        ("search", "--text-file", "x"), ("search", "--archive", "/a"), ("verify", "--path", "/a"),
        ("verify", "--public-key", "/a"), ("verify", "--anchor", "/a"),
        ("export", str(tmp_path / "o"), "--form", "chains"),
    ):  # fmt: skip
        said(*words, exits=2)
    assert not (tmp_path / "none").exists(), "nothing was made here"


def test_a_public_key_by_the_name_of_another_one_is_refused(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--key` once was the public key: a copy would be verified by the keys of this home."""
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "none"))
    copy, public_key = ("--path", str(office.root)), str(office.keys / PUBLIC_KEYS)
    assert main(["audit", "verify", *copy, "--key", public_key]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "the public key is --public-key" in said.err
    assert main(["audit", "verify", *copy, "--public-key", public_key]) == 0


def test_the_commands_find_and_export_by_the_same_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    for which in (["--tenant", "default"], ["--all", "--yes"]):
        assert main(["cache", "purge", *which]) == 0
    capsys.readouterr()
    assert main(["audit", "search", "tenant=default", "purge", "--action", "cache:*", "--since", "1h", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["items"]
    assert found["detail"] == {"tenant": "default"}
    export = ["audit", "export", str(tmp_path / "out"), "all=1", "--action", "cache:*"]
    assert main([*export, "--form", "csv", "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert (manifest["records"], manifest["query"]["text"]) == (1, "all=1")
    assert main(["audit", "export", str(tmp_path / "copy"), "--form", "chains"]) == 0
    assert main(["audit", "verify", "--path", str(tmp_path / "copy")]) == 0
    assert main(["audit", "search", "--text-file", str(tmp_path / "none")]) == 2
    assert "none: No such file" in capsys.readouterr().err
