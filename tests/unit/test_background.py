"""What goes on beside the requests of a worker, and that no fault ends it in silence."""

from __future__ import annotations

import asyncio

import pytest

from ashore.core.errors import StateUnavailable
from ashore.data.background import Background, take_turns


def test_what_fails_is_told_and_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[int] = []

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) < 3:
            raise ZeroDivisionError("judging went wrong")
        await asyncio.Event().wait()

    async def scenario() -> None:
        background = Background(again_s=0.001)
        background.keep("judge candidates", work)
        async with asyncio.timeout(5):
            while len(begun) < 3:
                await asyncio.sleep(0.001)
        await background.stop()

    asyncio.run(scenario())
    assert caplog.text.count("judge candidates failed") == 2
    assert "judging went wrong" in caplog.text


def test_stopping_waits_for_what_a_task_does_at_its_end() -> None:
    written: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            written.append("last uses")

    async def scenario() -> None:
        background = Background()
        background.keep("last uses of keys", work)
        await asyncio.sleep(0)
        await background.stop()
        await background.stop()

    asyncio.run(scenario())
    assert written == ["last uses"]


def test_turns_that_fail_alike_are_logged_once_until_one_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    faults = iter(["full", "full", "gone", None, "gone"])

    async def turn() -> None:
        fault = next(faults, "")
        if fault == "":
            raise asyncio.CancelledError
        if fault is not None:
            raise StateUnavailable(f"the disk is {fault}", hint="free space")

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(take_turns("cannot drop old feedback", turn, every_s=0))
    assert [one.getMessage().partition(";")[0] for one in caplog.records] == [
        f"cannot drop old feedback: the disk is {word}" for word in ("full", "gone", "gone")
    ]
