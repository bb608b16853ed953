"""The network between the server and its neighbours is slow, lossy or down, or a neighbour is."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from ashore.control.drills.faults.base import Fault
from ashore.control.drills.faults.disks import AuditFault
from ashore.control.drills.load import Asked, ask_once
from ashore.control.drills.model import Check
from ashore.core.errors import EngineFailed


class Trouble(Fault):
    """Changes the conditions of the drill's own network lines (`link.py`). The undo makes them normal again."""

    weather: ClassVar[dict[str, float]] = {}
    felt_by: ClassVar[tuple[str, ...]] = ()
    """Which figures of a line grow while the trouble is there."""

    def fire(self) -> None:
        network = self.scene.network
        self.before = network.seen()
        self.scene.undoing.before("write", path=str(network.weather), value="{}")
        network.turn(dict.fromkeys(self.scene.drill.lines, self.weather))

    def felt(self) -> str:
        now = self.scene.network.seen()
        said = []
        for name in self.scene.drill.lines:
            grown = {key: now[name][key] - self.before[name][key] for key in self.felt_by}
            if any(grown.values()):
                said.append(f"{name}: {', '.join(f'{value} {key}' for key, value in grown.items())}")
        return "; ".join(said)


class Delay(Trouble):
    """Each piece takes 40 to 60 ms longer, in each direction."""

    weather: ClassVar[dict[str, float]] = {"delay_ms": 40.0, "jitter_ms": 20.0}
    felt_by = ("delayed",)


class Loss(Trouble):
    """One piece in twenty waits for its retransmission; one connection in some hundred pieces is reset."""

    weather: ClassVar[dict[str, float]] = {"stall_share": 0.05, "stall_ms": 200.0, "reset_share": 0.003}
    felt_by = ("stalled", "reset")


class Cut(Trouble):
    """Nothing passes: neither data nor refusals."""

    weather: ClassVar[dict[str, float]] = {"cut": 1.0}
    felt_by = ("held",)


class CutBucket(Cut, AuditFault):
    """The bucket of the audit anchor is unreachable. Signing continues, and the anchor catches up."""

    def fire(self) -> None:
        super().fire()
        self.objects = self.scene.network.objects()

    def why_unwell(self) -> str:
        if self.scene.network.objects() <= self.objects:
            return "no checkpoint has come to the bucket since"
        return super().why_unwell()


class CutServer(Cut):
    """One of two servers loses the shared state, and a key is revoked at the other one."""

    def fire(self) -> None:
        officer = {"id": "officer", "roles": ["security-officer"], "key": {}}
        self.officer = _key(self._admin("POST", "/users", officer, self.scene.asked.key))["key"]
        leaver = {"id": "leaver", "roles": ["developer"], "key": {}}
        self.key = _key(self._admin("POST", "/users", leaver, self.officer))
        self._wait_until(accepted=True)
        super().fire()
        time.sleep(0.2)
        self._admin("DELETE", f"/keys/{self.key['id']}", None, self.officer)
        self.while_cut = self._opens()

    def _wait_until(self, *, accepted: bool) -> None:
        end_s = time.monotonic() + 10
        while self._opens() is not accepted:
            if time.monotonic() > end_s:
                raise EngineFailed(
                    f"after 10 s the server {'refuses' if accepted else 'accepts'} the key", hint="report this"
                )
            time.sleep(0.1)

    def _opens(self) -> bool:
        """Return whether the cut server accepts the key."""
        asked = self.scene.asked
        mine = Asked(url=asked.url, key=self.key["key"], model=asked.model, tokens=1, timeout_s=10.0)
        return ask_once(mine, f"the key {time.monotonic()}", time.monotonic()).status != 401

    def _admin(self, method: str, path: str, body: object, key: str) -> Any:
        """Make an administrative call at the server that is not cut off."""
        return administer(f"http://127.0.0.1:{self.scene.network.other_port}", method, path, body, key)

    def why_unwell(self) -> str:
        return "the revoked key still opens the server" if self._opens() else super().why_unwell()

    def checks(self) -> tuple[Check, ...]:
        seen = "refused, once the server heard of it"
        if self.while_cut:
            seen = f"it opened the server while that was cut off; {seen}"
        return (Check(name="the revoked key", held=not self._opens(), seen=seen, bound="opens nothing after that"),)


def administer(url: str, method: str, path: str, body: object, key: str) -> Any:
    """Make an administrative call.

    Raises:
        EngineFailed: it is refused.
    """
    import httpx

    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.request(method, f"{url}/admin/v1{path}", json=body, headers=headers, timeout=20, trust_env=False)
    if answer.status_code >= 300:
        raise EngineFailed(f"{path} answered {answer.status_code}: {answer.text[:300]}", hint="report this")
    return answer.json() if answer.content else {}


def _key(made: Any) -> dict[str, str]:
    return {"id": str(made["key"]["record"]["id"]), "key": str(made["key"]["key"])}


class Gone(AuditFault):
    """A neighbour is killed, and restarted by its supervisor when the time is over."""

    def fire(self) -> None:
        (self.name,) = self.scene.drill.twin.neighbours
        self.port = self.scene.network.kill(self.name)

    def felt(self) -> str:
        return "" if self.scene.network.is_alive(self.name) else f"nobody listens at port {self.port}"

    def mend(self) -> None:
        self.scene.network.restart(self.name)
