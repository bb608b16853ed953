"""What an enterprise has beside the server fails: its directory hangs, its SIEM is away, its mail server refuses."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

from ashore.control.drills.faults.disks import AuditFault
from ashore.control.drills.faults.network import Gone, administer
from ashore.control.drills.load import Asked, ask_once
from ashore.control.drills.model import Check
from ashore.control.drills.network import PEOPLE
from ashore.control.drills.receivers import MAIL_END
from ashore.core.errors import EngineFailed

WAIT_S: Final = 60.0
GROUP: Final = "staff"


class HungDirectory(AuditFault):
    """Its server stands still: it takes connections and never answers. Nobody may lose access; who leaves meanwhile
    loses it once it answers again."""

    stays, leaves = PEOPLE

    def fire(self) -> None:
        end_s = time.monotonic() + WAIT_S
        while self._state() != "good":
            if time.monotonic() > end_s:
                raise EngineFailed(f"the directory was not read in {WAIT_S:g} s: {self._state()}", hint="report this")
            time.sleep(0.2)
        made = self._ask("POST", "/users", {"id": "officer", "roles": ["security-officer"], "key": {}})
        officer = str(made["key"]["key"])
        granted = {"grant": [{"subject": f"group/{GROUP}", "role": "developer"}]}
        self._ask("POST", "/bindings", granted, officer)
        self.keys = {one: self._ask("POST", "/keys", {"owner": f"corp:{one}"}, officer)["key"] for one in PEOPLE}
        self.while_hung = ""
        pid = self.scene.network.process("directory")
        self.scene.undoing.process("continue", pid)
        os.kill(pid, signal.SIGSTOP)

    def felt(self) -> str:
        if self._state() != "failed":
            return ""
        self.while_hung = ", ".join(f"{one}: {self._status(one)}" for one in PEOPLE)
        return "ashore says that the directory is not followed"

    def mend(self) -> None:
        self.scene.network.dismiss(self.leaves)

    def why_unwell(self) -> str:
        if self._state() != "good":
            return "the directory is not followed yet"
        if self._status(self.leaves) != 401:
            return "a key of who has left still opens the server"
        return super().why_unwell()

    def checks(self) -> tuple[Check, ...]:
        held = self.while_hung == ", ".join(f"{one}: 200" for one in PEOPLE) and self._status(self.stays) == 200
        seen = f"{self.while_hung} while it hung; then {self.stays}: {self._status(self.stays)}"
        bound = "both get in while it hangs, and who stays afterwards"
        return (*super().checks(), Check(name="people", held=held, seen=seen, bound=bound))

    def _status(self, login: str) -> int:
        asked = self.scene.asked
        mine = Asked(url=asked.url, key=self.keys[login], model=asked.model, tokens=1, timeout_s=10.0)
        return ask_once(mine, f"{login} {time.monotonic()}", time.monotonic()).status

    def _state(self) -> str:
        return str(self._ask("GET", "/directories/corp")["directory"]["state"])

    def _ask(self, method: str, path: str, body: object = None, key: str = "") -> Any:
        return administer(self.scene.asked.url, method, path, body, key or self.scene.asked.key)


class AwaySiem(Gone):
    """The receiver of the audit log is gone. The log is the buffer, and the receiver's own file proves what it got."""

    def why_unwell(self) -> str:
        return super().why_unwell() or ("the feed still waits" if self._told()["state"] == "waiting" else "")

    def checks(self) -> tuple[Check, ...]:
        end_s = time.monotonic() + WAIT_S
        while behind := int(self._told()["behind"]):  # nobody asks any more, so it has an end
            if time.monotonic() > end_s:
                break
        key = self.scene.home.audit / "public-key.pem"
        done = self.scene.ashore("feed", "verify", str(self.scene.network.received("siem")), "--public-key", str(key))
        seen = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["nothing was said"]
        bound = "it proves itself, and nothing waits"
        held = done.returncode == 0 and not behind
        one = Check(name="the receiver's file", held=held, seen=f"{seen[0]}; {behind} records wait", bound=bound)
        return (*super().checks(), one)

    def _told(self) -> Any:
        return json.loads(self.scene.ashore("feed", "status", "--json").stdout)["items"][0]


class RefusedMail(AuditFault):
    """One of two mail servers refuses. The other one says so, and what was missed comes once it takes mail again."""

    def fire(self) -> None:
        network = self.scene.network
        self.refusing, self.other = (network.received(name) for name in self.scene.drill.twin.neighbours)
        refusal = Path(f"{self.refusing}.refuse")
        self.scene.undoing.before("delete", path=str(refusal))
        self.scene.undoing.before("mode", path=str(self.scene.home.first_key), value=0o600)
        refusal.write_text("451 4.7.1 try again later")
        self.scene.home.first_key.chmod(0o644)  # a finding of the doctor, so that there is something to say

    def felt(self) -> str:
        refused = Path(f"{self.refusing}.refused")
        if not refused.exists() or self._said(self.other, self.refusing.stem) < 1:
            return ""
        self.before = self._said(self.refusing)
        return f"{len(refused.read_bytes().splitlines())} mails were refused, and the other server has one that says so"

    def why_unwell(self) -> str:
        return super().why_unwell() if self._said(self.refusing) > self.before else "what was missed has not come"

    @staticmethod
    def _said(file: Path, text: str = "") -> int:
        """Return how many mails of a server have a text."""
        mails = file.read_bytes().split(MAIL_END)[:-1] if file.exists() else []
        return sum(text.encode() in one for one in mails)
