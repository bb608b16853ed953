"""What goes on beside the requests of a worker, and that no fault ends it in silence."""

from __future__ import annotations

import asyncio

import pytest

from ashore.data.background import Background


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
