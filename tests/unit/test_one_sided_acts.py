"""What one can do on the command line one can do over HTTP and in the console, or a table says why not; and back."""

from __future__ import annotations

from deploy.make_commands_page import commands_of
from deploy.only_here import INSTEAD, ONLY_HERE

from ashore.cli.main import build_app
from ashore.control.console.pages import Atlas
from ashore.kit.rooms import rooms

CALLS = {f"{call.noun} {call.word}": call for room in rooms() for call in room.calls}
COMMANDS = {" ".join(words) for words in commands_of(build_app())}
IN_OTHER_WORDS = {
    "access role bind",
    "access group members",
    "doctor findings",
    "events list",
    "events follow",
} | {f"access {kind} change" for kind in ("user", "service", "tenant")}
"""Calls whose commands have names of their own; `test_console_commands` holds that these send the same."""


def test_a_command_without_a_call_has_a_reason() -> None:
    lacking = COMMANDS - set(CALLS) - set(INSTEAD)
    assert lacking == set(ONLY_HERE), "write the reason into deploy/only_here.py, or declare a call"
    assert all(reason for reason in ONLY_HERE.values())


def test_a_command_that_is_called_otherwise_leads_to_a_call() -> None:
    assert set(INSTEAD) <= COMMANDS - set(CALLS)
    assert set(INSTEAD.values()) <= set(CALLS)


def test_every_call_has_a_command() -> None:
    assert set(CALLS) - COMMANDS == IN_OTHER_WORDS


def test_every_call_has_its_place_in_the_console_but_streams() -> None:
    placed = {one.key for one in Atlas(rooms()).placed}
    assert set(CALLS) - placed == {name for name, call in CALLS.items() if call.streams} == {"events follow"}
