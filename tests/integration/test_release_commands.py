"""`ashore release` and `ashore alias`: what they send, what people see, and that two of them work with no server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from release_site import release_site

from ashore.cli.main import main


def test_a_release_is_made_rolled_out_and_rolled_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with release_site(tmp_path) as site:
        monkeypatch.setenv("ASHORE_API_KEY", site.owner)

        def ashore(words: str, *more: str, code: int = 0) -> str:
            assert main([*words.split(), *more, "--url", site.worker.root]) == code
            said = capsys.readouterr()
            return said.err if code else said.out

        assert "'90x' is not a duration" in ashore("release promote chat-2 --standby 90x", code=2)
        assert "'tokens' is not NAME=VALUE" in ashore("release create --model fake:x --engine-option tokens", code=2)
        tuned = ashore(
            "release create --model fake:random --engine-option kv_tokens=8 --engine-option prefix_cache=true --json"
        )
        made = json.loads(tuned)
        assert (made["name"], made["alias"]) == ("chat-2", "chat"), "for the only alias there is"
        assert [line.split() for line in ashore("release list").splitlines()] == [
            ["release", "state", "model", "engine", "answers"],
            ["chat-2", "created", "fake:random", "fake", "-"],
            ["chat-1", "live", "fake:echo", "fake", "100", "%", "of", "chat"],
        ]
        assert ashore("release shadow chat-2 --share 20 --no-wait").startswith("chat-2  warming (to be shadow)")
        site.warmed("chat-2")
        canary = ashore("release canary chat-2 --steps 20,50 --every 10m --no-wait --json")
        assert json.loads(canary)["steps_percent"] == [20, 50]
        history = site.do("alias history", alias="chat", limit=1)["items"]
        assert (history[0]["verb"], history[0]["actor"]) == ("canary", "owner")
        status = ashore("release status").splitlines()
        assert status[0].startswith("chat  version 2, sticky by conversation")
        assert status[1].split()[:4] == ["chat-2", "canary", "5.0", "%"] and "s left" in status[1]
        assert "canary chat-2 by owner" in status[3]
        assert "canary chat-2 by owner" in ashore("alias history chat --limit 1")
        shown = json.loads(ashore("release show chat-2 --json"))
        assert shown["state"] == "canary" and shown["evidence"] == shown["burn_rates"] == []
        assert "gate         none; when the release was created: not evaluated" in ashore("release show chat-2")
        assert "never compared" in ashore("release promote chat-2", code=2)
        assert ashore("release rollback --why enough") == "chat-1  live  fake:echo on fake  chat 100 %\n"
        assert ashore("alias set prod chat-1 --dry-run") == "dry run: would change prod: nothing -> chat-1 100 %\n"
        assert "did you mean 'chat-1'" in ashore("alias set prod chat-11 --dry-run", code=2)
        assert ashore("alias set prod chat-1=100 --sticky key").startswith(
            "prod  chat-1 100 %  (version 1, sticky by key"
        )
        assert [line.split()[0] for line in ashore("alias list").splitlines()] == ["alias", "chat", "prod"]
        assert "there are 2: chat, prod" in ashore("release rollback", code=2)
        assert "there are 2: chat, prod" in ashore("release create --model fake:random", code=2)
        assert ashore("alias remove prod") == "removed prod\n"
        ashore("release create --model fake:random")
        ashore("release shadow chat-3 --no-wait")

    monkeypatch.setenv("ASHORE_HOME", str(tmp_path))
    assert main(["release", "rollback"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("chat-1  live") and said.err.count("no server is running") == 1
    assert main(["release", "retire", "chat-1"]) == 2
    assert "chat-1 answers for chat" in capsys.readouterr().err
    assert main(["release", "list"]) == 4, "other commands ask a server"
    assert "ashore up" in capsys.readouterr().err
