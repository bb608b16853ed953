"""The server's wall clock jumps an hour ahead and back. The machine's clock is not changed."""

from __future__ import annotations

import time
from typing import Final

from ashore.control.drills.faults.disks import AuditFault
from ashore.core.errors import EnvironmentFault

STEP_S: Final = 3600
RIGHT: Final = "+0"


class SteppedClock(AuditFault):
    """Every process of the twin reads the wall clock through libfaketime, which reads a file. Monotonic time is
    real.
    """

    def fire(self) -> None:
        if self.scene.clock is None:
            raise EnvironmentFault("the twin reads the clock of the machine", hint="rehearse it on a twin: --twin")
        self.scene.undoing.before("write", path=str(self.scene.clock), value=RIGHT)
        self.scene.clock.write_text(f"+{STEP_S}")
        self.was = ""

    def felt(self) -> str:
        if not self.was and (ahead_s := self._ahead_s()) > STEP_S / 2:
            self.was = f"the server's clock is {ahead_s:.0f} s ahead"
        return self.was

    def why_unwell(self) -> str:
        ahead_s = self._ahead_s()
        return f"its clock is {ahead_s:.0f} s ahead" if abs(ahead_s) > 10 else super().why_unwell()

    def _ahead_s(self) -> float:
        """Return how far the server's clock is ahead of the machine's, by the date header of an answer."""
        import httpx

        asked = self.scene.asked
        body = {"model": asked.model, "max_tokens": 1, "messages": [{"role": "user", "content": f"{time.monotonic()}"}]}
        headers = {"authorization": f"Bearer {asked.key}"}
        try:
            answer = httpx.post(
                f"{asked.url}/v1/chat/completions", json=body, headers=headers, timeout=5, trust_env=False
            )
            return float(answer.json()["created"]) - time.time()
        except (httpx.HTTPError, ValueError, KeyError):
            return 0.0
