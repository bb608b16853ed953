"""The doctor's commands: on a home for its owner, and of a server with `--url`."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ashore.cli import doctor
from ashore.cli.main import main
from ashore.cli.recorded import os_user, owner
from ashore.cli.whichtoml import NONE_READ
from ashore.control.doctor import load_rules
from ashore.control.doctor.calls import DoctorRound, FindingsIn, Found, find
from ashore.control.doctor.model import Change, Evidence, Finding, Unknown
from ashore.core.errors import AshoreError, NotReady, RemoteRefused, SourceUnreachable, Unauthenticated


def found(*items: Finding, running: bool = True) -> Found:
    unknown = (Unknown(rule="D301", missing="disk: why"), Unknown(rule="D701", missing="gpus: no nvidia-smi here"))
    return Found(items=items, worst=None, at_s=1.0, span_s=2.0, running=running, rules=7, unknown=unknown)


def finding(rule: str, area: str, **fields: Any) -> Finding:
    told = {"severity": "critical", "what": "it is open", "cause": "somebody opened it", "remedy": "close it", **fields}
    return Finding(rule=rule, area=area, evidence=(Evidence(name="mode", seen="0644"),), sure="certain", **told)


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that others may read, in a home of which the doctor finds that."""
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir(mode=0o700)
    file = tmp_path / "home" / "first-key"
    file.touch(mode=0o644)
    file.chmod(0o644)
    change = Change(kind="mode", target=str(file), value="0600")
    monkeypatch.setattr(doctor.HomeLook, "_look", lambda self: found(finding("D920", "access", change=change)))
    return file


@pytest.mark.parametrize(
    ("asked", "rules", "worst"),
    [
        (FindingsIn(), ["D920", "D302"], "critical"),
        (FindingsIn(only="disk, D701"), ["D302"], "warning"),
        (FindingsIn(ignore="access"), ["D302"], "warning"),
        (FindingsIn(only="disk", ignore="D302,gpu"), [], None),
    ],
)
@pytest.mark.parametrize("running", [True, False])
def test_what_was_not_asked_is_neither_shown_nor_counted(
    asked: FindingsIn, rules: list[str], worst: str | None, running: bool, tmp_path: Path
) -> None:
    async def look(*, fresh: bool) -> Found:
        return found(finding("D920", "access"), finding("D302", "disk", severity="warning"), running=running)

    told = asyncio.run(find(DoctorRound(look=look, home=tmp_path), owner(), asked))
    assert ([one.rule for one in told.items], told.worst) == (rules, worst)
    disk = [one for one in load_rules() if one.area == "disk" and (one.down or running)]
    if asked.only == "disk":
        assert told.rules == len(disk) - 2 and [one.rule for one in told.unknown] == ["D301"]
    if not asked.only and not asked.ignore:
        assert told.rules == sum(one.down or running for one in load_rules()) - 2


