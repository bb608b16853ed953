"""Outbox: administrative acts are stored in the state, in the transaction of their change, until the audit log has
them.

The process that acts writes the record as soon as its transaction has committed. If it dies before that, the supervisor
finds the act in the state and records it. So every change has its record, and every record its change.

Other machines and administrators write to the same database. So each row carries a MAC under a key that is a file of
the home. A row without the right one is recorded as unproven, and not as the act that it claims.
"""

from __future__ import annotations

import hmac
import logging
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.core.errors import AshoreError
from ashore.data.audit.canonical import short
from ashore.data.audit.checkpoints import read_home
from ashore.data.audit.digests import secret_key
from ashore.data.audit.query import MOST_HITS, Query, shown_moment
from ashore.data.audit.search import search
from ashore.data.audit.segments import LocalShelf
from ashore.kit.recorder import Act, Recorder
from ashore.kit.sealing import SecretFolder
from ashore.kit.state import Database, execute, execute_many, insert

if TYPE_CHECKING:
    from sqlalchemy import Connection

EVERY_S: Final = 30.0
SURE_S: Final = 10.0
"""A process that lives has written its record after so long: it refuses acts once it cannot for 2 s."""
BESIDE_US: Final = 60_000_000
"""How far the records around an act may differ from it in time, where a commit waited."""
SETTLE_S: Final = 10.0
OUTBOX_KEY: Final = "outbox-key"
UNPROVEN: Final = "audit:unproven"
"""Rows that were not written by a process of this home: how many, and the beginning of the first."""
_decode: Final = msgspec.json.Decoder(Act).decode

log = logging.getLogger("ashore.audit")


def keep_act(connection: Connection, root: Path, at_us: int, act: Act) -> None:
    """Store an act in a transaction of the state."""
    home, text = read_home(root), msgspec.json.encode(act).decode()
    act_id = _proven_id(_key(root), uuid.uuid4().hex, home, at_us, text)
    insert(connection, "audit_act", {"act_id": act_id, "home": home, "at_us": at_us, "act": text})


class Outbox:
    """Records acts that processes of a home did and could not record. `start` before use, `close` after."""

    def __init__(self, root: Path, database: Database, recorder: Recorder) -> None:
        self._root = root
        self._database = database
        self._recorder = recorder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> Outbox:
        """Start with the acts left by an earlier run. Returns itself."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop, after recording the rest. Call it when no other process of the home acts any more."""
        self._stop.set()
        self._thread.join()
        self._round(0.0)

    def drain(self, *, older_than_s: float = SURE_S) -> int:
        """Record acts that no chain has, and delete those that one has. Returns how many had no record. May be called
        twice.

        Raises:
            AshoreError: the state or the audit log is unavailable; nothing is deleted.
        """
        until_us = int((time.time() - older_than_s) * 1e6)
        with self._database.read() as connection:
            statement = (
                "SELECT act_id, home, at_us, act FROM audit_act WHERE home IN (:home, '') AND at_us <= :until "
                "ORDER BY at_us"
            )
            rows = execute(connection, statement, home=read_home(self._root), until=until_us).mappings().all()
        key = _key(self._root)
        acts: list[tuple[int, Act]] = []
        unproven: list[str] = []
        done: list[dict[str, object]] = []
        for row in rows:
            act_id, home, at_us, text = row["act_id"], row["home"], int(row["at_us"]), row["act"]
            act = _proven(key, act_id, home, at_us, text)
            if act is not None:
                acts.append((at_us, act))
            elif home:
                unproven.append(text)
            else:
                continue  # of another home that had no checkpoint yet
            done.append({"act_id": act_id})
        if not done:
            return 0
        known = self._recorded(since_us=acts[0][0] - BESIDE_US) if acts else set()
        lost = [(at_us, act) for at_us, act in acts if known.isdisjoint(_names(at_us, act))]
        for at_us, act in lost:
            log.warning("recorded late: %s %s of %s", act.action, act.resource, act.actor)
            self._recorder.record(replace(act, detail={"acted": shown_moment(at_us), **act.detail}))
        if unproven:
            log.error("%d acts in the state were not written by this home; the first: %s", len(unproven), unproven[0])
            detail: dict[str, str | int] = {"num": len(unproven), "first": unproven[0]}
            act = Act(action=UNPROVEN, actor="system", resource="audit/outbox", outcome="failed", detail=detail)
            self._recorder.record(act)
        self._recorder.settle(SETTLE_S)
        with self._database.write() as connection:
            execute_many(connection, "DELETE FROM audit_act WHERE act_id = :act_id", done)
        return len(lost)

    def _recorded(self, *, since_us: int) -> set[tuple[str | int, ...]]:
        """Return the names of the acts in the chains; for one recorded late, by the time of the act."""
        hits = search(LocalShelf(self._root), Query(kind="act", since_us=since_us, limit=MOST_HITS))
        return {
            _name(one.detail.get("acted") or one.at_us, one.action, one.actor, one.resource, one.outcome)
            for one in (hit.record for hit in hits)
        }

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            self._round(SURE_S)
            wait_s = EVERY_S

    def _round(self, older_than_s: float) -> None:
        try:
            self.drain(older_than_s=older_than_s)
        except AshoreError as fault:
            log.warning("acts wait in the state for the audit log: %s", fault.message)
        except Exception:  # outermost loop: they stay in the state for the next round
            log.exception("acts wait in the state for the audit log")


def _name(at: int | str, action: str, actor: str, resource: str, outcome: str) -> tuple[str | int, ...]:
    """Return the name that two records of one act share."""
    return at, short(action), short(actor), short(resource), outcome


def _names(at_us: int, act: Act) -> set[tuple[str | int, ...]]:
    """Return the names of an act: recorded at once, and late."""
    return {_name(at, act.action, act.actor, act.resource, act.outcome) for at in (at_us, shown_moment(at_us))}


def _key(root: Path) -> bytes:
    """Return the key of the rows, made if absent. It is in clear where others are sealed: commands act as well."""
    return secret_key(SecretFolder(root), OUTBOX_KEY)


def _proven_id(key: bytes, nonce: str, home: str, at_us: int, text: str) -> str:
    mac = hmac.digest(key, f"{nonce}\0{home}\0{at_us}\0{text}".encode(), "sha256")
    return f"{nonce}.{mac.hex()}"


def _proven(key: bytes, act_id: str, home: str, at_us: int, text: str) -> Act | None:
    """Return the act of a row; None if the row is not from this home."""
    nonce = act_id.partition(".")[0]
    if not hmac.compare_digest(act_id.encode(), _proven_id(key, nonce, home, at_us, text).encode()):
        return None
    return _decode(text)
