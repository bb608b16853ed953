"""What goes out of a record: short enough, on one line, without content, and in a vocabulary for each action."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from feed_rig import a_feed

from ashore.control.feeds.forms import FORMS, body_of
from ashore.control.feeds.reading import Line
from ashore.control.feeds.receivers import json_event, syslog_message
from ashore.data.audit import Record, encode_record
from ashore.data.audit.model import Sealed
from ashore.kit.rooms import rooms

HOSTILE = 'a"]\\\n\r\x1b[31m\u2028=|{}\U000e0041' + "名" * 300


def a_line(**changes: object) -> Line:
    fields: dict[str, object] = {
        "action": "key:create", "actor": "sysadmin", "at_us": 1_764_600_000_000_000, "kind": "act", "mono_us": 1,
        "outcome": "done", "resource": "key/ash_1", "seq": 7, "detail": {"expires_days": 90},
    }  # fmt: skip
    record = Record(**(fields | changes))  # type: ignore[arg-type]
    return Line(
        home="h", chain="api-0", seq=7, after=6, hash="0" * 64, body=encode_record(record), at_us=record.at_us,
        sealed=record.content is not None,
    )  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("most_bytes", [2_000, 8_000])
def test_no_message_is_longer_than_the_receiver_takes(form: str, most_bytes: int) -> None:
    texts = dict.fromkeys(("actor", "resource", "reason", "origin", "tenant", "request_id"), HOSTILE * 5)
    line = a_line(**texts, detail={HOSTILE[:40] + str(number): HOSTILE for number in range(60)})
    feed = a_feed(form=form, most_bytes=most_bytes)
    message = syslog_message(line, feed, "node1")
    assert len(message) <= most_bytes and b' cut="1"' in message
    assert not re.search(rb"[\x00-\x1f\x7f]", message)
    message.decode()


@pytest.mark.parametrize("form", FORMS)
def test_a_hostile_text_neither_ends_a_line_nor_a_field(form: str) -> None:
    line = a_line(actor=HOSTILE[:20], action="key:create", resource='x] [ashore@32473 seq="9"')
    message = syslog_message(line, a_feed(form=form), "node1")
    assert message.count(b"\n") == 0 and b"\x1b" not in message and "\u2028".encode() not in message
    head = message.partition(b"\xef\xbb\xbf")[0]
    assert head.count(b"[ashore@32473") == 1


def test_a_sealed_prompt_never_leaves(tmp_path: Path) -> None:
    line = a_line(
        content=Sealed(prompt="cHJvbXB0", answer="YW5zd2Vy", key_id="k"), kind="request", action="model:infer"
    )
    for form in FORMS:
        body, cut = body_of(line, form, 8_000)
        assert cut and b"cHJvbXB0" not in body and b"YW5zd2Vy" not in body
    assert b"cHJvbXB0" not in json_event(line, a_feed())


def test_every_action_has_a_place_in_both_vocabularies() -> None:
    actions = {act for room in rooms() for act in room.acts} | {call.act for room in rooms() for call in room.calls}
    assert len(actions) > 100
    for action in sorted(actions):
        ecs = json.loads(body_of(a_line(action=action), "ecs", 8_000)[0])
        assert ecs["event.action"] == action and ecs["event.category"] and ecs["@timestamp"] and ecs["ecs.version"]
        ocsf = json.loads(body_of(a_line(action=action), "ocsf", 8_000)[0])
        assert ocsf["class_uid"] == 6003 and ocsf["type_uid"] == 600_300 + ocsf["activity_id"]
        assert ocsf["activity_id"] in (1, 2, 3, 4, 99) and ocsf["api"]["operation"] == action


def test_verbs_mean_what_they_say() -> None:
    def types(action: str, **changes: object) -> tuple[str, int, str]:
        line = a_line(action=action, **changes)
        ecs, ocsf = (json.loads(body_of(line, form, 8_000)[0]) for form in ("ecs", "ocsf"))
        return ecs["event.type"][0], ocsf["activity_id"], ecs["event.outcome"]

    assert types("key:create") == ("creation", 1, "success")
    assert types("key:revoke", outcome="failed") == ("deletion", 4, "failure")
    assert types("audit:search") == ("access", 2, "success")
    assert types("role:bind", outcome="denied") == ("change", 3, "failure")
