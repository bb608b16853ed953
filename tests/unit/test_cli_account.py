"""What `ashore account` prints."""

from __future__ import annotations

from typing import Any

import pytest

from ashore.cli.account import invite
from ashore.cli.calls import Errand, Server, show
from ashore.control.sessions.calls import CALLS, InvitedOut
from ashore.kit.call import call_named


class Inviting(Server):
    """A server that makes one invitation."""

    def ask(self, call: Any, asked: Any) -> InvitedOut:
        page = "/console/invitation?account=zoe"
        return InvitedOut(account=asked.account, invitation="a-code", page=page, expires_at=1_796_203_000)


def test_an_invitation_is_a_link_whose_code_no_server_sees(capsys: pytest.CaptureFixture[str]) -> None:
    create, server = call_named("create", CALLS), Inviting(url="https://ai.example/", key="k")
    invite(Errand(call=create, server=server, view=show), create.takes(account="zoe"))
    first, link = capsys.readouterr().out.splitlines()
    assert first.endswith("until 2026-12-02 09:16:40 UTC:")
    assert link == "https://ai.example/console/invitation?account=zoe#a-code"
