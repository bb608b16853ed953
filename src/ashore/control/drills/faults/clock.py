"""The server's wall clock jumps an hour ahead and back. The machine's clock is not changed."""

from __future__ import annotations

import http.client
import json
import time
from typing import Final
from urllib.parse import urlsplit

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
        asked = self.scene.asked
        parts = urlsplit(asked.url)
        body = {"model": asked.model, "max_tokens": 1, "messages": [{"role": "user", "content": f"{time.monotonic()}"}]}
        headers = {"authorization": f"Bearer {asked.key}", "content-type": "application/json"}
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=5)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            created_s = float(json.loads(connection.getresponse().read())["created"])
        except (OSError, ValueError, KeyError, http.client.HTTPException):
            return 0.0
        finally:
            connection.close()
        return created_s - time.time()
