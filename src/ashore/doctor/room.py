"""The doctor as a room: its actions, and nothing in an API worker. It works from the home, with the server down too."""

from __future__ import annotations

from typing import Final

from ashore.rooms import Room

ROOM: Final = Room(name="doctor")