def test_a_change_of_the_owner_is_made_undone_and_recorded_with_no_server(
    secret: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audit = secret.parent / "audit"
    assert main(["doctor"]) == 4 and "ashore doctor apply  # does it" in capsys.readouterr().out
    assert main(["doctor", "undo", "all"]) == 0 and "no change" in capsys.readouterr().out
    assert main(["doctor", "apply", "--rules", "D302"]) == 0 and "nothing to change" in capsys.readouterr().out
    assert main(["doctor", "apply", "--dry-run"]) == 0 and "would change  D920" in capsys.readouterr().out
    assert secret.stat().st_mode & 0o777 == 0o644 and not audit.exists(), "nothing was changed, nothing is recorded"
    assert main(["doctor", "apply"]) == 0 and "1  made  D920" in capsys.readouterr().out
    assert secret.stat().st_mode & 0o777 == 0o600
    assert main(["doctor", "apply", "--rules", "D920"]) != 0
    said = capsys.readouterr()
    assert "failed  D920" in said.out and "1 change could not be made: it is so already" in said.err
    assert main(["doctor", "changes", "--json"]) == 0
    assert [one["stage"] for one in json.loads(capsys.readouterr().out)["items"]] == ["made", "failed"]
    assert main(["doctor", "undo", "all"]) == 0 and "1  undone  D920" in capsys.readouterr().out
    assert secret.stat().st_mode & 0o777 == 0o644
    assert main(["doctor", "undo", "1"]) != 0 and "change 1 is undone" in capsys.readouterr().err
    assert main(["doctor", "undo", "9"]) != 0 and "there is no change 9" in capsys.readouterr().err
    main(["audit", "search", "--action", "doctor:*", "--json"])
    acts = [(one["action"], one["outcome"], one["actor"]) for one in json.loads(capsys.readouterr().out)["items"]]
    me = os_user()
    assert ("doctor:apply", "done", me) in acts and ("doctor:undo", "done", me) in acts
    assert ("doctor:undo", "failed", me) in acts, "the second time"


def test_the_options_of_the_doctor_list_apply_and_undo_as_its_commands_do(
    secret: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--list"]) == 0 and "D920" in capsys.readouterr().out
    assert main(["doctor", "--apply", "--dry-run"]) == 4
    said = capsys.readouterr().out
    assert said.index("critical") < said.index("would change  D920") and secret.stat().st_mode & 0o777 == 0o644
    assert main(["doctor", "--apply", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["items"][0]["rule"] == "D920" and secret.stat().st_mode & 0o777 == 0o600
    assert main(["doctor", "undo"]) == 0 and secret.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        ("--apply", ["D920"]),
        ("--apply --ignore D920", []),
        ("--apply --ignore access,cpu", []),
        ("--apply --only disk", []),
        ("--apply --only disk --only access", ["D920"]),
        ("--apply --only D302", ["D302"]),
        ("--apply --only D302 --ignore disk", []),
        ("apply", ["D920"]),
        ("apply --rules access", ["D920"]),
        ("apply --rules disk", []),
        ("apply --rules disk,D302 --rules D920", ["D920", "D302"]),
        ("apply --ignore D301 --ignore D920", []),
    ],
)
def test_changes_are_made_of_what_was_asked_alone(
    line: str, rules: list[str], secret: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An area stands for its safe changes; one that is not safe is made where its rule is named by its id."""
    changes = Change(kind="mode", target=str(secret), value="0600"), Change(kind="kernel", target="/f", safe=False)
    items = finding("D920", "access", change=changes[0]), finding("D302", "disk", change=changes[1])
    monkeypatch.setattr(doctor.HomeLook, "_look", lambda self: found(*items))
    main(["doctor", *line.split(), "--dry-run"])
    said = capsys.readouterr()
    assert [one.split()[2] for one in said.out.splitlines() if one.startswith("would change")] == rules, said.err
    if "D302" not in rules:
        assert main(["doctor", *line.split()]) in (0, 4)
        assert (secret.stat().st_mode & 0o777 == 0o600) == bool(rules)


def test_what_is_no_rule_is_said_before_anything_is_changed(secret: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["apply", "--rules", "dsik"], ["--apply", "--ignore", "dsik"], ["--list", "--only", "dsik"]):
        assert main(["doctor", *words]) == 2
        said = capsys.readouterr()
        assert said.out == "" and "'dsik' is neither a rule nor an area" in said.err and "'disk'" in said.err
    assert secret.stat().st_mode & 0o777 == 0o644


def test_the_list_has_the_rules_that_were_asked(secret: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = [one.id for one in load_rules() if one.area == "disk"]
    for words in (["--list", "--only", "disk", "--ignore", "D301"], ["rules", "--only", "disk", "--ignore", "D301"]):
        assert main(["doctor", *words]) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*disk[1:]] and disk[0] == "D301"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--watch --apply", "--watch and --apply"),
        ("--list --apply --dry-run", "--list and --apply"),
        ("--list --watch", "--list and --watch"),
        ("--dry-run", "--dry-run shows what --apply would change"),
        ("--watch --dry-run", "--dry-run shows what --apply would change"),
        ("--list --dry-run", "--dry-run shows what --apply would change"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    line: str, told: str, secret: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *line.split()]) == 2
    said = capsys.readouterr()
    assert said.out == "" and told in said.err and secret.stat().st_mode & 0o777 == 0o644


def test_with_an_address_the_server_is_asked_and_not_the_home(
    secret: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[tuple[str, str]] = []
    hostile = finding(
        "D920", "access", what="\x1b]0;owned\x07open\u202e", change=Change(kind="mode", target="/f", safe=False)
    )

    def ask_server(target: object, method: str, path: str, *, body: bytes | None = None) -> bytes:
        sent.append((method, path))
        return msgspec.json.encode(msgspec.structs.replace(found(hostile), worst="critical"))

    monkeypatch.setattr("ashore.cli.target.ask_server", ask_server)
    assert main(["doctor", "--only", "access", "--url", "https://far.example", "--key", "k"]) == 4
    assert sent == [("GET", "/admin/v1/doctor?only=access")]
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\x07" not in said and "\u202e" not in said
    assert "ashore doctor apply --rules D920 --url https://far.example  # does it" in said
    for words in (["--since", "1h"], ["--for", "5s"]):
        assert main(["doctor", *words, "--url", "https://far.example"]) == 2
        assert f"{words[0]} is about this home or machine" in capsys.readouterr().err


def test_watching_says_what_appears_and_what_is_gone(
    secret: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = [found(finding("D920", "access")), found(finding("D920", "access")), found(finding("D302", "disk"))]
    monkeypatch.setattr(doctor.HomeLook, "_look", lambda self: looks.pop(0))

    def sleep(seconds: float) -> None:
        if not looks:
            raise KeyboardInterrupt

    monkeypatch.setattr(doctor.time, "sleep", sleep)
    main(["doctor", "--watch"])
    lines = [line.split()[3:6] for line in capsys.readouterr().out.splitlines()]
    assert lines == [["appeared", "critical", "D920"], ["appeared", "critical", "D302"], ["gone", "critical", "D920"]]


def test_watching_a_server_goes_on_once_it_is_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = [SourceUnreachable("it does not \x1b answer"), NotReady("it starts"), RemoteRefused("a proxy says 502")]
    open_ = found(finding("D920", "access"))
    answers: list[Found | AshoreError] = [open_, *gone, open_, found(), *gone[1:], found(), Unauthenticated("who?")]

    def ask_server(target: object, method: str, path: str, *, body: bytes | None = None) -> bytes:
        one = answers.pop(0)
        if isinstance(one, AshoreError):
            raise one
        return msgspec.json.encode(one)

    monkeypatch.setattr("ashore.cli.target.ask_server", ask_server)
    monkeypatch.setattr(doctor.time, "sleep", lambda seconds: None)
    assert main(["doctor", "--watch", "--url", "https://far.example", "--key", "k"]) == 5
    out, err = capsys.readouterr()
    assert [line.split()[3:6] for line in out.splitlines()] == [
        ["appeared", "critical", "D920"], ["gone", "critical", "D920"],
    ]  # fmt: skip
    assert [line for line in err.splitlines() if not line.startswith("hint")] == [
        "it does not \ufffd answer; trying again every minute",
        "https://far.example answers again",
        "it starts; trying again every minute",
        "https://far.example answers again",
        "error: who?",
    ]


def test_the_line_about_ashore_toml_fits_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(doctor, "which_toml", lambda _: NONE_READ)
    with contextlib.redirect_stdout(Terminal()) as shown:
        doctor.show(found(finding("D913", "audit", remedy="name a place in ashore.toml")))
    ends = shown.getvalue().partition("this server reads no ashore.toml")[2]
    assert "--config ashore.toml" in ends and max(map(len, ends.splitlines()[1:])) <= 80
    assert "\n" in ends.partition("--config")[0]
